"""File locks and their queue, on both kinds of database."""

from datetime import timedelta

import pytest
from sqlmodel import Session

from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.store import locks
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.lock_tables import LockRequestRow
from tests.factories import running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio


def asked(session: Session, job_id: str, *paths: str) -> LockRequestRow:
    values = {"job_id": job_id, "attempt_id": f"{job_id}.1", "paths": list(paths)}
    return locks.queue(session, {**values, "ttl_s": 60, "reason": "why"}, BEGINNING)


async def test_requests_are_granted_in_order_and_expired_locks_give_way(store: Database) -> None:
    one, two, three = await store.write(lambda session: [running(session)[0].id for _ in range(3)])

    def first(session: Session) -> set[str]:
        asked(session, one, "/r/a")
        asked(session, two, "/r")
        asked(session, three, "/r/b")
        return set(lock_table.regrant(session, BEGINNING))

    assert len(await store.write(first)) == 2
    holder = (await store.read(lambda session: locks.holders(session, [one])))[one]
    assert (holder.status, holder.state, holder.ended_at) == ("running", "starting", None)

    def later(session: Session) -> None:
        lock_table.regrant(session, BEGINNING + timedelta(minutes=2))

    await store.write(later)
    (row,) = await store.read(locks.held)
    assert (row.job_id, row.path, row.reason) == (two, "/r", "why")


async def test_a_place_is_kept_for_the_same_paths_of_the_same_job(store: Database) -> None:
    one, two = await store.write(lambda session: [running(session)[0].id for _ in range(2)])

    def change(session: Session) -> tuple[str, str, str]:
        row = asked(session, one, "/r/a")
        locks.leave(session, row.id, BEGINNING)
        other, same = asked(session, two, "/r/a"), asked(session, one, "/r/a")
        assert (same.left_at, other.left_at) == (None, None)
        return row.id, other.id, same.id

    before, other, after = await store.write(change)
    assert before == after
    assert [row.id for row in await store.read(locks.requests)] == [before, other]
    await store.write(lambda session: locks.leave_all(session, BEGINNING))
    assert all(row.left_at for row in await store.read(locks.requests))
