"""Attempts in the store, and the fence that every write of an agent passes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, update
from sqlmodel import Session, col, func, select

from hurlicane_mcp.domain.attempts import ATTEMPT, AttemptEvent, AttemptState, Standing, standing
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.errors import JobFinished, NotFound, StaleAttempt
from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import (
    LIVE_JOB,
    UNSETTLED_ATTEMPT,
    AttemptRow,
    JobRow,
    WaitRow,
    insert_rows,
)
from hurlicane_mcp.store.waits import CHECKS

UNSETTLED = tuple(state for state in AttemptState if state not in ATTEMPT.final)


def add(session: Session, values: Mapping[str, Any]) -> None:
    """Store a new attempt in state STARTING; the claim's event has told of it."""
    insert_rows(session, AttemptRow, {"state": AttemptState.STARTING, **values})


def get(session: Session, attempt_id: str) -> AttemptRow:
    """The attempt.

    Raises:
        NotFound: there is none with this id.
    """
    attempt = session.get(AttemptRow, attempt_id, populate_existing=True)
    if attempt is None:
        raise NotFound("attempt", attempt_id)
    return attempt


def of_job(session: Session, job_id: str) -> Sequence[AttemptRow]:
    """All attempts of a job, first to last."""
    query = select(AttemptRow).where(col(AttemptRow.job_id) == job_id)
    return session.exec(
        query.order_by(col(AttemptRow.number)).execution_options(populate_existing=True)
    ).all()


def last_of(session: Session, job_ids: Sequence[str]) -> dict[str, AttemptRow]:
    """The newest attempt of each of *job_ids* that has one, by job id."""
    query = (
        select(AttemptRow)
        .join(JobRow, col(JobRow.id) == AttemptRow.job_id)
        .where(col(AttemptRow.job_id).in_(job_ids), col(AttemptRow.number) == JobRow.attempt)
    )
    return {attempt.job_id: attempt for attempt in session.exec(query).all()}


def not_ended(session: Session) -> Sequence[AttemptRow]:
    """The attempts whose process tree is not proven gone, oldest first."""
    query = select(AttemptRow).where(col(AttemptRow.ended_at).is_(None))
    return session.exec(query.order_by(col(AttemptRow.claimed_at))).all()


def unsettled(session: Session) -> Sequence[AttemptRow]:
    """The attempts whose outcome is open, oldest first."""
    query = select(AttemptRow).where(UNSETTLED_ATTEMPT).order_by(col(AttemptRow.claimed_at))
    return session.exec(query.execution_options(populate_existing=True)).all()


def refused(session: Session) -> Sequence[AttemptRow]:
    """The attempts whose outcome is open and whose model refuses, oldest first."""
    query = select(AttemptRow).where(UNSETTLED_ATTEMPT, col(AttemptRow.refused_at).is_not(None))
    return session.exec(query.order_by(col(AttemptRow.claimed_at))).all()


def _of_jobs(session: Session, job_ids: Select[Any]) -> Sequence[AttemptRow]:
    """The attempts whose outcome is open of the jobs that a query finds."""
    query = select(AttemptRow).where(UNSETTLED_ATTEMPT, col(AttemptRow.job_id).in_(job_ids))
    return session.exec(query.order_by(col(AttemptRow.claimed_at))).all()


def on_terminals(session: Session) -> Sequence[AttemptRow]:
    """The attempts whose outcome is open and whose agents have a terminal."""
    is_interactive = col(JobRow.interactive).is_(True)
    return _of_jobs(session, select(JobRow.id).where(LIVE_JOB, is_interactive))


def untold_of_time(session: Session) -> Sequence[AttemptRow]:
    """The attempts whose outcome is open, whose jobs have a limit of time and were not warned."""
    is_timed = (col(JobRow.stop_mode) == StopMode.TIME) & col(JobRow.warned_at).is_(None)
    return _of_jobs(session, select(JobRow.id).where(LIVE_JOB, is_timed))


def has_open(session: Session, job_id: str) -> bool:
    """Whether a process of this job may still be alive."""
    query = select(AttemptRow.id).where(
        col(AttemptRow.job_id) == job_id, col(AttemptRow.ended_at).is_(None)
    )
    return session.exec(query.limit(1)).one_or_none() is not None


def count_busy(session: Session) -> int:
    """How many slots are taken: unsettled attempts that are not inside a blocking call.

    One whose checks run is busy."""
    waiting = (
        select(WaitRow.seq)
        .where(col(WaitRow.attempt_id) == AttemptRow.id, col(WaitRow.closed_at).is_(None))
        .where(col(WaitRow.kind) != CHECKS)
        .correlate(AttemptRow)
        .exists()
    )
    query = select(func.count()).select_from(AttemptRow).where(UNSETTLED_ATTEMPT, ~waiting)
    return session.exec(query).one()


def by_token(session: Session, token_hash: str) -> AttemptRow | None:
    """The attempt that this token was made for."""
    query = select(AttemptRow).where(col(AttemptRow.token_hash) == token_hash)
    return session.exec(query).one_or_none()


def standing_of(session: Session, attempt_id: str) -> Standing:
    """What the attempt's token is worth at this moment."""
    query = (
        select(AttemptRow.state, AttemptRow.number, JobRow.attempt)
        .join(JobRow, col(JobRow.id) == AttemptRow.job_id)
        .where(col(AttemptRow.id) == attempt_id)
    )
    state, number, current = session.exec(query).one()
    return standing(state=AttemptState(state), number=number, current=current)


def fence(session: Session, attempt_id: str, now: datetime, **values: Any) -> None:
    """Pass only while *attempt_id* is the current, unsettled attempt of its job.

    It is the first statement of every write of an agent; it notes the call, which proves that the
    agent reaches us, and writes *values* to the attempt on the way.

    Raises:
        StaleAttempt: another attempt holds the job.
        JobFinished: this attempt is settled.
    """
    holds = (
        select(JobRow.seq)
        .where(col(JobRow.id) == AttemptRow.job_id, col(JobRow.attempt) == AttemptRow.number)
        .correlate(AttemptRow)
        .exists()
    )
    statement = (
        update(AttemptRow)
        .where(col(AttemptRow.id) == attempt_id)
        .where(col(AttemptRow.state) != AttemptState.SETTLED, holds)
        .values(last_seen_at=now, called_at=now, lost_since=None, lost_why="", **values)
        .execution_options(synchronize_session=False)
    )
    if session.exec(statement).rowcount == 1:
        return
    if standing_of(session, attempt_id) is Standing.STALE:
        raise StaleAttempt
    job_id = get(session, attempt_id).job_id
    status = session.exec(select(JobRow.status).where(col(JobRow.id) == job_id)).one()
    raise JobFinished(job_id, status)


def seen(session: Session, attempt_id: str, now: datetime) -> None:
    """Note that the attempt's agent has reached us, which takes back that it was lost."""
    write(session, attempt_id, last_seen_at=now, lost_since=None, lost_why="")


def beat(session: Session, attempt_id: str, now: datetime) -> None:
    """Note that a hook of the agent's CLI has come, unless the attempt is not current any more."""
    if standing_of(session, attempt_id) is Standing.CURRENT:
        write(session, attempt_id, heartbeat_at=now)


def report(session: Session, attempt_id: str, text: str, now: datetime) -> None:
    """Note what the agent says it is doing, behind the fence."""
    fence(session, attempt_id, now, progress=text)
    job_id, _, number = attempt_id.rpartition(".")
    events.record(session, now, "attempt.progress", job_id, int(number), text=text)


def start(session: Session, attempt_id: str, now: datetime, **values: Any) -> None:
    """STARTING becomes RUNNING, with the identity of the process in *values*.

    An attempt that was settled meanwhile (cancelled, say) stays settled; its identity is kept.
    """
    attempt = get(session, attempt_id)
    if attempt.state == AttemptState.STARTING:
        values["state"] = ATTEMPT.after(AttemptState.STARTING, AttemptEvent.START)
    write(session, attempt_id, started_at=now, **values)
    events.record(
        session, now, "attempt.started", attempt.job_id, attempt.number, pid=values.get("pid")
    )


def settle(session: Session, attempt_id: str, now: datetime, **values: Any) -> AttemptRow | None:
    """Mark the attempt settled; None, and nothing written, if it was settled before."""
    statement = (
        update(AttemptRow)
        .where(col(AttemptRow.id) == attempt_id, col(AttemptRow.state).in_(UNSETTLED))
        .values(state=AttemptState.SETTLED, settled_at=now, **values)
        .returning(AttemptRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.exec(statement).scalars().one_or_none()


def end(session: Session, attempt_id: str, now: datetime, **values: Any) -> AttemptRow | None:
    """Note that the process tree is gone; None, and nothing written, if that was known."""
    statement = (
        update(AttemptRow)
        .where(col(AttemptRow.id) == attempt_id, col(AttemptRow.ended_at).is_(None))
        .values(ended_at=now, **values)
        .returning(AttemptRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.exec(statement).scalars().one_or_none()


def write(session: Session, attempt_id: str, **values: Any) -> None:
    """Write what the server itself found out about an attempt: no fence, no state."""
    statement = update(AttemptRow).where(col(AttemptRow.id) == attempt_id).values(values)
    session.exec(statement.execution_options(synchronize_session=False))
