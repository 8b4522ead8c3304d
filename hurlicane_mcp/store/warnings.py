"""Warnings about jobs: raised once, dismissed by people, cleared when they hold no longer."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from hurlicane_mcp.store import events
from hurlicane_mcp.store.limit_tables import WarningRow
from hurlicane_mcp.store.tables import LIVE_JOB, JobRow, insert_rows


def warn(
    session: Session, job_id: str, kind: str, since: datetime, text: str, now: datetime
) -> bool:
    """Raise a warning; False, and nothing written, if it holds already, dismissed or not."""
    values = {"since": since, "text": text, "cleared_at": None, "dismissed_at": None}
    row = session.get(WarningRow, (job_id, kind), populate_existing=True)
    if row is None:
        insert_rows(session, WarningRow, {"job_id": job_id, "kind": kind, **values})
    elif row.cleared_at is None:
        return False
    else:
        _write(session, job_id, kind, **values)
    events.record(session, now, "job.warned", job_id, warning=kind, text=text)
    return True


def clear(session: Session, job_id: str, kinds: Collection[str], now: datetime) -> None:
    """These warnings of the job hold no longer. What does not hold is left alone."""
    for row in session.exec(_holding().where(_of(job_id), col(WarningRow.kind).in_(kinds))).all():
        _write(session, job_id, row.kind, cleared_at=now)
        events.record(session, now, "job.warning_cleared", job_id, warning=row.kind, text=row.text)


def dismiss(session: Session, job_id: str, kind: str, now: datetime, by: str) -> WarningRow | None:
    """A person has seen it: it is not shown again while it holds. None if it does not hold.

    Whoever dismisses it a second time changes nothing.
    """
    query = _holding().where(_of(job_id), col(WarningRow.kind) == kind)
    row = session.exec(query).one_or_none()
    if row is None or row.dismissed_at is not None:
        return row
    _write(session, job_id, kind, dismissed_at=now)
    told: dict[str, Any] = {"warning": kind, "text": row.text, "by": by}
    events.record(session, now, "job.warning_dismissed", job_id, **told)
    return session.exec(query).one()


def holding(session: Session, job_ids: Collection[str] | None = None) -> dict[str, set[str]]:
    """The kinds that hold, dismissed ones included, by job: of *job_ids*, or of all jobs."""
    query = select(WarningRow.job_id, WarningRow.kind).where(col(WarningRow.cleared_at).is_(None))
    if job_ids is not None:
        query = query.where(col(WarningRow.job_id).in_(job_ids))
    found: dict[str, set[str]] = {}
    for job_id, kind in session.exec(query).all():
        found.setdefault(job_id, set()).add(kind)
    return found


def of_jobs(session: Session, job_ids: Iterable[str]) -> dict[str, list[WarningRow]]:
    """What people are to see of each of *job_ids* that has any, oldest first, by job."""
    query = _shown().where(col(WarningRow.job_id).in_(tuple(job_ids)))
    found: dict[str, list[WarningRow]] = {}
    for row in session.exec(query).all():
        found.setdefault(row.job_id, []).append(row)
    return found


def listing(session: Session) -> Sequence[WarningRow]:
    """What people are to see, of all jobs, oldest first."""
    return session.exec(_shown()).all()


def _holding() -> SelectOfScalar[WarningRow]:
    """Those that hold, as they are: earlier changes of the transaction included."""
    query = select(WarningRow).where(col(WarningRow.cleared_at).is_(None))
    return query.execution_options(populate_existing=True)


def _shown() -> SelectOfScalar[WarningRow]:
    """Those that nobody has dismissed. A final job has none, even if they are not cleared yet."""
    return (
        _holding()
        .join(JobRow, col(JobRow.id) == WarningRow.job_id)
        .where(LIVE_JOB, col(WarningRow.dismissed_at).is_(None))
        .order_by(col(WarningRow.since), col(WarningRow.job_id), col(WarningRow.kind))
    )


def _of(job_id: str) -> Any:
    return col(WarningRow.job_id) == job_id


def _write(session: Session, job_id: str, kind: str, **values: Any) -> None:
    session.exec(
        update(WarningRow)
        .where(_of(job_id), col(WarningRow.kind) == kind)
        .values(values)
        .execution_options(synchronize_session=False)
    )
