"""finish_job of jobs with checks: what does not hold goes back to the agent, a few times."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from hurlicane_mcp.domain import agents
from hurlicane_mcp.domain.agents import PresenceState
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Access, Caller
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.background import Background
from hurlicane_mcp.engine.finishing import MAX_TOLD, Finishing, call_limit
from hurlicane_mcp.engine.jobs import Finished, Jobs
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.waiting import RESTARTING, Waiting, WaitLimits
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.errors import ChecksFailed, LaunchFailed, OpenChildren, StaleAttempt
from hurlicane_mcp.store import attempts, events, jobs, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.supervision.host import Exit
from tests.engine.checking import checked, commit, git, no_beat, pid_in, real_checks
from tests.factories import add_job, claim
from tests.fakes import FakeClock
from tests.stories.server import until
from tests.supervision.agents import is_gone

pytestmark = pytest.mark.anyio

MENDED = {"command": ["test", "-e", "mended"]}
#: Waits for the file `go`, and notes that it has begun, once for each run.
SLOW = {
    "command": "echo $$ > pid; echo x >> runs; until [ -e go ]; do sleep 0.05; done; test -e ok"
}

Finish = Callable[..., Coroutine[Any, Any, Finished]]


@pytest.fixture
def presences(db: Database, clock: FakeClock) -> Presences:
    return Presences(clock, Attendance(db, clock), agents.Limits())


@pytest.fixture
def services(db: Database, clock: FakeClock, presences: Presences) -> Jobs:
    return Jobs(db, clock, presences)


@pytest.fixture
async def finish(
    db: Database, clock: FakeClock, services: Jobs, tmp_path: Path
) -> AsyncGenerator[Finish]:
    async with real_checks(db, clock, tmp_path / "running") as checks:
        waiting = Waiting(db, clock, WaitLimits(launched=timedelta(minutes=30)))
        finishing = Finishing(db, clock, services, waiting, checks)

        async def call(agent: Caller, result: str = "All done.", **more: Any) -> Finished:
            return await finishing.finish(agent, result, no_beat, **more)

        yield call


async def job_of(db: Database, agent: Caller) -> JobRow:
    return await db.read(lambda session: jobs.get(session, agent.job_id))


async def failures(db: Database, agent: Caller) -> list[Any]:
    kinds = ["job.checks_failed"]
    found = await db.read(
        lambda s: events.after(s, 0, limit=100, job_ids=[agent.job_id], kinds=kinds)
    )
    return [one.data for one in found]


def runs(folder: Path) -> int:
    """How often `SLOW` was begun."""
    return len((folder / "runs").read_text(encoding="utf-8").split())


async def test_an_agent_mends_what_does_not_hold_and_is_done_then(
    db: Database, finish: Finish, services: Jobs, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, {"command": "true"}, MENDED)
    with pytest.raises(ChecksFailed) as refused:
        await finish(agent)
    assert str(refused.value) == (
        "1 of 2 checks failed.\n\n`test -e mended` failed: Exit code 1. It printed nothing.\n\n"
        "The job is not finished. Mend this, then call finish_job again: 2 tries are left."
    )
    view = await services.get(OPERATOR, agent.job_id)
    assert (view.status, view.checks_failed) == ("running", "1 of 3")
    assert view.checks == ["`true`", "`test -e mended`"]
    assert "Exit code 1" in (view.checks_told or "")
    (tmp_path / "mended").touch()
    assert await finish(agent) == Finished(agent.job_id, "done", fresh=True)
    job = await job_of(db, agent)
    assert (job.result, job.checks_failed, len(await failures(db, agent))) == ("All done.", 1, 1)
    assert await finish(agent) == Finished(agent.job_id, "done", fresh=False)


async def test_after_the_last_try_the_job_has_failed_with_its_result(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, MENDED, check_tries=2)
    with pytest.raises(ChecksFailed, match=r"again: 1 try is left\."):
        await finish(agent)
    with pytest.raises(ChecksFailed, match=r"No try is left.* End your turn\."):
        await finish(agent, "What there is.")
    job = await job_of(db, agent)
    assert (job.status, job.failure_kind, job.result) == ("failed", "checks", "What there is.")
    assert "`test -e mended` failed: Exit code 1." in (job.failure_reason or "")
    assert [one["failed"] for one in await failures(db, agent)] == [1, 2]
    assert await finish(agent) == Finished(agent.job_id, "failed", fresh=False)


async def test_a_retry_has_all_tries_again(db: Database, finish: Finish, tmp_path: Path) -> None:
    policy: dict[str, Any] = {"retry_policy": "same", "max_retries": 1}
    agent = await checked(db, tmp_path, MENDED, check_tries=1, **policy)
    with pytest.raises(ChecksFailed, match="your attempt has failed"):
        await finish(agent)
    job = await job_of(db, agent)
    assert (job.status, job.retries, job.checks_failed) == ("queued", 1, 0)
    (attempt,) = await db.read(lambda session: attempts.of_job(session, job.id))
    assert (attempt.outcome, attempt.failure_kind) == ("failed", "checks")


async def test_an_agent_that_gives_up_runs_no_checks(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, {"command": "touch ran"})
    await finish(agent, "I cannot.", failed=True)
    assert (await job_of(db, agent)).failure_kind == "agent"
    assert not (tmp_path / "ran").exists()


async def test_what_would_be_refused_anyway_is_refused_before_the_checks(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, {"command": "touch ran"})
    parent = await job_of(db, agent)
    child = await db.write(lambda session: add_job(session, parent=parent))
    with pytest.raises(OpenChildren, match=child.id):
        await finish(agent)
    assert not (tmp_path / "ran").exists()
    assert (await finish(agent, detach=True)).status == "done"
    assert (await db.read(lambda session: jobs.get(session, child.id))).detached


async def test_work_of_earlier_attempts_counts_as_work_of_the_job(
    db: Database, finish: Finish, tmp_path: Path, clock: FakeClock
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    base = commit(folder, "before")
    agent = await checked(db, folder, "diff_not_empty")
    work = commit(folder, "work")
    crashed = Outcome(OutcomeKind.INTERRUPTED)

    def begin_again(session: Any) -> Caller:
        attempts.write(session, agent.attempt_id, base_sha=base)
        settlement.settle(session, agent.attempt_id, crashed, clock.now())
        settlement.mark_ended(session, agent.attempt_id, Exit(code=0), clock.now())
        again = claim(session, agent.job_id)
        attempts.write(session, again.id, base_sha=work)
        return Caller(agent.role, agent.job_id, again.id, is_checked=True)

    again = await db.write(begin_again)
    assert (await finish(again)).status == "done"


async def test_while_checks_run_the_agent_keeps_its_slot_and_is_never_silent(
    db: Database, finish: Finish, presences: Presences, tmp_path: Path, clock: FakeClock
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    why = Why(db, clock, presences, 8)
    (tmp_path / "ok").touch()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish, agent)
        await pid_in(tmp_path / "pid")
        clock.move(timedelta(hours=5))
        assert await db.read(attempts.count_busy) == 1
        row = await db.read(lambda session: attempts.get(session, agent.attempt_id))
        verdict = (await db.read(lambda session: presences.of(session, [row])))[row.id]
        assert (verdict.state, verdict.why) == (PresenceState.WAITING, "waits for its checks")
        (link,) = (await why.of(OPERATOR, agent.job_id)).chain
        assert link.because.startswith("Its checks run: `echo $$ > pid;")
        (tmp_path / "go").touch()
    assert (await job_of(db, agent)).status == "done"
    assert await db.read(waits.open_waits) == []


async def test_cancelling_the_job_ends_its_checks_at_once(
    db: Database, finish: Finish, services: Jobs, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    answers: list[Finished] = []

    async def call() -> None:
        answers.append(await finish(agent))

    pid = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        pid = await pid_in(tmp_path / "pid")
        await services.cancel(OPERATOR, agent.job_id)
    assert answers == [Finished(agent.job_id, "cancelled", fresh=False)]
    assert is_gone(pid)


async def test_a_call_that_is_broken_off_ends_the_checks_and_may_come_again(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    pid = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish, agent)
        pid = await pid_in(tmp_path / "pid")
        tasks.cancel_scope.cancel()
    assert is_gone(pid)
    job = await job_of(db, agent)
    assert (job.status, job.checks_failed) == ("running", 0)
    (tmp_path / "go").touch()
    (tmp_path / "ok").touch()
    assert (await finish(agent)).status == "done"


async def test_two_calls_at_once_run_the_checks_once_and_hear_the_same(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    heard: list[str] = []

    async def call() -> None:
        try:
            await finish(agent)
        except ChecksFailed as error:
            heard.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await pid_in(tmp_path / "pid")
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        (tmp_path / "go").touch()
    assert (len(heard), len(set(heard)), runs(tmp_path)) == (2, 1, 1)
    assert (await job_of(db, agent)).checks_failed == 1


async def test_a_second_call_takes_over_when_the_first_one_breaks_off(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    (tmp_path / "ok").touch()
    first = anyio.CancelScope()

    async def call_first() -> None:
        with first:
            await finish(agent)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call_first)
        await pid_in(tmp_path / "pid")
        tasks.start_soon(finish, agent)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await until(lambda: runs(tmp_path) == 2)
        (tmp_path / "go").touch()
    assert (await job_of(db, agent)).status == "done"


async def test_an_attempt_that_lost_its_job_meanwhile_changes_nothing(
    db: Database, finish: Finish, tmp_path: Path, clock: FakeClock
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    errors: list[Exception] = []

    async def call() -> None:
        try:
            await finish(agent)
        except StaleAttempt as error:
            errors.append(error)

    def take_over(session: Any) -> None:
        now = clock.now()
        settlement.settle(session, agent.attempt_id, Outcome(OutcomeKind.INTERRUPTED), now)
        settlement.mark_ended(session, agent.attempt_id, Exit(code=0), now)
        claim(session, agent.job_id)

    pid = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        pid = await pid_in(tmp_path / "pid")
        await db.write(take_over)
    job = await job_of(db, agent)
    assert (len(errors), job.status, job.attempt, job.checks_failed) == (1, "running", 2, 0)
    assert is_gone(pid)


async def test_when_the_server_stops_the_agent_is_told_to_call_again(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    answers: list[Finished] = []

    async def call() -> None:
        answers.append(await finish(agent))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await pid_in(tmp_path / "pid")
        db.bell.close()
    assert (answers[0].status, answers[0].fresh) == ("running", False)
    assert answers[0].hint == f"The checks were not finished. {RESTARTING}"
    assert (await job_of(db, agent)).checks_failed == 0


async def test_a_check_that_cannot_be_run_costs_no_try(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    (tmp_path / "running").write_text("in the way of the folder of runs")
    agent = await checked(db, tmp_path, {"command": "true"})
    with pytest.raises(LaunchFailed):
        await finish(agent)
    job = await job_of(db, agent)
    assert (job.status, job.checks_failed) == ("running", 0)
    await db.write(lambda session: None)  # after what was posted before it
    assert await db.read(waits.open_waits) == []


async def test_of_many_long_outputs_the_ends_are_told(
    db: Database, finish: Finish, tmp_path: Path
) -> None:
    commands = [{"command": f"seq 100000; echo end of {n}; exit 1"} for n in range(5)]
    agent = await checked(db, tmp_path, *commands)
    with pytest.raises(ChecksFailed) as refused:
        await finish(agent)
    told = str(refused.value)
    assert len(told) < MAX_TOLD + 500
    assert all(f"end of {n}\n" in told for n in range(5))


@pytest.mark.parametrize(
    ("completion", "told"),
    [
        ("finish_job", "`finish_job` runs these checks."),
        ("exit", "These checks run when your process has ended with exit code 0."),
    ],
)
async def test_the_agent_is_told_what_has_to_hold(
    db: Database, tmp_path: Path, completion: str, told: str
) -> None:
    agent = await checked(db, tmp_path, "clean_tree", MENDED, completion=completion, check_tries=4)
    job = await db.read(lambda session: jobs.get(session, agent.job_id))
    prompt = Prompts.load(None).for_attempt(job, None, False, Background())
    assert told in prompt
    assert "\n- clean_tree: nothing is uncommitted" in prompt
    assert "\n- `test -e mended` exits with 0 within 600 s\n" in prompt
    assert ("After 4 failures" in prompt) == (completion == "finish_job")


@pytest.mark.parametrize(
    ("limits", "longest"), [([60], 1800), ([3600, 1200], 4800), ([3600] * 10, 36000)]
)
async def test_a_call_of_an_agent_may_last_as_long_as_its_checks_may(
    db: Database, tmp_path: Path, limits: list[int], longest: int
) -> None:
    commands = [{"command": f"true {n}", "time_limit_s": s} for n, s in enumerate(limits)]
    agent = await checked(db, tmp_path, *commands)
    limit = call_limit(await job_of(db, agent), timedelta(minutes=30))
    assert limit == timedelta(seconds=longest)


async def test_a_token_tells_whether_its_job_has_checks(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    access = Access(db, clock, "the operator's")
    for written in ([], ["clean_tree"]):
        agent = await checked(db, tmp_path, *written)
        caller = await access.caller(f"token of {agent.attempt_id}")
        assert caller.is_checked is bool(written)
