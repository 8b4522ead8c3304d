"""Messages: what operators and parents say to a job's agent, and how far it has got."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import insert, or_, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from hurlicane_mcp.domain.attempts import Standing
from hurlicane_mcp.store import events
from hurlicane_mcp.store.attempts import standing_of
from hurlicane_mcp.store.tables import LIVE_JOB, JobRow, MessageRow

#: So much of a message stands in its event.
_SHOWN = 500


def add(session: Session, job_id: str, sender: str, text: str, now: datetime) -> MessageRow:
    """Store a message to the job's agent, this one or the next."""
    statement = insert(MessageRow).values(job_id=job_id, sender=sender, sent_at=now, text=text)
    seq = session.exec(statement.returning(col(MessageRow.seq))).scalar_one()
    events.record(session, now, "message.sent", job_id, message=seq, by=sender, text=text[:_SHOWN])
    return session.exec(_rows().where(col(MessageRow.seq) == seq)).one()


def untold(session: Session, job_id: str, sender: str, text: str) -> MessageRow | None:
    """The same message, if no agent was told it yet."""
    query = _rows().where(
        col(MessageRow.job_id) == job_id,
        col(MessageRow.sender) == sender,
        col(MessageRow.delivered_at).is_(None),
        col(MessageRow.text) == text,
    )
    return session.exec(query.limit(1)).one_or_none()


def of_job(session: Session, job_id: str, limit: int) -> Sequence[MessageRow]:
    """The newest *limit* messages to the job's agents, oldest first."""
    query = _rows().where(col(MessageRow.job_id) == job_id)
    newest = session.exec(query.order_by(col(MessageRow.seq).desc()).limit(limit)).all()
    return newest[::-1]


def to_tell(session: Session, attempt_id: str) -> Sequence[MessageRow]:
    """What the agent of this attempt has not been given yet, oldest first.

    Nothing for an attempt that is settled or stale.
    """
    if standing_of(session, attempt_id) is not Standing.CURRENT:
        return ()
    job_id, number = _parts(attempt_id)
    query = (
        _rows()
        .where(col(MessageRow.job_id) == job_id, col(MessageRow.acknowledged_at).is_(None))
        .where(or_(col(MessageRow.attempt).is_(None), col(MessageRow.attempt) != number))
    )
    return session.exec(query.order_by(col(MessageRow.seq))).all()


def deliver(session: Session, attempt_id: str, seqs: Collection[int], now: datetime) -> None:
    """Note that these were told to the agent of *attempt_id*, unless that is stale by now."""
    if standing_of(session, attempt_id) is Standing.STALE:
        return
    job_id, number = _parts(attempt_id)
    statement = (
        update(MessageRow)
        .where(col(MessageRow.job_id) == job_id, col(MessageRow.seq).in_(seqs))
        .where(col(MessageRow.acknowledged_at).is_(None))
        .values(attempt=number, delivered_at=now)
        .returning(col(MessageRow.seq))
        .execution_options(synchronize_session=False)
    )
    for seq in sorted(session.exec(statement).scalars()):
        events.record(session, now, "message.delivered", job_id, number, message=seq)


def acknowledge(session: Session, attempt_id: str, now: datetime) -> int:
    """The agent of *attempt_id* has called: it has what was delivered to it before.

    Returns how many messages of its job, unless that is final, are still on their way. A stale
    attempt acknowledges nothing.
    """
    job_id, number = _parts(attempt_id)
    open_ = (col(MessageRow.job_id) == job_id, col(MessageRow.acknowledged_at).is_(None))
    if standing_of(session, attempt_id) is not Standing.STALE:
        statement = (
            update(MessageRow)
            .where(*open_, col(MessageRow.attempt) == number)
            .values(acknowledged_at=now)
            .returning(col(MessageRow.seq))
            .execution_options(synchronize_session=False)
        )
        for seq in sorted(session.exec(statement).scalars()):
            events.record(session, now, "message.acknowledged", job_id, number, message=seq)
    left = select(MessageRow.seq).join(JobRow, col(JobRow.id) == MessageRow.job_id)
    return len(session.exec(left.where(LIVE_JOB, *open_)).all())


def jobs_with_open(session: Session) -> Sequence[str]:
    """The jobs, not final, that have a message on its way."""
    query = (
        select(MessageRow.job_id)
        .join(JobRow, col(JobRow.id) == MessageRow.job_id)
        .where(LIVE_JOB, col(MessageRow.acknowledged_at).is_(None))
    )
    return session.exec(query.distinct()).all()


def _parts(attempt_id: str) -> tuple[str, int]:
    job_id, _, number = attempt_id.rpartition(".")
    return job_id, int(number)


def _rows() -> SelectOfScalar[MessageRow]:
    """All of them, as they are: what changed earlier in the transaction is not read from memory."""
    return select(MessageRow).execution_options(populate_existing=True)
