"""The queue: which jobs may start, and which are kept from it and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, String, cast, or_, update
from sqlmodel import Session, col, func, select

from hurlicane_mcp.domain.jobs import JOB, JobEvent, JobStatus
from hurlicane_mcp.store import events, jobs
from hurlicane_mcp.store.tables import AttemptRow, JobRow, WakeRow


def due(session: Session, now: datetime, limit: int) -> Sequence[JobRow]:
    """Up to *limit* jobs that a free slot may go to, most urgent and then oldest first.

    A job whose last attempt has not ended yet is passed over: the old process may still write. So
    is one that is to go on when others are final, one whose model is still to be chosen, and one
    that is parked: until a moment, or until somebody clears what it is parked for.
    """
    still_leaving = (
        select(AttemptRow.id)
        .where(col(AttemptRow.job_id) == JobRow.id, col(AttemptRow.ended_at).is_(None))
        .correlate(JobRow)
        .exists()
    )
    sleeping = (
        select(WakeRow.job_id).where(col(WakeRow.job_id) == JobRow.id).correlate(JobRow).exists()
    )
    query = (
        select(JobRow)
        .where(*_is_due(now))
        .where(~still_leaving, ~sleeping)
        .order_by(col(JobRow.priority).desc(), col(JobRow.seq))
        .limit(limit)
    )
    return session.exec(jobs.without_inputs(query)).all()


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Queued, its model chosen, and neither delayed nor parked at *now*."""
    is_free = col(JobRow.not_before).is_(None) & col(JobRow.limited_by).is_(None)
    return (
        col(JobRow.status).in_(JOB.sources(JobEvent.CLAIM)),
        or_(is_free, col(JobRow.not_before) <= now),
        col(JobRow.is_unclassified).is_(False),
    )


def claim(session: Session, job_ids: Sequence[str], now: datetime) -> Sequence[JobRow]:
    """Give the queued jobs *job_ids* to a new attempt each, in this order."""
    statement = (
        update(JobRow)
        .where(col(JobRow.id).in_(job_ids))
        .where(col(JobRow.status).in_(JOB.sources(JobEvent.CLAIM)))
        .values(
            status=JobStatus.RUNNING,
            attempt=col(JobRow.attempt) + 1,
            started_at=func.coalesce(col(JobRow.started_at), now),
            not_before=None,
            limited_by=None,
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    claimed = {job.id: job for job in session.exec(statement).scalars().all()}
    for job in claimed.values():
        events.record(session, now, "job.running", job.id, job.attempt, status=job.status)
    return [claimed[one] for one in job_ids if one in claimed]


def alike(session: Session, job: JobRow, now: datetime) -> Sequence[str]:
    """The due jobs that may run on the same models as *job*, itself included."""
    chain = cast(col(JobRow.chain), String)
    query = (
        select(JobRow.id)
        .where(*_is_due(now))
        .where(chain == select(chain).where(col(JobRow.id) == job.id).scalar_subquery())
    )
    return session.exec(query.order_by(col(JobRow.seq))).all()


def park(
    session: Session,
    job_ids: Sequence[str],
    until: datetime | None,
    by: str,
    why: str,
    now: datetime,
) -> None:
    """Keep queued jobs from starting: *until* then, or (None) until *by* is cleared."""
    statement = update(JobRow).where(col(JobRow.id).in_(job_ids))
    session.exec(statement.values(not_before=until, limited_by=by))
    moment = until.isoformat() if until else None
    for job_id in job_ids:
        events.record(session, now, "job.parked", job_id, not_before=moment, by=by, why=why)


def unpark(session: Session, by: str | None = None) -> None:
    """Let the jobs that are parked for the limit *by* (None: for any, caps aside) be looked at."""
    is_meant = col(JobRow.limited_by).contains("/") if by is None else col(JobRow.limited_by) == by
    _unpark(session, is_meant)  # the name of a cap has no slash


def unpark_all(session: Session) -> None:
    """Have every parked job looked at again, also those that a cap keeps: settings may be others
    now, and so may the clock."""
    _unpark(session, col(JobRow.limited_by).is_not(None))


def _unpark(session: Session, is_meant: ColumnElement[bool]) -> None:
    statement = update(JobRow).where(col(JobRow.status) == JobStatus.QUEUED, is_meant)
    session.exec(statement.values(not_before=None, limited_by=None))
    events.ring(session, events.QUEUE)


def count_parked(session: Session, now: datetime) -> Mapping[str, int]:
    """How many jobs are parked, by what they are parked for."""
    waits = or_(col(JobRow.not_before).is_(None), col(JobRow.not_before) > now)
    query = (
        select(JobRow.limited_by, func.count())
        .where(col(JobRow.status) == JobStatus.QUEUED, col(JobRow.limited_by).is_not(None), waits)
        .group_by(col(JobRow.limited_by))
    )
    return {by: count for by, count in session.exec(query).all() if by is not None}


def shift_parked(session: Session, by: timedelta) -> None:
    """Move the moments until which jobs are delayed: the clock that they are compared to was set.

    Those that wait for a limit or a cap look again instead: these end at moments of the world.
    """
    unpark_all(session)
    query = select(JobRow.id, JobRow.not_before).where(
        col(JobRow.status) == JobStatus.QUEUED, col(JobRow.not_before).is_not(None)
    )
    for job_id, moment in session.exec(query).all():
        if moment is not None:
            jobs.set_values(session, job_id, not_before=moment + by)


def next_due(session: Session, now: datetime) -> datetime | None:
    """When the earliest parked job may start, if any is parked."""
    query = select(func.min(col(JobRow.not_before))).where(
        col(JobRow.status) == JobStatus.QUEUED, col(JobRow.not_before) > now
    )
    return session.exec(query).one()


def count_ahead(session: Session, job: JobRow, now: datetime) -> int:
    """How many due jobs a free slot would go to before *job*."""
    is_due = or_(col(JobRow.not_before).is_(None), col(JobRow.not_before) <= now)
    more_urgent = col(JobRow.priority) > job.priority
    older = (col(JobRow.priority) == job.priority) & (col(JobRow.seq) < job.seq)
    query = (
        select(func.count())
        .select_from(JobRow)
        .where(col(JobRow.status) == JobStatus.QUEUED, is_due, or_(more_urgent, older))
    )
    return session.exec(query).one()
