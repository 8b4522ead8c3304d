"""Due jobs get free slots, at their moment."""

from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.store.database import Database
from tests.factories import add_job, booking
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

BOOKING = booking()


class SteppingClock(FakeClock):
    """A clock that goes on by a second whenever it is looked at."""

    def now(self) -> datetime:
        self.move(timedelta(seconds=1))
        return super().now()


async def test_a_job_that_falls_due_between_claiming_and_looking_ahead_is_not_forgotten(
    db: Database, tmp_path: Path
) -> None:
    launched: list[str] = []

    async def launch(launch: Launch) -> None:
        launched.append(launch.job.id)

    # The first look at the clock comes before this moment, the second after it.
    moment = BEGINNING + timedelta(seconds=1.5)
    job = await db.write(lambda session: add_job(session, not_before=moment))
    dispatcher = Dispatcher(db, SteppingClock(), 4, tmp_path, BOOKING.ledger, BOOKING.stops, launch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run)
        with anyio.move_on_after(5):
            while not launched:  # noqa: ASYNC110  (nothing may ring: that is the point)
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert launched == [job.id]


async def test_a_parked_job_starts_when_its_time_has_come(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    launched: list[str] = []

    async def launch(launch: Launch) -> None:
        launched.append(launch.job.id)

    moment = BEGINNING + timedelta(seconds=0.3)
    job = await db.write(lambda session: add_job(session, not_before=moment))
    dispatcher = Dispatcher(db, clock, 4, tmp_path, BOOKING.ledger, BOOKING.stops, launch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run)
        await anyio.sleep(0.1)
        assert launched == []
        clock.move(timedelta(seconds=0.3))
        with anyio.move_on_after(5):
            while not launched:  # noqa: ASYNC110  (nothing may ring: that is the point)
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert launched == [job.id]
