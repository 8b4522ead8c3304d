"""The parent of `hurlicane serve`: it owns the listening socket and keeps a worker on it.

It binds, imports the application once, and forks. When the worker dies the next one is a fork away
(38 ms instead of the 900 ms of a cold import, measured 2026-11-24), and a client that calls
meanwhile waits in the socket's backlog instead of being refused. That matters: after one refused
call Claude Code 2.1 and Codex 0.169 end with exit code 0 and report nothing.

The parent has one thread, knows no database and answers no request. Signals steer it:

- SIGTERM, SIGINT: stop the worker, then leave. A SIGINT while it is stopping kills the worker.
- SIGHUP: take up the installed code under the same process id, on the same socket. The old worker
  serves until the new code is loaded; code that cannot be loaded changes nothing. When the
  parent's terminal is gone SIGHUP means just that, and stops it.
"""

import gc
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import FrameType
from typing import Final, Self

from hurlicane_mcp.cli.listener import Bind, activated, adopted, bound
from hurlicane_mcp.cli.worker_process import (
    DO_NOT_RESTART,
    Work,
    Worker,
    WorkerLinks,
    fork_worker,
)

__all__ = ["DO_NOT_RESTART", "Bind", "Work", "WorkerLinks", "run_parent"]

GRACE: Final = timedelta(seconds=15)  #: what a worker gets to drain
#: Seconds before the next try after the first, second, … worker in a row that died early: before
#: it was ready, or less than `SETTLED_S` after its start. The last one stands for all that follow.
BACKOFF: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
SETTLED_S: Final = 1.0
#: Early deaths that a server bears which was never ready: its settings cannot work.
TRIES: Final = 5
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})

# Both are read and removed at the start, so neither a worker nor an agent ever sees them.
REHEARSAL: Final = "_HURLICANE_REHEARSAL"
HANDOVER: Final = "_HURLICANE_HANDOVER"

log = logging.getLogger(__name__)


def run_parent(
    bind: Bind,
    load: Callable[[], Work],
    announce: Callable[[str, int], None],
    grace: timedelta = GRACE,
) -> int:
    """Serve until told to stop, and return the exit code: 0, or 1 if no worker can live.

    *load* imports the application and returns the worker's work; it must start no thread.
    *announce* gets host and port when the first worker is ready. A worker has *grace* to leave.
    A socket given by systemd (`LISTEN_FDS`) takes the place of *bind*.

    It takes this process over (signals, the garbage collector), so call it last. To prove new code
    before it takes it up, it runs its own command line again in a process where this function
    only calls *load*; what the program does before this call must bear that.

    Raises:
        AlreadyServing: the port is in use.
        Invalid: it cannot listen there, or the socket that was passed is not one to listen on.
    """
    if os.environ.pop(REHEARSAL, None):
        load()
        return 0
    signals = _Signals()
    predecessor = _Handover.take(os.environ.pop(HANDOVER, None))
    # Before the import, so that early clients wait in the backlog.
    listener = predecessor.open_listener() if predecessor else activated() or bound(bind)
    with listener:
        work = _load_frozen(load)
        parent = _Parent(listener, work, announce, signals, grace)
        if predecessor:
            parent.succeed(predecessor)
        try:
            return parent.run()
        finally:
            parent.cancel_rehearsal()


def _load_frozen(load: Callable[[], Work]) -> Work:
    """What *load* returns; all that it imported is shared with the workers, page by page."""
    gc.disable()  # ~80 ms of an import of 965 ms; a collection at its end would cost 130 ms more
    try:
        work = load()
        gc.freeze()  # a collection in a worker would copy the pages: ~20 MB each
    finally:
        gc.enable()
    return work


class _Signals:
    """The signals of this process as values: blocked always, except inside `wait`.

    So none is lost over a fork or an exec, and one `select` waits for a signal, a word of the
    worker and the time (macOS has no sigtimedwait, and that would not see the worker's word).
    """

    def __init__(self) -> None:
        # `nohup` ignores SIGHUP; we leave it so.
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._handled = tuple(one for one in SIGNALS if not (nohup and one == signal.SIGHUP))
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)
        self._heard, self._noted = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._noted, False)
        signal.set_wakeup_fd(self._noted, warn_on_full_buffer=False)
        for one in self._handled:
            signal.signal(one, _note_only)

    def wait(
        self, timeout: float | None, sockets: tuple[socket.socket, ...] = ()
    ) -> frozenset[int]:
        """The signals that have come; none if one of *sockets* is readable or time (s) is up."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handled)
        try:
            select.select((self._heard, *sockets), (), (), timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)
        try:
            return frozenset(os.read(self._heard, 1024))
        except BlockingIOError:
            return frozenset()

    def release(self) -> None:
        """Give a forked child the signals as a new process has them."""
        signal.set_wakeup_fd(-1)
        os.close(self._heard)
        os.close(self._noted)
        for one in self._handled:
            signal.signal(one, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handled)


def _note_only(number: int, frame: FrameType | None) -> None:
    """The interpreter has written the signal's number to the wakeup descriptor: that is all."""


@dataclass(frozen=True, slots=True)
class _Handover:
    """What the parent leaves to itself over an exec: descriptors, and the worker that serves.

    Another version may read it: a new field needs a default, and none of these may go.
    """

    pid: int
    listener: int
    announced: bool
    worker: int | None
    link: int | None

    @classmethod
    def take(cls, text: str | None) -> Self | None:
        """The handover in *text*, if it was written by this very process."""
        handover = cls(**json.loads(text)) if text else None
        return handover if handover and handover.pid == os.getpid() else None

    def open_listener(self) -> socket.socket:
        return adopted(self.listener)

    def open_worker(self) -> Worker | None:
        if self.worker is None or self.link is None:
            return None
        os.set_inheritable(self.link, False)
        return Worker(self.worker, socket.socket(fileno=self.link))


class _Parent:
    """Keeps one worker alive on the listener, and heeds the signals."""

    def __init__(
        self,
        listener: socket.socket,
        work: Work,
        announce: Callable[[str, int], None],
        signals: _Signals,
        grace: timedelta,
    ) -> None:
        self.listener = listener
        self.work = work
        self.announce = announce
        self.signals = signals
        self.grace = grace.total_seconds()
        self.worker: Worker | None = None
        self.rehearsal: subprocess.Popen[bytes] | None = None
        self.announced = False
        self.stopping = False
        self.impatient = False
        self.had_terminal = _has_terminal()

    def succeed(self, predecessor: _Handover) -> None:
        """Take over from the program that this process was before, and end its worker."""
        self.announced = predecessor.announced
        if (old := predecessor.open_worker()) is not None:
            self.worker = old
            self.end(old)
            self.worker = None

    def run(self) -> int:
        """Replace each worker that dies, until told to stop (0) or no first one gets ready (1)."""
        early_deaths = 0
        self.heed(0)  # what came while the application was being loaded
        while not self.stopping:
            began = time.monotonic()
            self.worker = worker = fork_worker(self.listener, self.work, self.signals.release)
            code = self.watch(worker)
            self.worker = None
            if self.stopping:
                break
            if code == DO_NOT_RESTART:
                return 1
            settled = worker.is_ready and time.monotonic() - began >= SETTLED_S
            early_deaths = 0 if settled else early_deaths + 1
            log.warning("worker %d %s", worker.pid, _ending(code, worker.is_ready))
            # One that has served goes on trying: its agents are at work, and a database that is
            # away comes back.
            if early_deaths >= TRIES and not self.announced:
                log.error("No worker gets ready (%d tries): see the messages above.", early_deaths)
                return 1
            if early_deaths:
                self.pause(BACKOFF[min(early_deaths, len(BACKOFF)) - 1])
        return 0

    def watch(self, worker: Worker) -> int:
        """The exit code of *worker* once it has ended, by itself or because we are stopping."""
        while (code := worker.exit_code()) is None:
            if self.stopping:
                return self.end(worker)
            self.heed(None)
        return code

    def end(self, worker: Worker) -> int:
        """Let *worker* drain for the grace, then kill it. Returns its exit code."""
        worker.terminate()
        deadline = time.monotonic() + self.grace
        while (code := worker.exit_code()) is None:
            left = deadline - time.monotonic()
            if self.impatient or left <= 0:
                log.warning("worker %d is killed before it has drained", worker.pid)
                return worker.kill()
            self.heed(left)
        return code

    def pause(self, seconds: float) -> None:
        """Return after *seconds*, or as soon as we are told to stop."""
        deadline = time.monotonic() + seconds
        while not self.stopping and (left := deadline - time.monotonic()) > 0:
            self.heed(left)

    def heed(self, timeout: float | None) -> None:
        """Sleep until something happens or *timeout* (s) is over, and do what it asks for."""
        worker = self.worker
        told = self.signals.wait(timeout, worker.awaited if worker else ())
        if worker and worker.awaited:
            worker.hear()
            self.announce_once(worker)
        if signal.SIGINT in told and self.stopping:
            self.impatient = True
        if told & STOPS:
            self.stopping = True
        if signal.SIGHUP in told and not self.stopping:
            self.hang_up()
        self.conclude_rehearsal()

    def announce_once(self, worker: Worker) -> None:
        if worker.is_ready and not self.announced:
            self.announced = True
            host, port = self.listener.getsockname()[:2]
            self.announce(host, port)

    def hang_up(self) -> None:
        if self.had_terminal and not _has_terminal():
            self.stopping = True
        else:
            self.rehearse()

    def rehearse(self) -> None:
        """Let another process load the installed code: broken code would be the end of this one."""
        self.cancel_rehearsal()
        env = {**os.environ, REHEARSAL: "1"}
        try:
            self.rehearsal = subprocess.Popen(
                _command(), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        except OSError:
            log.exception("SIGHUP changes nothing: %s cannot be run", sys.executable)

    def cancel_rehearsal(self) -> None:
        if self.rehearsal is not None:
            self.rehearsal.kill()
            self.rehearsal.wait()
            self.rehearsal = None

    def conclude_rehearsal(self) -> None:
        if self.stopping or self.rehearsal is None or (code := self.rehearsal.poll()) is None:
            return
        self.rehearsal = None
        if code:
            log.error("SIGHUP changes nothing: the installed code cannot be loaded (exit %d)", code)
        else:
            self.become_installed_code()

    def become_installed_code(self) -> None:
        """Execute the program anew in this process. Returns only if that fails."""
        worker = self.worker
        kept = (self.listener, worker.link) if worker else (self.listener,)
        handover = _Handover(
            pid=os.getpid(),
            listener=self.listener.fileno(),
            announced=self.announced,
            worker=worker.pid if worker else None,
            link=worker.link.fileno() if worker else None,
        )
        log.info("the installed code is taken up")
        try:
            for one in kept:
                one.set_inheritable(True)
            env = {**os.environ, HANDOVER: json.dumps(asdict(handover))}
            os.execve(sys.executable, _command(), env)
        except OSError:
            log.exception("SIGHUP changes nothing: %s cannot be run", sys.executable)
            for one in kept:
                one.set_inheritable(False)


def _command() -> tuple[str, ...]:
    """The command line that this process was started with."""
    return (sys.executable, *sys.orig_argv[1:])


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that has not been hung up: tty(4)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _ending(code: int, was_ready: bool) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    return how if was_ready else f"{how} before it was ready"
