"""Commands that look at jobs, wait for them and cancel them."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.pages import Listing
from hurlicane_mcp.cli.render import (
    age,
    asked,
    brief,
    console,
    job_table,
    note,
    print_json,
    print_result,
    printable,
    why,
)

OPEN: Final = ("blocked", "queued", "running")
JOBS: Final = Listing("/api/jobs", "jobs", "job_id", "status")
TIMED_OUT: Final = 124  #: as timeout(1) exits
CANCELLED: Final = 130
_LONGEST_WAIT_S: Final = 240
#: What `show` prints of a job, in this order; the result comes last.
_FIELDS: Final = (
    "title",
    "status",
    "progress",
    "provider",
    "model",
    "models_used",
    "chain",
    "work_dir",
    "branch",
    "project",
    "priority",
    "completion",
    "retry_policy",
    "retries",
    "checks",
    "checks_failed",
    "checks_told",
    "stop_mode",
    "stop_value",
    "stopped_by",
    "limited_by",
    "not_before",
    "parent_id",
    "depends_on",
    "children",
    "session_id",
    "turns",
    "cost_usd",
    "created_at",
    "started_at",
    "finished_at",
)
_LISTS: Final = ("depends_on", "children", "models_used", "chain", "checks")


def exit_code(statuses: Iterable[str]) -> int:
    """0 if all are done, else 1 if one has failed, else 130: they were cancelled."""
    ends = set(statuses)
    if "failed" in ends:
        return 1
    return CANCELLED if "cancelled" in ends else 0


def ps(
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="All jobs, not only open and recent ones.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the open jobs and the ten newest others."""

    async def listing(server: Connection) -> Sequence[Mapping[str, Any]]:
        return await (JOBS.everything(server) if everything else JOBS.going_on(server, OPEN))

    jobs = ask(data_dir, listing)
    if as_json:
        print_json({"jobs": jobs})
    elif jobs:
        console().print(job_table(jobs))
    else:
        note('There are no jobs yet: hurlicane run "what to do" creates one.')
    return 0


def show(job: JobArgument, *, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Show all about one job: its state, its attempts and its result."""

    async def look(server: Connection) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
        view = await whole(server, job)
        return view, (await server.get(f"/api/jobs/{job}/attempts"))["attempts"]

    view, attempts = ask(data_dir, look)
    if as_json:
        print_json({**view, "attempts": attempts})
        return 0
    out = console()
    for name in _FIELDS:
        if view.get(name):
            shown = ", ".join(view[name]) if name in _LISTS else str(view[name])
            out.print(Text(f"{name.replace('_', ' '):12} {printable(shown)}"))
    if budget := view.get("budget"):
        told = ("spent", "reserved", "free")
        shown = ", ".join(f"${budget[f'{one}_usd']} {one}" for one in told)
        out.print(Text(f"{'budget':12} {shown}"))
    if tree := view.get("worktree"):
        kept = f"; kept in {', '.join(tree['salvaged'])}" if tree.get("salvaged") else ""
        out.print(Text(f"{'worktree':12} {tree['state']}, branch {tree['branch']}{kept}"))
    if presence := view.get("presence"):
        shown = f"{presence['state']} for {age(presence['since'])}: {printable(presence['why'])}"
        out.print(Text(f"{'agent':12} {shown}"))
    if question := view.get("question"):
        shown = f"{question['question_id']} waits for you: {printable(asked(question))}"
        out.print(Text(f"{'question':12} {shown}", "bold"))
    for one in view.get("warnings") or ():
        shown = f"{one['kind']} for {age(one['since'])}: {printable(one['text'])}"
        out.print(Text(f"{'warning':12} {shown}", "yellow"))
    for attempt in attempts:
        out.print(Text(f"{'attempt ' + str(attempt['number']):12} {_attempt(attempt)}"))
    if failure := view.get("failure"):
        out.print(Text(f"{'failure':12} {printable(why(failure))}", "red"))
    out.print(Text(f"\n{printable(view['description'])}", "dim"))
    if view.get("result"):
        out.print()
        print_result(view["result"])
    return 0


def _attempt(attempt: Mapping[str, Any]) -> str:
    parts = [
        attempt.get("outcome") or attempt["state"],
        age(attempt.get("started_at"), attempt.get("ended_at")),
        f"{attempt['turns']} turns",
        f"{attempt['input_tokens']} in, {attempt['output_tokens']} out",
    ]
    if failure := attempt.get("failure"):
        parts.append(brief(why(failure), 200))
    return " · ".join(part for part in parts if part)


async def whole(server: Connection, job_id: str) -> dict[str, Any]:
    """The job with its whole result, however long that is."""
    view = await server.get(f"/api/jobs/{job_id}")
    result = view.get("result") or ""
    cut = view.pop("result_cut", None)
    while cut:
        more = await server.get(f"/api/jobs/{job_id}", offset=len(result))
        result, cut = result + (more.get("result") or ""), more.get("result_cut")
    return {**view, "result": result} if result else view


def cancel(
    job: JobArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; agents and people get to read it.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Cancel a job and all jobs below it; their agents are stopped."""

    async def work(server: Connection) -> Mapping[str, Any]:
        return await server.post(f"/api/jobs/{job}/cancel", {"reason": reason})

    answer = ask(data_dir, work)
    if as_json:
        print_json(answer)
    elif answer["status"] != "cancelled":
        note(f"{job} was {answer['status']} already: nothing changed.")
    else:
        note(f"{job} is cancelled.")
    return 0


def wait(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.")],
    *,
    first: Annotated[bool, typer.Option("--any", help="Return at the first finished job.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Give up after this time.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Wait until the jobs are finished and print their results.

    Exit code: 0 all done, 1 one has failed, 130 one was cancelled, 124 time is up.
    """
    answer = ask(data_dir, lambda server: _wait(server, jobs, first, timeout))
    finished = [job for job in answer["jobs"] if job["job_id"] not in answer["pending"]]
    if as_json:
        print_json({"jobs": answer["jobs"], "pending": answer["pending"]})
    else:
        for job in finished:
            if len(jobs) > 1:
                console().print(Text(f"== {job['job_id']} {job['status']}: {brief(job['title'])}"))
            report(job)
    if answer["pending"] and not (first and finished):
        note(f"Time is up; not finished: {', '.join(answer['pending'])}.")
        return TIMED_OUT
    return exit_code(job["status"] for job in finished)


def report(job: Mapping[str, Any]) -> None:
    """The result on standard output; why there is none, or not all, on standard error."""
    print_result(job.get("result"))
    if stopped_by := job.get("stopped_by"):
        note(f"{job['job_id']} was stopped at its limit ({stopped_by}): what it had done is kept.")
    if failure := job.get("failure"):
        note(f"{job['job_id']} {job['status']}: {why(failure)}")
    elif job["status"] == "cancelled":
        note(f"{job['job_id']} was cancelled.")


async def _wait(
    server: Connection, job_ids: Sequence[str], first: bool, timeout_s: float | None
) -> dict[str, Any]:
    """The server's answer once enough jobs are final or time is up, with whole results."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = _LONGEST_WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
        answer = await server.get(
            "/api/wait",
            patience_s=_LONGEST_WAIT_S + 60,
            job_id=job_ids,
            any=first,
            timeout_s=min(left, _LONGEST_WAIT_S),
        )
        pending = answer.setdefault("pending", [])
        enough = not pending or (first and len(pending) < len(set(job_ids)))
        if enough or left == 0:
            break
    for job in answer["jobs"]:
        if job.pop("result_cut", None):
            job["result"] = (await whole(server, job["job_id"]))["result"]
    return answer
