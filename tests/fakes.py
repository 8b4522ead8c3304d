"""Stand-ins for the only things that tests may replace: the clock and the agents' host."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
from anyio import wait_all_tasks_blocked

from hurlicane_mcp.supervision.host import Command, Exit, Handle, ProcessIdentity

BEGINNING = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FakeClock:
    """A clock that moves when it is told to; sleepers wake when their time has come."""

    def __init__(self) -> None:
        self._now = BEGINNING
        self._set_by = timedelta(0)
        self.slept = timedelta(0)
        self._sleepers: list[tuple[datetime, anyio.Event]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._set_by - BEGINNING).total_seconds()

    def suspended(self) -> float:
        return self.slept.total_seconds()

    def set_by(self, difference: timedelta) -> None:
        """Set the wall clock forward or back, as a person or NTP does; the other does not move."""
        self._now += difference
        self._set_by += difference
        self._sleepers = [(due + difference, woken) for due, woken in self._sleepers]

    async def sleep(self, duration: timedelta) -> None:
        woken = anyio.Event()
        self._sleepers.append((self._now + duration, woken))
        await woken.wait()

    def move(self, duration: timedelta) -> None:
        """Let time pass without letting tasks run in between."""
        self._now += duration

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, waking each sleeper at its moment."""
        end = self._now + duration
        await wait_all_tasks_blocked()
        while due := [one for one in self._sleepers if one[0] <= end]:
            moment, woken = min(due, key=lambda one: one[0])
            self._sleepers.remove((moment, woken))
            self._now = max(self._now, moment)
            woken.set()
            await wait_all_tasks_blocked()
        self._now = end


class FakeHandle:
    """An agent that ends when the test says so."""

    def __init__(self, pid: int) -> None:
        self.identity = ProcessIdentity(pid, "1000", "this boot")
        self.stops = 0
        self._exit: Exit | None = None
        self._gone = anyio.Event()

    def end(self, exit_: Exit) -> None:
        self._exit = exit_
        self._gone.set()

    async def ended(self) -> Exit:
        await self._gone.wait()
        assert self._exit is not None
        return self._exit

    async def stop(self, grace: timedelta) -> None:
        self.stops += 1
        self.end(Exit(signal=15))


class FakeHost:
    """A host of agents that run nowhere: what it starts or finds is the test's to decide."""

    def __init__(self) -> None:
        self.started: dict[Path, tuple[Command, FakeHandle]] = {}
        self.found: dict[Path, Handle | Exit] = {}  #: what `adopt` answers, by run directory
        self.cleared: list[tuple[ProcessIdentity | None, str]] = []
        self.attended: list[Path] = []

    async def start(self, run_dir: Path, command: Command) -> Handle:
        handle = FakeHandle(4000 + len(self.started))
        self.started[run_dir] = (command, handle)
        return handle

    async def adopt(self, run_dir: Path) -> Handle | Exit | None:
        return self.found.get(run_dir)

    async def clear(self, identity: ProcessIdentity | None, marker: str) -> None:
        self.cleared.append((identity, marker))

    async def attend(self, run_dirs: Iterable[Path]) -> None:
        self.attended.extend(run_dirs)
