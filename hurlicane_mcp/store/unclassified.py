"""Jobs whose model is still to be chosen, by how hard they look."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import JobRow

#: A job in another state needs no model any more: it has been cancelled, or cannot begin.
WAITING = (JobStatus.QUEUED, JobStatus.BLOCKED)


def oldest(session: Session, besides: Collection[str], limit: int) -> Sequence[str]:
    """The ids of up to *limit* of them, oldest first, without *besides*."""
    query = (
        select(JobRow.id)
        .where(col(JobRow.status).in_(WAITING), col(JobRow.is_unclassified))
        .where(col(JobRow.id).not_in(besides))
        .order_by(col(JobRow.seq))
        .limit(limit)
    )
    return session.exec(query).all()


def decide(
    session: Session, job_id: str, model: str, chain: Sequence[str], because: str, now: datetime
) -> bool:
    """Give the job its *model* and tell of it: `job.classified`. Whether it still waited."""
    values: dict[str, Any] = {"model": model, "chain": list(chain), "is_unclassified": False}
    statement = (
        update(JobRow)
        .where(col(JobRow.id) == job_id, col(JobRow.is_unclassified))
        .where(col(JobRow.status).in_(WAITING))
        .values(values)
    )
    if session.exec(statement).rowcount == 0:
        return False
    events.record(session, now, "job.classified", job_id, model=model, because=because)
    return True
