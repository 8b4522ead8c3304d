"""Reads what agents print into the store: each line counts once, whenever this process dies."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import anyio.to_thread

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.side_channel import SideReader
from hurlicane_mcp.errors import StoreUnavailable
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    ErrorCleared,
    Provider,
    Reading,
    Refused,
    SessionSeen,
    SessionUsage,
    WarningSeen,
)
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.transcript import BLOCK, Watcher, read_chunk, size_of, tail

log = logging.getLogger(__name__)

#: Until what could not be stored is read again.
LATER = timedelta(seconds=1)
#: An answer that is being streamed comes in hundreds of pieces that say nothing; all of them
#: together are noted this often, as a sign of life.
PIECES = timedelta(seconds=2)
#: So much of the standard error is looked at for what a CLI says of a refusal.
COMPLAINTS = 4000
#: What became of output before it was read.
LOST = MappingProxyType(
    {
        "deleted": "The file of its output was deleted: what it prints from now on is not seen.",
        "cut": "The file of its output was cut: what was not read before is lost.",
    }
)


class Reader:
    """Follows the output of attempts."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        watcher: Watcher,
        presences: Presences,
        booking: Booking,
        side: SideReader,
    ) -> None:
        self._db = db
        self._book = booking.book
        self._clock = clock
        self._watcher = watcher
        self._presences = presences
        self._side = side

    async def read_on(self, attempt_id: str, run_dir: Path, provider: Provider) -> None:
        """Book each line soon after it is printed, until cancelled."""
        with closing(self._watcher.watch(run_dir)) as growth:
            while True:
                try:
                    while await self._read_some(attempt_id, run_dir, provider):
                        pass
                except StoreUnavailable as error:
                    log.warning("the output is read later: %s", error)
                    await self._clock.sleep(LATER)
                    continue
                except Exception:  # top-level handler: bad output must not end the supervision
                    log.exception("the transcript could not be read")
                await growth.wait()

    async def read_rest(
        self, attempt_id: str, run_dir: Path, provider: Provider, *, is_flood: bool
    ) -> None:
        """Book what is left once nobody prints any more; of a flood only its end."""
        if is_flood:
            end = await anyio.to_thread.run_sync(size_of, run_dir / "stdout") - BLOCK
            attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
            if end > attempt.offset:
                await self._db.write(
                    lambda session: attempts.write(session, attempt_id, offset=end)
                )
        while await self._read_some(attempt_id, run_dir, provider, final=True):
            pass
        attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))
        await self._side.catch_up(attempt_id, provider, attempt.session_id)

    async def _read_some(
        self, attempt_id: str, run_dir: Path, provider: Provider, *, final: bool = False
    ) -> bool:
        """Book the next whole lines of the output; whether there were any."""
        attempt = await self._db.read(lambda session: attempts.get(session, attempt_id))

        def read() -> tuple[int, Sequence[Reading]]:
            """Off the event loop: a line may be ten megabytes of JSON."""
            chunk = read_chunk(run_dir / "stdout", attempt.offset, final=final)
            if chunk.lost:
                return chunk.offset, [WarningSeen(LOST[chunk.lost])]
            parsed = (provider.parse_line(line) for line in chunk.lines)
            readings = (reading for readings in parsed for reading in readings)
            return chunk.offset, [_with_wait(one, provider, run_dir) for one in readings]

        offset, readings = await anyio.to_thread.run_sync(read)
        if offset == attempt.offset:
            return False
        now, is_calling = self._clock.now(), self._presences.is_calling(attempt_id)
        if not final and _can_wait(attempt, readings, offset, now):
            return False
        if any(isinstance(reading, SessionUsage | Refused) for reading in readings):
            # The turn has ended: first what its requests have used.
            session_id = _session_in(readings) or attempt.session_id
            await self._side.catch_up(attempt_id, provider, session_id)
        await self._db.write(
            lambda session: self._book(
                session, attempt_id, readings, offset, now, is_calling=is_calling
            )
        )
        if any(isinstance(reading, ConnectionLost) for reading in readings):
            self._presences.expect_return(attempt_id)
        return True


def _session_in(readings: Sequence[Reading]) -> str | None:
    return next((one.session_id for one in readings if isinstance(one, SessionSeen)), None)


def _with_wait(reading: Reading, provider: Provider, run_dir: Path) -> Reading:
    """A refusal, with the wait that its CLI tells elsewhere."""
    if not isinstance(reading, Refused) or reading.refusal.is_final:
        return reading
    refusal = reading.refusal
    if refusal.cli_waits is not None:
        return reading
    wait = provider.announced_wait(refusal, tail(run_dir / "stderr", COMPLAINTS))
    return Refused(replace(refusal, cli_waits=wait))


def _can_wait(attempt: AttemptRow, readings: Sequence[Reading], offset: int, now: datetime) -> bool:
    """Whether these lines only say that an answer goes on: they may be read once more, with what
    comes after them, instead of being stored by themselves."""
    if attempt.output_at is None or now - attempt.output_at >= PIECES:
        return False
    is_troubled = attempt.refused_at is not None or attempt.provider_error is not None
    says_nothing = all(isinstance(reading, ErrorCleared) for reading in readings)
    return says_nothing and not is_troubled and offset - attempt.offset < BLOCK // 2
