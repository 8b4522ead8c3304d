"""Reads what a CLI notes beside its output: the use of its threads, while the agent is at work.

The figures are cumulative and booked as differences. So the files are read again from their
beginning whenever this process has forgotten them, and nothing is lost or counts twice by that.
"""

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import anyio.to_thread
from anyio.abc import TaskGroup

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.errors import StoreUnavailable
from hurlicane_mcp.providers.base import Provider, SideFile, SideReading, ThreadSeen, ThreadUsage
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import session_topic
from hurlicane_mcp.supervision.transcript import Watcher, read_chunk

log = logging.getLogger(__name__)

#: Until what could not be stored is read again.
LATER = timedelta(seconds=1)
#: How soon a file that the CLI has not made yet is looked for again: doubled each time, up to this.
SOON, SELDOM = timedelta(seconds=0.1), timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _Run:
    """An attempt, its session, and the threads of it that are followed."""

    attempt_id: str
    session_id: str
    provider: Provider
    tasks: TaskGroup
    threads: set[str] = field(default_factory=set[str])


class SideReader:
    """Follows the side files of attempts."""

    def __init__(self, db: Database, clock: Clock, watcher: Watcher, booking: Booking) -> None:
        self._db = db
        self._clock = clock
        self._watcher = watcher
        self._book = booking.book

    async def follow(self, attempt_id: str, provider: Provider) -> None:
        """Book what the attempt's threads use, soon after the CLI has noted it, until cancelled."""
        session_id = await self._session_of(attempt_id)
        if session_id is None:
            return  # the server is stopping
        async with anyio.create_task_group() as tasks:
            self._begin(_Run(attempt_id, session_id, provider, tasks), session_id)

    async def catch_up(self, attempt_id: str, provider: Provider, session_id: str | None) -> None:
        """Book all that was noted so far.

        With it a final figure that comes next finds what it consists of, and the one that never
        comes is not missed. What cannot be read is left out.
        """
        if session_id is None or provider.side_file(session_id, session_id) is None:
            return
        try:
            readings = await anyio.to_thread.run_sync(_all_of, provider, session_id)
        except OSError as error:
            log.warning("the usage of the CLI's threads cannot be read: %s", error)
            return
        await self._store(attempt_id, readings)

    async def _session_of(self, attempt_id: str) -> str | None:
        with self._db.bell.listen([session_topic(attempt_id)]) as ear:
            while not self._db.bell.closed:
                attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
                if attempt.session_id is not None:
                    return attempt.session_id
                await ear.heard()
        return None

    def _begin(self, run: _Run, thread_id: str) -> None:
        file = run.provider.side_file(run.session_id, thread_id)
        if file is not None and thread_id not in run.threads:
            run.threads.add(thread_id)
            run.tasks.start_soon(self._follow_file, run, file)

    async def _follow_file(self, run: _Run, file: SideFile) -> None:
        path, offset = await self._find(file), 0
        with closing(self._watcher.watch(path)) as growth:
            while True:
                try:
                    while (after := await self._read_some(run, file, path, offset)) != offset:
                        offset = after
                except StoreUnavailable as error:
                    log.warning("the usage of the CLI's threads is read later: %s", error)
                    await self._clock.sleep(LATER)
                    continue
                except Exception:  # top-level handler: a bad file must not end the supervision
                    log.exception("the usage of the CLI's threads could not be read")
                await growth.wait()

    async def _find(self, file: SideFile) -> Path:
        pause = SOON
        while (path := await anyio.to_thread.run_sync(file.find)) is None:
            await self._clock.sleep(pause)
            pause = min(2 * pause, SELDOM)
        return path

    async def _read_some(self, run: _Run, file: SideFile, path: Path, offset: int) -> int:
        """Book the next whole lines; the offset after them."""
        after, readings = await anyio.to_thread.run_sync(_some_of, file, path, offset)
        await self._store(run.attempt_id, readings)
        for reading in readings:
            if isinstance(reading, ThreadSeen):
                self._begin(run, reading.thread_id)
        return after

    async def _store(self, attempt_id: str, readings: Sequence[SideReading]) -> None:
        figures = [reading for reading in readings if isinstance(reading, ThreadUsage)]
        if not figures:
            return
        now = self._clock.now()
        await self._db.write(lambda session: self._book(session, attempt_id, figures, None, now))


def _some_of(file: SideFile, path: Path, offset: int) -> tuple[int, Sequence[SideReading]]:
    """Off the event loop: a line may be megabytes of JSON."""
    chunk = read_chunk(path, offset, final=False)
    return chunk.offset, [reading for line in chunk.lines for reading in file.parse_line(line)]


def _all_of(provider: Provider, session_id: str) -> Sequence[SideReading]:
    """All that the files of a session say now, from its own thread to those that it has started."""
    found: list[SideReading] = []
    left, seen = deque([session_id]), {session_id}
    while left:
        file = provider.side_file(session_id, left.popleft())
        path = file.find() if file is not None else None
        if file is None or path is None:
            continue
        readings = _whole(file, path)
        found += readings
        for reading in readings:
            if isinstance(reading, ThreadSeen) and reading.thread_id not in seen:
                seen.add(reading.thread_id)
                left.append(reading.thread_id)
    return found


def _whole(file: SideFile, path: Path) -> Sequence[SideReading]:
    offset, found = 0, list[SideReading]()
    while True:
        after, readings = _some_of(file, path, offset)
        if after == offset:
            return found
        offset = after
        found += readings
