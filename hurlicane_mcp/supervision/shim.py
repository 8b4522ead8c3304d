"""Keeps one agent alive without its server, and proves its whole process tree gone at the end.

Run detached as `python -I -S -E -X utf8 shim.py RUN_DIR READY`; run_directory.py tells the files.
READY is the number of a pipe's end that the shim inherits, or the name of a pipe in RUN_DIR. One
byte to it says that shim.json or exit.json is there; its end without a byte that the shim failed.
Exit status: 0 done, 75 another shim holds the lock, 76 something ran here before, 77 nothing to
run, 1 a fault of ours, told in shim.log, or on the terminal if it came early.
"""
# ruff: noqa: PTH108, PTH110, PTH120, PTH123, SIM105
# As in processes.py, imports are few.

import errno
import fcntl
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

    from hurlicane_mcp.supervision import limits, processes, run_directory
else:
    import _signal as signal

    sys.path.append(os.path.dirname(__file__))  # the package itself would bring its imports
    import limits
    import processes
    import run_directory

STRAY_GRACE = 2.0  # seconds that processes left behind get between TERM and KILL
EXIT_PATIENCE = 60.0  # seconds for exit.json to be written, on a failing disk say
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SCROLLBACK_LIMIT = 3.0  # seconds for tmux to tell what was on the terminal

System = processes.Linux | processes.Portable


class Signals:
    """Waits for signals. Each is also a byte in a pipe, so that none falls between two waits."""

    def __init__(self) -> None:
        self._stop = ""
        self._pipe, writer = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _note(self, number: int, _: "FrameType | None") -> None:
        if number != signal.SIGCHLD:
            self._stop = "hangup" if number == signal.SIGHUP else "request"

    def take_stop(self) -> str:
        """What has asked for a stop since the last call: `request`, `hangup` (the terminal is
        gone), or nothing."""
        asked, self._stop = self._stop, ""
        return asked

    def wait(self, seconds: float) -> None:
        """Return on the next signal, or after *seconds*, which may be infinite."""
        select.select([self._pipe], [], [], None if seconds == float("inf") else max(seconds, 0))
        try:
            os.read(self._pipe, 4096)
        except BlockingIOError:
            pass


class Terminal:
    """The pane of tmux that this shim was started in; it is the agent's.

    The shim stays the leader of the terminal's session, so the kernel tells it (SIGHUP) when the
    terminal is gone, and no key reaches it: the agent's group is in the foreground.
    """

    def __init__(self, tmux: str) -> None:
        self._tmux = tmux
        self._tty = os.dup(0)
        log = os.open(run_directory.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(file, number)

    def take(self) -> None:
        """Put this fork of the shim in front of the terminal, with all three streams on it."""
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else taking the foreground stops us
        os.tcsetpgrp(self._tty, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        for number in range(3):
            os.dup2(self._tty, number)

    def save(self) -> None:
        """Keep what was to be read on it, if tmux still tells."""
        import subprocess

        capture = ("-S", run_directory.TMUX, "capture-pane", "-p", "-S", "-", "-t")
        argv = (self._tmux, *capture, os.environ.get("TMUX_PANE", ""))
        try:
            text = subprocess.check_output(argv, stdin=subprocess.DEVNULL, timeout=SCROLLBACK_LIMIT)
        except (OSError, subprocess.SubprocessError):
            return
        try:
            with open(run_directory.SCROLLBACK, "wb", opener=run_directory.create_private) as file:
                file.write(text.rstrip() + b"\n")  # without the empty half of the screen
        except OSError:  # a full disk; the agent's end is told all the same
            pass


class Tree:
    """The agent and whatever it has started, wherever that went."""

    def __init__(self, system: System, agent: int, marker: str, has_terminal: bool) -> None:
        self._system, self._agent, self._marker = system, agent, marker
        self._options = os.WNOHANG | (os.WUNTRACED if has_terminal else 0)
        self.status: int | None = None  # the agent's, as wait(2) gives it
        self.agent_ended = float("inf")

    def reap(self) -> bool:
        """Bury the dead. True if no child is left: for a subreaper, no descendant at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, self._options)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if os.WIFSTOPPED(status):  # Ctrl-Z; there is no shell to bring it back
                self._go_on(pid)
            elif pid == self._agent:
                self.status, self.agent_ended = status, time.monotonic()

    def _go_on(self, pid: int) -> None:
        try:
            if pid == self._agent:
                os.killpg(pid, signal.SIGCONT)
        except OSError:  # killed meanwhile
            pass

    def is_gone(self) -> bool:
        """Whether nothing is left, with or without the agent as its parent."""
        return self.reap() and not self._system.members(self._agent, self._marker)

    def signal(self, *numbers: int) -> None:
        """Send the signals to every member. Those of another user are beyond us."""
        for pid in self._system.members(self._agent, self._marker):
            for number in numbers:
                try:
                    os.kill(pid, number)
                except (ProcessLookupError, PermissionError):
                    break

    def end(self, signals: Signals, grace: float, shorter: "Callable[[], float]") -> None:
        """TERM, then KILL after *grace* seconds; return when nothing is left.

        What outlives the agent gets `STRAY_GRACE` at most. Another stop may shorten the grace.
        """
        if self.is_gone():
            return
        self.signal(signal.SIGTERM, signal.SIGCONT)  # a stopped process must run to see its TERM
        deadline = time.monotonic() + grace
        while not self.is_gone():
            if signals.take_stop():
                deadline = min(deadline, time.monotonic() + shorter())
            if time.monotonic() >= min(deadline, self.agent_ended + STRAY_GRACE):
                self.signal(signal.SIGKILL)  # again and again: it may be forking
            signals.wait(0.05)


def open_files() -> None:
    """Give this fork of the shim a session of its own, and files for its three streams."""
    os.setsid()
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.dup2(os.open(run_directory.STDIN, os.O_RDONLY), 0)
    os.dup2(os.open(run_directory.STDOUT, append, 0o600), 1)
    os.dup2(os.open(run_directory.STDERR, append, 0o600), 2)


def become_agent(
    system: System,
    launch: run_directory.Launch,
    open_streams: "Callable[[], None]",
    shim: int,
    report: int,
) -> "NoReturn":
    """Turn this fork of the shim into the agent, or write to *report* why that cannot be."""
    problem = "The agent's files or its terminal cannot be opened"
    try:
        system.die_with(shim)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGQUIT, signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and exec keeps that
        open_streams()
        problem = f"The working directory {launch.cwd!r} cannot be entered"
        os.chdir(launch.cwd)
        problem = f"The program {launch.argv[0]!r} cannot be executed"
        os.execvpe(launch.argv[0], launch.argv, launch.env)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        os.write(report, os.fsencode(f"{problem}: {error.strerror} ({name})."))
    finally:
        os._exit(127)


def start_agent(
    system: System, launch: run_directory.Launch, open_streams: "Callable[[], None]"
) -> tuple[int, str]:
    """The agent's pid, and why it could not be executed, if so."""
    reader, writer = os.pipe()
    shim, pid = os.getpid(), os.fork()
    if pid == 0:
        become_agent(system, launch, open_streams, shim, writer)
    os.close(writer)
    with open(reader, "rb") as report:
        return pid, os.fsdecode(report.read())  # ends when exec closes the other side


def take_lock() -> int | None:
    """Hold the run directory until this process ends. A host that is just looking gets 0.2 s."""
    lock = os.open(run_directory.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return lock
    return None


def announce(ready: int) -> None:
    """Tell the host that shim.json or exit.json is there, if it still listens."""
    try:
        os.write(ready, b"1")
    except BrokenPipeError:
        pass
    os.close(ready)
    os.unlink(run_directory.COMMAND)


def write_exit(
    status: int | None, launch_error: str | None, stopped_by: str | None, oom: bool = False
) -> None:
    """Record how it ended. The caller knows that nothing is left.

    Raises:
        OSError: the disk has refused it for `EXIT_PATIENCE`, so nobody will know.
    """
    code = None if status is None else os.waitstatus_to_exitcode(status)
    content: dict[str, object] = {
        "code": code if code is not None and code >= 0 else None,
        "signal": -code if code is not None and code < 0 else None,
        "launch_error": launch_error,
        "stopped_by": stopped_by,
        "oom": oom,
        "ended_at": time.time(),
    }
    give_up = time.monotonic() + EXIT_PATIENCE
    while True:
        try:
            run_directory.write_json(".", run_directory.EXIT, content)
            return
        except FileNotFoundError:  # the run directory is gone
            raise
        except OSError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.5)


def supervise(
    tree: Tree, launch: run_directory.Launch, signals: Signals, memory: limits.Memory
) -> str | None:
    """Stay until the whole tree is gone. Tell what ended it, as `shim_host.stopped_by` lists it."""
    bounds = limits.Limits(launch)

    def grace() -> float:
        requested = processes.read_bytes(run_directory.GRACE)
        return float(requested) if requested else launch.grace

    while not tree.reap() and tree.status is None:
        reason = signals.take_stop() or bounds.exceeded()
        if reason:
            # What prints too much goes on with it until it is gone.
            is_hasty = reason in ("hangup", "output")
            tree.end(signals, STRAY_GRACE if is_hasty else grace(), grace)
            return reason
        memory.look()
        signals.wait(bounds.next_look())
    tree.end(signals, STRAY_GRACE, grace)
    return None


def keep(system: System, launch: run_directory.Launch, ready: int) -> None:
    """Run the agent to its end, and leave exit.json."""
    signals = Signals()
    system.adopt_orphans()
    terminal = Terminal(launch.tmux) if launch.tmux else None
    run_directory.reserve(".", run_directory.EXIT)
    memory = limits.Memory(system)
    agent, launch_error = start_agent(system, launch, terminal.take if terminal else open_files)
    if launch_error:
        write_exit(None, launch_error, None)
        announce(ready)
        return
    marker = launch.env.get(processes.MARKER, "")
    identity: dict[str, object] = {
        "pid": os.getpid(),
        "start_time": system.start_time(os.getpid()),
        "boot_id": system.boot_id(),
        "agent_pid": agent,
        "agent_start_time": system.start_time(agent),
        "marker": marker,
        "started_at": time.time(),
    }
    run_directory.write_json(".", run_directory.SHIM, identity)
    announce(ready)
    tree = Tree(system, agent, marker, terminal is not None)
    stopped_by = supervise(tree, launch, signals, memory)
    was_killed = tree.status is not None and os.WIFSIGNALED(tree.status)
    was_killed = was_killed and os.WTERMSIG(tree.status or 0) == signal.SIGKILL
    oom = stopped_by is None and was_killed and memory.ran_out()
    write_exit(tree.status, None, stopped_by, oom)
    if terminal:
        terminal.save()  # after the exit is written: tmux may be in trouble


def open_ready(name: str) -> int:
    """The pipe to the host: one that was inherited by number, or one in the run directory."""
    if name.isdigit():
        os.set_inheritable(int(name), False)
        return int(name)
    try:
        pipe = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        os.unlink(name)
    except OSError:  # the host is gone
        return os.open(os.devnull, os.O_WRONLY)
    return pipe


def main(run_dir: str, ready_name: str) -> int:
    """The exit status of this process."""
    os.chdir(run_dir)
    ready = open_ready(ready_name)
    system = processes.this_system()  # before the lock: hosts wait for the name in it
    lock = take_lock()
    if lock is None:
        return run_directory.ALREADY_RUNNING
    if os.path.exists(run_directory.SHIM) or os.path.exists(run_directory.EXIT):
        return run_directory.ALREADY_RAN
    text = processes.read_bytes(run_directory.COMMAND)
    if text is None:
        return run_directory.NOTHING_TO_RUN
    # From here on something may have been started: a host that finds no shim.json reads this.
    os.write(lock, f"{os.getpid()} {system.start_time(os.getpid())}".encode())
    keep(system, run_directory.decode_launch(text), ready)
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1], sys.argv[2]))  # without the interpreter's own farewell
