"""Queued jobs that go on when others are final: their agent was stopped while it waited."""

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, delete, select

from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import LIVE_JOB, JobRow, WakeRow, insert_rows


def add(session: Session, job_id: str, awaited: Sequence[str]) -> Sequence[str]:
    """Let *job_id* go on only after *awaited*; those of them that are not final yet."""
    query = select(JobRow.id).where(col(JobRow.id).in_(awaited), LIVE_JOB)
    open_ = session.exec(query.order_by(col(JobRow.seq))).all()
    if open_:
        insert_rows(session, WakeRow, *({"job_id": job_id, "awaits": one} for one in open_))
    return open_


def release(session: Session, awaited: str, now: datetime) -> None:
    """*awaited* is final: jobs that waited for nothing else may go on."""
    query = select(WakeRow.job_id).where(col(WakeRow.awaits) == awaited)
    sleepers = session.exec(query).all()
    if not sleepers:
        return
    session.exec(delete(WakeRow).where(col(WakeRow.awaits) == awaited))
    for job_id in sleepers:
        if not awaited_by(session, job_id):
            events.record(session, now, "job.woken", job_id, status=JobStatus.QUEUED, by=awaited)


def drop(session: Session, job_id: str) -> None:
    """*job_id* is final and waits for nothing any more."""
    session.exec(delete(WakeRow).where(col(WakeRow.job_id) == job_id))


def awaited_by(session: Session, job_id: str) -> Sequence[str]:
    """What *job_id* still waits for."""
    query = select(WakeRow.awaits).where(col(WakeRow.job_id) == job_id)
    return session.exec(query.order_by(col(WakeRow.awaits))).all()


def edges(session: Session) -> Sequence[tuple[str, str]]:
    """Who waits for whom in this way, as pairs of job ids."""
    return session.exec(select(WakeRow.job_id, WakeRow.awaits)).all()
