"""What an attempt printed, for people: in pages, live, or as it is. Tokens are masked."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.engine.views import View
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.ids import attempt_id
from hurlicane_mcp.providers.base import (
    Denied,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Provider,
    Reading,
    SessionSeen,
    Stopped,
    ToolSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import QUEUE
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.transcript import Watcher, read_chunk

#: Bytes of output behind a page; a longer line makes a page of its own.
PAGE_BYTES = 64 * 1024
#: Characters of one entry. `raw` has the rest.
TEXT_CUT = 16 * 1024

_TOKEN = re.compile(rb"(hc[ao]_)[A-Za-z0-9_-]{20,}")
# As long as the shortest token and one itself: masking what is masked changes nothing, and a token
# that goes on behind its mask is swallowed by it.
_MASK = rb"\1masked-masked-masked"
_MASK_LENGTH = len(b"hca_masked-masked-masked")

Kind = Literal["session", "model", "message", "tool", "warning", "error", "output"]


class Entry(View):
    """One thing that happened. `output` is a line that the provider does not know."""

    kind: Kind
    text: str
    tool: str | None = None
    finished: bool | None = None  #: of a tool call
    is_error: bool | None = None
    cut: bool | None = None  #: the text was longer


class TranscriptPage(View):
    """Some entries and the `offset` of the next page. Read on until `ended`."""

    attempt: int
    entries: list[Entry]
    offset: int
    ended: bool


class Transcripts:
    """Reads the output of attempts."""

    def __init__(self, db: Database, providers: Providers, watcher: Watcher) -> None:
        self._db = db
        self._providers = providers
        self._watcher = watcher

    async def page(self, job_id: str, number: int | None, offset: int) -> TranscriptPage:
        """The entries of the lines at byte *offset* of attempt *number* (None: the last one).

        Raises:
            NotFound: no such job or attempt.
        """
        return await self._page(await self._attempt(job_id, number), offset)

    async def follow(
        self, job_id: str, number: int | None, offset: int
    ) -> AsyncGenerator[TranscriptPage, None]:
        """The pages from *offset* on as they are printed; the last one says `ended`.

        Without such a page the server is stopping: follow again from the last page's offset.

        Raises:
            NotFound: no such job or attempt; before the first page.
        """
        return self._follow(await self._attempt(job_id, number), offset)

    async def raw(self, job_id: str, number: int | None) -> AsyncGenerator[bytes, None]:
        """What the attempt has printed until now, in pieces.

        Raises:
            NotFound: no such job or attempt; before the first piece.
        """
        attempt = await self._attempt(job_id, number)
        return _masked(Path(attempt.run_dir, "stdout"))

    async def _follow(
        self, attempt: AttemptRow, offset: int
    ) -> AsyncGenerator[TranscriptPage, None]:
        with (
            closing(self._watcher.watch(Path(attempt.run_dir))) as growth,
            self._db.bell.listen([QUEUE]) as ear,  # it rings when an attempt has ended
        ):
            while not self._db.bell.closed:
                page = await self._page(await self._attempt(attempt.job_id, attempt.number), offset)
                if page.entries or page.ended:
                    yield page
                if page.ended:
                    return
                if page.offset == offset:
                    await _first_of(growth.wait, ear.heard)
                offset = page.offset

    async def _attempt(self, job_id: str, number: int | None) -> AttemptRow:
        def query(session: Session) -> AttemptRow:
            last = jobs.get(session, job_id).attempt
            if last == 0:
                raise NotFound("attempt", attempt_id(job_id, 1), hint="The job has not started.")
            return attempts.get(session, attempt_id(job_id, number or last))

        return await self._db.read(query)

    async def _page(self, attempt: AttemptRow, offset: int) -> TranscriptPage:
        provider = self._providers.get(attempt.provider)
        path, final = Path(attempt.run_dir, "stdout"), attempt.ended_at is not None

        def read() -> TranscriptPage:
            chunk = read_chunk(path, offset, final=final, max_bytes=PAGE_BYTES)
            return TranscriptPage(
                attempt=attempt.number,
                entries=[entry for line in chunk.lines for entry in _entries(provider, line)],
                offset=chunk.offset,
                ended=final and chunk.offset == offset,
            )

        return await anyio.to_thread.run_sync(read)


def _entries(provider: Provider, line: bytes) -> Sequence[Entry]:
    """What a line says to people; nothing for one that only books figures."""
    # Masked before it is parsed: providers cut texts, and half a token is still half a secret.
    line = _TOKEN.sub(_MASK, line)
    readings = provider.parse_line(line)
    if not readings and line.strip():
        return [_entry("output", line.decode(errors="replace"))]
    return [entry for reading in readings if (entry := _entry_of(reading)) is not None]


def _entry_of(reading: Reading) -> Entry | None:
    match reading:
        case SessionSeen(session_id):
            return _entry("session", session_id)
        case ModelSeen(model):
            return _entry("model", model)
        case MessageSeen(text):
            return _entry("message", text)
        case WarningSeen(text):
            return _entry("warning", text)
        case Denied(text):
            return _entry("warning", f"Permission denied: {text}")
        case Stopped(mode):
            return _entry("warning", f"The agent's CLI has ended it: its {mode} are used up.")
        case ErrorSeen(text):
            return _entry("error", text)
        case ToolSeen(name, detail, finished, is_error):
            return Entry(
                kind="tool", text=detail, tool=name, finished=finished, is_error=is_error or None
            )
        case _:
            return None


def _entry(kind: Kind, text: str) -> Entry:
    return Entry(kind=kind, text=text[:TEXT_CUT], cut=len(text) > TEXT_CUT or None)


async def _masked(path: Path) -> AsyncGenerator[bytes, None]:
    """The file with its tokens masked, also those that lie across two pieces."""
    offset, held = 0, b""
    while piece := await anyio.to_thread.run_sync(_piece, path, offset):
        offset += len(piece)
        masked = _TOKEN.sub(_MASK, held + piece)
        held = masked[-_MASK_LENGTH:]
        yield masked[:-_MASK_LENGTH]
    yield held


def _piece(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(PAGE_BYTES)
    except FileNotFoundError:
        return b""


async def _first_of(*waits: Callable[[], Awaitable[None]]) -> None:
    """Return when the first of *waits* does; the others are cancelled."""
    async with anyio.create_task_group() as tasks:

        async def one(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(one, wait)
