"""One stateless endpoint: quick tools answer as JSON, blocking ones as a stream.

The SDK answers about three times as many calls a second in JSON mode, but only a stream can carry
progress and notices at once that its client has gone (both measured 2026-11-24).
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hurlicane_mcp.engine.access import CALLER_KEY, OVER_KEY, Caller, Role
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.mcp_server.server import BLOCKING, FINISH
from hurlicane_mcp.store.bell import Bell

MAX_BODY = 4 * 1024 * 1024
#: How long a blocking call has to answer once the server stops.
LAST_WORDS = timedelta(seconds=1)
_LISTEN = "subscriptions/listen"
#: Nothing rings this but the end of the bell.
_CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class _Modes:
    """The same server in both ways of answering."""

    quick: StreamableHTTPSessionManager
    stream: StreamableHTTPSessionManager


class McpEndpoint:
    """The ASGI app behind `/mcp`. The guard in front has put the caller into the scope."""

    def __init__(
        self, servers: Mapping[Role, MCPServer[Any]], attendance: Attendance, bell: Bell
    ) -> None:
        self._attendance = attendance
        self._bell = bell
        self._modes = {role: _modes(server) for role, server in servers.items()}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve requests as long as the context lasts."""
        async with AsyncExitStack() as stack:
            for modes in self._modes.values():
                await stack.enter_async_context(modes.quick.run())
                await stack.enter_async_context(modes.stream.run())
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.method != "POST":
            # A stateless endpoint has no stream to listen on: without this, GET would hang.
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        caller: Caller = scope[CALLER_KEY]
        if caller.is_agent:
            with self._attendance.request(caller.attempt_id):
                await self._serve(self._modes[Role.AGENT], request, receive, send)
        else:
            await self._serve(self._modes[Role.OPERATOR], request, receive, send)

    async def _serve(self, modes: _Modes, request: Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        if "text/event-stream" not in request.headers.get("accept", ""):
            app: ASGIApp = modes.quick.handle_request
        elif "mcp-method" in request.headers:
            method, name = request.headers["mcp-method"], request.headers.get("mcp-name", "")
            app = _app(modes, method, name, scope[CALLER_KEY])
        else:
            body = await _body(receive)
            if body is None:
                await _too_large()(scope, receive, send)
                return
            receive = _replay(body, receive)
            app = _app(modes, *_method_and_name(body), scope[CALLER_KEY])
        if app == modes.stream.handle_request:
            await self._until_closed(app, scope, receive, send)
        else:
            await _answer(app, scope, receive, send)

    async def _until_closed(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream, ended in order when the server stops: one that only listens never ends.

        Blocking calls end by themselves then; they get `LAST_WORDS` for it.
        """
        started = ended = False
        failure: Exception | None = None

        async def watched(message: Message) -> None:
            nonlocal started, ended
            started = started or message["type"] == "http.response.start"
            is_body = message["type"] == "http.response.body"
            ended = ended or (is_body and not message.get("more_body"))
            await send(message)

        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                with self._bell.listen([_CLOSING]) as ear:
                    while not self._bell.closed:
                        await ear.heard()
                await anyio.sleep(LAST_WORDS.total_seconds())
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                await _answer(app, scope, receive, watched)
            except Exception as error:  # out of a task group it would come inside another one
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if started and not ended:
            await send({"type": "http.response.body", "body": b""})


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let *app* answer; then call what it left under `OVER_KEY`, with whether that was heard.

    A server's `send` says nothing when the client has gone, so it is asked just before the end.
    """
    heard = False

    async def watched(message: Message) -> None:
        nonlocal heard
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last and scope.get(OVER_KEY):
            heard = not await Request(scope, receive).is_disconnected()
        await send(message)

    try:
        await app(scope, receive, watched)
    finally:
        for action in scope.get(OVER_KEY, ()):
            action(heard)


def _modes(server: MCPServer[Any]) -> _Modes:
    lowlevel = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    return _Modes(
        quick=StreamableHTTPSessionManager(lowlevel, json_response=True, stateless=True),
        stream=StreamableHTTPSessionManager(lowlevel, json_response=False, stateless=True),
    )


def _app(modes: _Modes, method: str, name: str, caller: Caller) -> ASGIApp:
    is_long = name in BLOCKING or (name == FINISH and caller.is_checked)
    blocks = method == _LISTEN or (method == "tools/call" and is_long)
    return modes.stream.handle_request if blocks else modes.quick.handle_request


def _method_and_name(body: bytes) -> tuple[str, str]:
    """What a legacy request calls; empty words for anything that is not such a request."""
    try:
        message = json.loads(body)
        return str(message["method"]), str(message.get("params", {}).get("name", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", ""  # the SDK will say what is wrong with it


async def _body(receive: Receive) -> bytes | None:
    """The whole request body, or None if it is longer than `MAX_BODY`."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives *body* once and then what the connection goes on to say."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _too_large() -> Response:
    message = f"A request may have {MAX_BODY:,} bytes."
    return JSONResponse({"error": "too_large", "message": message}, status_code=413)
