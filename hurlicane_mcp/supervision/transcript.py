"""What agents print: read exactly once, by whole lines, woken by growth."""

import asyncio
import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self

import anyio

BLOCK = 256 * 1024
LONGEST_LINE = 16 * 1024 * 1024  #: bytes; a longer line is skipped


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines, without their newlines, and where to read on."""

    lines: tuple[bytes, ...]
    offset: int
    lost: Literal["deleted", "cut"] | None = None  #: what became of the file before *offset*


def read_chunk(path: Path, offset: int, *, final: bool, max_bytes: int = BLOCK) -> Chunk:
    """The whole lines at *offset*: up to *max_bytes* of them, or one longer line.

    Store the lines' effects and the new offset in one transaction, and each line counts exactly
    once. Read on while the offset moves, even if there are no lines: a line longer than
    `LONGEST_LINE` is skipped in pieces. With *final* (nobody writes any more) a last line
    without a newline counts as well. A missing file is an empty one.

    A file that somebody has deleted, or cut before *offset*, says so once: at the new offset
    reading goes on with what is printed from then on, if that is possible.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < offset:
                return Chunk((), size, "cut")
            return _chunk(file, offset, final, max_bytes)
    except FileNotFoundError:
        return Chunk((), 0, "deleted") if offset else Chunk((), 0)


def _chunk(file: BinaryIO, offset: int, final: bool, max_bytes: int) -> Chunk:
    if _is_inside_line(file, offset):
        return Chunk((), _skip(file, offset, max_bytes))
    data = bytearray()
    while len(data) <= LONGEST_LINE:
        block = file.read(max_bytes)
        newline = block.find(b"\n") if data else block.rfind(b"\n")
        if newline >= 0:
            data += block[:newline]
            return Chunk(tuple(bytes(data).split(b"\n")), offset + len(data) + 1)
        data += block
        if not block:
            at_end = final and bool(data)
            return Chunk((bytes(data),), offset + len(data)) if at_end else Chunk((), offset)
    return Chunk((), offset + len(data))


def _is_inside_line(file: BinaryIO, offset: int) -> bool:
    """Whether the byte before *offset* shows that an overlong line was cut there."""
    file.seek(max(offset - 1, 0))
    return offset > 0 and file.read(1) not in (b"\n", b"")


def _skip(file: BinaryIO, offset: int, max_bytes: int) -> int:
    """The offset after the rest of the line, or `LONGEST_LINE` further on."""
    end = offset + LONGEST_LINE
    while offset < end and (block := file.read(max_bytes)):
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline + 1
        offset += len(block)
    return offset


def size_of(path: Path) -> int:
    """Bytes in the file; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, max_bytes: int) -> str:
    """The last whole lines of a file that fit into *max_bytes*, for people to read."""
    try:
        with path.open("rb") as file:
            start = max(file.seek(0, os.SEEK_END) - max_bytes, 0)
            file.seek(start)
            text = file.read(max_bytes)
    except FileNotFoundError:
        return ""
    if start and b"\n" in text[:-1]:
        text = text[text.index(b"\n") + 1 :]
    return text.decode(errors="replace")


class Growth(Protocol):
    """Tells when the files of one directory, or one file, grow."""

    async def wait(self) -> None:
        """Return when a file was written, created or removed since the last return, or `watch`.

        Changes are gathered: it returns at most once in `PAUSE_S`, and none is lost.
        """
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


PAUSE_S = 0.1  #: agents print much; nobody needs to read more often
POLL_S = 0.5  #: how often is looked where the kernel does not tell


class PolledGrowth:
    """Looks at the files, or at the one file, now and then."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._seen = self._look()

    def _look(self) -> frozenset[tuple[str, int, int]]:
        with suppress(FileNotFoundError):
            paths = self._place.iterdir() if self._place.is_dir() else (self._place,)
            stats = ((path.name, path.stat()) for path in paths)
            return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
        return frozenset()

    async def wait(self) -> None:
        while (found := self._look()) == self._seen:  # noqa: ASYNC110  (nobody notifies us)
            await anyio.sleep(POLL_S)
        self._seen = found

    def close(self) -> None:
        """Nothing to give back."""


class NotifiedGrowth:
    """Is rung by the watcher."""

    def __init__(self, watcher: "Watcher", watch: int) -> None:
        self._watcher = watcher
        self._watch = watch
        self._changed = anyio.Event()
        self._not_before = 0.0

    def ring(self) -> None:
        self._changed.set()

    async def wait(self) -> None:
        await anyio.sleep_until(self._not_before)
        await self._changed.wait()
        self._changed = anyio.Event()  # before the caller reads: what comes now rings again
        self._not_before = anyio.current_time() + PAUSE_S

    def close(self) -> None:
        self._watcher.forget(self, self._watch)


# From sys/inotify.h; see inotify(7).
IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
LISTEN_PAUSE_S = 0.02  #: between two looks at a busy inotify; the kernel gathers meanwhile


class Watcher:
    """Tells of growth in any number of directories and files, at no cost while nothing happens.

    One inotify for all on Linux; polling elsewhere and for what the kernel refuses (it allows a
    user 128 inotifies and some 10,000 watches). Needs asyncio.
    """

    def __init__(self) -> None:
        self._inotify = -1
        self._growths: dict[int, list[NotifiedGrowth]] = {}
        self._resume: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._resume:
            self._resume.cancel()
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def watch(self, place: Path) -> Growth:
        """Watch the files in a directory, or one file, from now on; close the result after use."""
        if self._inotify < 0:
            return PolledGrowth(place)
        mask = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
        watch: int = self._libc.inotify_add_watch(self._inotify, os.fsencode(place), mask)
        if watch < 0:
            return PolledGrowth(place)
        growth = NotifiedGrowth(self, watch)
        self._growths.setdefault(watch, []).append(growth)
        return growth

    def forget(self, growth: NotifiedGrowth, watch: int) -> None:
        """Ring *growth* no more."""
        others = [other for other in self._growths.pop(watch, []) if other is not growth]
        if others:
            self._growths[watch] = others
        elif self._inotify >= 0:
            self._libc.inotify_rm_watch(self._inotify, watch)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._inotify, self._read)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        told = set(_watches(os.read(self._inotify, 64 * 1024)))
        # The kernel tells of lost events, when there were too many, as watch -1.
        for watch in self._growths if -1 in told else told:
            for growth in self._growths.get(watch, ()):
                growth.ring()
        loop.remove_reader(self._inotify)
        self._resume = loop.call_later(LISTEN_PAUSE_S, self._listen)


def _watches(events: bytes) -> Iterator[int]:
    """The watch of each inotify event."""
    position = 0
    while position < len(events):
        watch, _, _, length = EVENT.unpack_from(events, position)
        yield watch
        position += EVENT.size + length
