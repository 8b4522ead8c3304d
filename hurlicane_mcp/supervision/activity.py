"""Whether a process tree does anything that cannot be seen in its output."""

import sys
from contextlib import suppress
from dataclasses import dataclass

from hurlicane_mcp.supervision.host import ProcessIdentity
from hurlicane_mcp.supervision.identity import is_alive


@dataclass(frozen=True, slots=True)
class Usage:
    """What the living processes of a tree have used until now."""

    cpu_s: float
    io_bytes: int  #: read and written, by system calls
    is_frozen: bool = False  #: the shim or the agent is stopped by a signal

    def is_work_since(self, before: "Usage", seconds: float) -> bool:
        """Whether more happened in *seconds* than a waiting program does by itself: 2 % of a core,
        or 64 KiB/s. Claude Code and Codex use less than that while they wait (measured 2026-11)."""
        cpu = self.cpu_s - before.cpu_s
        io = self.io_bytes - before.io_bytes
        # Where a process of the tree has ended, its share is gone from the sums: that is activity.
        return cpu < 0 or io < 0 or cpu > 0.02 * seconds or io > 65536 * seconds


def usage_of(shim: ProcessIdentity) -> Usage | None:
    """What the tree below *shim* has used; None if the shim is gone. About 0.2 ms a process.

    Where the system does not tell what a process has read and written (macOS), that counts as 0.
    """
    import psutil  # not at the start of the server: it is needed late, and rarely

    if not is_alive(shim):
        return None
    cpu, io, is_frozen = 0.0, 0, False
    with suppress(psutil.Error):
        keeper = psutil.Process(shim.pid)
        for process in (keeper, *keeper.children()):
            is_frozen = is_frozen or process.status() == psutil.STATUS_STOPPED
        for process in keeper.children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system
                if sys.platform == "linux":
                    counters = process.io_counters()
                    io += counters.read_chars + counters.write_chars
    return Usage(cpu, io, is_frozen)
