"""What attempts changed, in the store."""

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.store.workflow_tables import AttemptDiffRow


def add(session: Session, row: AttemptDiffRow) -> bool:
    """Store what an attempt changed; False, and nothing stored, if that was done before."""
    if session.get(AttemptDiffRow, row.attempt_id) is not None:
        return False
    session.add(AttemptDiffRow(**row.model_dump()))
    session.flush()
    return True


def exists(session: Session, attempt_id: str) -> bool:
    """Whether it is known what the attempt changed."""
    query = select(AttemptDiffRow.attempt_id).where(col(AttemptDiffRow.attempt_id) == attempt_id)
    return session.exec(query).one_or_none() is not None


def of_job(session: Session, job_id: str, number: int | None = None) -> AttemptDiffRow | None:
    """What the attempt of this number changed; without one the last that is known."""
    query = (
        select(AttemptDiffRow)
        .join(AttemptRow, col(AttemptRow.id) == AttemptDiffRow.attempt_id)
        .where(col(AttemptRow.job_id) == job_id)
        .order_by(col(AttemptRow.number).desc())
    )
    if number is not None:
        query = query.where(col(AttemptRow.number) == number)
    return session.exec(query.limit(1)).one_or_none()


def missing(session: Session, since: datetime) -> Sequence[AttemptRow]:
    """Attempts in repositories that have ended since then, and of which nothing is known."""
    known = (
        select(AttemptDiffRow.attempt_id)
        .where(col(AttemptDiffRow.attempt_id) == AttemptRow.id)
        .correlate(AttemptRow)
        .exists()
    )
    query = select(AttemptRow).where(
        col(AttemptRow.ended_at) >= since, col(AttemptRow.base_sha).is_not(None), ~known
    )
    return session.exec(query.order_by(col(AttemptRow.ended_at))).all()
