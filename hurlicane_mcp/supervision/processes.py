"""Process trees as the kernel shows them. Standard library only: the shim loads this by path.

`Linux` is the real thing; `Portable` at the end is what other systems allow.
"""
# ruff: noqa: PTH123, PTH208
# The imports are few because each delays the start of an agent: pathlib and typing cost 5 to
# 10 ms each, signal 8 ms (measured 2026-11-24).

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping
else:
    import _signal as signal  # what `signal` wraps in enums

MARKER = "HURLICANE_ATTEMPT"  #: the environment variable that every process of an attempt carries


def read_bytes(path: str) -> bytes | None:
    """The whole file; None if it is gone or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def pids() -> "Iterator[int]":
    """Every process that /proc shows."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def process_stat(pid: int) -> tuple[str, int, str] | None:
    """A process's state letter, parent and start time in ticks since boot, as in proc(5)."""
    text = read_bytes(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold anything
    return fields[0].decode(), int(fields[1]), fields[19].decode()


def is_dead(state: str) -> bool:
    """Whether a process in this state has ended and only waits to be reaped."""
    return state[0] in "ZX"


def closure(roots: set[int], parents: "Mapping[int, int]") -> set[int]:
    """*roots* and everything below them in a map from child to parent."""
    found, more = set(roots), set(roots)
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return found


def descendants(root: int) -> set[int]:
    """The living processes below *root*, without it. Linux only."""
    stats = {pid: stat for pid in pids() if (stat := process_stat(pid))}
    below = closure({root}, {pid: parent for pid, (_, parent, _) in stats.items()}) - {root}
    return {pid for pid in below if not is_dead(stats[pid][0])}


def marked(marker: str) -> set[int]:
    """The living processes whose initial environment carries *marker*. Linux only.

    Blind to what we may not read and to a process that overwrote or cleared its environment.
    """
    entry = b"\0" + f"{MARKER}={marker}".encode() + b"\0"
    environments = ((pid, read_bytes(f"/proc/{pid}/environ")) for pid in pids())
    return {pid for pid, text in environments if text and entry in b"\0" + text + b"\0"}


class Linux:
    """No process escapes a subreaper, and an agent cannot outlive its shim."""

    PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

    def __init__(self) -> None:
        import ctypes

        self._prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl

    def adopt_orphans(self) -> None:
        """Become the parent of every descendant whose own parent ends."""
        self._prctl(self.PR_SET_CHILD_SUBREAPER, 1)

    def die_with(self, parent: int) -> None:
        """Have this process, through exec, killed when *parent* ends for whatever cause."""
        self._prctl(self.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    def start_time(self, pid: int) -> str:
        """In ticks since boot; empty if there is no such process."""
        stat = process_stat(pid)
        return stat[2] if stat else ""

    def boot_id(self) -> str:
        """The name of this boot of the machine."""
        return (read_bytes("/proc/sys/kernel/random/boot_id") or b"").decode().strip()

    def oom_kills(self) -> int:
        """How many processes of the machine have been killed because memory ran out, be it that of
        a control group: proc_vmstat(5). Only that the number rises means something."""
        for line in (read_bytes("/proc/vmstat") or b"").splitlines():
            name, _, count = line.partition(b" ")
            if name == b"oom_kill":
                return int(count)
        return 0

    def members(self, agent: int, marker: str) -> set[int]:
        """All living processes of the caller's agent, wherever they went."""
        return descendants(os.getpid()) | marked(marker)


# ---- the fallback: macOS and whatever else has neither /proc nor prctl -------------------------


class Portable:
    """What `ps` tells: groups, parents and, on macOS, environments.

    A process that left the agent's group, lost its parent and dropped the marker is not found,
    and an agent survives the SIGKILL of its shim until a host sweeps its marker.
    """

    LISTING = ("ps", "-axEww", "-o", "pid=,ppid=,pgid=,stat=,command=")

    def adopt_orphans(self) -> None:
        """Nothing: orphans go to process 1."""

    def die_with(self, parent: int) -> None:
        """Nothing: the agent stays."""

    def start_time(self, pid: int) -> str:
        """Unknown, so empty: hosts trust the shim's lock instead."""
        return ""

    def boot_id(self) -> str:
        """The name of this boot of the machine."""
        return self._output("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid").strip()

    def oom_kills(self) -> int:
        """Unknown, so always 0."""
        return 0

    def members(self, agent: int, marker: str) -> set[int]:
        """The living processes of the agent's group, below it, or with its marker."""
        parents: dict[int, int] = {}
        roots: set[int] = set()
        for line in self._output(*self.LISTING).splitlines():
            pid, parent, group, state, words = [*line.split(None, 4), ""][:5]
            if is_dead(state):
                continue
            parents[int(pid)] = int(parent)
            if agent in (int(pid), int(group)) or f"{MARKER}={marker}" in words.split():
                roots.add(int(pid))
        return closure(roots, parents) - {os.getpid()}

    def _output(self, *argv: str) -> str:
        """What a program prints; nothing if there is no such program."""
        import subprocess

        try:
            return subprocess.run(argv, capture_output=True, text=True, errors="replace").stdout
        except FileNotFoundError:
            return ""


def this_system() -> Linux | Portable:
    """How process trees are kept on this machine."""
    return Linux() if sys.platform == "linux" else Portable()
