"""Worktrees of our own, in the store. Each function does one thing in the caller's transaction."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, func, or_, select

from hurlicane_mcp.domain.jobs import JOB
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.store.tables import LIVE_JOB, OPEN_ATTEMPT, AttemptRow, JobRow, insert_rows
from hurlicane_mcp.store.workflow_tables import LIVE_WORKTREE, WorktreeRow


def add(session: Session, row: WorktreeRow) -> None:
    """Store a new worktree. The job that it is made for must be stored already."""
    insert_rows(session, WorktreeRow, row.model_dump(exclude={"seq"}))


def get(session: Session, worktree_id: str) -> WorktreeRow:
    """The worktree.

    Raises:
        NotFound: there is none with this id.
    """
    query = select(WorktreeRow).where(col(WorktreeRow.id) == worktree_id)
    row = session.exec(query.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotFound("worktree", worktree_id)
    return row


def many(session: Session, worktree_ids: Iterable[str]) -> dict[str, WorktreeRow]:
    """Those of *worktree_ids* that there are, by id."""
    query = select(WorktreeRow).where(col(WorktreeRow.id).in_(list(worktree_ids)))
    found = session.exec(query.execution_options(populate_existing=True)).all()
    return {row.id: row for row in found}


def at(session: Session, path: str) -> WorktreeRow | None:
    """The worktree that is, or was, at this path."""
    return session.exec(select(WorktreeRow).where(col(WorktreeRow.path) == path)).one_or_none()


def listing(session: Session, *, removed: bool, limit: int) -> Sequence[WorktreeRow]:
    """Worktrees, newest first; with *removed* also those that are gone."""
    query = select(WorktreeRow).order_by(col(WorktreeRow.seq).desc()).limit(limit)
    return session.exec(query if removed else query.where(LIVE_WORKTREE)).all()


def write(session: Session, worktree_id: str, **values: Any) -> None:
    """Write fields of a worktree."""
    session.exec(update(WorktreeRow).where(col(WorktreeRow.id) == worktree_id).values(values))


def jobs_in(session: Session, worktree_id: str) -> Sequence[tuple[str, str]]:
    """The ids and work folders of the jobs that work in it."""
    query = select(JobRow.id, JobRow.work_dir).where(col(JobRow.worktree_id) == worktree_id)
    return session.exec(query).all()


def is_over(session: Session, row: WorktreeRow, before: datetime) -> bool:
    """Whether nobody works in it, nor will, and the last one ended before that moment."""
    inside = or_(
        col(JobRow.worktree_id) == row.id,
        col(JobRow.id) == row.owner_id,
        col(JobRow.work_dir) == row.path,
        col(JobRow.work_dir).startswith(f"{row.path}/", autoescape=True),
    )
    busy = select(func.count()).select_from(JobRow).where(LIVE_JOB, inside)
    if session.exec(busy).one() > 0:
        return False
    alive = (
        select(func.count())
        .select_from(AttemptRow)
        .join(JobRow, col(JobRow.id) == AttemptRow.job_id)
        .where(OPEN_ATTEMPT, inside)
    )
    if session.exec(alive).one() > 0:
        return False
    last = session.exec(select(func.max(col(JobRow.finished_at))).where(inside)).one()
    return last is not None and last <= before


def live_folders(session: Session) -> Sequence[str]:
    """The work folders of all jobs that are not over, or whose agents are not."""
    open_jobs = select(AttemptRow.job_id).where(OPEN_ATTEMPT)
    query = select(JobRow.work_dir).where(or_(LIVE_JOB, col(JobRow.id).in_(open_jobs)))
    return session.exec(query.distinct()).all()


def ended(session: Session, before: datetime) -> Sequence[WorktreeRow]:
    """The worktrees that are not removed and whose owners ended before that moment."""
    query = (
        select(WorktreeRow)
        .join(JobRow, col(JobRow.id) == WorktreeRow.owner_id)
        .where(LIVE_WORKTREE, col(JobRow.status).in_(JOB.final), col(JobRow.finished_at) <= before)
        .order_by(col(WorktreeRow.seq))
    )
    return session.exec(query).all()
