"""One call of a program: started, heard out, and gone with all that it started."""

import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from hurlicane_mcp.supervision import run_directory
from hurlicane_mcp.supervision.host import Command, Exit, Handle, Host
from hurlicane_mcp.supervision.transcript import Chunk, Watcher, read_chunk, tail

#: How long a call may take, and what it may print; its shim sees to both.
TIME_LIMIT = timedelta(seconds=60)
OUTPUT_LIMIT = 1024 * 1024
#: Between TERM and KILL.
GRACE = timedelta(seconds=1)
WORK = "work"  #: the folder that the program runs in, inside the run directory


@dataclass(frozen=True, slots=True)
class Heard:
    """What a call printed, and how it ended."""

    lines: tuple[bytes, ...]  #: of its standard output, without their newlines
    exit: Exit
    complaint: str  #: the end of its standard error


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, and the last whole lines that it printed."""

    exit: Exit
    said: str


class OneShots:
    """Makes calls below *folder*, of which nothing is left afterwards."""

    def __init__(self, host: Host, watcher: Watcher, folder: Path) -> None:
        self._host = host
        self._watcher = watcher
        self._folder = folder

    async def clear(self) -> None:
        """End and remove what a server that was killed has left."""
        for run_dir in await anyio.to_thread.run_sync(_folders, self._folder):
            found = await self._host.adopt(run_dir)
            if found is not None and not isinstance(found, Exit):
                await found.stop(GRACE)
            await anyio.to_thread.run_sync(_remove, run_dir)

    def work_dir(self, name: str) -> Path:
        """Where the call of this name runs: an empty folder, there while the call lasts."""
        return self._folder / name / WORK

    async def run(self, command: Command, is_enough: Callable[[bytes], bool]) -> Heard:
        """Run *command* to its end, or until a line of its output *is_enough*.

        The command's marker names the call and its folder, which is new. Its limits are ours. When
        this returns, raises or is cancelled, the whole process tree is gone; should this process be
        killed, the program's shim ends it at `TIME_LIMIT`.

        Raises:
            LaunchFailed: it could not be started.
        """
        run_dir = self._folder / command.marker
        command = replace(
            command, cwd=run_dir / WORK, time_limit=TIME_LIMIT, output_limit=OUTPUT_LIMIT
        )
        async with self._held(run_dir, command) as handle:
            try:
                await self._listen(run_dir, handle, is_enough)
            finally:
                with anyio.CancelScope(shield=True):
                    await handle.stop(GRACE)
            exit_ = await handle.ended()
            lines = await anyio.to_thread.run_sync(_all_lines, run_dir)
            complaint = await anyio.to_thread.run_sync(tail, run_dir / run_directory.STDERR, 2000)
            return Heard(lines, exit_, complaint)

    async def run_where_it_is(self, command: Command, max_told: int) -> Ended:
        """Run *command* to its end as it stands: in its own folder, within its own limits.

        *max_told* bounds, in bytes, what is told of its standard output. Otherwise as `run`: the
        marker names a new folder below ours, and nothing is left.

        Raises:
            LaunchFailed: it could not be started.
        """
        run_dir = self._folder / command.marker
        async with self._held(run_dir, command) as handle:
            exit_ = await handle.ended()
            said = await anyio.to_thread.run_sync(tail, run_dir / run_directory.STDOUT, max_told)
            return Ended(exit_, said)

    @asynccontextmanager
    async def _held(self, run_dir: Path, command: Command) -> AsyncGenerator[Handle]:
        """The running program; however the context is left, nothing of it is there afterwards."""
        try:
            await anyio.to_thread.run_sync(_make, run_dir)
            handle: Handle | None = None
            with anyio.CancelScope(shield=True):  # else a program might run that nobody holds
                handle = await self._host.start(run_dir, command)
            assert handle is not None, "a shielded scope is not left early"
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                yield handle
            finally:
                with anyio.CancelScope(shield=True):
                    await handle.stop(GRACE)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_remove, run_dir)

    async def _listen(
        self, run_dir: Path, handle: Handle, is_enough: Callable[[bytes], bool]
    ) -> None:
        """Return when the program has ended or has said enough."""
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                await handle.ended()
                tasks.cancel_scope.cancel()

            tasks.start_soon(end)
            offset = 0
            with closing(self._watcher.watch(run_dir)) as growth:
                while True:
                    chunk = await anyio.to_thread.run_sync(_next_lines, run_dir, offset)
                    if any(is_enough(line) for line in chunk.lines):
                        break
                    if chunk.offset == offset:
                        await growth.wait()
                    offset = chunk.offset
            tasks.cancel_scope.cancel()


def _folders(parent: Path) -> list[Path]:
    return sorted(parent.iterdir()) if parent.is_dir() else []


def _make(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o700, parents=True)
    (run_dir / WORK).mkdir(mode=0o700)


def _remove(run_dir: Path) -> None:
    shutil.rmtree(run_dir, ignore_errors=True)


def _next_lines(run_dir: Path, offset: int) -> Chunk:
    return read_chunk(run_dir / run_directory.STDOUT, offset, final=False)


def _all_lines(run_dir: Path) -> tuple[bytes, ...]:
    return tuple(_each_line(run_dir / run_directory.STDOUT))


def _each_line(path: Path) -> Iterator[bytes]:
    offset = 0
    while (chunk := read_chunk(path, offset, final=True)).offset != offset:
        yield from chunk.lines
        offset = chunk.offset
