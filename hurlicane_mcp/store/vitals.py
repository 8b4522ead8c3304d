"""The figures of jobs that warnings are judged by, without the long texts of their rows."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from hurlicane_mcp.store.tables import UNSETTLED_ATTEMPT, AttemptRow, JobRow

_OF_JOB = ("id", "status", "interactive", "stop_mode", "stop_value", "payer_id", "cost_usd")
_OF_ATTEMPT = (
    *("id", "job_id", "number", "state", "started_at", "settled_at", "output_at", "tool_since"),
    *("turns", "tool_failures", "denials"),
)


def at_work(session: Session) -> frozenset[str]:
    """The jobs that an agent works on now, and those whose budgets they draw from."""
    query = select(JobRow.id, JobRow.payer_id).join(AttemptRow, col(AttemptRow.job_id) == JobRow.id)
    found = session.exec(query.where(UNSETTLED_ATTEMPT)).all()
    return frozenset(one for pair in found for one in pair if one is not None)


def of_jobs(session: Session, job_ids: Iterable[str]) -> Sequence[JobRow]:
    """Those of *job_ids* that exist: status, bounds and cost."""
    query = select(JobRow).where(col(JobRow.id).in_(tuple(job_ids))).options(_only(JobRow, _OF_JOB))
    return session.exec(query.execution_options(populate_existing=True)).all()


def attempts_of(session: Session, job_ids: Iterable[str]) -> dict[str, list[AttemptRow]]:
    """The attempts of *job_ids*, first to last, by job: times and counts."""
    query = (
        select(AttemptRow)
        .where(col(AttemptRow.job_id).in_(tuple(job_ids)))
        .order_by(col(AttemptRow.number))
        .options(_only(AttemptRow, _OF_ATTEMPT))
    )
    found: dict[str, list[AttemptRow]] = {}
    for row in session.exec(query.execution_options(populate_existing=True)).all():
        found.setdefault(row.job_id, []).append(row)
    return found


def _only(table: type[Any], columns: Iterable[str]) -> Any:
    return load_only(*(getattr(table, name) for name in columns))
