"""The lock table at one moment, made of rows, and the changes that follow from it.

Everything works in the caller's transaction. Whatever may let a waiting request go on calls
`regrant`: a release, the end of a job, a request that leaves, a wait that makes allies.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from sqlmodel import Session

from hurlicane_mcp.domain import dag
from hurlicane_mcp.domain import locks as rules
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.locks import Blocker, Lock, Request
from hurlicane_mcp.store import attempts, jobs, locks, waits, wakes
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
    waiting = _waits_for_jobs(session, open_waits)
    for job_id, targets in (also or {}).items():
        waiting[job_id] = waiting.get(job_id, frozenset()) | targets
    # Looked up together: there may be very many requests, and this runs in every write.
    allies = _allies_of(session, {row.job_id for row in rows}, waiting)
    return Moment(
        now,
        held,
        _leases(session, held, {wait.attempt_id for wait in open_waits}),
        {row.seq: row for row in rows},
        [_request(row, allies[row.job_id]) for row in rows],
    )


def asker(session: Session, job_id: str) -> Request:
    """The job as one who asks for nothing yet: with the allies that it has now."""
    waiting = _waits_for_jobs(session, waits.open_waits(session))
    return Request(0, job_id, (), _allies_of(session, {job_id}, waiting)[job_id])


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
    _drop_expired(session, found, granted)
    for request in granted:
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
    granted, blocked = rules.grants(found.locks, found.requests, now)
    if granted:
        return True
    graph = _graph(session, found, blocked)
    return any(_circle(graph, row.job_id) for row in rows)


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
    break_circles(session, [row.job_id for row in locks.requests(session)], now)


def wait_graph(session: Session, now: datetime, also: Waits | None = None) -> WaitGraph:
    """The one graph of who waits for whom.

    *also*: waits for jobs that are about to be open. They make allies; their own edges are not in
    the graph.
    """
    rows = locks.requests(session)
    if not rows:
        return WaitGraph(jobs.edges(session))
    found = moment_of(session, now, also, rows)
    _, blocked = rules.grants(found.locks, found.requests, now)
    return _graph(session, found, blocked)


def break_circles(session: Session, job_ids: Sequence[str], now: datetime) -> None:
    """Refuse the youngest waiters until no circle of waits goes through one of the jobs."""
    while (found := _victim(session, wait_graph(session, now), job_ids)) is not None:
        victim, why = found
        locks.refuse(session, victim, why, now)
        regrant(session, now)


def _graph(
    session: Session, found: Moment, blocked: Mapping[int, tuple[Blocker, ...]]
) -> WaitGraph:
    edges, files = jobs.edges(session), dict[tuple[str, str], str]()
    for number, blockers in blocked.items():
        row = found.rows[number]
        if not _waits(row):
            continue
        # A place that is kept ends by itself.
        for one in (one for one in blockers if not one.is_left):
            edges.setdefault(row.job_id, set()).add(one.job_id)
            files.setdefault((row.job_id, one.job_id), one.wanted)
    return WaitGraph(edges, files)


def _circle(graph: WaitGraph, job_id: str) -> tuple[str, ...] | None:
    """A circle of waits through the job, of which one at least is for a lock."""
    circle = dag.path(graph.edges, job_id, frozenset({job_id}))
    if circle is None or not any(pair in graph.files for pair in pairwise(circle)):
        return None
    return tuple(circle)


def _victim(
    session: Session, graph: WaitGraph, job_ids: Sequence[str]
) -> tuple[LockRequestRow, str] | None:
    """The youngest waiter for locks in a circle of waits through one of the jobs, and the circle in
    words, beginning with it; None if there is no circle."""
    circle = next((one for job_id in job_ids if (one := _circle(graph, job_id))), None)
    if circle is None:
        return None
    for_locks = {pair[0] for pair in pairwise(circle) if pair in graph.files}
    waiting = filter(_waits, locks.requests(session))
    rows = [row for row in waiting if row.job_id in for_locks]
    victim = max(rows, key=lambda row: (row.waits_since, row.seq))
    start = circle.index(victim.job_id)
    turned = (*circle[start:-1], *circle[:start], victim.job_id)
    return victim, dag.in_words(turned, graph.files)


def _request(row: LockRequestRow, allies: frozenset[str]) -> Request:
    return Request(row.seq, row.job_id, tuple(row.paths), allies, row.left_at is not None)


def _allies_of(
    session: Session, job_ids: Collection[str], waiting: Waits
) -> Mapping[str, frozenset[str]]:
    """Whose locks each of the jobs shares."""
    above = jobs.ancestors_of_each(session, job_ids) if waiting else dict.fromkeys(job_ids, ())
    return {one: frozenset(rules.allies(one, above[one], waiting)) for one in job_ids}


def _waits_for_jobs(session: Session, open_waits: Sequence[WaitRow]) -> dict[str, frozenset[str]]:
    """What the open calls of each job wait for, and what those wait for that go on after others:
    their agents were stopped inside such a call."""
    found: dict[str, frozenset[str]] = {}
    for wait in open_waits:
        if wait.kind == "jobs":
            job_id = wait.attempt_id.rpartition(".")[0]
            found[job_id] = found.get(job_id, frozenset()).union(wait.targets)
    for sleeper, awaited in wakes.edges(session):
        found[sleeper] = found.get(sleeper, frozenset()) | {awaited}
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


def _drop_expired(session: Session, found: Moment, granted: Sequence[Request]) -> None:
    """Take expired locks from others that stand in the way of what is granted."""
    gone: dict[str, FileLockRow] = {}  # one lock may stand in the way of many
    for request in granted:
        table = rules.Table((Lock(path, request.job_id) for path in request.paths), found.now)
        gone |= {
            row.id: row
            for row, lock in zip(found.held, found.locks, strict=True)
            if not lock.is_live(found.now)
            and lock.job_id not in request.allies
            and table.is_held(lock.path)
        }
    locks.release(session, gone.values(), "expiry", found.now)


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
