"""The bench's agent: as little work as an agent can be, so that the server is what is measured.

It stands in for Claude Code: the URL and the token come from the file that `--mcp-config` names,
the prompt from standard input. The prompt's line `bench: WORD` says what it does:

    finish  call finish_job and end
    hold    tell the bench that it runs, and do so when the bench says `finish`
    hang    tell the bench that it runs, and become `sleep`, which costs nothing
    report-MS
            as hold; until then call report_status with pauses of MS, and tell the bench how it went
    lose    tell the bench that it runs; when the bench says so, print what Claude Code prints when
            it cannot reach us, tell the bench when that was, and become `sleep`
    refuse  as lose, with what it prints when its model refuses for the first time
    limit   as lose, with what it prints at a limit of the account; the bench says when that ends

A resumed agent's prompt says nothing of that, but its session's name does: it is made by the first
agent. After `limit` it does as `answer`, which is as lose with a line of the model's answer; after
everything else as `hang`.
"""

import _socket
import os
import sys
import time
from types import MappingProxyType

from bench.wire import Refused, Wire, tool_call

PROGRAM = """#!{python} -SEI
import time
born_ns = time.monotonic_ns()
import sys
sys.path.insert(0, {root!r})
from bench import agent
agent.main(born_ns)
"""
CONTROL = "BENCH_CONTROL"  #: the environment variable that names the bench's socket

_INIT = '{"type":"system","subtype":"init","session_id":"%s","model":"%s"}'
_SESSION = "bench-"  #: the beginning of its name; the rest is the word for whoever goes on with it
_RESULT = '{"result":"Nothing was to be done."}'
ANSWER = (
    '{"type":"assistant","message":{"id":"bench","model":"claude-bench",'
    '"content":[{"type":"text","text":"Still at it."}]}}'
)
LOST = (  #: how Claude Code tells its model that we cannot be reached
    '{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,'
    '"content":"MCP server \\"hurlicane\\" is not connected"}]}}'
)
REFUSED = (  #: its first refusal, after which it would try again by itself
    '{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":531,'
    '"error_status":429,"error":"rate_limit"}'
)
LIMITED = (  #: a five-hour limit, with the second of the epoch at which that ends
    '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":%s,'
    '"rateLimitType":"five_hour","isUsingOverage":false}}'
)
_LINES = MappingProxyType({"lose": LOST, "refuse": REFUSED, "limit": LIMITED, "answer": ANSWER})


class Server:
    """What the agent calls."""

    def __init__(self, url: str, token: str) -> None:
        self.port, self.token = int(url.rpartition(":")[2].partition("/")[0]), token
        self._wire = Wire(self.port)

    def call(self, tool: str, arguments: str) -> None:
        """Call *tool*; like the real CLIs, once more on a new connection if the first one broke."""
        request = tool_call(self.port, self.token, tool, arguments)
        try:
            self._wire.exchange(request)
        except ConnectionError:
            self._wire.reconnect()
            self._wire.exchange(request)


class Control:
    """The line to the bench."""

    def __init__(self, path: str) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket.connect(path)

    def say(self, line: str) -> None:
        """Tell the bench *line*."""
        self._socket.sendall(line.encode() + b"\n")

    def await_order(self) -> str:
        """What the bench says, as soon as it does; nothing if it is gone."""
        return self._socket.recv(64).decode().strip()

    def is_ordered(self) -> bool:
        """Whether `await_order` would return at once."""
        try:
            self._socket.recv(64, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True


def main(born_ns: int) -> None:
    """Do what the prompt says. *born_ns* is when the program's first statement ran."""
    prompt = sys.stdin.read()
    word = (prompt.partition("bench: ")[2].split(maxsplit=1) or ("hang",))[0]
    session = _option("--resume", _SESSION + ("answer" if word == "limit" else "hang"))
    if session == _option("--resume"):
        word = session.removeprefix(_SESSION)
    url, token = connection_of(_option("--mcp-config"))
    print(_INIT % (session, _option("--model", "claude-bench")), flush=True)
    if word == "finish":
        Server(url, token).call("finish_job", _RESULT)
        os._exit(0)  # without the interpreter's own farewell
    control = Control(os.environ[CONTROL])
    control.say(f"{born_ns} {os.environ['HURLICANE_ATTEMPT']} {token}")
    if line := _LINES.get(word):
        show(control, line)
    if line or word == "hang":
        os.execv("/bin/sleep", ("sleep", "3600"))
    server = Server(url, token)
    if word.startswith("report-"):
        report(server, control, int(word.removeprefix("report-")) / 1000)
    else:
        control.await_order()
    server.call("finish_job", _RESULT)
    control.say(str(time.monotonic_ns()))
    os._exit(0)


def show(control: Control, line: str) -> None:
    """Print *line* when the bench says so, with what it says in the place of `%s`."""
    order = control.await_order()
    shown_ns = time.monotonic_ns()
    print(line.replace("%s", order), flush=True)
    control.say(str(shown_ns))


def report(server: Server, control: Control, pause_s: float) -> None:
    """Be busy as agents are: a line of output and a call, again and again."""
    while not control.is_ordered():
        print(ANSWER, flush=True)
        try:
            server.call("report_status", '{"text":"Still at it."}')
        except (OSError, Refused) as error:
            control.say(f"failed {error}")
        else:
            control.say(f"ok {time.monotonic_ns()}")
        time.sleep(pause_s)


def connection_of(config: str) -> tuple[str, str]:
    """The server's URL and the token in a Claude Code configuration of one server."""
    with open(config, encoding="utf-8") as file:  # noqa: PTH123  (pathlib costs 10 ms to import)
        text = file.read()
    return _after(text, '"url": "'), _after(text, '"Bearer ')


def _option(name: str, otherwise: str = "") -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


def _after(text: str, words: str) -> str:
    return text.partition(words)[2].partition('"')[0]
