"""Warnings as callers read them."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.store import warnings
from hurlicane_mcp.store.limit_tables import WarningRow


class WarningView(BaseModel):
    """Something about a job that a person may want to look at."""

    kind: str  #: stalled_output, turns, budget, time, long_running, tool_failures, …
    since: datetime
    text: str

    @staticmethod
    def of(row: WarningRow) -> "WarningView":
        return WarningView(kind=row.kind, since=row.since, text=row.text)


def open_warnings(session: Session, job_ids: Sequence[str]) -> dict[str, list[WarningView]]:
    """What holds of each of *job_ids* and was not dismissed, oldest first, by job."""
    found = warnings.of_jobs(session, job_ids)
    return {job_id: [WarningView.of(row) for row in rows] for job_id, rows in found.items()}
