"""REST and event streams of a running server, as its operator sees them.

A worker that dies or restarts in the middle is not an error here: requests are sent again and
streams go on after the last event that arrived. So callers may only send what can be repeated.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import httpx2

from hurlicane_mcp.cli.whereabouts import Server, no_server, server_of
from hurlicane_mcp.errors import HurlicaneError, Invalid, ServerUnreachable

T = TypeVar("T")

#: Tries of a request whose connection breaks, and seconds between them: a new worker needs 40 ms.
TRIES: Final = 10
PAUSE_S: Final = 0.2
#: Tries of a stream: somebody follows it, so that a server that is started anew is waited for.
PATIENCE: Final = 50
_QUICK_S: Final = 30.0
_MAX_EVENT: Final = 16 * 1024 * 1024
_BROKEN: Final = (httpx2.NetworkError, httpx2.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: its name, its number and what it says."""

    name: str
    id: str
    data: Any


class Problem(HurlicaneError):
    """The server's refusal, in its own words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """One server. `connected` makes it."""

    def __init__(self, server: Server, http: httpx2.AsyncClient) -> None:
        self.server = server
        self._http = http

    async def get(self, path: str, patience_s: float = _QUICK_S, **query: Any) -> Any:
        """The JSON at *path*. Parts of *query* that are None or empty are left out.

        Raises:
            Problem, Invalid: the server refuses.
            ServerUnreachable: no server answers.
        """
        return await self._ask("GET", path, patience_s, params=_given(query))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to *body*, which must be harmless to send twice. Raises as `get` does."""
        return await self._ask("POST", path, _QUICK_S, json=dict(body))

    async def put(self, path: str, body: Mapping[str, Any], **query: Any) -> Any:
        """The answer to *body*. Raises as `get` does."""
        return await self._ask("PUT", path, _QUICK_S, json=dict(body), params=_given(query))

    async def delete(self, path: str) -> Any:
        """The answer to a deletion, which must be harmless to send twice. Raises as `get` does."""
        return await self._ask("DELETE", path, _QUICK_S)

    async def stream(self, path: str, **query: Any) -> AsyncGenerator[Event]:
        """The events at *path*, for ever: leave when you have seen enough.

        Raises as `get` does.
        """
        failures, last_id = 0, ""
        while True:
            headers = {"Accept": "text/event-stream"}
            if last_id:
                headers["Last-Event-ID"] = last_id
            try:
                async with self._http.stream(
                    "GET", path, params=_given(query), headers=headers, timeout=_forever()
                ) as response:
                    if response.status_code != 200:
                        await response.aread()
                        raise _refusal(response)
                    failures = 0
                    async for event in httpx2.EventSource(response, max_event_size=_MAX_EVENT):
                        last_id = event.id or last_id
                        if event.data:
                            yield Event(event.event, event.id, event.json())
            except (*_BROKEN, httpx2.TimeoutException) as error:
                failures += 1
                if failures == PATIENCE:
                    raise self._unreachable(error) from None
            await anyio.sleep(PAUSE_S)  # the server is draining, or its next worker starts

    async def pieces(self, path: str, **query: Any) -> AsyncGenerator[bytes]:
        """The body at *path* as it comes. Raises as `get` does."""
        async with self._http.stream("GET", path, params=_given(query)) as response:
            if not response.is_success:
                await response.aread()
                raise _refusal(response)
            async for piece in response.aiter_bytes():
                yield piece

    async def _ask(self, method: str, path: str, timeout_s: float, **content: Any) -> Any:
        timeout = httpx2.Timeout(timeout_s, connect=_QUICK_S)
        failures = 0
        while True:
            try:
                response = await self._http.request(method, path, timeout=timeout, **content)
                if response.status_code != 503 or failures == TRIES:
                    break
                failures += 1  # it is draining: the next worker, if there is one, answers
                await anyio.sleep(PAUSE_S)
            except httpx2.ConnectError as error:
                raise self._unreachable(error) from None
            except httpx2.TimeoutException:
                raise ServerUnreachable(
                    f"The server at {self.server.url} does not answer within {timeout_s:.0f} s: "
                    "look at its log."
                ) from None
            except _BROKEN as error:
                failures += 1
                if failures >= TRIES:
                    raise self._unreachable(error) from None
                await anyio.sleep(PAUSE_S)
        if not response.is_success:
            raise _refusal(response)
        return response.json() if _is_json(response) else response.text

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        if self.server.data_dir is not None:
            return no_server(self.server.data_dir)
        return ServerUnreachable(f"No server answers at {self.server.url} ({error}).")


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Connection]:
    """A connection to *server*; nothing is sent yet."""
    headers = {"Authorization": f"Bearer {server.token}"}
    # No proxy from the environment: the server is on this machine, or named by its whole URL.
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
        yield Connection(server, http)


def ask(data_dir: str | None, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What *work* returns for the server that *data_dir* or the environment names."""
    return asking(server_of(data_dir), work)


def asking(server: Server, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What *work* returns for *server*."""

    async def call() -> T:
        async with connected(server) as connection:
            return await work(connection)

    try:
        return anyio.run(call)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Invalid(f"The server's URL {server.url!r} cannot be used ({error}).") from None
    except UnicodeEncodeError:
        raise Invalid("The text is not UTF-8: convert it, or set a UTF-8 locale.") from None


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value not in (None, "", [], ())}


def _forever() -> httpx2.Timeout:
    return httpx2.Timeout(_QUICK_S, read=None)


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _refusal(response: httpx2.Response) -> HurlicaneError:
    try:
        problem = response.json()
        code, message = str(problem["error"]), str(problem["message"])
    except (ValueError, KeyError, TypeError):
        return Problem("error", f"The server answered {response.status_code} to {response.url}.")
    return Invalid(message) if code == Invalid.code else Problem(code, message)
