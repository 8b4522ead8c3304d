"""File locks in the store, and the requests that wait for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import insert, update
from sqlalchemy import select as alchemy_select
from sqlmodel import Session, col, delete, select

from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import events
from hurlicane_mcp.store.lock_tables import FileLockRow, LockRequestRow
from hurlicane_mcp.store.tables import AttemptRow, JobRow, insert_rows

#: Paths that one event names; the others are counted.
NAMED = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """What is known of a job that holds locks, and of its last attempt, if it has one."""

    status: str
    attempt_id: str | None
    state: str | None
    ended_at: datetime | None
    signs: tuple[datetime | None, ...]  #: when the agent was last known to live


def held(session: Session, job_id: str | None = None) -> Sequence[FileLockRow]:
    """All locks, or those of one job, oldest first, expired ones included."""
    query = select(FileLockRow).order_by(col(FileLockRow.seq))
    if job_id is not None:
        query = query.where(col(FileLockRow.job_id) == job_id)
    return session.exec(query.execution_options(populate_existing=True)).all()


def holders(session: Session, job_ids: Iterable[str]) -> dict[str, Holder]:
    """What keeps the locks of each of these jobs."""
    last = (col(AttemptRow.job_id) == JobRow.id) & (col(AttemptRow.number) == JobRow.attempt)
    signs = (
        AttemptRow.called_at,
        AttemptRow.last_seen_at,
        AttemptRow.output_at,
        AttemptRow.heartbeat_at,
    )
    of_attempt = (AttemptRow.id, AttemptRow.state, AttemptRow.ended_at)
    query = (
        alchemy_select(*cast("Any", (JobRow.id, JobRow.status, *of_attempt, *signs)))
        .select_from(JobRow)
        .outerjoin(AttemptRow, last)
        .where(col(JobRow.id).in_(tuple(job_ids)))
    )
    rows = session.connection().execute(query).all()
    return {row[0]: Holder(*row[1:5], signs=tuple(row[5:])) for row in rows}


def get(session: Session, lock_id: str) -> FileLockRow:
    """The lock.

    Raises:
        NotFound: there is none with this id, or none any more.
    """
    query = select(FileLockRow).where(col(FileLockRow.id) == lock_id)
    row = session.exec(query).one_or_none()
    if row is None:
        raise NotFound("lock", lock_id, hint="`hurlicane locks` lists them.")
    return row


def take(session: Session, request: LockRequestRow, now: datetime) -> None:
    """Give the job of *request* its paths, and close it. What it holds already is renewed."""
    own = {row.path: row.id for row in held(session, request.job_id)}
    lease = {"ttl_s": request.ttl_s, "reason": request.reason, "renewed_at": now}
    new = [path for path in request.paths if path not in own]
    if renewed := [own[path] for path in request.paths if path in own]:
        statement = update(FileLockRow).where(col(FileLockRow.id).in_(renewed)).values(lease)
        session.exec(statement.execution_options(synchronize_session=False))
    if new:
        fixed = {"job_id": request.job_id, "taken_at": now, **lease}
        rows = ({"id": new_id("lock"), "path": path, **fixed} for path in new)
        insert_rows(session, FileLockRow, *rows)
    close(session, request)
    number = int(request.attempt_id.rpartition(".")[2])
    told = {**_told(request.paths), "reason": request.reason}
    events.record(session, now, "lock.taken", request.job_id, number, **told)


def renew(session: Session, now: datetime, job_id: str | None = None) -> None:
    """The leases of one job, or all of them, begin anew: nobody was there to see signs of life."""
    statement = update(FileLockRow).values(renewed_at=now)
    if job_id is not None:
        statement = statement.where(col(FileLockRow.job_id) == job_id)
    session.exec(statement.execution_options(synchronize_session=False))


def shift_places(session: Session, by: timedelta) -> None:
    """The clock was set: places are kept for as long as they were meant to be."""
    for row in session.exec(select(LockRequestRow)).all():
        left = None if row.left_at is None else row.left_at + by
        values = {"left_at": left, "waits_since": row.waits_since + by}
        statement = update(LockRequestRow).where(col(LockRequestRow.id) == row.id).values(values)
        session.exec(statement.execution_options(synchronize_session=False))


def release(session: Session, rows: Iterable[FileLockRow], by: str, now: datetime) -> None:
    """Free these locks. *by*: agent, operator, expiry, end (of the job) or restart (afresh)."""
    of_job: dict[str, list[FileLockRow]] = {}
    for row in rows:
        of_job.setdefault(row.job_id, []).append(row)
    for job_id, ended in of_job.items():
        _delete(session, FileLockRow, [row.id for row in ended])
        told = _told([row.path for row in ended])
        events.record(session, now, "lock.released", job_id, by=by, **told)


def requests(session: Session) -> Sequence[LockRequestRow]:
    """Who waits, or keeps a place, in the order of the queue; not those that were refused."""
    query = select(LockRequestRow).where(col(LockRequestRow.refused).is_(None))
    query = query.order_by(col(LockRequestRow.seq)).execution_options(populate_existing=True)
    return session.exec(query).all()


def request(session: Session, request_id: str) -> LockRequestRow | None:
    """The request, as long as it waits or was refused."""
    query = select(LockRequestRow).where(col(LockRequestRow.id) == request_id)
    return session.exec(query.execution_options(populate_existing=True)).one_or_none()


def queue(session: Session, values: Mapping[str, Any], now: datetime) -> LockRequestRow:
    """A request at the end of the queue, or at the place that its job was kept for these paths.

    *values*: job_id, attempt_id, paths, ttl_s, reason.
    """
    kept = _kept(session, values["job_id"], values["paths"])
    values = {**values, "waits_since": now, "left_at": None}
    if kept is not None:
        statement = update(LockRequestRow).where(col(LockRequestRow.id) == kept.id).values(values)
        session.exec(statement.execution_options(synchronize_session=False))
        found = request(session, kept.id)
    else:
        name = new_id("ask")
        session.exec(insert(LockRequestRow).values(id=name, asked_at=now, **values))
        found = request(session, name)
    assert found is not None
    return found


def leave(session: Session, request_id: str, now: datetime) -> None:
    """The call of the request was answered without the locks; its place is kept for a while."""
    statement = update(LockRequestRow).where(
        col(LockRequestRow.id) == request_id, col(LockRequestRow.refused).is_(None)
    )
    session.exec(statement.values(left_at=now).execution_options(synchronize_session=False))


def leave_all(session: Session, now: datetime) -> None:
    """The server that answered these calls is gone: whoever calls again has kept its place."""
    statement = update(LockRequestRow).where(col(LockRequestRow.left_at).is_(None))
    session.exec(statement.values(left_at=now).execution_options(synchronize_session=False))
    session.exec(delete(LockRequestRow).where(col(LockRequestRow.refused).is_not(None)))


def refuse(session: Session, row: LockRequestRow, why: str, now: datetime) -> None:
    """Wake whoever waits with an error: *why*."""
    statement = update(LockRequestRow).where(col(LockRequestRow.id) == row.id)
    session.exec(statement.values(refused=why).execution_options(synchronize_session=False))
    number = int(row.attempt_id.rpartition(".")[2])
    told = {**_told(row.paths), "why": why}
    events.record(session, now, "lock.refused", row.job_id, number, **told)


def close(session: Session, *rows: LockRequestRow) -> None:
    """These requests wait no longer."""
    _delete(session, LockRequestRow, [row.id for row in rows])


def close_of_attempt(session: Session, attempt_id: str) -> int:
    """The attempt is settled: nobody waits there any more. How many requests it had."""
    statement = delete(LockRequestRow).where(col(LockRequestRow.attempt_id) == attempt_id)
    return session.exec(statement).rowcount


def _kept(session: Session, job_id: str, paths: Sequence[str]) -> LockRequestRow | None:
    query = select(LockRequestRow).where(
        col(LockRequestRow.job_id) == job_id,
        col(LockRequestRow.left_at).is_not(None),
        col(LockRequestRow.refused).is_(None),
    )
    rows = session.exec(query.order_by(col(LockRequestRow.seq))).all()
    return next((row for row in rows if row.paths == list(paths)), None)


def _told(paths: Sequence[str]) -> dict[str, Any]:
    return {"paths": list(paths[:NAMED]), "count": len(paths)}


def _delete(session: Session, table: type[FileLockRow | LockRequestRow], ids: list[str]) -> None:
    statement = delete(table).where(col(table.id).in_(ids))
    session.exec(statement.execution_options(synchronize_session=False))
