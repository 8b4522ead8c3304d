"""Refusals that an agent's CLI waits out by itself: looked at until they end or take too long.

Codex obeys a Retry-After of an hour and may not say so (measured 2026-11-24), and on a terminal
there is no stream at all: nothing would ever tell that the agent waits.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.providers.base import ErrorCleared, Reading, Refused
from hurlicane_mcp.store import attempts, cooldowns
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow

#: What the terminal of the agent in this run directory shows now; None if it has none.
Screen = Callable[[Path], Awaitable[str | None]]
#: How often terminals are looked at.
LOOK = timedelta(seconds=4)
#: After an announced wait the model gets this long to begin its answer.
ANSWER = timedelta(seconds=10)


class RefusalWatch:
    """Goes on with another model when a CLI's own patience lasts longer than ours."""

    def __init__(self, db: Database, clock: Clock, booking: Booking, screen: Screen) -> None:
        self._db = db
        self._clock = clock
        self._booking = booking
        self._screen = screen
        self._looked = -LOOK.total_seconds()

    async def look(self) -> None:
        """Look once at every agent whose model refuses, and at every terminal."""
        refused, probes = await self._db.read(lambda s: (attempts.refused(s), _answered_probes(s)))
        answered, now = self._booking.ledger.answered, self._clock.now()
        for row in probes:
            await self._db.write(lambda session, one=row: answered(session, one, now))
        for row in refused:
            await self._db.write(lambda session, one=row.id: self._judge(session, one))
        if self._clock.monotonic() - self._looked < LOOK.total_seconds():
            return
        self._looked = self._clock.monotonic()
        for row in await self._db.read(attempts.on_terminals):
            await self._read_screen(row)

    def _judge(self, session: Session, attempt_id: str) -> None:
        row = attempts.get(session, attempt_id)
        if row.state == AttemptState.SETTLED or row.refused_at is None or row.refusal is None:
            return
        said: Mapping[str, Any] = row.refusal
        waits_until = said.get("waits_until")
        if waits_until and self._clock.now() < datetime.fromisoformat(waits_until) + ANSWER:
            return  # an announced wait that was left to it, and some time for an answer
        refusal = Refusal(FailureKind(said["kind"]), said["text"], is_final=said["is_final"])
        self._booking.ledger.refused(session, row, refusal, self._clock.now())

    async def _read_screen(self, row: AttemptRow) -> None:
        shown = await self._screen(Path(row.run_dir))
        if shown is None:
            return
        refusal = self._booking.providers.get(row.provider).read_screen(shown)
        if refusal is None and row.refused_at is None:
            return
        reading: Reading = ErrorCleared() if refusal is None else Refused(refusal)
        if refusal is not None and row.refusal and row.refusal.get("text") == refusal.text:
            return
        now: datetime = self._clock.now()
        await self._db.write(
            lambda session: self._booking.book(session, row.id, [reading], row.offset, now)
        )


def _answered_probes(session: Session) -> Sequence[AttemptRow]:
    """The probes whose agents have called us, so that their models answer: on a terminal nothing
    else tells."""
    names = {entry.probe for entry in cooldowns.ledger(session).values() if entry.probe}
    probes = [row for row in attempts.unsettled(session) if row.id in names] if names else []
    return [row for row in probes if row.called_at is not None]
