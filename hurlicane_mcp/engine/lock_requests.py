"""What agents ask of the lock table, each in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlmodel import Session

from hurlicane_mcp.domain import locks as rules
from hurlicane_mcp.domain.locks import Blocker
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.access import Caller, check_reader
from hurlicane_mcp.engine.lock_views import HolderView, holders, that_fit
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.errors import Conflict, LimitReached
from hurlicane_mcp.store import attempts, locks

USUAL_LEASE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Locks as they are asked for, all or none."""

    paths: Sequence[str]
    reason: str = ""
    ttl: timedelta = USUAL_LEASE
    wait: timedelta | None = None  #: None: as long as the call may last


@dataclass(frozen=True, slots=True)
class Asked:
    """How far a request has got: locked, refused, waiting (then it has an id), or nothing."""

    locked: bool = False
    request_id: str | None = None
    refused: str | None = None
    held_by: Sequence[HolderView] = ()


class ReleaseAnswer(View):
    """What was freed, and what was asked for but not held."""

    released: list[str]
    more_released: int | None = None  #: not named: there is no room for so many
    not_held: list[str] | None = None


def ask(
    session: Session, *, caller: Caller, wanted: Wanted, paths: Sequence[str], now: datetime
) -> Asked:
    """Take the paths if they are free. Otherwise queue for them, if the caller is to wait."""
    attempts.fence(session, caller.attempt_id, now)
    known = {row.path for row in locks.held(session, caller.job_id)}
    if len(known.union(paths)) > rules.MAX_HELD:
        raise LimitReached(
            f"A job may hold {rules.MAX_HELD} locks, yours has {len(known)}: lock folders instead "
            "of files, or release some with release_files."
        )
    values = {
        "job_id": caller.job_id,
        "attempt_id": caller.attempt_id,
        "paths": list(paths),
        "ttl_s": int(wanted.ttl.total_seconds()),
        "reason": wanted.reason,
    }
    row = locks.queue(session, values, now)
    blocked = lock_table.regrant(session, now)
    if row.id not in blocked:
        return Asked(locked=True)
    if wanted.wait == timedelta(0):
        held_by = holders(session, blocked[row.id])
        locks.close(session, row)
        lock_table.regrant(session, now)
        return Asked(held_by=held_by)
    lock_table.break_circles(session, [caller.job_id], now)
    asked = look(session, caller, row.id, paths)
    if asked.refused is not None:
        locks.close(session, row)
        lock_table.regrant(session, now)
    return asked


def look(session: Session, caller: Caller, request_id: str, paths: Sequence[str]) -> Asked:
    """How far the request has got by now."""
    row = locks.request(session, request_id)
    if row is None:
        check_reader(session, caller)
        own = {one.path for one in locks.held(session, caller.job_id)}
        return Asked(locked=own.issuperset(paths))
    return Asked(request_id=None if row.refused else row.id, refused=row.refused)


def end(
    session: Session,
    caller: Caller,
    request_id: str,
    paths: Sequence[str],
    now: datetime,
    *,
    keeps: bool,
) -> Asked:
    """End the waiting of a call: with what it has got meanwhile, or with its place kept or not."""
    row, blocked = locks.request(session, request_id), dict[str, tuple[Blocker, ...]]()
    if row is not None:
        blocked = dict(lock_table.regrant(session, now))
        row = locks.request(session, request_id)
    if row is None or row.refused is not None:
        asked = look(session, caller, request_id, paths)
        if row is not None:
            locks.close(session, row)
        return asked
    if keeps:
        locks.leave(session, row.id, now)
    else:
        locks.close(session, row)
        lock_table.regrant(session, now)
    return Asked(held_by=holders(session, blocked.get(row.id, ())))


def abandon(session: Session, request_id: str, now: datetime) -> None:
    """The call that waited has been given up by its client: others may go on."""
    row = locks.request(session, request_id)
    if row is not None:
        locks.close(session, row)
        lock_table.regrant(session, now)


def release(
    session: Session, caller: Caller, paths: Sequence[str] | None, now: datetime
) -> ReleaseAnswer:
    """Free what the caller's job holds of *paths* and below them; all that it holds for None.

    Raises:
        Conflict: a path is only a part of a folder that the job holds; nothing is freed.
    """
    attempts.fence(session, caller.attempt_id, now)
    own = locks.held(session, caller.job_id)
    if paths is None:
        gone, missing = list(own), list[str]()
    else:
        gone = [row for row in own if any(rules.covers(path, row.path) for path in paths)]
        missing = [path for path in paths if not any(rules.covers(path, row.path) for row in gone)]
    for path in missing:
        for row in own:
            if rules.covers(row.path, path):
                raise Conflict(
                    f"You hold {row.path} as a whole, so {path} alone cannot be released: release "
                    f"{row.path}, or lock what you need of it one by one after that."
                )
    locks.release(session, gone, "agent", now)
    lock_table.regrant(session, now)
    named, more = that_fit([row.path for row in gone], str)
    return ReleaseAnswer(released=named, more_released=more or None, not_held=missing or None)


def refusal(session: Session, caller: Caller, path: str, now: datetime) -> str | None:
    """Why the caller's agent may not edit *path*; None if it may."""
    asker = lock_table.asker(session, caller.job_id)
    found = lock_table.moment_of(session, now)
    # Its own lease may have run out: this edit is a sign of life, and nobody has taken the lock.
    kept = [replace(one, until=None) if one.job_id in asker.allies else one for one in found.locks]
    if rules.may_edit(path, asker, kept, now):
        return None
    table = rules.Table(found.locks, now)
    by = holders(session, table.blockers(replace(asker, paths=(path,))))
    whose = f" It is held by {by[0].job_id} ({by[0].title})." if by else ""
    return (
        f"You do not hold the lock of {path}.{whose} This job edits files under locks: call the "
        "lock_files tool of the hurlicane server with this path (and with all others that you are "
        "about to change), then edit."
    )
