"""The socket on which bench agents say that they run, and are told to finish."""

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import MeasurementFailed

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class HeldAgent:
    """A running agent of the bench, and the line to it, which ends with its process."""

    born_ns: int  #: when its first statement ran, on the monotonic clock
    attempt: str
    token: str = field(repr=False)
    line: socket.socket
    pid: int

    @property
    def job_id(self) -> str:
        """The job that it does."""
        return self.attempt.rpartition(".")[0]

    def finish(self) -> None:
        """Tell it to call finish_job and to end."""
        self.line.sendall(b"finish\n")

    def finished_ns(self) -> int:
        """When finish_job had answered it, on the monotonic clock. Blocks until then."""
        return int(_line(self.line))

    def order(self, value: str = "now") -> None:
        """Have it print the line that it has in store, which may need a *value*."""
        self.line.sendall(f"{value}\n".encode())

    def shown_ns(self) -> int:
        """When it did, on the monotonic clock. Blocks until then."""
        return int(_line(self.line))

    def kill(self) -> int:
        """Send it SIGKILL; when that was, on the monotonic clock."""
        killed_ns = time.monotonic_ns()
        os.kill(self.pid, signal.SIGKILL)
        return killed_ns

    def leave(self) -> None:
        """Block until its process has ended."""
        while self.line.recv(4096):
            pass
        self.line.close()

    def reports(self) -> list[str]:
        """What it has told of its calls since last asked."""
        self.line.setblocking(False)
        text = b""
        try:
            while data := self.line.recv(65536):
                text += data
        except BlockingIOError:
            pass
        finally:
            self.line.settimeout(TIMEOUT_S)
        return text.decode().splitlines()


class Control:
    """Where the agents of one server report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(TIMEOUT_S)
        self._listener.bind(str(path))
        self._listener.listen(1024)

    def agent(self) -> HeldAgent:
        """The next agent that says it runs.

        Raises:
            MeasurementFailed: none did within a minute.
        """
        try:
            line, _ = self._listener.accept()
        except TimeoutError:
            raise MeasurementFailed("An agent did not start within a minute.") from None
        line.settimeout(TIMEOUT_S)
        born_ns, attempt, token = _line(line).split()
        return HeldAgent(int(born_ns), attempt, token, line, _pid_behind(line))

    def is_anyone_there(self, timeout_s: float) -> bool:
        """Whether an agent says within this time that it runs; `agent` gives it."""
        return bool(select.select([self._listener], [], [], max(0.0, timeout_s))[0])

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def is_well(reports: Sequence[str]) -> bool:
    """Whether an agent has called, and none of its calls failed."""
    return bool(reports) and all(line.startswith("ok ") for line in reports)


def _pid_behind(line: socket.socket) -> int:
    """The process that connected: unix(7), SO_PEERCRED."""
    credentials = struct.Struct("3i")
    raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return credentials.unpack(raw)[0]


def _line(line: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        byte = line.recv(1)  # what follows the line is for `reports`
        if not byte:
            raise MeasurementFailed("An agent ended before it had said what was expected.")
        text += byte
    return text.decode().strip()
