"""Real processes to supervise: little Python programs, and what to ask about them."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio

from hurlicane_mcp.supervision import processes
from hurlicane_mcp.supervision.host import Command

SECOND = timedelta(seconds=1)
DEAF = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
#: Leaves a deaf daemon behind, out of session and group, its parent gone. The daemon prints its
#: pid; only then the agent goes on.
DAEMON = (
    DEAF
    + """
said, say = os.pipe()
if os.fork():
    os.close(say), os.read(said, 1), os.wait()
elif os.setsid() or os.fork():
    os._exit(0)
else:
    print(os.getpid(), flush=True), os.close(say), time.sleep(60)
"""
)


@dataclass(frozen=True)
class Stage:
    """A run directory and the marker of the attempt that runs in it."""

    run_dir: Path
    marker: str

    def command(
        self, code: str, *, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Command:
        """The agent: Python that runs *code*."""
        argv = (sys.executable, "-I", "-S", "-c", code)
        return Command(argv, self.run_dir.parent, env or {}, stdin, self.marker)

    def text(self, name: str) -> str:
        """A file of the run directory; empty if there is none."""
        path = self.run_dir / name
        return path.read_text() if path.exists() else ""

    async def lines(self, count: int) -> list[str]:
        """The agent's output, once it has so many whole lines."""
        await until(lambda: self.text("stdout").count("\n") >= count)
        return self.text("stdout").splitlines()

    async def pids(self, count: int) -> list[int]:
        """The process ids that the agent has printed."""
        return [int(line) for line in await self.lines(count)]


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return once *condition* holds; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await anyio.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether nothing runs under this pid, not even a zombie."""
    return processes.process_stat(pid) is None


def has_ended(pid: int) -> bool:
    """Whether it is gone or waits for a foreign parent to reap it."""
    stat = processes.process_stat(pid)
    return stat is None or processes.is_dead(stat[0])


def argv_of(pid: int) -> str:
    """The command line of a process, as everybody can read it."""
    return Path(f"/proc/{pid}/cmdline").read_text()
