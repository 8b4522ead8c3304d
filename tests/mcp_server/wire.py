"""Requests to the endpoint and its answers, as they go over the wire."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.types import Message, Scope

from hurlicane_mcp.engine.access import CALLER_KEY, Caller, Role
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store.database import Database
from tests.factories import running


@dataclass
class Answer:
    """A response as it left the endpoint."""

    status: int
    content_type: str
    body: bytes

    @property
    def result(self) -> Any:
        """The result of the JSON-RPC answer, from JSON or from an event stream."""
        text = self.body.decode()
        if self.content_type == "text/event-stream":
            data = [line[5:] for line in text.splitlines() if line.startswith("data:")]
            text = data[-1]
        return json.loads(text)["result"]


async def post(
    endpoint: McpEndpoint,
    caller: Caller,
    body: bytes | None,
    *,
    method: str = "POST",
    is_gone: Callable[[], bool] = lambda: False,
    more_headers: Mapping[bytes, bytes] | None = None,
) -> Answer:
    """The endpoint's answer to a client that is or is not there any more when it comes.

    Without a *body* the client has left before it sent one.
    """
    headers = {
        b"host": b"127.0.0.1",
        b"content-type": b"application/json",
        b"accept": b"application/json, text/event-stream",
        **(more_headers or {}),
    }
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": "/mcp",
        "query_string": b"",
        "headers": list(headers.items()),
        CALLER_KEY: caller,
    }
    whole = {"type": "http.request", "body": body, "more_body": False}
    incoming = [whole] if body is not None else []
    outgoing: list[Message] = []

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        while not is_gone():  # noqa: ASYNC110  (the test decides by whatever it can see)
            await anyio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        outgoing.append(message)

    with anyio.fail_after(20):
        await endpoint(scope, receive, send)
    found = {name.lower(): value for name, value in outgoing[0]["headers"]}
    content_type = found.get(b"content-type", b"").decode().partition(";")[0]
    answered = b"".join(message.get("body", b"") for message in outgoing[1:])
    return Answer(outgoing[0]["status"], content_type, answered)


def rpc(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def call(tool: str, **arguments: Any) -> bytes:
    return rpc("tools/call", name=tool, arguments=arguments)


async def an_agent(db: Database) -> Caller:
    job, attempt = await db.write(running)
    return Caller(Role.AGENT, job.id, attempt.id)
