"""File locks: what may be asked for, what collides, and who is next.

A lock is on a real path: absolute, without symlinks. One on a folder covers everything below it.
Locks belong to jobs. A request whose paths are not all free waits behind everything that collides
with it and was there before, so nobody who waits is passed by whoever came later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.errors import Invalid

MAX_PATHS = 200
#: Bytes of one path: what Linux takes (PATH_MAX).
MAX_PATH = 4096
MAX_REASON = 1000
#: Locks that one job may hold at once.
MAX_HELD = 2000
SHORTEST_LEASE = timedelta(seconds=60)  #: signs of life are noted twice a minute only
LONGEST_LEASE = timedelta(hours=1)
#: How long whoever was sent away without a lock keeps its place in the queue.
PLACE_KEPT = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Lock:
    """A path that a job holds."""

    path: str
    job_id: str
    until: datetime | None = None  #: end of the lease; None while its job is inside a call of ours

    def is_live(self, now: datetime) -> bool:
        """Whether it keeps others out. One that does not is its holder's until it is wanted."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Request:
    """Paths that a job waits for, all or none."""

    number: int  #: the order in which requests came
    job_id: str
    paths: tuple[str, ...]
    #: Jobs whose locks do not keep it out: itself, and ancestors that wait for it.
    allies: frozenset[str]
    #: Nobody is there to take the locks: it was sent away, and only its place is kept.
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class Blocker:
    """What keeps a request out."""

    wanted: str
    path: str
    job_id: str
    request: int | None = None  #: the number of an earlier request; None for a lock
    is_left: bool = False  #: it ends by itself: nobody waits there


def check_paths(paths: Sequence[str]) -> None:
    """Refuse paths that no server would take, whatever exists.

    Raises:
        Invalid: none, more than 200, an empty one, one with NUL, or longer than 4096 bytes.
    """
    if not 0 < len(paths) <= MAX_PATHS:
        raise Invalid(f"`paths` must name 1 to {MAX_PATHS} files or folders, not {len(paths)}.")
    for path in paths:
        check_text("paths", path)
        if not path.strip():
            raise Invalid("`paths` holds an empty path. `.` is your work folder.")
        if len(path.encode()) > MAX_PATH:
            raise Invalid(f"A path in `paths` is longer than {MAX_PATH:,} bytes: {path[:100]}…")


def check_lease(ttl: timedelta, reason: str) -> None:
    """Refuse a lease that is too short or too long, and a *reason* that is.

    Raises:
        Invalid: the message names the bounds.
    """
    check_text("reason", reason)
    if len(reason) > MAX_REASON:
        raise Invalid(f"`reason` is longer than {MAX_REASON:,} characters.")
    if not SHORTEST_LEASE <= ttl <= LONGEST_LEASE:
        raise Invalid(
            f"`ttl_s` must be from {SHORTEST_LEASE.total_seconds():.0f} to "
            f"{LONGEST_LEASE.total_seconds():.0f}, not {ttl.total_seconds():g}."
        )


def collide(one: str, other: str) -> bool:
    """Whether two real paths are the same, or one is a folder above the other."""
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first == second or first in second.parents or second in first.parents


def covers(lock: str, path: str) -> bool:
    """Whether a lock on *lock* is one on *path*: the same, or a folder above it."""
    return lock in _upwards(path)


def allies(job_id: str, ancestors: Iterable[str], waits: Mapping[str, frozenset[str]]) -> set[str]:
    """Whose locks *job_id* shares: its own, and those of the ancestors that wait for it.

    *ancestors* from its parent upwards; *waits*: the jobs that each job's open calls wait for. Who
    waits for an ally waits for *job_id* as well. An ancestor that does not wait, works itself.
    """
    found = {job_id}
    for one in ancestors:
        if not found.isdisjoint(waits.get(one, frozenset())):
            found.add(one)
    return found


@dataclass(frozen=True, slots=True)
class _Claim:
    """A path that is held, or asked for."""

    path: str
    job_id: str
    request: Request | None = None  #: None for a lock


class _Claims:
    """Claims by path, so that what collides with one path is found without looking at all."""

    def __init__(self) -> None:
        self._at: dict[str, list[_Claim]] = {}
        self._below: dict[str, list[_Claim]] = {}

    def add(self, claim: _Claim) -> None:
        own, *above = _upwards(claim.path)
        self._at.setdefault(own, []).append(claim)
        for folder in above:
            self._below.setdefault(folder, []).append(claim)

    def colliding(self, path: str) -> Iterator[_Claim]:
        yield from self.covering(path)
        yield from self._below.get(path, ())

    def covering(self, path: str) -> Iterator[_Claim]:
        for folder in _upwards(path):
            yield from self._at.get(folder, ())


class Table:
    """Who holds what and who waits for what at one moment. Expired locks are not in it."""

    def __init__(self, locks: Iterable[Lock], now: datetime) -> None:
        self._claims = _Claims()
        for lock in locks:
            if lock.is_live(now):
                self._claims.add(_Claim(lock.path, lock.job_id))

    def grant(self, request: Request) -> None:
        """*request* holds its paths from now on."""
        for path in request.paths:
            self._claims.add(_Claim(path, request.job_id))

    def queue(self, request: Request) -> None:
        """*request* waits: whoever comes after it waits for it."""
        for path in request.paths:
            self._claims.add(_Claim(path, request.job_id, request))

    def is_held(self, path: str) -> bool:
        """Whether a lock or a request collides with *path*."""
        return next(self._claims.colliding(path), None) is not None

    def blockers(self, request: Request) -> Iterator[Blocker]:
        """What keeps *request*, which comes after all that is in the table, out of its paths."""
        for path in request.paths:
            shared = [
                claim.job_id
                for claim in self._claims.covering(path)
                if claim.request is None and claim.job_id in request.allies
            ]
            for claim in self._claims.colliding(path):
                other = claim.request
                if claim.job_id in request.allies:
                    continue
                # Who waits for a lock that the request shares cannot be next anyway. Waiting behind
                # it would be waiting for oneself.
                if other is not None and any(one not in other.allies for one in shared):
                    continue
                number, is_left = (other.number, other.is_left) if other else (None, False)
                yield Blocker(path, claim.path, claim.job_id, number, is_left)


def grants(
    locks: Iterable[Lock], requests: Iterable[Request], now: datetime
) -> tuple[tuple[Request, ...], Mapping[int, tuple[Blocker, ...]]]:
    """The waiting *requests* that are to be granted now, in order, and what blocks the others.

    First come, first served: a request is granted if nothing that it collides with is held by
    others or was asked for before it.
    """
    table, granted = Table(locks, now), list[Request]()
    blocked: dict[int, tuple[Blocker, ...]] = {}
    for request in sorted(requests, key=lambda one: one.number):
        found = tuple(table.blockers(request))
        if found or request.is_left:
            blocked[request.number] = found
            table.queue(request)
        else:
            granted.append(request)
            table.grant(request)
    return tuple(granted), blocked


def may_edit(path: str, job: Request, locks: Iterable[Lock], now: datetime) -> bool:
    """Whether the job that asks, as *job* with its allies, holds *path* and nobody else does."""
    live = [lock for lock in locks if lock.is_live(now)]
    holds = any(lock.job_id in job.allies and covers(lock.path, path) for lock in live)
    others = any(lock.job_id not in job.allies and collide(lock.path, path) for lock in live)
    return holds and not others


def _upwards(path: str) -> Iterator[str]:
    """*path* itself, the folder that it is in, and so on up to the root."""
    yield path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path
