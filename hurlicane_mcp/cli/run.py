"""`hurlicane run`: create a job, follow it, print its result."""

import sys
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import anyio
import typer

from hurlicane_mcp.cli.background import running_or_started
from hurlicane_mcp.cli.connection import Connection, asking
from hurlicane_mcp.cli.follow import JobTree, entry_lines, output_of
from hurlicane_mcp.cli.jobs import CANCELLED, exit_code, report, whole
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import note, print_json
from hurlicane_mcp.cli.screen import Screen, screen
from hurlicane_mcp.cli.words import limit_in_words, named
from hurlicane_mcp.domain.checks import check_in_words
from hurlicane_mcp.errors import Invalid

Folder: TypeAlias = Annotated[
    Path | None, typer.Option("--dir", help="Folder to work in. Default: this one.")
]
OnTerminal: TypeAlias = Annotated[
    bool, typer.Option("--interactive", "-i", help="On a terminal: see `hurlicane attach`.")
]
Policy: TypeAlias = Annotated[
    str, typer.Option(help="After a failure: none, same or analyze.", metavar="POLICY")
]
Fallback: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Models when one is limited: `sonnet,codex:gpt-6.1-sol`; '' is none."),
]
StopMode: TypeAlias = Annotated[
    str, typer.Option(help="What bounds it: turns, budget or time.", metavar="MODE")
]
CheckWords: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHECK",
        help="Must hold before it is done: clean_tree, diff_not_empty, no_error_in_output, or a "
        "shell command that has to exit with 0. May be given again.",
    ),
]
Enforced: TypeAlias = Annotated[
    bool, typer.Option("--enforce-locks", help="Refuse edits of files that it has not locked.")
]
StopValue: TypeAlias = Annotated[
    str | None, typer.Option(help="How many turns, US dollars or minutes.", metavar="NUMBER")
]

Worktree: TypeAlias = Annotated[
    bool, typer.Option("--worktree", help="In a git worktree, on a branch of its own.")
]


def run(
    task: Annotated[str, typer.Argument(help="What to do; `-` reads it from standard input.")],
    *,
    folder: Folder = None,
    provider: Annotated[str | None, typer.Option(help="claude, codex or scripted.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of the agent.")] = None,
    title: Annotated[str | None, typer.Option(help="Default: the task's first line.")] = None,
    priority: Annotated[int, typer.Option(min=-10, max=10, help="Higher goes first.")] = 0,
    interactive: OnTerminal = False,
    worktree: Worktree = False,
    base_branch: Annotated[str | None, typer.Option(help="Where its branch begins.")] = None,
    fallback: Fallback = None,
    stop_mode: StopMode = "completion",
    stop_value: StopValue = None,
    check: CheckWords = None,
    check_tries: Annotated[int, typer.Option(min=1, max=10, help="How often they may fail.")] = 3,
    enforce_locks: Enforced = False,
    retry: Policy = "none",
    retries: Annotated[int, typer.Option(min=1, max=10, help="How often, with --retry.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not follow the job.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Run an agent on a task, follow it and print its result. Starts a server if none runs.

    Exit code: 0 done, 1 failed, 130 cancelled. Ctrl-C stops following; the job goes on.
    """
    job = {
        "description": sys.stdin.read() if task == "-" else task,
        "work_dir": str((folder or Path()).absolute()),
        "provider": provider,
        "model": model,
        "title": title,
        "priority": priority,
        "interactive": interactive,
        "use_worktree": worktree,
        "base_branch": base_branch,
        "fallback": None if fallback is None else _names(fallback),
        "stop_mode": stop_mode,
        "stop_value": stop_value,
        "checks": [check_in_words(word) for word in check or ()],
        "check_tries": check_tries,
        "enforce_locks": enforce_locks,
        "retry_policy": retry,
        "max_retries": retries,
        "idempotency_key": uuid.uuid4().hex,  # so that it may be sent again
    }
    if not str(job["description"]).strip():
        raise Invalid("The task is empty: say what the agent should do.")
    return _create(job, detach, as_json, data_dir)


def _create(job: Mapping[str, Any], detach: bool, as_json: bool, data_dir: str | None) -> int:
    """Have a server do *job*, and print what came out; the exit code."""
    server, started = running_or_started(data_dir)
    if started:
        note(f"Started a server at {server.url}; `hurlicane stop` ends it.")
    created: dict[str, Any] = {}
    try:
        view = asking(server, lambda connection: _run(connection, job, detach, created))
    except KeyboardInterrupt:
        if job_id := created.get("job_id"):
            follow, cancel = f"`hurlicane logs -f {job_id}`", f"`hurlicane cancel {job_id}`"
            note(f"\n{job_id} goes on: {follow} follows it, {cancel} stops it.")
        return CANCELLED
    return _told(view, detach, as_json)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _told(view: Mapping[str, Any], detach: bool, as_json: bool) -> int:
    """Print what came out; the exit code."""
    if as_json:
        print_json(view)
    elif detach:
        sys.stdout.write(f"{view['job_id']}\n")
    else:
        report(view)
    return 0 if detach else exit_code([view["status"]])


async def _run(
    server: Connection, job: Mapping[str, Any], detach: bool, created: dict[str, Any]
) -> Mapping[str, Any]:
    """The job's view at its end; with *detach* the answer to its creation."""
    as_of = (await server.get("/api/snapshot"))["as_of"]
    created |= await server.post("/api/jobs", job)
    if told := created.get("note"):
        note(told)
    if told := created.get("note"):
        note(told)
    if job["interactive"]:
        note(f"`hurlicane attach {created['job_id']}` shows its terminal, once it runs.")
    if detach:
        return created
    tree = JobTree(created["job_id"])
    with screen(tree) as shown:
        await _follow(server, tree, as_of, shown)
    return await whole(server, tree.root)


async def _follow(server: Connection, tree: JobTree, as_of: int, shown: Screen) -> None:
    """Show what happens to *tree* after event *as_of*, until its root is final."""

    async def output() -> None:
        async with aclosing(output_of(server, tree.root)) as pages:
            async for page in pages:
                shown.printed(entry_lines(page.entries))

    of_attempts = ("progress", "model", "refused", "settled")
    kinds = ("job.*", "question.*", "model.*", *(f"attempt.{kind}" for kind in of_attempts))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(output)
        async with aclosing(server.stream("/events", kind=kinds, after=as_of)) as events:
            async for event in events:
                what = tree.take(event)
                if event.data.get("job_id") in tree.jobs:
                    shown.moved(event.data["job_id"], what)
                    if event.data["kind"] == "job.parked":
                        shown.printed(await _limits(server, named(event.data["data"]["by"])))
                if tree.is_over:
                    break
        tasks.cancel_scope.cancel()


async def _limits(server: Connection, name: str) -> list[str]:
    """What is known of the limit *name*: why it is there, and what a person can do about it."""
    found = await server.get("/api/models/rate-limits")
    return [limit_in_words(limit) for limit in found["limits"] if limit["name"] == name]
