"""What the two scripted model endpoints have in common: asking the script, and the record."""

import json
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tests.real_clis.loopback import serving
from tests.real_clis.model_script import Conversation, HttpError, Move, Script


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request of a CLI for the model's next move, and what it got."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]
    conversation: Conversation
    move: Move
    asked_at: float  #: by the monotonic clock
    answered_at: float


class ScriptedModel:
    """A model that follows a script, and the record of all that it was asked.

    The script runs in a worker thread, so it may wait for something that the test does meanwhile.
    """

    def __init__(self, script: Script) -> None:
        self.url = ""  #: the endpoint's address, without a path
        self.requests: list[ModelRequest] = []
        self.other_requests: list[str] = []  #: whatever else was asked for, as "METHOD /path"
        self.failures: list[Exception] = []
        self._script = script

    async def next_move(
        self, request: Request, body: Mapping[str, Any], conversation: Conversation
    ) -> Move:
        """The script's answer. A script that fails answers 400, which soon ends the CLI."""
        asked_at = time.monotonic()
        conversation = replace(conversation, refusals=self._refusals_of(conversation))
        move = await run_in_threadpool(self._ask, conversation)
        headers, answered_at = dict(request.headers), time.monotonic()
        self.requests.append(ModelRequest(headers, body, conversation, move, asked_at, answered_at))
        return move

    async def answer_anything(self, request: Request) -> Response:
        """An empty object for what is no question to the model."""
        self.other_requests.append(f"{request.method} {request.url.path}")
        return JSONResponse({})

    def roles(self) -> list[str | None]:
        """Who asked, in the order of the requests."""
        return [request.conversation.role for request in self.requests]

    def _refusals_of(self, conversation: Conversation) -> int:
        # Not by equal turns: Claude Code rewords its own context between retries (2.1.330 sends a
        # request that got 400 up to six times, each with another beta feature left out).
        return sum(
            isinstance(earlier.move, HttpError)
            and earlier.conversation.model == conversation.model
            and earlier.conversation.prompt == conversation.prompt
            and earlier.conversation.moves == conversation.moves
            for earlier in self.requests
        )

    def _ask(self, conversation: Conversation) -> Move:
        try:
            return self._script(conversation)
        except Exception as failure:
            self.failures.append(failure)
            error = {"type": "invalid_request_error", "message": f"script failed: {failure!r}"}
            return HttpError(400, body={"type": "error", "error": error})


@contextmanager
def serving_model(
    script: Script, routes: Callable[[ScriptedModel], Sequence[BaseRoute]]
) -> Generator[ScriptedModel]:
    """A model at a loopback port of its own; every path beside *routes* is answered kindly.

    Raises:
        ExceptionGroup: at the end, with all that went wrong in the script.
    """
    model = ScriptedModel(script)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    anything = Route("/{path:path}", model.answer_anything, methods=methods)
    with serving(Starlette(routes=[*routes(model), anything])) as model.url:
        try:
            yield model
        finally:
            if model.failures:
                raise ExceptionGroup("the model's script failed", model.failures)


def refusal(error: HttpError) -> Response:
    """The HTTP answer that *error* describes."""
    return JSONResponse(dict(error.body), error.status, dict(error.headers))


def event_stream(events: Sequence[Mapping[str, Any]]) -> Response:
    """Server-sent events, each named by its own `type`."""
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return Response("".join(lines), media_type="text/event-stream")


def new_id(prefix: str) -> str:
    """An id as the vendors make them: a prefix and random characters."""
    return prefix + uuid.uuid4().hex[:24]
