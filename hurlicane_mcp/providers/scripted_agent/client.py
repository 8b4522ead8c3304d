"""The agent's side of MCP: one connection, opened at the first call and kept for all others."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from hurlicane_mcp.providers.outage import CUT_OFF, NOT_CONNECTED
from hurlicane_mcp.providers.scripted_agent.vocabulary import Mode

if TYPE_CHECKING:
    # Importing the SDK takes a second, which only an agent that calls a tool should pay.
    from mcp import Client
    from mcp.types import CallToolResult

CODE = re.compile(r"(?:Error executing tool \S+: )?([a-z][a-z0-9_]*): ")
CONNECT_LIMIT_S = 10.0


class Progress(Protocol):
    """Told of each progress notification."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the MCP server is, and how to speak to it."""

    url: str
    token: str = field(repr=False)
    mode: Mode
    call_limit: timedelta


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered, or why it did not."""

    is_error: bool
    text: str
    data: object  #: the structured result; for an error `{error, code}`
    is_lost: bool = False  #: the server could not be reached, or has not answered

    @staticmethod
    def failed(text: str, *, is_lost: bool = False) -> "Answer":
        """An answer that is an error."""
        found = CODE.match(text)
        return Answer(True, text, {"error": text, "code": found[1] if found else ""}, is_lost)

    @property
    def code(self) -> str:
        """The stable code at the head of an error's text; empty if it has none."""
        found = CODE.match(self.text) if self.is_error else None
        return found[1] if found else ""


class Connection:
    """A connection to the MCP server. A call never raises: an error is an answer too."""

    def __init__(self, endpoint: Endpoint, tasks: TaskGroup) -> None:
        """The connection lives in a task of *tasks*, whoever calls first."""
        self._endpoint = endpoint
        self._tasks = tasks
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._client: Client | None = None

    async def call(self, tool: str, args: Mapping[str, object], progress: Progress) -> Answer:
        """Call *tool* and return its answer."""
        if self._closing.is_set() or not self._endpoint.url:
            return Answer.failed(NOT_CONNECTED, is_lost=True)
        try:
            client = await self._opened()
        except Exception:  # whatever the SDK, HTTP and sockets raise, it means the same
            return Answer.failed(NOT_CONNECTED, is_lost=True)
        try:
            result = await client.call_tool(tool, dict(args), progress_callback=progress)
        except Exception as error:  # as above
            return self._unanswered(client, error)
        return _answer(result)

    def close(self) -> None:
        """Close the connection for good; calls in flight fail."""
        self._closing.set()

    def _unanswered(self, client: "Client", error: Exception) -> Answer:
        """Why a call went unanswered; a connection that is no good is not used again."""
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        if isinstance(error, MCPError) and error.code != CONNECTION_CLOSED:
            return Answer.failed(str(error))
        # One request that finds nobody listening breaks the SDK's transport as a whole.
        if self._client is client:
            self._client = None
        return Answer.failed(CUT_OFF, is_lost=True)

    async def _opened(self) -> "Client":
        async with self._opening:
            return self._client or await self._tasks.start(self._hold)

    async def _hold(self, *, task_status: TaskStatus["Client"]) -> None:
        """Keep a connection until it is to be closed or breaks; a later call may open another."""
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        endpoint = self._endpoint
        opened = False
        try:
            async with (
                httpx2.AsyncClient(
                    headers={"Authorization": f"Bearer {endpoint.token}"},
                    timeout=httpx2.Timeout(CONNECT_LIMIT_S, read=None),
                    trust_env=False,  # a proxy must see neither a loopback call nor its token
                ) as http,
                Client(
                    streamable_http_client(
                        endpoint.url, http_client=http, terminate_on_close=False
                    ),
                    mode=endpoint.mode,
                    read_timeout_seconds=endpoint.call_limit.total_seconds(),
                ) as client,
            ):
                # As agents do; without it the SDK lists the tools after the first call.
                await client.list_tools()
                self._client = client
                task_status.started(client)
                opened = True
                await self._closing.wait()
        except Exception:
            if not opened:
                raise


def _answer(result: "CallToolResult") -> Answer:
    from mcp.types import TextContent

    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    if result.is_error:
        return Answer.failed(text)
    if result.structured_content is not None:
        return Answer(False, text, result.structured_content)
    try:
        return Answer(False, text, json.loads(text))
    except ValueError:
        return Answer(False, text, {"text": text})
