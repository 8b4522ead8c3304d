"""Worktrees of our own: planned with their job, made before it starts, removed when it is over.

The rows say what there is to be; `prepare` and `sweep` make it so and may be cut off at any point.
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.engine.worktree_views import WorktreeView
from hurlicane_mcp.errors import Forbidden, GitFailed, HurlicaneError, NotWritable
from hurlicane_mcp.git.removal import Retired, retire
from hurlicane_mcp.git.worktrees import Base, Made, Wanted, make, place_for
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import events, jobs, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.workflow_tables import WorktreeRow
from hurlicane_mcp.supervision.space import is_full

T = TypeVar("T")

log = logging.getLogger(__name__)

PLANNED, READY, REMOVED = "planned", "ready", "removed"
#: How many worktrees are worked on at once, all repositories together.
AT_ONCE: Final = 4
_LONGEST_PAUSE: Final = timedelta(minutes=1)
_SHORTEST_PAUSE: Final = timedelta(seconds=2)
#: Between the end of the last agent and a removal, at least: its diff is made in the folder.
_FOR_DIFFS: Final = timedelta(seconds=5)
_MAX_SLUG: Final = 40
_MAX_NAMED: Final = 20  #: files that a warning names


class Worktrees:
    """Keeps the worktrees as the rows say. One at a time works on a repository."""

    def __init__(self, db: Database, clock: Clock, retention: timedelta) -> None:
        """*retention* is how long a worktree is kept after the last job in it has ended."""
        self._db = db
        self._clock = clock
        self._retention = retention
        self._locks: dict[str, anyio.Lock] = {}
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    @staticmethod
    def plan(session: Session, base: Base, owner_id: str, title: str, now: datetime) -> WorktreeRow:
        """Plan the worktree of the job *owner_id*, which is stored already, and have it work there.

        What the base had that was not committed is told in an event.
        """
        name = owner_id.rpartition("_")[2]
        while worktrees.at(session, str(place_for(base.repo, name))) is not None:
            name = new_id("x").rpartition("_")[2]
        path = place_for(base.repo, name)
        row = WorktreeRow(
            id=new_id("wt"),
            owner_id=owner_id,
            repo=str(base.repo),
            path=str(path),
            branch=f"hurlicane/{_slug(title)}-{name}",
            base_branch=base.branch,
            base_sha=base.sha,
            created_at=now,
        )
        worktrees.add(session, row)
        work_dir = str(path / base.inside)
        jobs.set_values(session, owner_id, worktree_id=row.id, work_dir=work_dir, branch=row.branch)
        told = base.branch or base.sha
        events.record(
            session, now, "worktree.planned", owner_id,
            path=row.path, branch=row.branch, base=told,
        )  # fmt: skip
        if base.dirty:
            _warn(session, row, now, not_in_it(base))
        return row

    @staticmethod
    def inherited(session: Session, parent: JobRow, work_dir: str) -> str | None:
        """The worktree of *parent*, if a child that works in *work_dir* works in it too."""
        if parent.worktree_id is None:
            return None
        path = Path(worktrees.get(session, parent.worktree_id).path)
        return parent.worktree_id if Path(work_dir).is_relative_to(path) else None

    async def prepare(self, worktree_id: str) -> Path:
        """Have the worktree be there; where it is. May be repeated, also after it was cut off.

        Raises:
            NotWritable: the disk is full or read-only; the same call may work later.
            GitBusy: another git is at work; the same call may work later.
            GitFailed: it cannot be made.
        """
        row = await self._db.read(lambda session: worktrees.get(session, worktree_id))
        async with self._lock_of(row):
            row = await self._db.read(lambda session: worktrees.get(session, worktree_id))
            try:
                made = await self._in_thread(lambda: _made(row))
            except HurlicaneError as error:
                text = str(error)
                await self._db.write(lambda session: self._note_trouble(session, row, text))
                raise
            changed = (made.path, made.branch) != (Path(row.path), row.branch)
            if changed or row.state != READY or row.trouble or made.told or made.salvaged:
                await self._db.write(lambda session: self._note_made(session, row.id, made))
        return made.path

    async def ready(self, job: JobRow) -> JobRow:
        """*job* with the folder that it works in there, if that is in a worktree of ours.

        Raises:
            NotWritable, GitBusy, GitFailed: as `prepare`.
        """
        if job.worktree_id is None:
            return job
        await self.prepare(job.worktree_id)
        job = await self._db.read(lambda session: jobs.get(session, job.id))
        # A folder that held nothing but ignored files is not in the commit.
        await anyio.to_thread.run_sync(_make_folder, Path(job.work_dir))
        return job

    async def run(self) -> None:
        """Sweep now and then, for ever. A fault is logged, and the next sweep comes even so."""
        pause = min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, self._retention / 10))
        while True:
            await self._clock.sleep(pause)
            try:
                await self.sweep()
            except Exception:  # top-level handler: nobody else removes worktrees
                log.exception("a sweep of the worktrees failed")

    async def sweep(self) -> None:
        """Remove the worktrees that nobody needs any more, and keep what was done in them."""
        before = self._clock.now() - max(self._retention, _FOR_DIFFS)
        for row in await self._db.read(lambda session: worktrees.ended(session, before)):
            async with self._lock_of(row):
                if await self._is_over(row, before):
                    retired = await self._in_thread(lambda one=row: _retired(one))
                    await self._db.write(
                        lambda session, one=row, what=retired: self._note_retired(
                            session, one.id, what
                        )
                    )

    async def listing(self, caller: Caller, *, removed: bool, limit: int) -> list[WorktreeView]:
        """Worktrees, newest first; with *removed* also those that are gone. For operators."""
        if caller.is_agent:
            raise Forbidden("The list of worktrees is for operators.")
        rows = await self._db.read(
            lambda session: worktrees.listing(session, removed=removed, limit=limit)
        )
        return [WorktreeView.whole(row) for row in rows]

    async def _is_over(self, row: WorktreeRow, before: datetime) -> bool:
        """Whether nobody needs it any more, not even a job that knows it by another name."""
        if not await self._db.read(lambda session: worktrees.is_over(session, row, before)):
            return False
        folders = await self._db.read(worktrees.live_folders)
        return not await self._in_thread(lambda: _leads_inside(folders, Path(row.path)))

    def _lock_of(self, row: WorktreeRow) -> anyio.Lock:
        return self._locks.setdefault(row.repo, anyio.Lock())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Git may take minutes. Who is cancelled leaves it to itself: the next call finds it."""
        return await anyio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)

    def _note_made(self, session: Session, worktree_id: str, made: Made) -> None:
        now, row = self._clock.now(), worktrees.get(session, worktree_id)
        if str(made.path) != row.path or made.branch != row.branch:
            for job_id, work_dir in worktrees.jobs_in(session, row.id):
                moved = _moved(Path(work_dir), Path(row.path), made.path)
                jobs.set_values(session, job_id, work_dir=str(moved), branch=made.branch)
        values = {"path": str(made.path), "branch": made.branch, "state": READY, "trouble": ""}
        salvaged = _with_salvaged(session, row, made.salvaged, now)
        worktrees.write(session, row.id, ready_at=now, removed_at=None, salvaged=salvaged, **values)
        events.record(
            session, now, "worktree.ready", row.owner_id, path=str(made.path), branch=made.branch
        )
        for text in made.told:
            _warn(session, row, now, text)

    def _note_trouble(self, session: Session, row: WorktreeRow, text: str) -> None:
        """Told once: the same again changes nothing."""
        text = storable(text)
        if worktrees.get(session, row.id).trouble == text:
            return
        worktrees.write(session, row.id, trouble=text)
        now = self._clock.now()
        events.record(session, now, "worktree.trouble", row.owner_id, path=row.path, text=text)

    def _note_retired(self, session: Session, worktree_id: str, retired: Retired) -> None:
        now, row = self._clock.now(), worktrees.get(session, worktree_id)
        salvaged = _with_salvaged(session, row, retired.salvaged, now)
        if retired.trouble:
            self._note_trouble(session, row, retired.trouble)
        if salvaged != row.salvaged:
            worktrees.write(session, row.id, salvaged=salvaged)
        if retired.is_removed and row.removed_at is None:
            worktrees.write(session, row.id, state=REMOVED, removed_at=now, trouble="")
            events.record(
                session, now, "worktree.removed", row.owner_id,
                path=row.path, branch=retired.branch, salvaged=salvaged,
            )  # fmt: skip


def _made(row: WorktreeRow) -> Made:
    if is_full(Path(row.path)):
        raise NotWritable(f"There is no room to make {row.path}: the disk is full.")
    try:
        return make(_wanted(row))
    except PermissionError as error:
        raise GitFailed("git worktree add", row.repo, str(error)) from None


def _retired(row: WorktreeRow) -> Retired:
    try:
        return retire(_wanted(row))
    except Exception as error:  # whatever it is: it is left, and no other waits for it
        log.exception("the worktree %s could not be removed", row.path)
        return Retired(False, trouble=f"It could not be removed: {error}")


def _wanted(row: WorktreeRow) -> Wanted:
    path = Path(row.path)
    return Wanted(Path(row.repo), path, row.branch, row.base_sha, row.state == PLANNED)


def _leads_inside(folders: Sequence[str], path: Path) -> bool:
    """Whether one of *folders*, with all links and `..` followed, is in *path*."""
    real = path.resolve()
    return any(Path(one).resolve().is_relative_to(real) for one in folders)


def _moved(folder: Path, old: Path, new: Path) -> Path:
    return new / folder.relative_to(old) if folder.is_relative_to(old) else folder


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _warn(session: Session, row: WorktreeRow, now: datetime, text: str) -> None:
    events.record(
        session, now, "worktree.warning", row.owner_id, path=row.path, text=storable(text)
    )


def _with_salvaged(
    session: Session, row: WorktreeRow, refs: Sequence[str], now: datetime
) -> list[str]:
    """All refs that keep something of it, *refs* included; those that are new are told."""
    new = [one for one in refs if one not in row.salvaged]
    if new:
        events.record(session, now, "worktree.salvaged", row.owner_id, path=row.path, refs=new)
    return [*row.salvaged, *new]


def not_in_it(base: Base) -> str:
    """What a person should know of a base with uncommitted changes; empty without them."""
    if not base.dirty:
        return ""
    count, named = len(base.dirty), ", ".join(base.dirty[:_MAX_NAMED])
    more = f" and {count - _MAX_NAMED} more" if count > _MAX_NAMED else ""
    return storable(
        f"It begins from the commit {base.sha[:12]}. What is not committed in {base.repo} is not "
        f"in it: {named}{more}."
    )


def _slug(title: str) -> str:
    """What a branch can be called after *title*: letters, digits and hyphens of ASCII."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:_MAX_SLUG].strip("-") or "job"
