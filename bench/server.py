"""A server as its users run it, `hurlicane serve` on a data folder of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import psutil

from bench import agent
from bench.control import Control, HeldAgent
from bench.figures import MeasurementFailed
from bench.wire import Wire, get, tool_call

ROOT = Path(__file__).parent.parent
STOP_LIMIT_S = 20.0


class Folder:
    """A place for one server: its data, its agents' program, their line to the bench."""

    def __init__(self, path: Path) -> None:
        self.data_dir = path / "data"
        self.work_dir = path / "work"
        self.data_dir.mkdir(mode=0o700)
        self.work_dir.mkdir()
        self.control = Control(path / "control")
        self._program = path / "claude"
        self._program.write_text(agent.PROGRAM.format(python=sys.executable, root=str(ROOT)))
        self._program.chmod(0o700)

    def start(
        self, port: int, slots: int = 10, settings: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[bytes]:
        """Execute `hurlicane serve`, with more *settings* as variables; returns at once."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work_dir),
            agent.CONTROL: str(self.control.path),
            "HURLICANE_PROVIDER": "claude",
            "HURLICANE_CLAUDE_BIN": str(self._program),
            "HURLICANE_SLOTS": str(slots),
            "HURLICANE_LOG_LEVEL": "error",
            **settings,
        }
        serve = (sys.executable, "-m", "hurlicane_mcp", "serve")
        return subprocess.Popen(
            (*serve, "--data-dir", str(self.data_dir), "--port", str(port)),
            cwd=self.work_dir,
            env=environment,
            stdout=subprocess.PIPE,
        )

    def end_processes(self) -> None:
        """Kill every process that carries our control socket in its environment.

        The agents outlive their server, and the server may have been starting one when it ended.
        """
        while left := [one for one in psutil.process_iter() if self._is_ours(one)]:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=STOP_LIMIT_S)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(agent.CONTROL) == str(self.control.path)
        except psutil.Error:  # it has ended, or is another user's
            return False


class Server:
    """A running server and calls of it as its operator."""

    def __init__(self, folder: Folder, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self.process = process
        self.token = (folder.data_dir / "operator.token").read_text(encoding="utf-8").strip()
        self._wire = Wire(port)

    @property
    def worker_pid(self) -> int:
        """The process that answers now."""
        text = (self.folder.data_dir / "server.json").read_text(encoding="utf-8")
        return json.loads(text)["pid"]

    def request(self, tool: str, token: str | None = None, **arguments: Any) -> bytes:
        """The bytes of a call by the operator, or by whom *token* belongs to."""
        return tool_call(self.port, token or self.token, tool, json.dumps(arguments))

    def call(self, tool: str, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a tool."""
        return structured(self._wire.exchange(self.request(tool, token, **arguments)))

    def create(self, word: str, token: str | None = None, **more: Any) -> str:
        """The id of a new job whose agent does as *word* says; see `bench.agent`. *more*: what
        else create_job takes.
        """
        return self.call("create_job", token, description=f"bench: {word}", **more)["job_id"]

    def attempts(self, job_id: str) -> Sequence[dict[str, Any]]:
        """All attempts at a job, the first one first, as `/api/jobs/JOB/attempts` has them."""
        return self.get(f"/api/jobs/{job_id}/attempts")["attempts"]

    def get(self, path: str) -> dict[str, Any]:
        """What GET *path* answers."""
        self.reconnect()  # the server closes a connection that has been idle for some seconds
        return json.loads(self._wire.exchange(get(self.port, self.token, path)))

    def agents(self, word: str, count: int) -> list[HeldAgent]:
        """*count* running agents of new jobs."""
        for _ in range(count):
            self.create(word)
        return [self.folder.control.agent() for _ in range(count)]

    def reconnect(self) -> None:
        """Call on a new connection from now on, as is needed after a crash."""
        self._wire.reconnect()

    def close(self) -> None:
        """Stop it as a service manager does, then end the agents that live on."""
        self._wire.close()
        stop(self.process)
        self.folder.end_processes()


def structured(body: bytes) -> dict[str, Any]:
    """The structured content in an answer, be it JSON or an event stream."""
    last = body[body.rindex(b'{"jsonrpc"') :].decode()  # progress notices come before it
    message, _ = json.JSONDecoder().raw_decode(last)
    return message["result"]["structuredContent"]


@contextmanager
def a_folder() -> Generator[Folder]:
    """An empty folder for a server; nothing of it is left."""
    # Not in /tmp, which is memory on some systems: there, syncing to the disk costs nothing.
    with TemporaryDirectory(prefix="hurlicane-bench-", dir="/var/tmp") as path:
        folder = Folder(Path(path))
        try:
            yield folder
        finally:
            folder.control.close()


@contextmanager
def a_server(
    folder: Folder, slots: int = 10, settings: Mapping[str, str] = MappingProxyType({})
) -> Generator[Server]:
    """A server on *folder* that answers; it and all its agents are gone afterwards."""
    process = folder.start(0, slots, settings)
    try:
        server = Server(folder, _announced_port(process), process)
    except BaseException:
        stop(process)
        folder.end_processes()
        raise
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _announced_port(process: subprocess.Popen[bytes]) -> int:
    """Where the server answers, once it does."""
    assert process.stdout is not None
    ready = process.stdout.readline().decode()
    if "ready" not in ready:
        raise MeasurementFailed(f"The server ended with {process.wait()} before it was ready.")
    url = next(word for word in ready.split() if word.startswith("http"))
    return int(url.rpartition(":")[2].partition("/")[0])


def connect_to(port: int, process: subprocess.Popen[bytes]) -> Wire:
    """A connection, as soon as the server accepts any.

    Raises:
        MeasurementFailed: it ended instead.
    """
    while True:
        try:
            return Wire(port)
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise MeasurementFailed(f"The server ended with {process.returncode}.") from None
            time.sleep(0.001)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL if that does not end it in time."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
