"""Who a process is, whether it still lives, and when it is gone."""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress

import anyio
from anyio import to_thread

from hurlicane_mcp.supervision import processes
from hurlicane_mcp.supervision.host import ProcessIdentity

HAS_PIDFD = sys.platform == "linux"
POLL_S = 0.25  #: how often a process is looked at where the kernel cannot tell of its end


def boot_id() -> str:
    """The name of this boot of the machine."""
    return processes.this_system().boot_id()


def identity_of(pid: int) -> ProcessIdentity | None:
    """Who has this pid now, be it a zombie; None if nobody."""
    found = _look(pid)
    return found and ProcessIdentity(pid, found[1], boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs. Zombies, reused pids and other boots are dead."""
    found = _look(identity.pid)
    return (
        found is not None
        and not processes.is_dead(found[0])
        and found[1] == identity.start_time
        and boot_id() == identity.boot_id
    )


def _look(pid: int) -> tuple[str, str] | None:
    """A process's state letter and start time."""
    if HAS_PIDFD:
        stat = processes.process_stat(pid)
        return stat and (stat[0], stat[2])
    import psutil

    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return "Z" if zombie else "R", repr(process.create_time())
    except psutil.Error:
        return None


def marked(marker: str) -> frozenset[int]:
    """The pids of all living processes that carry HURLICANE_ATTEMPT=*marker*, except our own.

    Not found: what we may not read, and what overwrote or cleared its environment.
    """
    found = processes.marked(marker) if HAS_PIDFD else _marked_by_psutil(marker)
    return frozenset(found - {os.getpid()})


def _marked_by_psutil(marker: str) -> set[int]:
    import psutil

    found: set[int] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(processes.MARKER) == marker:
                found.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal this very process; False if it is gone."""
    try:
        if not HAS_PIDFD:
            alive = is_alive(identity)
            if alive:
                os.kill(identity.pid, number)
            return alive
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(identity):  # asked after the pidfd was opened, so the pid is not reused
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill(pids: Iterable[int]) -> None:
    """SIGKILL all of these that are there and ours."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


async def kill_tree(identity: ProcessIdentity) -> None:
    """Kill this very process and, on Linux, all that is below it now, frozen or not."""
    if HAS_PIDFD and is_alive(identity):
        kill(await to_thread.run_sync(processes.descendants, identity.pid))
    send(identity, signal.SIGKILL)


async def sweep(marker: str) -> None:
    """Kill every process that carries *marker*, from outside; return when none is left."""
    empty_looks = 0
    while empty_looks < 2:  # a process inside execve has no environment to see for a moment
        found = await to_thread.run_sync(marked, marker)
        kill(found)
        empty_looks = 0 if found else empty_looks + 1
        await anyio.sleep(0.02)


async def gone(identity: ProcessIdentity) -> None:
    """Return when this process has ended, reaped if it was our child."""
    if not HAS_PIDFD:
        while is_alive(identity):  # noqa: ASYNC110  (there is nothing to be notified by)
            await anyio.sleep(POLL_S)
        if identity_of(identity.pid) == identity:
            _reap(os.P_PID, identity.pid)
        return
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if identity_of(identity.pid) == identity:
            await anyio.wait_readable(pidfd)
            _reap(os.P_PIDFD, pidfd)
    finally:
        os.close(pidfd)


def _reap(kind: int, number: int) -> None:
    with suppress(ChildProcessError):  # another's child: its parent or process 1 reaps it
        os.waitid(kind, number, os.WEXITED | os.WNOHANG)
