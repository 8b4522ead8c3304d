"""What the watchdog does about agents that cannot go on, with a clock that the test moves."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlmodel import Session, col, select

from hurlicane_mcp.domain.agents import Limits
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.watchdog import LOOK, SECOND_LOOK, Watchdog
from hurlicane_mcp.providers.base import ConnectionLost, MessageSeen, ToolSeen
from hurlicane_mcp.store import attempts, jobs, waits, wakes
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, EventRow, JobRow
from tests.factories import add_job, booking, claim_due, running
from tests.fakes import FakeClock
from tests.stories.server import until

pytestmark = pytest.mark.anyio

BOOK = booking().book

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
GONE = ConnectionLost('MCP server "hurlicane" is not connected')


@pytest.fixture
def attendance(db: Database, clock: FakeClock) -> Attendance:
    return Attendance(db, clock)


@pytest.fixture
def watchdog(db: Database, clock: FakeClock, attendance: Attendance) -> Watchdog:
    return Watchdog(db, clock, Presences(clock, attendance, Limits()))


async def started(db: Database, clock: FakeClock, count: int = 1) -> list[str]:
    """Agents that have just been started, by the names of their attempts."""

    def change(session: Session) -> list[str]:
        names: list[str] = []
        for _ in range(count):
            _, attempt = running(session)
            # No process: a test's agents run nowhere, so none is asked what it uses.
            attempts.start(session, attempt.id, clock.now())
            names.append(attempt.id)
        return names

    return await db.write(change)


async def printed(db: Database, clock: FakeClock, attempt: str, *readings: object) -> None:
    now = clock.now()
    await db.write(lambda session: BOOK(session, attempt, readings, 1, now))  # pyright: ignore[reportArgumentType]


async def row(db: Database, attempt: str) -> AttemptRow:
    return await db.read(lambda session: attempts.get(session, attempt))


async def job_of(db: Database, attempt: str) -> JobRow:
    return await db.read(lambda session: jobs.get(session, attempt.rpartition(".")[0]))


async def kinds(db: Database) -> Sequence[str]:
    def query(session: Session) -> Sequence[str]:
        return session.exec(select(EventRow.kind).order_by(col(EventRow.seq))).all()

    return await db.read(query)


async def test_a_lost_agent_is_settled_after_its_grace_and_not_a_moment_before(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)
    clock.move(MINUTE)
    await printed(db, clock, attempt, GONE)
    clock.move(2 * MINUTE - SECOND)
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING
    assert "attempt.lost" in await kinds(db)
    clock.move(SECOND)
    await watchdog.look()
    settled = await row(db, attempt)
    assert (settled.state, settled.outcome) == (AttemptState.SETTLED, "disconnected")
    assert "not connected" in (settled.failure_reason or "")
    assert (await job_of(db, attempt)).status == JobStatus.QUEUED


async def test_an_agent_that_comes_back_in_time_goes_on_and_that_is_told(
    db: Database, clock: FakeClock, watchdog: Watchdog, attendance: Attendance
) -> None:
    (attempt,) = await started(db, clock)
    await printed(db, clock, attempt, GONE)
    await watchdog.look()
    clock.move(MINUTE)
    with attendance.request(attempt):
        pass
    await db.write(lambda _session: None)  # the note of the request was written before this
    clock.move(HOUR)
    await printed(db, clock, attempt, MessageSeen("Still here."))
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING
    assert [kind for kind in await kinds(db) if kind in ("attempt.lost", "attempt.returned")] == [
        *("attempt.lost", "attempt.returned")
    ]


async def test_old_lines_do_not_make_an_agent_lost_that_is_calling(
    db: Database, clock: FakeClock
) -> None:
    (attempt,) = await started(db, clock)
    now = clock.now()
    await db.write(lambda session: BOOK(session, attempt, [GONE], 1, now, is_calling=True))
    assert (await row(db, attempt)).lost_since is None


async def test_one_call_that_failed_makes_no_agent_lost_that_connects_at_each(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)
    await printed(db, clock, attempt, ConnectionLost("Transport closed", is_lasting=False))
    await printed(db, clock, attempt, ToolSeen("build", "", finished=False))
    clock.move(15 * MINUTE)
    await watchdog.look()
    building = await row(db, attempt)
    assert building.state == AttemptState.RUNNING
    assert building.lost_why == "Transport closed"  # for the judgement, should it end now


async def test_an_agent_that_was_lost_inside_a_wait_goes_on_when_that_is_over(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)

    def begin_to_wait(session: Session) -> str:
        parent = jobs.get(session, attempt.rpartition(".")[0])
        child = add_job(session, parent=parent, priority=-5)
        now = clock.now()
        attempts.fence(session, attempt, now)
        waits.open_wait(session, attempts.get(session, attempt), "jobs", [child.id], now)
        waits.close_all(session, now, "restart")
        BOOK(session, attempt, [ToolSeen("wait_for_jobs", "", finished=False)], 1, now)
        return child.id

    child = await db.write(begin_to_wait)
    clock.move(2 * MINUTE)
    await watchdog.look()
    assert (await row(db, attempt)).outcome == "disconnected"
    job_id = attempt.rpartition(".")[0]
    assert await db.read(lambda session: wakes.awaited_by(session, job_id)) == [child]


async def test_silence_is_resumed_once_and_fails_the_second_time(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)
    clock.move(20 * MINUTE - SECOND)
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING
    clock.move(SECOND)
    await watchdog.look()
    assert (await row(db, attempt)).outcome == "silent"

    def again(session: Session) -> str:
        attempts.end(session, attempt, clock.now(), exit_code=None, exit_signal=15)
        (job,) = claim_due(session, clock.now(), 1)
        second = f"{job.id}.2"
        first = attempts.get(session, attempt).model_dump(include={"provider", "run_dir"})
        attempts.add(
            session,
            first
            | {"id": second, "job_id": job.id, "number": 2, "token_hash": "x"}
            | {"claimed_at": clock.now()},
        )
        attempts.start(session, second, clock.now())
        return second

    second = await db.write(again)
    clock.move(20 * MINUTE)
    await watchdog.look()
    job = await job_of(db, second)
    assert (job.status, job.failure_kind) == (JobStatus.FAILED, "silent")
    assert "gave no sign of life for 20 min" in (job.failure_reason or "")


async def test_a_silent_agent_on_a_terminal_is_spoken_to_before_it_is_stopped(
    db: Database, clock: FakeClock, attendance: Attendance
) -> None:
    typed: list[tuple[Path, str]] = []

    async def type_(run_dir: Path, text: str) -> bool:
        typed.append((run_dir, text))
        return True

    presences = Presences(clock, attendance, Limits())
    watchdog = Watchdog(db, clock, presences, typist=type_)
    (attempt,) = await started(db, clock)
    clock.move(20 * MINUTE)
    await watchdog.look()
    clock.move(20 * MINUTE - SECOND)
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING
    ((where, text),) = typed
    assert str(where) == (await row(db, attempt)).run_dir
    assert "finish_job" in text
    await printed(db, clock, attempt, MessageSeen("Oh."))
    clock.move(20 * MINUTE)
    await watchdog.look()  # a silence of its own: it is spoken to again
    assert len(typed) == 2
    clock.move(20 * MINUTE)
    await watchdog.look()
    assert (await row(db, attempt)).outcome == "silent"
    assert len(typed) == 2


async def test_half_of_many_agents_at_once_are_doubted_and_looked_at_again(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    names = await started(db, clock, 6)
    clock.move(20 * MINUTE)
    for talking in names[3:]:
        await printed(db, clock, talking, MessageSeen("Busy."))
    await watchdog.look()
    clock.move(LOOK)
    await watchdog.look()
    states = [(await row(db, name)).state for name in names]
    assert states == [AttemptState.RUNNING] * 6
    assert (await kinds(db)).count("watchdog.doubt") == 1
    await printed(db, clock, names[0], MessageSeen("Back again."))
    clock.move(SECOND_LOOK)
    await watchdog.look()
    settled = [name for name in names if (await row(db, name)).state == AttemptState.SETTLED]
    assert settled == names[1:3]


@pytest.mark.parametrize("hours", [-5, 5])
async def test_setting_the_clock_stops_no_agent(
    db: Database, clock: FakeClock, watchdog: Watchdog, hours: int
) -> None:
    (attempt,) = await started(db, clock)
    await printed(db, clock, attempt, GONE)
    clock.set_by(hours * HOUR)
    await watchdog.look()
    clock.move(MINUTE)
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING
    assert "watchdog.paused" in await kinds(db)
    clock.move(MINUTE)
    await watchdog.look()
    assert (await row(db, attempt)).outcome == "disconnected"


async def test_a_suspended_machine_gives_every_agent_its_grace_anew(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)
    clock.set_by(8 * HOUR)
    clock.slept += 8 * HOUR
    await watchdog.look()
    clock.move(19 * MINUTE)
    await watchdog.look()
    assert (await row(db, attempt)).state == AttemptState.RUNNING


async def test_a_finished_attempt_is_left_alone(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    (attempt,) = await started(db, clock)
    now = clock.now()
    await db.write(lambda session: attempts.settle(session, attempt, now, outcome="done"))
    clock.move(HOUR)
    await watchdog.look()
    assert (await row(db, attempt)).outcome == "done"


async def test_what_concerns_agents_is_only_looked_at_while_there_are_some(
    db: Database, clock: FakeClock
) -> None:
    looked = list[str]()

    async def always() -> None:
        looked.append("always")

    async def at_work() -> None:
        looked.append("at work")

    presences = Presences(clock, Attendance(db, clock), Limits())
    watchdog = Watchdog(db, clock, presences, (always,), chores_at_work=(at_work,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        for number in (1, 2):  # the second look begins when the first one is over
            await clock.advance(LOOK)
            await until(lambda number=number: looked.count("always") == number)
        assert "at work" not in looked
        await db.write(lambda session: running(session))
        await clock.advance(LOOK)
        await until(lambda: "at work" in looked)
        tasks.cancel_scope.cancel()
