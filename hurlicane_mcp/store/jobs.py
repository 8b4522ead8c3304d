"""Jobs in the store. Each function does one thing in the caller's transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Select, update
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from hurlicane_mcp.domain.jobs import JOB, OPEN, JobEvent, JobStatus
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.store import events, wakes
from hurlicane_mcp.store.tables import (
    LIVE_JOB,
    OPEN_WAIT,
    AttemptRow,
    CreationKeyRow,
    DependencyRow,
    JobRow,
    WaitRow,
    insert_rows,
)

_INPUTS = (defer(cast("Any", JobRow.description)), defer(cast("Any", JobRow.context)))


def add(
    session: Session, values: Mapping[str, Any], depends_on: Sequence[str], now: datetime
) -> None:
    """Store a new job, given as column values, with its dependencies, and tell of it."""
    job_id = values["id"]
    insert_rows(session, JobRow, values)
    if depends_on:
        edges = ({"job_id": job_id, "depends_on": one} for one in depends_on)
        insert_rows(session, DependencyRow, *edges)
    told = {name: values.get(name) for name in ("status", "title", "parent_id", "provider")}
    events.record(session, now, "job.created", job_id, **told)


def change(session: Session, job: JobRow, event: JobEvent, now: datetime, **values: Any) -> JobRow:
    """The only way a job changes its status, `claim` aside; its event tells of it.

    *values* are written with it; a failure and `not_before` are told as well.

    Raises:
        IllegalTransition: the job's state does not allow *event*; nothing is written.
    """
    status = JOB.after(JobStatus(job.status), event)
    values["status"] = status
    if status.is_final:
        values["finished_at"] = now
    statement = (
        update(JobRow)
        .where(col(JobRow.id) == job.id, col(JobRow.status) == job.status)
        .values(values)
    )
    session.exec(statement)
    for name, value in values.items():
        setattr(job, name, value)
    events.record(
        session,
        now,
        f"job.{status}",
        job.id,
        job.attempt or None,
        status=status,
        failure_kind=job.failure_kind,
        reason=job.failure_reason,
        **_told(values),
    )
    return job


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    parked: datetime | None = values.get("not_before")
    told = {"not_before": parked.isoformat() if parked else None}
    told["stopped_by"] = values.get("stopped_by")
    return {name: value for name, value in told.items() if value is not None}


def get(session: Session, job_id: str) -> JobRow:
    """The whole job.

    Raises:
        NotFound: there is none with this id.
    """
    query = select(JobRow).where(col(JobRow.id) == job_id)
    job = session.exec(query.execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise NotFound("job", job_id)
    return job


def many(session: Session, job_ids: Iterable[str]) -> dict[str, JobRow]:
    """Those of *job_ids* that exist, by id, without their inputs."""
    query = without_inputs(select(JobRow).where(col(JobRow.id).in_(tuple(job_ids))))
    return {job.id: job for job in session.exec(query).all()}


def statuses(session: Session, job_ids: Iterable[str]) -> dict[str, str]:
    """The status of those of *job_ids* that exist, by id."""
    query = select(JobRow.id, JobRow.status).where(col(JobRow.id).in_(tuple(job_ids)))
    return dict(session.exec(query).all())


def listing(
    session: Session,
    *,
    statuses: Sequence[str] = (),
    parent_id: str | None = None,
    under: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> Sequence[JobRow]:
    """Jobs, newest first, without their inputs and results.

    *under* keeps the descendants of that job; *before* is the `seq` where a page ended.
    """
    query = select(JobRow).order_by(col(JobRow.seq).desc()).limit(limit)
    if statuses and JOB.final.issuperset(statuses) and len(statuses) > 1:
        # Final jobs are most of all: walking back from the newest finds a page at once, while the
        # index of statuses would have to be sorted (90 ms with 100,000 jobs, measured 2026-11-24).
        query = query.where(col(JobRow.status).not_in(set(JobStatus) - set(statuses)))
    elif statuses:
        query = query.where(col(JobRow.status).in_(statuses))
    if parent_id is not None:
        query = query.where(col(JobRow.parent_id) == parent_id)
    if under is not None:
        query = query.where(col(JobRow.id).in_(select(_descendants(under).c.id)))
    if before is not None:
        query = query.where(col(JobRow.seq) < before)
    return session.exec(without_inputs(query).options(defer(cast("Any", JobRow.result)))).all()


def children(session: Session, job_id: str, *, live_only: bool = False) -> Sequence[JobRow]:
    """The jobs that *job_id* created, oldest first; with *live_only* those not yet final."""
    query = select(JobRow).where(col(JobRow.parent_id) == job_id).order_by(col(JobRow.seq))
    if live_only:
        query = query.where(col(JobRow.status).in_(OPEN), col(JobRow.detached).is_(False))
    return session.exec(without_inputs(query)).all()


def ancestors(session: Session, job_id: str) -> tuple[str, ...]:
    """The id itself, its parent, and so on up to the root."""
    base = select(JobRow.id, JobRow.parent_id).where(col(JobRow.id) == job_id).cte(recursive=True)
    above = base.union_all(
        select(JobRow.id, JobRow.parent_id).where(col(JobRow.id) == base.c.parent_id)
    )
    return tuple(session.exec(select(above.c.id)).all())


def ancestors_of_each(session: Session, job_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of each id its parent, the parent of that, and so on up to the root; a query a level."""
    parents: dict[str, str | None] = {}
    left = set(job_ids)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(left, ())
    while left:
        query = select(JobRow.id, JobRow.parent_id).where(col(JobRow.id).in_(left))
        parents.update(session.exec(query).all())
        left = {parent for one in left if (parent := parents.get(one))} - parents.keys()
    for one in found:
        above, parent = list[str](), parents.get(one)
        while parent is not None:
            above.append(parent)
            parent = parents.get(parent)
        found[one] = tuple(above)
    return found


def outside(session: Session, job_id: str, job_ids: Iterable[str]) -> tuple[str, ...]:
    """Those of *job_ids* that are not descendants of *job_id*, unknown ones included."""
    wanted = tuple(dict.fromkeys(job_ids))
    below = _descendants(job_id)
    known = session.exec(select(below.c.id).where(below.c.id.in_(wanted))).all()
    return tuple(one for one in wanted if one not in frozenset(known))


def count_live_in_tree(session: Session, root_id: str) -> int:
    """How many jobs below *root_id*, the root included, are not final."""
    query = select(func.count()).select_from(JobRow).where(col(JobRow.root_id) == root_id, LIVE_JOB)
    return session.exec(query).one()


def counts(session: Session) -> dict[str, int]:
    """How many jobs have each status."""
    query = select(JobRow.status, func.count()).group_by(col(JobRow.status))
    return dict(session.exec(query).all())


def dependencies(session: Session, job_id: str) -> Sequence[str]:
    """What *job_id* depends on."""
    query = select(DependencyRow.depends_on).where(col(DependencyRow.job_id) == job_id)
    return session.exec(query).all()


def dependants(session: Session, job_id: str, status: JobStatus) -> Sequence[JobRow]:
    """The jobs with this *status* that depend on *job_id*."""
    query = (
        select(JobRow)
        .join(DependencyRow, col(DependencyRow.job_id) == JobRow.id)
        .where(col(DependencyRow.depends_on) == job_id, col(JobRow.status) == status)
        .order_by(col(JobRow.seq))
    )
    return session.exec(without_inputs(query)).all()


def is_free_to_start(session: Session, job_id: str) -> bool:
    """Whether everything that *job_id* depends on is done, its processes gone."""
    required = (
        select(DependencyRow.depends_on).where(col(DependencyRow.job_id) == job_id).subquery()
    )
    not_done = (
        select(func.count())
        .select_from(JobRow)
        .where(
            col(JobRow.id).in_(select(required.c.depends_on)), col(JobRow.status) != JobStatus.DONE
        )
    )
    leaving = (
        select(func.count())
        .select_from(AttemptRow)
        .where(
            col(AttemptRow.job_id).in_(select(required.c.depends_on)),
            col(AttemptRow.ended_at).is_(None),
        )
    )
    return session.exec(not_done).one() == 0 and session.exec(leaving).one() == 0


def created_with_key(session: Session, scope: str, key: str) -> CreationKeyRow | None:
    """What *key* already stands for in *scope*, if anything."""
    return session.get(CreationKeyRow, (scope, key))


def unanswered(
    session: Session, parent_id: str, fingerprint: str, answering: Sequence[str]
) -> JobRow | None:
    """An identical job of the same parent whose creation was not answered, nor is right now."""
    query = select(JobRow).where(
        col(JobRow.parent_id) == parent_id,
        col(JobRow.fingerprint) == fingerprint,
        col(JobRow.id).not_in(answering),
    )
    return session.exec(query.limit(1)).one_or_none()


def mark_answered(session: Session, job_id: str) -> None:
    """The answer to the creation has left: an identical creation now means another job."""
    session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(fingerprint=None))


def has_checks(session: Session, job_id: str) -> bool:
    """Whether something has to hold before the job may be done."""
    checks: list[Any] = session.exec(
        select(col(JobRow.checks)).where(col(JobRow.id) == job_id)
    ).one()
    return len(checks) > 0


def set_values(session: Session, job_id: str, **values: Any) -> None:
    """Write fields that are not part of the job's state machine."""
    session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(values))


def without_inputs(query: SelectOfScalar[JobRow]) -> SelectOfScalar[JobRow]:
    """The same query without the inputs, which may be long and are seldom needed."""
    # What a statement changed earlier in the same transaction must not be read from memory.
    return query.options(*_INPUTS).execution_options(populate_existing=True)


def ids_below(job_id: str) -> Any:
    """The ids of everything below *job_id*, itself not included, as a query for `in_`."""
    return select(_descendants(job_id).c.id)


def _descendants(job_id: str) -> Any:
    """Everything below *job_id*, itself not included, as a recursive query with column `id`."""
    first: Select[Any] = select(JobRow.id).where(col(JobRow.parent_id) == job_id)
    base = first.cte(recursive=True)
    return base.union_all(select(JobRow.id).where(col(JobRow.parent_id) == base.c.id))


def edges(session: Session) -> dict[str, set[str]]:
    """Who waits for whom now, by job id: blocked jobs, open waits for jobs, sleeping jobs."""
    graph: dict[str, set[str]] = {}
    for sleeper, awaited in wakes.edges(session):
        graph.setdefault(sleeper, set()).add(awaited)
    blocked = (
        select(DependencyRow.job_id, DependencyRow.depends_on)
        .join(JobRow, col(JobRow.id) == DependencyRow.job_id)
        .where(LIVE_JOB, col(JobRow.status) == JobStatus.BLOCKED)
    )
    for waiter, awaited in session.exec(blocked).all():
        graph.setdefault(waiter, set()).add(awaited)
    for wait in session.exec(select(WaitRow).where(OPEN_WAIT, col(WaitRow.kind) == "jobs")).all():
        graph.setdefault(wait.attempt_id.rpartition(".")[0], set()).update(wait.targets)
    return graph
