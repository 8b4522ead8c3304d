"""`hurlicane demo --workflow`: a task is planned, reviewed, implemented, verified and pushed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx2
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.demo_site import checked, git, new_repository, server
from hurlicane_mcp.cli.render import printable, styled
from hurlicane_mcp.errors import HurlicaneError

#: Seconds between two looks at one that goes on; its end, and a block, are told at once.
LOOK_S: Final = 0.25
WIDTH: Final = 110  #: columns of an output that is no terminal
TITLE: Final = "Greet people"
#: Where the task is: in the package, or beside it in a checkout.
_PACKAGE: Final = Path(__file__).parent.parent
_FILES: Final = (
    _PACKAGE / "examples" / "workflow_task.md",
    _PACKAGE.parent / "examples" / "workflow_task.md",
)
#: The script that stands in the task begins with this; a model does not need it.
_SCRIPT: Final = "\nBelow is what scripted agents follow"
_TEST: Final = ("python3", "-B", "-m", "unittest")

View = dict[str, Any]


def demo(agent: str) -> int:
    """Have a workflow build a small module, and show it. 0 if it is complete, else 1.

    *agent* is the provider of the implementer, as in the demo of jobs. Everything, the remote that
    the branch is pushed to included, is in a temporary directory, which is gone afterwards.

    Raises:
        HurlicaneError: the server or git could not be started; the message says why.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with TemporaryDirectory(prefix="hurlicane-demo-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        repository = new_repository(root / "greet")
        git(root, "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
        git(repository, "remote", "add", "origin", str(root / "remote.git"))
        git(repository, "push", "--quiet", "origin", "main")
        with server(root / "data", repository, agent) as http:
            console.print(f"Server {http.base_url}, repository {repository}", style="dim")
            asked = {"task": _task(agent), "title": TITLE, "work_dir": str(repository)}
            asked |= {"implementer": agent, "verify": True, "checks": [{"command": _TEST}]}
            view = checked(http.post("/api/workflows", json=asked))
            told = f"{view['implementer']} implements, {view['reviewer']} reviews"
            console.print(f"{told}: {view['reviewer_why']}\n", style="dim", highlight=False)
            workflow_id = view["workflow_id"]
            try:
                view = _follow(http, workflow_id, console)
            except BaseException:  # whatever ends the demo must end its agents as well
                http.post(f"/api/workflows/{workflow_id}/cancel", json={})
                raise
            commits = git(root / "remote.git", "log", "--format=%h %an: %s", *_span(view))
            return _report(console, view, commits)


def _task(agent: str) -> str:
    """The task; with what scripted agents follow only for these."""
    for file in _FILES:
        if file.is_file():
            task = file.read_text(encoding="utf-8")
            return task if agent == "scripted" else task.partition(_SCRIPT)[0]
    raise HurlicaneError(f"The task of the demo is missing: {_FILES[0]}. Install it again.")


def _span(view: View) -> tuple[str, ...]:
    """What git shows of the branch: nothing if it was not pushed."""
    published: View = view.get("published") or {}
    is_pushed = published.get("pushed")
    return ("--reverse", f"main..{view['branch']}") if is_pushed else ("--max-count=0",)


def _follow(http: httpx2.Client, workflow_id: str, console: Console) -> View:
    """Show the workflow until it does not go on by itself; what it is then."""
    shown: set[tuple[Any, ...]] = set()
    view: View = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for view in _states(http, workflow_id):
            if console.is_terminal:
                live.update(_picture(view), refresh=True)
            else:
                _tell_changes(console, shown, view)
    return view


def _states(http: httpx2.Client, workflow_id: str) -> Iterator[View]:
    while True:
        view = dict(checked(http.get(f"/api/workflows/{workflow_id}")))
        yield view
        if view["state"] != "running":
            return
        http.get("/api/wait", params={"job_id": workflow_id, "timeout_s": LOOK_S})


def _tell_changes(console: Console, shown: set[tuple[Any, ...]], view: View) -> None:
    """A line for each phase, and for each of its states, that was not *shown* yet."""
    for phase in view["phases"]:
        key = (phase["job_id"], phase["status"])
        if key in shown:
            continue
        shown.add(key)
        name = f"Cycle {phase['cycle']}, {phase['phase']}"
        said = f": {phase['result']}" if phase.get("result") else ""
        text = f"{name} ({phase['provider']}): {phase['status']}{said}"
        console.print(printable(text), highlight=False)


def _picture(view: View) -> Group:
    return Group(_table(view), _plan(view))


def _table(view: View) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("Cycle", "Phase", "Agent", "Status"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Result", min_width=16)
    for phase in view["phases"]:
        table.add_row(
            str(phase["cycle"]),
            phase["phase"],
            phase["provider"],
            styled(phase["status"]),
            Text(printable(phase.get("result") or "")),
        )
    return table


def _plan(view: View) -> Text:
    """The milestones, checked or not."""
    lines = [
        f"{'  ' * one.get('depth', 0)}[{'x' if one['done'] else ' '}] {printable(one['text'])}"
        for one in view["plan"]
    ]
    return Text("\n".join(lines))


def _report(console: Console, view: View, commits: str) -> int:
    console.print(_table(view))
    console.print("Plan", style="bold")
    console.print(_plan(view))
    console.print(f"\nCommits on {view['branch']}, in the remote", style="bold", highlight=False)
    console.print(commits, highlight=False)
    block: View = view.get("blocked") or {}
    told = view.get("result") or f"Blocked: {block.get('reason')} {block.get('advice')}"
    console.print(f"\n{printable(told)}", highlight=False)
    return 0 if view["state"] == "complete" else 1
