"""Server-sent events: an id to resume at, a name, and JSON."""

from collections.abc import AsyncGenerator

from pydantic import BaseModel
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request

from hurlicane_mcp.errors import Invalid

#: Seconds between two comments on a silent stream, which keep proxies from closing it.
PING_S = 15


def event_stream(content: AsyncGenerator[ServerSentEvent, None]) -> EventSourceResponse:
    """The response that sends *content* as it comes."""
    return EventSourceResponse(content, ping=PING_S, sep="\n")


def stream_event(id_: int, event: str, data: BaseModel) -> ServerSentEvent:
    """One event, without the empty fields of *data*."""
    text = data.model_dump_json(exclude_none=True)
    return ServerSentEvent(text, id=str(id_), event=event, sep="\n")


def resumed_at(request: Request) -> int | None:
    """Where a client that had been connected before wants to go on.

    Raises:
        Invalid: its `Last-Event-ID` is none of ours.
    """
    given = request.headers.get("last-event-id")
    if given is None:
        return None
    if not (given.isdecimal() and len(given) <= 18):
        raise Invalid(f"`Last-Event-ID` must be the id of an event, not {given[:40]!r}.")
    return int(given)
