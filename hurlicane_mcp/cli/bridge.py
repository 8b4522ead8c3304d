"""`hurlicane mcp`: MCP over standard input and output, carried to the running server and back.

Each message that comes in is a POST of its own, and what the server answers, as JSON or as a
stream, goes out. The SDK's client is not used: one request that finds nobody listening breaks it
for good (measured 2026-11-23), and this one has to outlive restarts of the server.
"""

import base64
import json
import os
import re
import sys
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import anyio
import anyio.from_thread
import httpx2
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.whereabouts import server_of
from hurlicane_mcp.errors import HurlicaneError

Message = dict[str, Any]

#: Seconds that a message waits for a server that is away, and between two looks.
AWAY_S: Final = 30.0
LOOK_S: Final = 0.2
#: Tries of a message whose connection breaks. One that kills workers must not do so for ever.
TRIES: Final = 4

# JSON-RPC 2.0, and the range that it leaves to implementations.
_PARSE_ERROR: Final = -32700
_UNREACHABLE: Final = -32000

_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
#: What the header `Mcp-Name` repeats, by method (MCP 2026-07-28, Streamable HTTP).
_NAMES: Final = (("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri"))
_PLAIN: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_MAX_EVENT: Final = 16 * 1024 * 1024
_BROKEN: Final = (
    "The connection to the server broke during this call. It may have had its effect: look before "
    "you call again."
)
#: Tools that may be called twice. A job that is created gets a key, so that it is only one; the
#: same message or answer again is the same one.
REPEATABLE: Final = frozenset(
    {
        "create_job",
        "wait_for_jobs",
        "get_job",
        "list_jobs",
        "list_agents",
        "why",
        "send_message",
        "answer_question",
        "dismiss_warning",
        "list_models",
        "set_model_limit",
        "clear_model_limit",
        "cancel_job",
        "create_workflow",
        "get_workflow",
        "list_workflows",
        "resume_workflow",
        "cancel_workflow",
        "check_file_locks",
        "read_note",
        "write_note",
        "list_notes",
        "watch_notes",
    }
)
#: Tools that make something: with a key the second call returns what the first one made.
CREATIONS: Final = frozenset({"create_job", "create_workflow"})
_LOST: Final = (httpx2.NetworkError, httpx2.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What to write for a request whose answer did not come from the server."""

    code: int
    text: str

    def to(self, message: Message) -> Message:
        error = {"code": self.code, "message": self.text}
        return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}


def bridge(data_dir: str | None) -> int:
    """Carry messages until standard input ends. Returns 0.

    Raises:
        HurlicaneError: no server runs at the start, or it refuses the token.
    """
    ask(data_dir, lambda server: server.get("/healthz"))
    anyio.run(_carry_all, data_dir)
    return 0


async def _carry_all(data_dir: str | None) -> None:
    async with httpx2.AsyncClient(
        trust_env=False,
        timeout=httpx2.Timeout(30, read=None),
        limits=httpx2.Limits(max_connections=None),  # each open wait holds one
    ) as http:
        send, receive = anyio.create_memory_object_stream[bytes](0)
        async with (
            anyio.from_thread.BlockingPortal() as portal,
            anyio.create_task_group() as tasks,
            receive,
        ):
            # A daemon, because a read of standard input cannot be cancelled.
            threading.Thread(target=_read, args=(portal, send), daemon=True).start()
            carrier = _Bridge(data_dir, http, tasks)
            async for line in receive:
                carrier.take(line)
            tasks.cancel_scope.cancel()  # the client has gone: nobody reads what is still open


def _read(portal: anyio.from_thread.BlockingPortal, lines: MemoryObjectSendStream[bytes]) -> None:
    # A buffer of our own: at exit the interpreter would wait for the lock of sys.stdin's.
    with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as stdin:
        for line in stdin:
            portal.call(lines.send, line)
    portal.call(lines.aclose)


class _Bridge:
    """Carries each message to the server in a task of its own."""

    def __init__(self, data_dir: str | None, http: httpx2.AsyncClient, tasks: TaskGroup) -> None:
        self._data_dir = data_dir
        self._http = http
        self._tasks = tasks
        self._open: dict[str, anyio.CancelScope] = {}
        self._version = ""  # what a legacy handshake agreed on

    def take(self, line: bytes) -> None:
        """Begin to carry the message in *line*."""
        if not line.strip():
            return
        try:
            message = _object(json.loads(line))
        except ValueError:
            message = {}
        if not message:
            _write(_Answer(_PARSE_ERROR, "Send one JSON-RPC message a line.").to(message))
            return
        if message.get("method") == "notifications/cancelled":
            # The server is stateless: it hears of a cancellation by the end of the request.
            if scope := self._open.get(_key(_object(message.get("params")).get("requestId"))):
                scope.cancel()
            return
        self._tasks.start_soon(self._carry, message)

    async def _carry(self, message: Message) -> None:
        if "id" not in message or "method" not in message:
            await self._deliver(message)  # a notification: nobody waits for an answer
            return
        with anyio.CancelScope() as scope:
            self._open[_key(message["id"])] = scope
            try:
                if (failed := await self._deliver(_with_key(message))) is not None:
                    _write(failed.to(message))
            finally:
                if self._open.get(_key(message["id"])) is scope:
                    del self._open[_key(message["id"])]

    async def _deliver(self, message: Message) -> _Answer | None:
        """Send *message* until it has been answered; else what to tell the client."""
        broken = 0
        deadline = anyio.current_time() + AWAY_S
        while True:
            try:
                return await self._exchange(message)
            except httpx2.ConnectError:
                if anyio.current_time() > deadline:
                    return _Answer(_UNREACHABLE, self._away())
            except HurlicaneError as error:
                return _Answer(_UNREACHABLE, str(error))
            except _LOST:
                broken += 1
                deadline = anyio.current_time() + AWAY_S
                if broken == TRIES or not _may_be_repeated(message):
                    return _Answer(_UNREACHABLE, _BROKEN)
            await anyio.sleep(LOOK_S)

    async def _exchange(self, message: Message) -> _Answer | None:
        """One POST, and all that comes back for it."""
        server = server_of(self._data_dir)  # anew each time: another port, another token
        headers = {**self._headers(message), "Authorization": f"Bearer {server.token}"}
        async with self._http.stream(
            "POST", f"{server.url}/mcp", json=message, headers=headers
        ) as response:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if kind == "text/event-stream":
                answered = False
                async for event in httpx2.EventSource(response, max_event_size=_MAX_EVENT):
                    if event.data:
                        answered |= self._pass_on(message, json.loads(event.data))
                if "id" in message and not answered:
                    raise httpx2.RemoteProtocolError("the stream ended before the answer")
                return None
            body = await response.aread()
            if not body:
                return None  # 202: a notification has arrived
            answer = _object(json.loads(body) if kind == "application/json" else None)
            if "jsonrpc" in answer:
                self._pass_on(message, answer)
                return None
            said = answer.get("message", f"HTTP status {response.status_code}")
            return _Answer(_UNREACHABLE, f"The server refused this: {said}")

    def _pass_on(self, message: Message, answer: Message) -> bool:
        """Write *answer*; returns whether it is the answer to *message*."""
        is_answer = "id" in answer and "method" not in answer
        if is_answer and message.get("method") == "initialize":
            self._version = str(_object(answer.get("result")).get("protocolVersion", ""))
        _write(answer)
        return is_answer

    def _headers(self, message: Message) -> Mapping[str, str]:
        """What the transport says in headers: the version, and in the modern era the target."""
        headers = {"Accept": "application/json, text/event-stream"}
        params = _object(message.get("params"))
        modern = _object(params.get("_meta")).get(_VERSION_KEY)
        if version := modern or self._version:
            headers["Mcp-Protocol-Version"] = version
        if modern and "method" in message:
            headers["Mcp-Method"] = message["method"]
            if name := params.get(dict(_NAMES).get(message["method"], "")):
                headers["Mcp-Name"] = _header_value(str(name))
        return headers

    def _away(self) -> str:
        place = f" --data-dir {self._data_dir}" if self._data_dir else ""
        return f"No server answers. Start one with `hurlicane serve{place}` and call again."


def _may_be_repeated(message: Message) -> bool:
    called = _object(message.get("params")).get("name")
    return message.get("method") != "tools/call" or called in REPEATABLE


def _with_key(message: Message) -> Message:
    """*message*; if it creates a job, with a key, so that sending it twice creates one."""
    params = _object(message.get("params"))
    if message["method"] != "tools/call" or params.get("name") not in CREATIONS:
        return message
    arguments = {"idempotency_key": uuid.uuid4().hex} | _object(params.get("arguments"))
    return {**message, "params": {**params, "arguments": arguments}}


def _object(value: object) -> Message:
    """*value* if it is a JSON object, else an empty one."""
    return cast("Message", value) if isinstance(value, dict) else {}


def _header_value(value: str) -> str:
    """*value*, in base 64 as MCP wraps what a header cannot hold."""
    if _PLAIN.fullmatch(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _key(request_id: object) -> str:
    """A request's id, where 1 and "1" are two."""
    return json.dumps(request_id)


def _write(message: Message) -> None:
    sys.stdout.buffer.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
    sys.stdout.buffer.flush()
