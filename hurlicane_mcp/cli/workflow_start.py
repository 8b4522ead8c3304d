"""`hurlicane workflow start`: create a workflow, and follow it if that is wished."""

import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from hurlicane_mcp.cli.background import running_or_started
from hurlicane_mcp.cli.connection import Connection, Event, asking
from hurlicane_mcp.cli.follow import JobTree
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import note, print_json, print_result, why
from hurlicane_mcp.cli.screen import Screen, screen
from hurlicane_mcp.cli.workflow_words import block_lines, model
from hurlicane_mcp.domain.checks import check_in_words
from hurlicane_mcp.errors import Invalid

INCOMPLETE: Final = 1  #: it ended without being complete
BLOCKED: Final = 3  #: it waits for a person
INTERRUPTED: Final = 130
_CODES: Final = (("complete", 0), ("blocked", BLOCKED))
_OF_ATTEMPTS: Final = ("progress", "model", "refused", "settled")

Task: TypeAlias = Annotated[
    str,
    typer.Argument(help="What to build; `-` reads it from standard input, `@FILE` from a file."),
]
Title: TypeAlias = Annotated[str | None, typer.Option(help="Default: the task's first line.")]
Folder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--work-dir", "--dir", help="A folder of the repository. Default: this one."),
]
Implementer: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Who plans and implements: `provider:model`.")
]
Reviewer: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Who reviews. Default: Codex, if installed.")
]
Cycles: TypeAlias = Annotated[int, typer.Option(min=1, max=50, help="Then it is incomplete.")]
Stops: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        metavar="PHASE=MODE:NUMBER",
        help="What bounds a phase, such as implement=turns:50, review=time:20 (minutes) or "
        "verify=budget:2 (US dollars). May be given again.",
    ),
]
Worktree: TypeAlias = Annotated[
    bool, typer.Option("--worktree/--no-worktree", help="On a branch of its own.")
]
BaseBranch: TypeAlias = Annotated[str | None, typer.Option(help="Where its branch begins.")]
Verify: TypeAlias = Annotated[
    bool, typer.Option("--verify", help="Have an agent build, run and test the result.")
]
PublishHow: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOW", help="none, branch or pull_request. Default: branch, if it has one."
    ),
]
CheckWords: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHECK",
        help="Must hold after each implementation: clean_tree, diff_not_empty, "
        "no_error_in_output, or a shell command that has to exit with 0. May be given again.",
    ),
]
Budget: TypeAlias = Annotated[
    str | None, typer.Option(metavar="USD", help="US dollars for all of it.")
]
Priority: TypeAlias = Annotated[int, typer.Option(min=-10, max=10, help="Higher goes first.")]
Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait", "--follow", "-f", help="Follow it to its end, or to a block.")
]


def start(
    task: Task,
    *,
    title: Title = None,
    folder: Folder = None,
    implementer: Implementer = None,
    reviewer: Reviewer = None,
    max_cycles: Cycles = 10,
    stop: Stops = None,
    worktree: Worktree = True,
    base_branch: BaseBranch = None,
    verify: Verify = False,
    publish: PublishHow = None,
    check: CheckWords = None,
    budget: Budget = None,
    priority: Priority = 0,
    wait: Wait = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Have a task planned, reviewed and implemented. Starts a server if none runs.

    Prints its id. Exit code with --wait: 0 complete, 1 incomplete or cancelled, 3 blocked.
    """
    wish = {
        "task": _task(task),
        "title": title,
        "work_dir": str((folder or Path()).absolute()),
        "implementer": implementer,
        "reviewer": reviewer,
        "max_cycles": max_cycles,
        "stops": _bounds(stop or ()),
        "use_worktree": worktree,
        "base_branch": base_branch,
        "verify": verify,
        "publish": publish or ("branch" if worktree else "none"),
        "checks": [check_in_words(word) for word in check or ()],
        "budget_usd": budget,
        "priority": priority,
        "idempotency_key": uuid.uuid4().hex,  # so that it may be sent again
    }
    return _start(wish, wait, as_json, data_dir)


def _task(given: str) -> str:
    """The task's text.

    Raises:
        Invalid: it is empty, or its file cannot be read.
    """
    text = given
    if given == "-":
        text = sys.stdin.read()
    elif given.startswith("@"):
        try:
            text = Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"The task cannot be read from {given[1:]}: {error}") from None
    if not text.strip():
        raise Invalid("The task is empty: say what is to be built.")
    return text


def _bounds(words: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """`implement=turns:50` as the API takes it, which knows what phases and modes there are."""
    stops: dict[str, dict[str, str | None]] = {}
    for word in words:
        phase, equals, bound = word.partition("=")
        mode, _, number = bound.partition(":")
        if not (phase and equals and mode):
            raise Invalid(f"--stop {word!r} is not like implement=turns:50.")
        stops[phase.strip()] = {"stop_mode": mode.strip(), "stop_value": number.strip() or None}
    return stops


def _start(wish: Mapping[str, Any], wait: bool, as_json: bool, data_dir: str | None) -> int:
    """Have a server do *wish*, and tell what came out; the exit code."""
    server, started = running_or_started(data_dir)
    if started:
        note(f"Started a server at {server.url}; `hurlicane stop` ends it.")
    created: dict[str, Any] = {}
    try:
        view = asking(server, lambda connection: _run(connection, wish, wait, created))
    except KeyboardInterrupt:
        if workflow_id := created.get("workflow_id"):
            note(f"\n{workflow_id} goes on: {_commands(workflow_id)}.")
        return INTERRUPTED
    if as_json:
        print_json(view)
    elif wait:
        _report(view)
    else:
        sys.stdout.write(f"{view['workflow_id']}\n")
        note(f"{_commands(view['workflow_id'])}.")
    return dict(_CODES).get(view["state"], INCOMPLETE) if wait else 0


def _commands(workflow_id: str) -> str:
    command = "hurlicane workflow"
    return f"`{command} show {workflow_id}` shows it, `{command} cancel {workflow_id}` stops it"


async def _run(
    server: Connection, wish: Mapping[str, Any], wait: bool, created: dict[str, Any]
) -> Mapping[str, Any]:
    """The workflow's view; with *wait* that at its end, or at a block that is for a person."""
    as_of = (await server.get("/api/snapshot"))["as_of"]
    created |= await server.post("/api/workflows", wish)
    workflow_id = created["workflow_id"]
    note(f"{workflow_id}: {model(created['implementer'])} implements.")
    note(f"{model(created['reviewer'])} reviews. {created['reviewer_why']}")
    if branch := created.get("branch"):
        note(f"Branch {branch}, in {created['work_dir']}.")
    if not wait:
        return created
    tree = JobTree(workflow_id)
    with screen(tree) as shown:
        return await _follow(server, tree, as_of, shown)


async def _follow(
    server: Connection, tree: JobTree, as_of: int, shown: Screen
) -> Mapping[str, Any]:
    """Show what happens to *tree* after event *as_of* until nothing does by itself any more."""
    path = f"/api/workflows/{tree.root}"
    attempts = (f"attempt.{kind}" for kind in _OF_ATTEMPTS)
    kinds = ("workflow.*", "job.*", "question.*", *attempts)
    async with aclosing(server.stream("/events", kind=kinds, after=as_of)) as events:
        async for event in events:
            _show(tree, event, shown)
            if tree.is_over:
                break
            happened = event.data
            if happened["kind"] == "workflow.blocked" and happened["job_id"] == tree.root:
                view = await server.get(path)
                block = view.get("blocked")
                if block and not block.get("heals_at"):
                    return view
                shown.printed(block_lines(view)[1:2])
    return await server.get(path)


def _show(tree: JobTree, event: Event, shown: Screen) -> None:
    what = tree.take(event)
    job_id = event.data.get("job_id")
    if job_id not in tree.jobs or event.data["kind"] == "workflow.created":
        return  # who does it was told already
    if what and event.data["kind"].startswith("workflow."):
        tree.jobs[job_id]["progress"] = what  # a table of jobs has no other place for it
    shown.moved(job_id, what)


def _report(view: Mapping[str, Any]) -> None:
    """The result on standard output; why there is none, or what is missing, on standard error."""
    print_result(view.get("result"))
    workflow_id, state = view["workflow_id"], view["state"]
    if lines := block_lines(view):
        note(f"{workflow_id} is blocked: {lines[0]}")
        for line in lines[1:]:
            note(line)
    elif failure := view.get("failure"):
        note(f"{workflow_id} is {state}: {why(failure)}")
    else:
        note(f"{workflow_id} is {state}.")
