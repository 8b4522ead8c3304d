"""The wall clock is set while jobs are parked, callers wait and the feed is read."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from sqlmodel import Session, col, select

from hurlicane_mcp.domain import agents
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.watchdog import Watchdog
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow
from tests.factories import add_job, booking, claim_due
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SET = pytest.mark.parametrize("by", [HOUR, -HOUR, 1000 * HOUR], ids=["on", "back", "far on"])


@pytest.fixture
def watchdog(db: Database, clock: FakeClock) -> Watchdog:
    return Watchdog(db, clock, Presences(clock, Attendance(db, clock), agents.Limits()))


async def parked(db: Database, clock: FakeClock, delay: timedelta) -> str:
    """A job that waits before its next attempt."""
    until = clock.now() + delay

    def change(session: Session) -> str:
        job = add_job(session, now=clock.now())
        jobs.set_values(session, job.id, not_before=until)
        return job.id

    return await db.write(change)


async def due(db: Database, clock: FakeClock) -> list[str]:
    """The jobs that would be claimed now."""

    def query(session: Session) -> list[str]:
        found = [job.id for job in claim_due(session, clock.now(), 10)]
        session.rollback()
        return found

    return await db.read(query)


@SET
async def test_a_delay_is_as_long_as_it_was_meant_to_be_however_the_clock_is_set(
    db: Database, clock: FakeClock, watchdog: Watchdog, by: timedelta
) -> None:
    job_id = await parked(db, clock, 5 * MINUTE)
    clock.move(MINUTE)
    clock.set_by(by)
    await watchdog.look()
    assert await due(db, clock) == []
    clock.move(4 * MINUTE - timedelta(seconds=1))
    assert await due(db, clock) == []
    clock.move(timedelta(seconds=1))
    assert await due(db, clock) == [job_id]


async def test_a_suspended_machine_has_waited_all_the_same(
    db: Database, clock: FakeClock, watchdog: Watchdog
) -> None:
    job_id = await parked(db, clock, 5 * MINUTE)
    clock.set_by(HOUR)
    clock.slept += HOUR
    await watchdog.look()
    assert await due(db, clock) == [job_id]


async def test_the_dispatcher_hears_that_the_clock_was_set(
    db: Database, clock: FakeClock, watchdog: Watchdog, tmp_path: Path
) -> None:
    job_id = await parked(db, clock, 10 * MINUTE)
    launched = anyio.Event()

    async def launch(launch: Launch) -> None:
        assert launch.job.id == job_id
        launched.set()

    with anyio.fail_after(10):  # the ten minutes it would sleep are real ones
        async with anyio.create_task_group() as tasks:
            ours = booking()
            dispatcher = Dispatcher(db, clock, 1, tmp_path, ours.ledger, ours.stops, launch)
            await tasks.start(dispatcher.run)
            await wait_all_tasks_blocked()
            clock.move(10 * MINUTE)
            clock.set_by(-HOUR)
            await watchdog.look()
            await launched.wait()
            tasks.cancel_scope.cancel()


@SET
async def test_a_wait_hears_of_the_end_and_events_keep_their_order(
    db: Database, clock: FakeClock, watchdog: Watchdog, by: timedelta
) -> None:
    job_id = await db.write(lambda session: add_job(session).id)
    waiting = Waiting(db, clock, WaitLimits(HOUR), Messages(db, clock))

    async def no_beat(_seconds: float, _what: str) -> None:
        pass

    async def finish() -> None:
        clock.set_by(by)
        await watchdog.look()
        job = await db.read(lambda session: jobs.get(session, job_id))
        await db.write(lambda session: end(session, clock, job.id))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            assert (await waiting.until_final(OPERATOR, [job_id], no_beat)).pending == []

    def kinds(session: Session) -> list[str]:
        return list(session.exec(select(EventRow.kind).order_by(col(EventRow.seq))).all())

    assert await db.read(kinds) == ["job.created", "watchdog.paused", "job.cancelled"]


def end(session: Session, clock: FakeClock, job_id: str) -> None:
    status = settlement.cancel(session, job_id, "enough", clock.now())
    assert status == JobStatus.CANCELLED
