"""When warnings are raised and cleared, with a clock that the test moves."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, select

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.health import LOOK, Health
from hurlicane_mcp.store import attempts, jobs, waits, warnings
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow
from tests.factories import add_job, running
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def health(db: Database, clock: FakeClock) -> Health:
    return Health(db, clock)


async def started(db: Database, clock: FakeClock, **values: Any) -> str:
    """The job of an agent that has just been started."""

    def change(session: Session) -> str:
        job, attempt = running(session, **values)
        attempts.start(session, attempt.id, clock.now())
        return job.id

    return await db.write(change)


async def write(db: Database, job_id: str, **values: Any) -> None:
    await db.write(lambda session: attempts.write(session, f"{job_id}.1", **values))


async def end(db: Database, clock: FakeClock, job_id: str) -> None:
    outcome = Outcome(OutcomeKind.DONE, "Done.")
    await db.write(lambda session: settlement.settle(session, f"{job_id}.1", outcome, clock.now()))


async def news(db: Database) -> Sequence[str]:
    """What was told of warnings so far, in order."""

    def query(session: Session) -> Sequence[str]:
        rows = session.exec(select(EventRow).order_by(col(EventRow.seq))).all()
        mine = [row for row in rows if row.kind.startswith("job.warn")]
        assert all(row.job_id and row.data["text"] for row in mine)
        return [f"{row.kind.removeprefix('job.')} {row.data['warning']}" for row in mine]

    return await db.read(query)


async def look(health: Health, clock: FakeClock) -> None:
    """A look that is not too soon after the last one."""
    clock.move(LOOK)
    await health.look()


async def test_stalled_output_is_told_once_and_taken_back_when_the_agent_prints(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock)
    clock.move(10 * MINUTE - LOOK - SECOND)
    await look(health, clock)
    assert await news(db) == []
    clock.move(SECOND)
    await health.look()  # too soon: nothing is looked at
    assert await news(db) == []
    await look(health, clock)
    await look(health, clock)
    assert await news(db) == ["warned stalled_output"]
    await write(db, job, output_at=clock.now())
    await look(health, clock)
    assert await news(db) == ["warned stalled_output", "warning_cleared stalled_output"]


async def test_the_output_of_an_agent_that_waits_is_not_stalled_nor_just_after_its_wait(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock)

    def begin(session: Session) -> int:
        attempt = attempts.get(session, f"{job}.1")
        return waits.open_wait(session, attempt, "jobs", [], clock.now())

    wait = await db.write(begin)
    clock.move(30 * MINUTE)
    await look(health, clock)
    await db.write(lambda session: waits.close_wait(session, wait, clock.now(), "answered"))
    await look(health, clock)
    assert await news(db) == []
    clock.move(10 * MINUTE)
    await look(health, clock)
    assert await news(db) == ["warned stalled_output"]


async def test_what_a_terminal_shows_is_not_output_that_could_stall(
    db: Database, clock: FakeClock, health: Health
) -> None:
    await started(db, clock, interactive=True)
    clock.move(30 * MINUTE)
    await look(health, clock)
    assert await news(db) == []


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_clock_that_was_set_makes_no_output_stalled(
    db: Database, clock: FakeClock, health: Health, hours: int
) -> None:
    await started(db, clock)
    await health.look()
    clock.set_by(hours * HOUR)
    await look(health, clock)
    assert "warned stalled_output" not in await news(db)
    clock.move(10 * MINUTE)
    await look(health, clock)
    assert "warned stalled_output" in await news(db)


async def test_turns_and_time_are_those_of_all_attempts(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock, stop_mode="turns", stop_value=Decimal(10))
    await write(db, job, turns=5, output_at=clock.now() + HOUR)
    clock.move(40 * MINUTE)

    def again(session: Session) -> None:
        crash = Outcome(OutcomeKind.CRASHED, "")
        settlement.settle(session, f"{job}.1", crash, clock.now())
        attempts.end(session, f"{job}.1", clock.now())
        jobs.set_values(session, job, status="running", attempt=2)
        first = attempts.get(session, f"{job}.1").model_dump(include={"provider", "run_dir"})
        second = {"id": f"{job}.2", "job_id": job, "number": 2, "token_hash": "x"}
        attempts.add(session, {**first, **second, "claimed_at": clock.now()})
        attempts.start(session, f"{job}.2", clock.now())
        attempts.write(session, f"{job}.2", turns=3, output_at=clock.now())

    await db.write(again)
    await look(health, clock)
    assert await news(db) == ["warned turns"]
    clock.move(20 * MINUTE)
    await write(db, job, output_at=clock.now())
    await db.write(lambda s: attempts.write(s, f"{job}.2", output_at=clock.now()))
    await look(health, clock)
    assert await news(db) == ["warned turns", "warned long_running"]


async def test_a_budget_is_that_of_the_tree_even_while_its_own_agent_does_not_run(
    db: Database, clock: FakeClock, health: Health
) -> None:
    def change(session: Session) -> str:
        account = add_job(session, stop_mode="budget", stop_value=Decimal(1))
        jobs.set_values(session, account.id, payer_id=account.id)
        child, attempt = running(session, parent=account, payer_id=account.id)
        attempts.start(session, attempt.id, clock.now())
        jobs.set_values(session, child.id, cost_usd=Decimal("0.85"))
        return account.id

    account = await db.write(change)
    await look(health, clock)
    assert await news(db) == ["warned budget"]
    (row,) = await db.read(warnings.listing)
    assert (row.job_id, row.text) == (account, "At least $0.85 of its $1.00 are used.")


async def test_what_its_agent_did_is_forgotten_with_the_agent_and_what_the_job_used_is_not(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock, stop_mode="turns", stop_value=Decimal(10))
    await write(db, job, turns=9, tool_failures=5, denials=1)
    await look(health, clock)
    raised = ["warned turns", "warned tool_failures", "warned permission_denied"]
    assert await news(db) == raised

    def park(session: Session) -> None:
        lost = Outcome(OutcomeKind.DISCONNECTED, "")
        settlement.settle(session, f"{job}.1", lost, clock.now())

    await db.write(park)
    assert (await db.read(lambda s: jobs.get(s, job))).status == "queued"
    await look(health, clock)
    cleared = ["warning_cleared permission_denied", "warning_cleared tool_failures"]
    assert sorted(await news(db)) == sorted([*raised, *cleared])
    assert await db.read(warnings.holding) == {job: {"turns"}}


async def test_a_final_job_has_no_warnings_at_once_and_they_are_cleared_at_the_next_look(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock)
    await write(db, job, denials=1)
    await look(health, clock)
    await end(db, clock, job)
    assert await db.read(warnings.listing) == []
    await look(health, clock)
    assert await news(db) == ["warned permission_denied", "warning_cleared permission_denied"]
    assert await db.read(warnings.holding) == {}


async def test_another_server_goes_on_with_the_warnings_of_the_last_one(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock)
    clock.move(10 * MINUTE)
    await look(health, clock)
    clock.move(HOUR)
    await write(db, job, denials=1)
    next_one = Health(db, clock)
    await next_one.look()
    await write(db, job, output_at=clock.now())
    await look(next_one, clock)
    assert await news(db) == [
        "warned stalled_output",
        "warned long_running",
        "warned permission_denied",
        "warning_cleared stalled_output",
    ]


async def test_nothing_is_written_while_nothing_changes(
    db: Database, clock: FakeClock, health: Health
) -> None:
    job = await started(db, clock)
    await write(db, job, denials=1)
    await look(health, clock)
    commits: list[object] = []
    event.listen(db.engine, "commit", commits.append)
    for _ in range(5):
        await look(health, clock)
    assert commits == []
    await write(db, job, denials=2)
    assert len(commits) == 1
