"""The feed: events as they happened, from any point on, each exactly once."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.engine.views import View
from hurlicane_mcp.store import events
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow

PAGE = 500


class EventView(View):
    """A change that happened. `seq` grows in the order of the commits."""

    seq: int
    at: datetime
    kind: str
    job_id: str | None = None
    attempt: int | None = None
    data: dict[str, Any]

    @staticmethod
    def of(row: EventRow) -> "EventView":
        return EventView.model_validate(row.model_dump())


class EventPage(View):
    """Some events, oldest first, and the `after` of the next page."""

    events: list[EventView]
    next: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events; empty means all. A kind that ends with `*` stands for all that begin so."""

    job_ids: Sequence[str] = ()
    kinds: Sequence[str] = ()


class Feed:
    """Reads the outbox for those who follow."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def end(self) -> int:
        """The number of the newest event: whoever follows from here misses only the past."""
        return await self._db.read(events.last_seq)

    async def page(self, after: int, wanted: Filter, limit: int = PAGE) -> EventPage:
        """Up to *limit* of the *wanted* events that are later than *after*."""

        def query(session: Session) -> EventPage:
            # Read before the page, so that the page covers everything up to here.
            last = events.last_seq(session)
            rows = events.after(
                session, after, limit=limit, job_ids=wanted.job_ids, kinds=wanted.kinds
            )
            reached = rows[-1].seq if rows else after
            if len(rows) < limit:
                reached = max(reached, last)
            return EventPage(events=[EventView.of(row) for row in rows], next=reached)

        return await self._db.read(query)

    async def follow(self, after: int, wanted: Filter) -> AsyncGenerator[Sequence[EventView], None]:
        """The *wanted* events later than *after* for ever; ends when the server stops."""
        # The ear comes first: what is written after a reading rings it.
        with self._db.bell.listen([events.ANY]) as ear:
            while not self._db.bell.closed:
                page = await self.page(after, wanted)
                after = page.next
                if page.events:
                    yield page.events
                if len(page.events) < PAGE:
                    await ear.heard()
