"""Open waits: who is inside a blocking call, and for what."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import insert, update
from sqlmodel import Session, col, func, select

from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import AttemptRow, WaitRow

#: The kind of a wait that keeps its slot: the agent waits for what is done on its behalf.
CHECKS = "checks"


def open_wait(
    session: Session, attempt: AttemptRow, kind: str, targets: Sequence[str], now: datetime
) -> int:
    """Note that the attempt blocks, which frees its slot, unless the kind is `CHECKS`; the number
    of the new wait."""
    statement = insert(WaitRow).values(
        attempt_id=attempt.id, kind=kind, targets=list(targets), opened_at=now
    )
    seq = session.exec(statement.returning(col(WaitRow.seq))).scalar_one()
    events.record(
        session, now, "wait.opened", attempt.job_id, attempt.number, wait=kind, on=list(targets)
    )
    return seq


def close_wait(session: Session, seq: int, now: datetime, ended_by: str) -> None:
    """Note that the call has returned; the attempt counts as busy again. Twice is safe."""
    query = select(WaitRow).where(col(WaitRow.seq) == seq, col(WaitRow.closed_at).is_(None))
    wait = session.exec(query).one_or_none()
    if wait is not None:
        _close(session, wait, now, ended_by)


def close_all(session: Session, now: datetime, ended_by: str, attempt_id: str | None = None) -> int:
    """Close every open wait, or those of one attempt; how many there were."""
    query = select(WaitRow).where(col(WaitRow.closed_at).is_(None))
    if attempt_id is not None:
        query = query.where(col(WaitRow.attempt_id) == attempt_id)
    waits = session.exec(query).all()
    for wait in waits:
        _close(session, wait, now, ended_by)
    return len(waits)


def open_waits(session: Session) -> Sequence[WaitRow]:
    """All open waits, oldest first."""
    query = select(WaitRow).where(col(WaitRow.closed_at).is_(None)).order_by(col(WaitRow.seq))
    return session.exec(query).all()


def last_of(session: Session, attempt_ids: Sequence[str]) -> dict[str, WaitRow]:
    """The newest wait, open or closed, of each attempt that ever waited."""
    newest = (
        select(func.max(WaitRow.seq))
        .where(col(WaitRow.attempt_id).in_(attempt_ids))
        .group_by(col(WaitRow.attempt_id))
    )
    found = session.exec(select(WaitRow).where(col(WaitRow.seq).in_(newest))).all()
    return {wait.attempt_id: wait for wait in found}


def answered(
    session: Session, attempt_id: str, kind: str, targets: Iterable[str]
) -> dict[str, datetime]:
    """When a wait of this kind for each of *targets* was last answered, of those that had one."""
    query = select(WaitRow).where(
        col(WaitRow.attempt_id) == attempt_id,
        col(WaitRow.kind) == kind,
        col(WaitRow.ended_by) == "answered",
    )
    wanted, found = frozenset(targets), dict[str, datetime]()
    for wait in session.exec(query.order_by(col(WaitRow.seq))).all():
        if wait.closed_at is not None:
            found |= dict.fromkeys(wanted.intersection(wait.targets), wait.closed_at)
    return found


def broken_off(session: Session, attempt: AttemptRow) -> WaitRow | None:
    """The blocking call that *attempt* was inside when it lost us or died, if it was in one.

    That is its last one, if it was never answered and no call has come after it.
    """
    query = select(WaitRow).where(col(WaitRow.attempt_id) == attempt.id)
    last = session.exec(query.order_by(col(WaitRow.seq).desc()).limit(1)).one_or_none()
    if last is None or last.ended_by == "answered":
        return None
    called_since = attempt.called_at is not None and attempt.called_at > last.opened_at
    return None if called_since else last


def _close(session: Session, wait: WaitRow, now: datetime, ended_by: str) -> None:
    session.exec(
        update(WaitRow)
        .where(col(WaitRow.seq) == wait.seq)
        .values(closed_at=now, ended_by=ended_by)
        .execution_options(synchronize_session=False)
    )
    job_id, _, number = wait.attempt_id.rpartition(".")
    events.record(session, now, "wait.closed", job_id, int(number), wait=wait.kind, by=ended_by)
