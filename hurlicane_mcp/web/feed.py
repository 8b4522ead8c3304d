"""The routes of the feed, and the snapshot that a reader of it begins with."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field
from sse_starlette.event import ServerSentEvent
from starlette.responses import Response

from hurlicane_mcp.engine.feed import PAGE, EventPage, EventView, Feed, Filter
from hurlicane_mcp.engine.snapshot import Snapshot, Snapshots
from hurlicane_mcp.web.jobs import Count
from hurlicane_mcp.web.operations import (
    EVENT_STREAM,
    Call,
    Input,
    Nothing,
    Operation,
    Operations,
)
from hurlicane_mcp.web.streams import event_stream, resumed_at, stream_event


class FilterQuery(Input):
    """Which events; all if nothing is named."""

    job: tuple[str, ...] = Field((), description="Only events of these jobs")
    kind: tuple[str, ...] = Field((), description="Only these kinds; `job.*` for all below job")

    @property
    def filter(self) -> Filter:
        """The same for the engine."""
        return Filter(self.job, self.kind)


class FollowQuery(FilterQuery):
    """Where to begin: after this event, or now. A Last-Event-ID header comes before it."""

    after: Count | None = None


class EventQuery(FilterQuery):
    """Which page of the past."""

    after: Count = 0
    limit: int = Field(PAGE, ge=1, le=PAGE)


class FeedRoutes:
    """Events over HTTP, past and coming."""

    def __init__(self, feed: Feed, snapshots: Snapshots) -> None:
        self._feed = feed
        self._snapshots = snapshots

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        none, stream = Nothing, (EVENT_STREAM,)
        return (
            Operation("GET", "/events", self.follow, FollowQuery, none, EventView, stream),
            Operation("GET", "/api/events", self.page, EventQuery, none, EventPage),
            Operation("GET", "/api/snapshot", self.snapshot, none, none, Snapshot),
        )

    async def follow(self, call: Call[FollowQuery, Nothing]) -> Response:
        """The feed: every event as it happens. The id of each is its seq, for Last-Event-ID."""
        after = resumed_at(call.request)
        if after is None:
            after = call.query.after
        if after is None:
            after = await self._feed.end()
        return event_stream(self._stream(after, call.query.filter))

    async def page(self, call: Call[EventQuery, Nothing]) -> EventPage:
        """Events that have happened, oldest first; `next` is the `after` of the next page."""
        return await self._feed.page(call.query.after, call.query.filter, call.query.limit)

    async def snapshot(self, _call: Call[Nothing, Nothing]) -> Snapshot:
        """The state after event `as_of`; /events?after=… from there keeps it true."""
        return await self._snapshots.take()

    async def _stream(self, after: int, wanted: Filter) -> AsyncGenerator[ServerSentEvent, None]:
        async with aclosing(self._feed.follow(after, wanted)) as pages:
            async for events in pages:
                for event in events:
                    yield stream_event(event.seq, event.kind, event)
