"""What each attempt changed in its repository: noted when its process tree is gone."""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine.access import Caller, check_reader, check_visible
from hurlicane_mcp.errors import GitFailed, NotFound
from hurlicane_mcp.git import repository
from hurlicane_mcp.git.diffs import Diff, diff_since
from hurlicane_mcp.store import attempts, diffs, events, jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.workflow_tables import AttemptDiffRow

log = logging.getLogger(__name__)

#: Diffs that are made at once.
AT_ONCE: Final = 2
#: How long after its end an attempt's diff is still made up for; later the folder has moved on.
LATE: Final = timedelta(hours=1)


class DiffView(BaseModel):
    """What an attempt changed, from the commit that it began at to its end."""

    job_id: str
    attempt: int
    base_sha: str
    head_sha: str  #: the commit that it left
    commits: int
    files: int
    insertions: int
    deletions: int
    stat: str  #: one line a file
    patch: str  #: what was not committed included, new files too
    is_cut: bool  #: there was more than is kept
    at: datetime

    @staticmethod
    def of(row: AttemptDiffRow) -> "DiffView":
        job_id, _, number = row.attempt_id.rpartition(".")
        same = row.model_dump(exclude={"attempt_id"})
        return DiffView(job_id=job_id, attempt=int(number), **same)


class Diffs:
    """Makes and tells the diffs of attempts. Nobody waits for one; a fault is only logged."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._threads = anyio.CapacityLimiter(AT_ONCE)
        self._locks: dict[str, anyio.Lock] = {}  #: by folder: its diffs come one after the other

    async def begin(self, attempt_id: str, folder: Path) -> None:
        """Note the commit that the attempt begins at, if *folder* is in a repository.

        A diff that is being made there is waited for: this attempt's work must not be in it.
        """
        async with self._lock_of(str(folder)):
            sha = await anyio.to_thread.run_sync(repository.head, folder)
        if sha is not None:
            self._db.post(lambda session: attempts.write(session, attempt_id, base_sha=sha))

    async def note(self, attempt_id: str) -> None:
        """Note what the attempt, which has ended, changed; once."""
        try:
            await self._note(attempt_id)
        except Exception:  # the attempt is over; nothing else depends on this
            log.exception("the diff of %s could not be noted", attempt_id)

    async def catch_up(self) -> None:
        """Note the diffs that a server that was killed did not get to."""
        since = self._clock.now() - LATE
        try:
            rows = await self._db.read(lambda session: diffs.missing(session, since))
        except Exception:  # as above
            log.exception("it cannot be told which diffs are missing")
            return
        for row in rows:
            await self.note(row.id)

    async def of(self, caller: Caller, job_id: str, attempt: int | None = None) -> DiffView:
        """What the attempt of this number changed; without one the last that has a diff.

        Raises:
            NotFound: there is no such job, or no such diff.
        """

        def query(session: Session) -> DiffView:
            check_reader(session, caller)
            check_visible(session, caller, job_id, own=True)
            row = diffs.of_job(session, job_id, attempt)
            if row is None:
                what = job_id if attempt is None else f"{job_id}.{attempt}"
                hint = "It is made when an attempt in a git repository has ended."
                raise NotFound("diff", what, hint=hint)
            return DiffView.of(row)

        return await self._db.read(query)

    def _lock_of(self, folder: str) -> anyio.Lock:
        return self._locks.setdefault(folder, anyio.Lock())

    async def _note(self, attempt_id: str) -> None:
        base, folder = await self._db.read(lambda session: _facts(session, attempt_id))
        if base is None:
            return
        async with self._lock_of(folder):
            try:
                diff = await anyio.to_thread.run_sync(
                    diff_since, Path(folder), base, limiter=self._threads, abandon_on_cancel=True
                )
            except GitFailed as error:
                log.warning("there is no diff of %s: %s", attempt_id, error)
                return
            now = self._clock.now()
            await self._db.write(lambda session: _store(session, attempt_id, base, diff, now))


def _facts(session: Session, attempt_id: str) -> tuple[str | None, str]:
    """The commit that it began at, None if nothing is left to do; and its folder."""
    attempt = attempts.get(session, attempt_id)
    job = jobs.many(session, [attempt.job_id])[attempt.job_id]
    is_known = attempt.base_sha is None or diffs.exists(session, attempt_id)
    return None if is_known else attempt.base_sha, job.work_dir


def _store(session: Session, attempt_id: str, base: str, diff: Diff, now: datetime) -> None:
    row = AttemptDiffRow(
        attempt_id=attempt_id,
        base_sha=base,
        head_sha=diff.head_sha,
        files=diff.files,
        insertions=diff.insertions,
        deletions=diff.deletions,
        commits=diff.commits,
        is_cut=diff.is_cut,
        at=now,
        stat=storable(diff.stat),
        patch=storable(diff.patch),
    )
    if not diffs.add(session, row):
        return
    job_id, _, number = attempt_id.rpartition(".")
    told = {"files": diff.files, "insertions": diff.insertions, "deletions": diff.deletions}
    told["commits"] = diff.commits
    events.record(session, now, "attempt.diff", job_id, int(number), **told)
