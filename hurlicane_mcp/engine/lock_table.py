"""The lock table at one moment, made of rows, and the changes that follow from it.

Everything works in the caller's transaction. Whatever may let a waiting request go on calls
`regrant`: a release, the end of a job, a request that leaves, a wait that makes allies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from sqlmodel import Session

from hurlicane_mcp.domain import dag
from hurlicane_mcp.domain import locks as rules
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.locks import Blocker, Lock, Request
from hurlicane_mcp.store import attempts, jobs, locks, waits
from hurlicane_mcp.store.lock_tables import FileLockRow, LockRequestRow
from hurlicane_mcp.store.locks import Holder
from hurlicane_mcp.store.tables import WaitRow

Waits = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """Who waits for whom, for jobs and for locks, by job id."""

    edges: Mapping[str, set[str]]
    #: What is locked, or was asked for before, on those edges that are waits for locks.
    files: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])


@dataclass(frozen=True, slots=True)
class Moment:
    """The table as it is now."""

    now: datetime
    held: Sequence[FileLockRow]
    locks: Sequence[Lock]  #: the same, for the rules
    rows: Mapping[int, LockRequestRow]  #: requests by number, in order
    requests: Sequence[Request]


def moment_of(
    session: Session,
    now: datetime,
    also: Waits | None = None,
    rows: Sequence[LockRequestRow] | None = None,
) -> Moment:
    """The table at *now*; *also*: waits for jobs that are about to be open; *rows*: the requests,
    if they have just been read."""
    held = locks.held(session)
    rows = locks.requests(session) if rows is None else rows
    open_waits = waits.open_waits(session)
    waiting = _waits_for_jobs(open_waits)
    for job_id, targets in (also or {}).items():
        waiting[job_id] = waiting.get(job_id, frozenset()) | targets
    return Moment(
        now,
        held,
        _leases(session, held, {wait.attempt_id for wait in open_waits}),
        {row.seq: row for row in rows},
        [_request(session, row, waiting) for row in rows],
    )


def asker(session: Session, job_id: str) -> Request:
    """The job as one who asks for nothing yet: with the allies that it has now."""
    waiting = _waits_for_jobs(waits.open_waits(session))
    return Request(0, job_id, (), allies_of(session, job_id, waiting))


def allies_of(session: Session, job_id: str, waiting: Waits) -> frozenset[str]:
    """Whose locks the job shares."""
    if not waiting:
        return frozenset({job_id})
    above = jobs.ancestors(session, job_id)[1:]
    return frozenset(rules.allies(job_id, above, waiting))


def regrant(session: Session, now: datetime) -> Mapping[str, tuple[Blocker, ...]]:
    """Grant what can be granted now; what blocks each of the other requests, by id."""
    rows = locks.requests(session)
    if over := [row for row in rows if _is_over(row, now)]:
        locks.close(session, *over)
        rows = [row for row in rows if not _is_over(row, now)]
    if not rows:
        return {}
    found = moment_of(session, now, rows=rows)
    granted, blocked = rules.grants(found.locks, found.requests, now)
    for request in granted:
        _drop_expired(session, found, request)
        locks.take(session, found.rows[request.number], now)
    return {found.rows[number].id: blockers for number, blockers in blocked.items()}


def is_due(session: Session, now: datetime) -> bool:
    """Whether the table has something to grant, to free or to refuse that no call has seen."""
    rows = locks.requests(session)
    if any(_is_over(row, now) for row in rows) or _left_behind(session):
        return True
    if not rows:
        return False
    found = moment_of(session, now)
    granted, _ = rules.grants(found.locks, found.requests, now)
    return bool(granted) or any(circle_of(session, row.job_id, now) for row in rows)


def kept_out(session: Session, job_id: str, now: datetime) -> Sequence[Blocker]:
    """What the requests of the job's agent that wait now wait for."""
    own = {row.seq for row in locks.requests(session) if _waits(row) and row.job_id == job_id}
    if not own:
        return ()
    found = moment_of(session, now)
    _, blocked = rules.grants(found.locks, found.requests, now)
    return [one for number in own for one in blocked.get(number, ())]


def free(session: Session, job_id: str, by: str, now: datetime) -> None:
    """Take all locks of the job from it, if it has any."""
    if rows := locks.held(session, job_id):
        locks.release(session, rows, by, now)
        regrant(session, now)


def free_if_over(session: Session, job_id: str, now: datetime) -> None:
    """Free the locks of a job that is final, once none of its processes can write any more."""
    if not locks.held(session, job_id):
        return
    status = jobs.statuses(session, [job_id])[job_id]
    if JobStatus(status).is_final and not attempts.has_open(session, job_id):
        free(session, job_id, "end", now)


def leave_queue(session: Session, attempt_id: str, now: datetime) -> None:
    """The attempt is settled: it waits for nothing more, and others may go on."""
    if locks.close_of_attempt(session, attempt_id):
        regrant(session, now)


def sweep(session: Session, now: datetime) -> None:
    """Do what `is_due` has seen."""
    for job_id in _left_behind(session):
        free(session, job_id, "end", now)
    regrant(session, now)
    for row in locks.requests(session):
        break_circles(session, row.job_id, now)


def wait_graph(session: Session, now: datetime, also: Waits | None = None) -> WaitGraph:
    """The one graph of who waits for whom.

    *also*: waits for jobs that are about to be open. They make allies; their own edges are not in
    the graph.
    """
    edges, rows = jobs.edges(session), locks.requests(session)
    if not rows:
        return WaitGraph(edges)
    found, files = moment_of(session, now, also, rows), dict[tuple[str, str], str]()
    _, blocked = rules.grants(found.locks, found.requests, now)
    for number, blockers in blocked.items():
        row = found.rows[number]
        if not _waits(row):
            continue
        # A place that is kept ends by itself.
        for one in (one for one in blockers if not one.is_left):
            edges.setdefault(row.job_id, set()).add(one.job_id)
            files.setdefault((row.job_id, one.job_id), one.wanted)
    return WaitGraph(edges, files)


def circle_of(session: Session, job_id: str, now: datetime) -> tuple[LockRequestRow, str] | None:
    """The youngest waiter for locks in a circle of waits through the job, and the circle in words,
    beginning with it; None if there is no circle."""
    graph = wait_graph(session, now)
    circle = dag.path(graph.edges, job_id, frozenset({job_id}))
    if circle is None:
        return None
    for_locks = {pair[0] for pair in pairwise(circle) if pair in graph.files}
    waiting = filter(_waits, locks.requests(session))
    rows = [row for row in waiting if row.job_id in for_locks]
    if not rows:
        return None
    victim = max(rows, key=lambda row: (row.waits_since, row.seq))
    start = circle.index(victim.job_id)
    turned = (*circle[start:-1], *circle[:start], victim.job_id)
    return victim, dag.in_words(turned, graph.files)


def break_circles(session: Session, job_id: str, now: datetime) -> None:
    """Refuse the youngest waiters until no circle of waits goes through the job."""
    while (found := circle_of(session, job_id, now)) is not None:
        victim, why = found
        locks.refuse(session, victim, why, now)
        regrant(session, now)


def _request(session: Session, row: LockRequestRow, waiting: Waits) -> Request:
    allies = allies_of(session, row.job_id, waiting)
    return Request(row.seq, row.job_id, tuple(row.paths), allies, row.left_at is not None)


def _waits_for_jobs(open_waits: Sequence[WaitRow]) -> dict[str, frozenset[str]]:
    """What the open calls of each job wait for."""
    found: dict[str, frozenset[str]] = {}
    for wait in open_waits:
        if wait.kind == "jobs":
            job_id = wait.attempt_id.rpartition(".")[0]
            found[job_id] = found.get(job_id, frozenset()).union(wait.targets)
    return found


def _leases(session: Session, rows: Sequence[FileLockRow], inside: set[str]) -> list[Lock]:
    """The locks with the ends of their leases; *inside*: the attempts inside a call of ours."""
    holders = locks.holders(session, {row.job_id for row in rows}) if rows else {}
    return [Lock(row.path, row.job_id, _until(row, holders[row.job_id], inside)) for row in rows]


def _until(row: FileLockRow, holder: Holder, inside: set[str]) -> datetime | None:
    """When the lease ends. It does not while the job's agent is inside a call of ours, nor while a
    process whose attempt is settled may still write."""
    has_gone = holder.state is None or holder.ended_at is not None
    if has_gone and JobStatus(holder.status).is_final:
        return row.renewed_at
    is_leaving = holder.state == AttemptState.SETTLED and not has_gone
    if is_leaving or holder.attempt_id in inside:
        return None
    signs = (sign for sign in holder.signs if sign is not None)
    return max((row.renewed_at, *signs)) + timedelta(seconds=row.ttl_s)


def _drop_expired(session: Session, found: Moment, request: Request) -> None:
    """Take expired locks from others that stand in the way of what is granted."""
    table = rules.Table((Lock(path, request.job_id) for path in request.paths), found.now)
    gone = [
        row
        for row, lock in zip(found.held, found.locks, strict=True)
        if not lock.is_live(found.now)
        and lock.job_id not in request.allies
        and table.is_held(lock.path)
    ]
    locks.release(session, gone, "expiry", found.now)


def _waits(row: LockRequestRow) -> bool:
    """Whether a call waits there: otherwise only its place is kept."""
    return row.left_at is None


def _is_over(row: LockRequestRow, now: datetime) -> bool:
    """Whether a place was kept for long enough."""
    return row.left_at is not None and now - row.left_at >= rules.PLACE_KEPT


def _left_behind(session: Session) -> Iterable[str]:
    """Jobs that are over and hold locks all the same."""
    holders = {row.job_id for row in locks.held(session)}
    statuses = jobs.statuses(session, holders)
    return [
        job_id
        for job_id in holders
        if JobStatus(statuses[job_id]).is_final and not attempts.has_open(session, job_id)
    ]
