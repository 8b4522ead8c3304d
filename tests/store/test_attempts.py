"""Attempts, the fence and the slots, on SQLite and PostgreSQL alike."""

from decimal import Decimal

import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Standing
from hurlicane_mcp.domain.jobs import JobEvent
from hurlicane_mcp.errors import JobFinished, StaleAttempt
from hurlicane_mcp.ids import token_hash
from hurlicane_mcp.store import attempts, jobs, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from tests.factories import claim, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio


async def test_the_current_attempt_passes_the_fence_and_is_seen(store: Database) -> None:
    _, attempt = await store.write(running)
    await store.write(lambda session: attempts.report(session, attempt.id, "reading", BEGINNING))
    row = await store.read(lambda session: attempts.get(session, attempt.id))
    assert (row.progress, row.last_seen_at) == ("reading", BEGINNING)


async def test_a_settled_attempt_is_told_that_its_job_is_over(store: Database) -> None:
    def settled(session: Session) -> AttemptRow:
        job, attempt = running(session)
        attempts.settle(session, attempt.id, BEGINNING)
        jobs.change(session, job, JobEvent.SUCCEED, BEGINNING)
        return attempt

    attempt = await store.write(settled)
    with pytest.raises(JobFinished, match="already done"):
        await store.write(lambda session: attempts.fence(session, attempt.id, BEGINNING))


async def test_a_stale_attempt_writes_nothing_and_is_told_to_stop(store: Database) -> None:
    def succeeded(session: Session) -> tuple[AttemptRow, AttemptRow]:
        job, first = running(session)
        attempts.settle(session, first.id, BEGINNING)
        jobs.change(session, job, JobEvent.REQUEUE, BEGINNING)
        attempts.end(session, first.id, BEGINNING)
        return first, claim(session, job.id)

    first, second = await store.write(succeeded)
    with pytest.raises(StaleAttempt, match="Stop now"):
        await store.write(
            lambda session: attempts.report(session, first.id, "I am back", BEGINNING)
        )
    assert (await store.read(lambda s: attempts.get(s, first.id))).progress == ""
    standings = await store.read(
        lambda s: [attempts.standing_of(s, one.id) for one in (first, second)]
    )
    assert standings == [Standing.STALE, Standing.CURRENT]


async def test_settling_twice_is_told_apart(store: Database) -> None:
    _, attempt = await store.write(running)
    first = await store.write(lambda s: attempts.settle(s, attempt.id, BEGINNING, outcome="done"))
    again = await store.write(lambda s: attempts.settle(s, attempt.id, BEGINNING, outcome="failed"))
    assert first is not None
    assert again is None
    assert (await store.read(lambda s: attempts.get(s, attempt.id))).outcome == "done"


async def test_an_open_wait_frees_the_slot(store: Database) -> None:
    def change(session: Session) -> list[int]:
        _, attempt = running(session)
        running(session)
        busy = [attempts.count_busy(session)]
        seq = waits.open_wait(session, attempt, "jobs", ["job_x"], BEGINNING)
        busy.append(attempts.count_busy(session))
        waits.close_wait(session, seq, BEGINNING, "answered")
        busy.append(attempts.count_busy(session))
        attempts.settle(session, attempt.id, BEGINNING)
        return [*busy, attempts.count_busy(session)]

    assert await store.write(change) == [2, 1, 2, 1]


async def test_a_token_is_found_by_its_hash_only(store: Database) -> None:
    _, attempt = await store.write(running)
    token = f"token of {attempt.id}"
    assert await store.read(lambda s: attempts.by_token(s, token)) is None
    found = await store.read(lambda s: attempts.by_token(s, token_hash(token)))
    assert found is not None
    assert found.id == attempt.id


async def test_money_is_exact(store: Database) -> None:
    _, attempt = await store.write(running)
    price = Decimal("0.123456789")
    await store.write(lambda s: attempts.write(s, attempt.id, cost_usd=price))
    assert (await store.read(lambda s: attempts.get(s, attempt.id))).cost_usd == price


async def test_an_identity_reaches_an_attempt_that_was_settled_meanwhile(store: Database) -> None:
    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        attempts.settle(session, attempt.id, BEGINNING)
        attempts.start(session, attempt.id, BEGINNING, pid=42)
        return attempts.get(session, attempt.id)

    row = await store.write(change)
    assert (row.state, row.pid) == ("settled", 42)
