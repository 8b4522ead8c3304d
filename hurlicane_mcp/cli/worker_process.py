"""One worker: a fork of the warm parent, tied to it by a socket pair.

The pair says two things. The worker sends one byte when it is ready; and when the parent is gone,
however it went, the worker's end becomes readable. The parent keeps nothing else of its worker.

macOS forks as well. There the system's frameworks do not survive a fork without exec (Python's
documentation of `multiprocessing` tells of it), so what the parent imports must not use them.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from hurlicane_mcp.errors import AlreadyServing, HurlicaneError, Invalid

DO_NOT_RESTART: Final = os.EX_CONFIG  #: exit code 78 of a worker that no restart can help

_READY: Final = b"\n"
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLinks:
    """What a worker gets from its parent. Neither socket is inherited over exec."""

    listener: socket.socket  #: bound and listening
    life: socket.socket  #: becomes readable when the parent is gone: drain and return

    def ready(self) -> None:
        """Tell the parent that requests are answered from now on. Call it once."""
        with suppress(ConnectionError):  # the parent is gone: `life` says so as well
            self.life.send(_READY)


#: Serves until SIGTERM or until `life` is readable, then returns. It may raise `AlreadyServing` or
#: `Invalid`, or exit with `DO_NOT_RESTART`, for a fault that a restart does not mend.
Work: TypeAlias = Callable[[WorkerLinks], None]


class Worker:
    """A child process, as its parent sees it."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        link.setblocking(False)
        self.pid = pid
        self.link = link
        self.is_ready = False
        self._may_speak = True

    @property
    def awaited(self) -> tuple[socket.socket, ...]:
        """The link while a word may still come over it, for `select`."""
        return (self.link,) if self._may_speak else ()

    def hear(self) -> None:
        """Note in `is_ready` whether the worker has said so by now."""
        try:
            word = self.link.recv(1)
        except BlockingIOError:
            return
        self.is_ready = self.is_ready or word == _READY
        self._may_speak = False

    def exit_code(self) -> int | None:
        """None while it lives; then, once, its exit code, or minus the signal that killed it."""
        # Until its status has been taken the process is a zombie at least: `pid` is no one else's.
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return self._ended(status) if pid else None

    def terminate(self) -> None:
        """Ask it to drain and to leave."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> int:
        """End it now. Returns as `exit_code` does once it has ended."""
        os.kill(self.pid, signal.SIGKILL)
        return self._ended(os.waitpid(self.pid, 0)[1])

    def _ended(self, status: int) -> int:
        if self._may_speak:  # it may have been ready for a moment
            self.hear()
        self.link.close()
        return os.waitstatus_to_exitcode(status)


def fork_worker(listener: socket.socket, work: Work, release: Callable[[], None]) -> Worker:
    """A child that does *work*; first it calls *release* to let go of what is the parent's own.

    To be called with the signals that *release* gives back blocked.

    Raises:
        RuntimeError: this process has more than one thread, so a fork may inherit locked locks.
    """
    if threading.active_count() != 1:
        raise RuntimeError(f"a thread was started before the fork: {threading.enumerate()}")
    sys.stdout.flush()  # else what is still in the buffers is written twice
    sys.stderr.flush()
    parent = os.getpid()
    ours, theirs = socket.socketpair()
    if pid := os.fork():
        theirs.close()
        return Worker(pid, ours)
    code = 1
    try:
        ours.close()
        # A session of its own: Ctrl-C and the closing of the terminal reach the parent only.
        os.setsid()
        release()
        _die_with(parent)
        code = _exit_code_of(work, WorkerLinks(listener, theirs))
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # the parent's frames, below this one, are not for the child


def _die_with(parent: int) -> None:
    """Get SIGTERM when *parent* dies. On Linux only; elsewhere `WorkerLinks.life` has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:  # it died before prctl
        os._exit(0)


def _exit_code_of(work: Work, links: WorkerLinks) -> int:
    try:
        work(links)
    except (AlreadyServing, Invalid) as error:
        log.error("%s", error)  # its one sentence says what to do; a traceback would bury it
        return DO_NOT_RESTART
    except HurlicaneError as error:
        log.error("%s", error)
        return 1
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        log.exception("the worker failed")
        return 1
    return 0
