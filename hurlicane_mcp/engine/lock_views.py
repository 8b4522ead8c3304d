"""Locks as callers read them: who holds what, and who waits for it."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlmodel import Session

from hurlicane_mcp.domain import locks as rules
from hurlicane_mcp.domain.locks import Blocker
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.views import ANSWER_CUT, View
from hurlicane_mcp.store import jobs

T = TypeVar("T")


class HolderView(View):
    """Who is in the way of a path."""

    path: str  #: what it holds or has asked for, which may be a folder above or a file below
    job_id: str
    title: str
    is_waiting: bool | None = None  #: it does not hold the path yet, but asked for it before


class WaiterView(View):
    """A job that waits for a lock."""

    job_id: str
    title: str
    since: datetime


class LockView(View):
    """A lock, and who waits for it."""

    lock_id: str
    path: str
    job_id: str
    title: str
    reason: str | None = None
    taken_at: datetime
    expires_at: datetime | None = None  #: without a sign of life until then; None: not now
    waiting: list[WaiterView] | None = None  #: in their order; None: nobody


def that_fit(items: Sequence[T], text_of: Callable[[T], str]) -> tuple[list[T], int]:
    """Those, from the first on, whose texts fit into one answer to an agent; how many are left."""
    room, fit = ANSWER_CUT, list[T]()
    for one in items:
        room -= len(text_of(one))
        if room < 0 and fit:
            break
        fit.append(one)
    return fit, len(items) - len(fit)


def holders(session: Session, blockers: Iterable[Blocker]) -> list[HolderView]:
    """Who blocks, each path and job once."""
    found = {(one.path, one.job_id): one for one in blockers}
    titles = _titles(session, [one.job_id for one in found.values()])
    return [
        HolderView(
            path=one.path,
            job_id=one.job_id,
            title=titles[one.job_id],
            is_waiting=True if one.request is not None else None,
        )
        for one in found.values()
    ]


def views(session: Session, paths: Sequence[str] | None, own: str, now: datetime) -> list[LockView]:
    """The locks that collide with *paths* (None: all) and those of the job *own*, oldest first."""
    found = lock_table.moment_of(session, now)
    waiting = [row for row in found.rows.values() if row.left_at is None]
    titles = _titles(session, [row.job_id for row in (*found.held, *waiting)])
    shown: list[LockView] = []
    for row, lock in zip(found.held, found.locks, strict=True):
        if paths is not None and row.job_id != own and not _collides(row.path, paths):
            continue
        waiters = [
            WaiterView(job_id=one.job_id, title=titles[one.job_id], since=one.waits_since)
            for one in waiting
            if _collides(row.path, one.paths)
        ]
        shown.append(
            LockView(
                lock_id=row.id,
                path=row.path,
                job_id=row.job_id,
                title=titles[row.job_id],
                reason=row.reason or None,
                taken_at=row.taken_at,
                expires_at=lock.until,
                waiting=waiters or None,
            )
        )
    return shown


def _collides(path: str, paths: Iterable[str]) -> bool:
    return any(rules.collide(path, one) for one in paths)


def _titles(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    return {name: job.title for name, job in jobs.many(session, set(job_ids)).items()}
