"""`hurlicane demo`: the main job from end to end, on a server, a repository and data of its own."""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx2
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.demo_site import checked, git, new_repository, server
from hurlicane_mcp.cli.demo_task import SCRIPT, TASK, TITLE
from hurlicane_mcp.cli.render import printable, styled
from hurlicane_mcp.clock import SystemClock

#: Seconds between two looks at jobs that have not changed; their end is told at once.
LOOK_S: Final = 0.25
WIDTH: Final = 110  #: columns of an output that is no terminal
FINAL: Final = frozenset({"done", "failed", "cancelled"})

Job = dict[str, Any]


def demo(agent: str) -> int:
    """Have a lead agent do a small task with three others, and show it. 0 if all is done, else 1.

    *agent* is the provider: `scripted` needs nothing, `claude` and `codex` the user's own CLI.
    Everything happens in a temporary directory, which is gone afterwards.

    Raises:
        HurlicaneError: the server or git could not be started; the message says why.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with TemporaryDirectory(prefix="hurlicane-demo-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        repository = new_repository(root / "greet")
        with server(root / "data", repository, agent) as http:
            console.print(f"Server {http.base_url}, repository {repository}\n", style="dim")
            description = TASK + (SCRIPT if agent == "scripted" else "")
            asked = {"description": description, "title": TITLE, "completion": "finish_job"}
            lead = checked(http.post("/api/jobs", json=asked))["job_id"]
            try:
                jobs = _follow(http, lead, console)
            except BaseException:  # whatever ends the demo must end its agents as well
                http.post(f"/api/jobs/{lead}/cancel", json={"reason": "The demo was stopped."})
                raise
            commits = git(repository, "log", "--format=%h %an: %s", "--reverse")
            return _report(console, jobs, commits)


def _report(console: Console, jobs: list[Job], commits: str) -> int:
    console.print(_table(jobs, results=True))
    console.print("\nCommits", style="bold")
    console.print(commits, highlight=False)
    return 0 if all(job["status"] == "done" for job in jobs) else 1


def _follow(http: httpx2.Client, lead: str, console: Console) -> list[Job]:
    """Show the jobs until the lead's is final; all of them, oldest first, with their results."""
    shown: dict[str, str] = {}
    jobs: list[Job] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for jobs in _states(http, lead):
            if console.is_terminal:
                live.update(_table(jobs), refresh=True)
            else:
                _tell_changes(console, shown, jobs)
    return jobs


def _states(http: httpx2.Client, lead: str) -> Iterator[list[Job]]:
    """The jobs, oldest first: again and again, the last time when the lead's is final."""
    while True:
        lines = checked(http.get("/api/jobs"))["jobs"][::-1]
        asked = {"job_id": [job["job_id"] for job in lines], "timeout_s": LOOK_S}
        answers = checked(http.get("/api/wait", params=asked))["jobs"]
        jobs = [line | answer for line, answer in zip(lines, answers, strict=True)]
        yield jobs
        if any(job["job_id"] == lead and job["status"] in FINAL for job in jobs):
            return


def _tell_changes(console: Console, shown: dict[str, str], jobs: list[Job]) -> None:
    """A line for each job that is not as it was *shown*, which is brought up to date."""
    for job in jobs:
        state = job["status"]
        if state == "running" and job.get("progress"):
            state += f": {job['progress']}"
        if shown.get(job["job_id"]) != state:
            shown[job["job_id"]] = state
            console.print(f"{job['title']}: {state}", highlight=False)


def _table(jobs: list[Job], *, results: bool = False) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Job")
    for heading in ("Status", "Attempt", "Agent", "Model", "Time"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Result" if results else "Progress", min_width=16)
    for job in jobs:
        indent = "  " if job.get("parent_id") else ""
        failure: Job = job.get("failure") or {}
        text = job.get("result") or failure.get("reason") or ""
        table.add_row(
            Text(indent + printable(job["title"])),
            styled(job["status"]),
            str(job["attempt"]),
            job["provider"],
            job.get("model") or "",
            _duration(job),
            Text(printable(text if results else job.get("progress") or "")),
        )
    return table


def _duration(job: Job) -> str:
    if "started_at" not in job:
        return ""
    began = datetime.fromisoformat(job["started_at"])
    ended = job.get("finished_at")
    until = datetime.fromisoformat(ended) if ended else SystemClock().now()
    return f"{max((until - began).total_seconds(), 0):.1f} s"
