"""The routes of what agents print."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field
from sse_starlette.event import ServerSentEvent
from starlette.responses import Response, StreamingResponse

from hurlicane_mcp.engine.transcripts import TranscriptPage, Transcripts
from hurlicane_mcp.web.jobs import Count
from hurlicane_mcp.web.operations import (
    EVENT_STREAM,
    JSON,
    Call,
    Input,
    Nothing,
    Operation,
    Operations,
)
from hurlicane_mcp.web.streams import event_stream, resumed_at, stream_event

TEXT = "text/plain"


class AttemptQuery(Input):
    """Which attempt; the last one if none is named."""

    attempt: int | None = Field(None, ge=1)


class TranscriptQuery(AttemptQuery):
    """Where to begin, in bytes of the output."""

    offset: Count = 0


class TranscriptRoutes:
    """Transcripts over HTTP."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        transcript = "/api/jobs/{job_id}/transcript"
        return (
            Operation(
                "GET",
                transcript,
                self.page,
                TranscriptQuery,
                Nothing,
                TranscriptPage,
                (JSON, EVENT_STREAM),
            ),
            Operation("GET", f"{transcript}/raw", self.raw, AttemptQuery, Nothing, None, (TEXT,)),
        )

    async def page(self, call: Call[TranscriptQuery, Nothing]) -> TranscriptPage | Response:
        """A page of the transcript, or, as an event stream, all pages until the attempt ends."""
        job_id, query = call.path("job_id"), call.query
        if EVENT_STREAM not in call.request.headers.get("accept", ""):
            return await self._transcripts.page(job_id, query.attempt, query.offset)
        resumed = resumed_at(call.request)
        offset = query.offset if resumed is None else resumed
        pages = await self._transcripts.follow(job_id, query.attempt, offset)
        return event_stream(_stream(pages))

    async def raw(self, call: Call[AttemptQuery, Nothing]) -> Response:
        """What the agent printed, as it is but for tokens."""
        pieces = await self._transcripts.raw(call.path("job_id"), call.query.attempt)
        return StreamingResponse(pieces, media_type=TEXT)


async def _stream(
    pages: AsyncGenerator[TranscriptPage, None],
) -> AsyncGenerator[ServerSentEvent, None]:
    async with aclosing(pages):
        async for page in pages:
            yield stream_event(page.offset, "page", page)
