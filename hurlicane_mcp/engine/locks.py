"""File locks: taken all or none, waited for in order, kept by signs of life.

A lock belongs to a job. A resumed attempt goes on with the locks of the one before; one that begins
afresh has none. They are freed once the job is final and its processes are gone.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import anyio
import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain import locks as rules
from hurlicane_mcp.engine import lock_requests, lock_table
from hurlicane_mcp.engine.access import Caller, check_reader
from hurlicane_mcp.engine.lock_requests import Asked, ReleaseAnswer, Wanted
from hurlicane_mcp.engine.lock_views import HolderView, LockView, views
from hurlicane_mcp.engine.real_paths import edited_paths, real_paths
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.engine.waiting import Beat, Waiting
from hurlicane_mcp.errors import Forbidden, Invalid, WaitCycle
from hurlicane_mcp.store import jobs, locks
from hurlicane_mcp.store.bell import Ear
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import lock_topic

#: Paths that a wait names, for people who ask what an agent waits for.
NAMED = 5
#: Holders that an answer names; a folder may have thousands below it.
SHOWN = 20

_TAKEN = "Nothing was locked. Work on something else, or call again with a longer wait_s."
_STILL_TAKEN = (
    "Nothing was locked yet. Call lock_files again with the same paths: your place in the queue is "
    "kept for two minutes."
)
_MEND = " Release what you hold with release_files, and take all that you need in one call."


class LockAnswer(View):
    """What lock_files brought: all of the paths, or none and who is in the way."""

    locked: list[str]
    ttl_s: int | None = None
    held_by: list[HolderView] | None = None
    more_holders: int | None = None  #: so many others are in the way as well
    hint: str | None = None


class Locks:
    """Gives files and folders to jobs, each to one at a time."""

    def __init__(self, db: Database, clock: Clock, waiting: Waiting) -> None:
        self._db = db
        self._clock = clock
        self._waiting = waiting

    async def lock(self, caller: Caller, wanted: Wanted, beat: Beat) -> LockAnswer:
        """All of the paths, once nobody else holds one of them or had asked for it before.

        Without them when the time is up, a message comes for the caller, or the server stops; then
        its place is kept for two minutes, unless it had named the time itself. Paths that the job
        holds already are renewed.

        Raises:
            Forbidden: an operator has called.
            Invalid: paths, reason, lease or time to wait break their bounds.
            WaitCycle: the job is the youngest of some that would wait for each other for ever.
            LimitReached: the job would hold more than 2000 locks.
            StaleAttempt, JobFinished: the caller may not write any more.
        """
        if not caller.is_agent:
            raise Forbidden("Locks are for agents: an operator has no job that could hold them.")
        rules.check_paths(wanted.paths)
        rules.check_lease(wanted.ttl, wanted.reason)
        if wanted.wait is not None and wanted.wait < timedelta(0):
            raise Invalid("`wait_s` must not be negative.")
        paths = await self._real(caller, wanted.paths)
        asked, interrupted = Asked(), False
        # The ear comes first: what is decided after the asking rings it.
        with self._db.bell.listen([lock_topic(caller.job_id)]) as ear:
            ask = partial(lock_requests.ask, caller=caller, wanted=wanted, paths=paths)
            # A client that hangs up now must not leave a request that nobody takes back.
            with anyio.CancelScope(shield=True):
                asked = await self._db.write(partial(ask, now=self._clock.now()))
            is_to_wait = asked.request_id is not None
            if is_to_wait:
                asked, interrupted = await self._wait(caller, wanted, paths, asked, ear, beat)
        if asked.refused is not None:
            raise WaitCycle(asked.refused + _MEND)
        if asked.locked:
            return LockAnswer(locked=list(paths), ttl_s=int(wanted.ttl.total_seconds()))
        hint = _TAKEN
        if is_to_wait and (interrupted or self._db.bell.closed or self._keeps(caller, wanted)):
            hint = self._waiting.hint(interrupted, _STILL_TAKEN)
        held_by = list(asked.held_by[:SHOWN])
        more = len(asked.held_by) - len(held_by)
        return LockAnswer(locked=[], held_by=held_by or None, more_holders=more or None, hint=hint)

    async def release(self, caller: Caller, paths: Sequence[str] | None) -> ReleaseAnswer:
        """Free what the caller's job holds of *paths* and below them; all that it holds for None.

        Raises:
            Conflict: a path is only a part of a folder that the job holds; nothing is freed.
            Forbidden, Invalid, StaleAttempt, JobFinished: as for `lock`.
        """
        if not caller.is_agent:
            raise Forbidden("An operator frees a lock by its id.")
        real = None
        if paths is not None:
            rules.check_paths(paths)
            real = await self._real(caller, paths)
        now = self._clock.now()
        return await self._db.write(
            lambda session: lock_requests.release(session, caller, real, now)
        )

    async def listing(self, caller: Caller, paths: Sequence[str] | None = None) -> list[LockView]:
        """The locks that collide with *paths*, oldest first, and who waits for them.

        Without paths all of them; for an agent those of its work folder and its own.

        Raises:
            Invalid: the paths break their bounds, or an operator names a relative one.
            StaleAttempt: another attempt holds the caller's job.
        """
        real: Sequence[str] | None = None
        if paths is not None:
            rules.check_paths(paths)
            real = await self._real(caller, paths)
        elif caller.is_agent:
            real = await self._real(caller, ["."])
        now = self._clock.now()

        def query(session: Session) -> list[LockView]:
            check_reader(session, caller)
            own = caller.job_id if paths is None else ""
            return views(session, real, own, now)

        return await self._db.read(query)

    async def free(self, caller: Caller, lock_id: str) -> LockView:
        """Take a lock from its job. Whoever waits for it goes on. For operators.

        Raises:
            Forbidden: an agent has called.
            NotFound: there is no such lock any more.
        """
        if caller.is_agent:
            raise Forbidden("Agents free their own locks, with release_files.")
        now = self._clock.now()

        def change(session: Session) -> LockView:
            row = locks.get(session, lock_id)
            (view,) = (one for one in views(session, None, "", now) if one.lock_id == lock_id)
            locks.release(session, [row], "operator", now)
            lock_table.regrant(session, now)
            return view

        return await self._db.write(change)

    async def refuse_edit(self, caller: Caller, path: str, folder: str) -> str | None:
        """Why the caller's agent may not edit *path* (below *folder* if it is relative) now; None
        if it may: its job holds the lock, or an ancestor that waits for it does, or the job does
        not want locks to be enforced."""
        rules.check_paths([path])
        job = await self._db.read(lambda session: jobs.get(session, caller.job_id))
        if not job.enforce_locks:
            return None
        base = folder or job.work_dir
        paths = await anyio.to_thread.run_sync(edited_paths, base, path)
        now = self._clock.now()

        def query(session: Session) -> str | None:
            found = (lock_requests.refusal(session, caller, one, now) for one in paths)
            return next((why for why in found if why is not None), None)

        return await self._db.read(query)

    async def sweep(self) -> None:
        """Grant what leases that have run out, and places that were given up, leave free; break
        circles of waits; free the locks of jobs that are over. Reads only, if there is nothing."""
        now = self._clock.now()
        if await self._db.read(lambda session: lock_table.is_due(session, now)):
            await self._db.write(lambda session: lock_table.sweep(session, now))

    async def _wait(
        self,
        caller: Caller,
        wanted: Wanted,
        paths: Sequence[str],
        asked: Asked,
        ear: Ear,
        beat: Beat,
    ) -> tuple[Asked, bool]:
        """How the request has ended, and whether a message was why."""
        request_id = asked.request_id or ""

        async def over() -> bool:
            nonlocal asked
            asked = await self._db.read(lambda s: lock_requests.look(s, caller, request_id, paths))
            return asked.request_id is None

        try:
            interrupted = await self._waiting.until_rung(
                caller, "locks", paths[:NAMED], ear, over, beat, wanted.wait
            )
        except BaseException:  # whoever hangs up gives its place to the others
            now = self._clock.now()
            self._db.post(lambda s: lock_requests.abandon(s, request_id, now))
            raise
        keeps = interrupted or self._db.bell.closed or self._keeps(caller, wanted)
        now = self._clock.now()
        with anyio.CancelScope(shield=True):
            asked = await self._db.write(
                lambda s: lock_requests.end(s, caller, request_id, paths, now, keeps=keeps)
            )
        return asked, interrupted

    def _keeps(self, caller: Caller, wanted: Wanted) -> bool:
        """Whether the caller would wait for longer than one call may last."""
        return wanted.wait is None or wanted.wait > self._waiting.longest(caller)

    async def _real(self, caller: Caller, paths: Sequence[str]) -> tuple[str, ...]:
        """The real paths behind *paths*, which an agent names as seen from its work folder."""
        if caller.is_agent:
            job = await self._db.read(lambda session: jobs.many(session, [caller.job_id]))
            base = job[caller.job_id].work_dir
        elif all(path.startswith("/") for path in paths):
            base = "/"
        else:
            raise Invalid("`paths` must be absolute: an operator has no work folder.")
        return await anyio.to_thread.run_sync(real_paths, base, paths)
