"""What an agent may use before its shim stops it, and whether the machine had enough for it.

Standard library only: the shim loads this by path.
"""
# ruff: noqa: PTH116, SIM105
# As in processes.py, imports are few.

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hurlicane_mcp.supervision import processes, run_directory
else:
    import run_directory  # found where the shim found this

LOOK_S = 1.0  #: seconds between two looks at how much has been printed
OOM_LOOK_S = 10.0  #: a kill for want of memory this long before the agent's may be another's
NONE = float("inf")


class Limits:
    """What the agent may use. The clock is monotonic: suspension counts for no limit."""

    def __init__(self, launch: "run_directory.Launch") -> None:
        now = time.monotonic()
        self._deadline = now + launch.time_limit
        self._unattended_limit = launch.unattended_limit
        self._output_limit = launch.output_limit
        self._mark, self._mark_seen = self._attended(), now

    def _attended(self) -> int:
        try:
            return os.stat(run_directory.ATTENDED).st_mtime_ns
        except OSError:
            return 0

    def _printed(self) -> int:
        """Bytes of output so far. A file that somebody has removed counts no more."""
        size = 0
        for name in (run_directory.STDOUT, run_directory.STDERR):
            try:
                size += os.stat(name).st_size
            except OSError:
                pass
        return size

    def exceeded(self) -> str | None:
        """Which limit has passed."""
        now = time.monotonic()
        if now >= self._deadline:
            return "time"
        if self._output_limit != NONE and self._printed() > self._output_limit:
            return "output"
        if self._mark != (mark := self._attended()):
            self._mark, self._mark_seen = mark, now
        return "unattended" if now - self._mark_seen >= self._unattended_limit else None

    def next_look(self) -> float:
        """Seconds until `exceeded` should be asked again; infinite without limits."""
        look = NONE if self._output_limit == NONE else LOOK_S
        left = self._deadline - time.monotonic()
        return max(min(left, self._unattended_limit / 4, look), 0.01)


class Memory:
    """Tells whether the machine's memory ran out when the agent was killed."""

    def __init__(self, system: "processes.Linux | processes.Portable") -> None:
        self._system = system
        self._kills, self._seen = system.oom_kills(), time.monotonic()

    def look(self) -> None:
        """Let what was killed long ago count no more."""
        if time.monotonic() - self._seen >= OOM_LOOK_S:
            self._kills, self._seen = self._system.oom_kills(), time.monotonic()

    def ran_out(self) -> bool:
        """Whether a process was killed for want of memory since the last look."""
        return self._system.oom_kills() > self._kills
