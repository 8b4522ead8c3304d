"""What the engine knows of an agent's process, whatever keeps it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for another, even when its pid is used again."""

    pid: int
    start_time: str  #: as the kernel gives it: clock ticks since boot on Linux
    boot_id: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How an agent's process ended. With all of it None, nothing is known."""

    code: int | None = None
    signal: int | None = None
    launch_error: str | None = None  #: why the program could not be executed at all
    #: The limit of its command that it was stopped for: `time`, `unattended` or `output`.
    limit: str | None = None
    oom: bool = False  #: it was killed, and the machine's memory ran out at that moment


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start, completely described.

    With `terminal` its three streams are a terminal that people can attach to, TERM is that
    terminal's, and `stdin` is only kept as a file of the run directory. The limits are kept
    whether this process lives or not.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]  #: the whole environment
    stdin: bytes
    marker: str  #: the attempt's id; put into the environment as HURLICANE_ATTEMPT
    terminal: bool = False
    time_limit: timedelta | None = None  #: from its start on
    unattended_limit: timedelta | None = None  #: since `Host.attend` last named it
    output_limit: int | None = None  #: bytes of standard output and standard error together


class Handle(Protocol):
    """One agent's process tree, started by us or adopted."""

    @property
    def identity(self) -> ProcessIdentity:
        """The shim: as long as it lives, so may the agent."""
        ...

    async def ended(self) -> Exit:
        """Return once the whole tree is proven gone. May be awaited again and by many."""
        ...

    async def stop(self, grace: timedelta) -> None:
        """Ask the tree to end (TERM), then kill it after *grace*; return when it is gone."""
        ...


class Host(Protocol):
    """Something that keeps agents alive independently of this process."""

    async def start(self, run_dir: Path, command: Command) -> Handle:
        """Start *command*; output goes to `stdout` and `stderr` in *run_dir*, or to its terminal.

        A program that cannot be executed is not an error here: the handle's `ended` tells.

        Raises:
            LaunchFailed: not even the shim could be started; `ShimDied` if it was, and ended.
        """
        ...

    async def adopt(self, run_dir: Path) -> Handle | Exit | None:
        """What became of the process started in *run_dir*, maybe by a server that is dead now.

        A handle if it lives; its exit if it has ended (after making sure that nothing of its
        tree is left); None if nothing was ever started there, or the directory is gone.
        """
        ...

    async def clear(self, identity: ProcessIdentity | None, marker: str) -> None:
        """End all that is left of an attempt whose directory tells nothing, as far as it is found.

        *identity* is the shim, if it is known; *marker* is the attempt's id. Returns when nothing
        of it is found any more.
        """
        ...

    async def attend(self, run_dirs: Iterable[Path]) -> None:
        """Tell the agents of these directories that a server looks after them."""
        ...
