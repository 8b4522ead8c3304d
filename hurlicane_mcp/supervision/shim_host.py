"""Agents under shims: each survives this process, and any later one can take it over."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from io import BufferedWriter
from pathlib import Path
from signal import SIGTERM
from typing import Any, Literal, cast

import anyio
from anyio import to_thread

from hurlicane_mcp.errors import LaunchFailed, NotWritable, ShimDied
from hurlicane_mcp.supervision import processes, run_directory
from hurlicane_mcp.supervision.host import Command, Exit, Handle, ProcessIdentity
from hurlicane_mcp.supervision.identity import (
    boot_id,
    gone,
    identity_of,
    is_alive,
    kill_tree,
    send,
    sweep,
)
from hurlicane_mcp.supervision.space import is_full, says_not_writable
from hurlicane_mcp.supervision.transcript import tail

SHIM_PROGRAM = Path(__file__).with_name("shim.py")
WHERE_SHIMS_COMPLAIN = (run_directory.LOG, run_directory.SCREEN)
DEFAULT_GRACE = timedelta(seconds=10)  #: for a SIGTERM to the shim that is not ours
FROZEN_AFTER = timedelta(seconds=3)  #: beyond the grace; then a shim is killed from outside
NAMELESS_LIMIT = timedelta(seconds=2)  #: between a shim's lock and its name in it
LIMITS = frozenset({"time", "unattended", "output"})  #: why a shim stops its agent by itself
START_LIMIT = timedelta(seconds=30)  #: for the shim to tell that the agent runs


class ShimHandle:
    """A shim that lives, or lived when we looked."""

    def __init__(self, run_dir: Path, identity: ProcessIdentity) -> None:
        self._run_dir = run_dir
        self._identity = identity
        self._exit: Exit | None = None
        self._settling = anyio.Lock()

    @property
    def identity(self) -> ProcessIdentity:
        return self._identity

    async def ended(self) -> Exit:
        await gone(self._identity)
        async with self._settling:
            if self._exit is None:
                self._exit = _read_exit(self._run_dir) or await _swept(self._run_dir)
            return self._exit

    async def stop(self, grace: timedelta) -> None:
        with suppress(FileNotFoundError):  # the directory of a run that ended long ago
            _write(self._run_dir / run_directory.GRACE, str(grace.total_seconds()).encode())
        send(self._identity, SIGTERM)
        with anyio.move_on_after((grace + FROZEN_AFTER).total_seconds()):
            await self.ended()
            return
        await kill_tree(self._identity)
        await self.ended()


class ShimHost:
    """Starts agents under shims and finds them again."""

    def __init__(self, python: str = sys.executable) -> None:
        """*python* runs the shims; it needs nothing but its standard library."""
        self._python = python

    async def start(self, run_dir: Path, command: Command) -> Handle:
        if _has_started(run_dir) or (run_dir / run_directory.COMMAND).exists():
            raise LaunchFailed(f"An agent was started in {run_dir} before; use a fresh directory.")
        if is_full(run_dir):
            raise NotWritable(f"There is no space left on the disk of {run_dir}.")
        try:
            await to_thread.run_sync(_write_launch, run_dir, command, self._options())
            identity, ready = await to_thread.run_sync(self._spawn, run_dir)
        except (OSError, ValueError) as error:
            if says_not_writable(error):
                raise NotWritable(f"Nothing can be written to {run_dir}: {error}") from error
            raise LaunchFailed(f"The agent's shim could not be started: {error}") from error
        if await _is_ready(ready, identity):
            return ShimHandle(run_dir, identity)
        await kill_tree(identity)
        await gone(identity)
        await _swept(run_dir)
        said = (tail(run_dir / name, 2000).strip() for name in WHERE_SHIMS_COMPLAIN)
        trouble = next(filter(None, said), "it said nothing")
        raise ShimDied(f"The agent's shim ended before the agent ran: {trouble}")

    async def adopt(self, run_dir: Path) -> Handle | Exit | None:
        nameless_until = anyio.current_time() + NAMELESS_LIMIT.total_seconds()
        while True:
            try:
                with _lock(run_dir) as is_free:
                    if is_free:  # no shim lives here, and while we hold the lock none can start
                        return await _aftermath(run_dir)
            except FileNotFoundError:  # no such directory
                return None
            if holder := _holder(run_dir):
                return ShimHandle(run_dir, holder)
            if anyio.current_time() > nameless_until:  # frozen: it has not started anything yet
                await to_thread.run_sync(_kill_shims, run_dir)
            await anyio.sleep(0.01)  # it is about to write its name, or just ended

    async def attend(self, run_dirs: Iterable[Path]) -> None:
        await to_thread.run_sync(_attend, tuple(run_dirs))

    async def clear(self, identity: ProcessIdentity | None, marker: str) -> None:
        if identity is not None and is_alive(identity):
            await kill_tree(identity)
            await gone(identity)
        await sweep(marker)

    def _options(self) -> Sequence[tuple[str, str]]:
        """What the shim is told besides the command."""
        return ()

    def _argv(self, run_dir: Path, ready: str) -> tuple[str, ...]:
        """A shim's command line; *ready* names the pipe by which it tells that it is ready."""
        flags = ("-I", "-S", "-E", "-X", "utf8")
        return (self._python, *flags, str(SHIM_PROGRAM), str(run_dir), ready)

    def _spawn(self, run_dir: Path) -> tuple[ProcessIdentity, int]:
        """A new shim's identity, and the pipe by which it tells that it is ready."""
        ready, writer = os.pipe()
        try:
            with open_private(run_dir / run_directory.LOG, "ab") as log:
                process = subprocess.Popen(
                    self._argv(run_dir, str(writer)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writer,),
                    start_new_session=True,
                )
        except OSError:
            os.close(ready)
            (run_dir / run_directory.COMMAND).unlink()
            raise
        finally:
            os.close(writer)
        identity = identity_of(process.pid)
        assert identity, "a child stays, be it as a zombie, until we reap it"
        process.returncode = 0  # keeps Popen from reaping or complaining: `gone` does the former
        return identity, ready


def rebooted(run_dir: Path) -> bool:
    """Whether the machine was started again since the agent of *run_dir* was."""
    shim = _read_json(run_dir / run_directory.SHIM)
    return shim is not None and shim.get("boot_id") != boot_id()


def stopped_by(run_dir: Path) -> str | None:
    """What made the shim of *run_dir* end its agent: `request` (a stop), `hangup` (its terminal
    is gone), `time`, `unattended` or `output` (a limit). None if the agent ended by itself, or
    nothing is known."""
    found = _read_json(run_dir / run_directory.EXIT)
    return found.get("stopped_by") if found else None


async def _is_ready(ready: int, shim: ProcessIdentity) -> bool:
    """Wait until a shim says that its agent runs or cannot be run; False if it fails."""
    os.set_blocking(ready, False)
    try:
        with anyio.move_on_after(START_LIMIT.total_seconds()):
            async with anyio.create_task_group() as tasks:

                async def end_with(wait: Callable[[], Awaitable[None]]) -> None:
                    await wait()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(end_with, partial(anyio.wait_readable, ready))
                tasks.start_soon(end_with, partial(gone, shim))
        with suppress(BlockingIOError):
            return os.read(ready, 1) != b""
        return False
    finally:
        os.close(ready)


async def _aftermath(run_dir: Path) -> Exit | None:
    """What a dead shim left, with nothing of its tree alive; None if it never started any."""
    if _has_started(run_dir):
        unknown = await _swept(run_dir)
        return _read_exit(run_dir) or unknown
    (run_dir / run_directory.COMMAND).unlink(missing_ok=True)  # a belated shim finds nothing
    return None


async def _swept(run_dir: Path) -> Exit:
    """Make sure that nothing of a dead shim's tree is left. How it ended, nobody knows."""
    if marker := _marker(run_dir):
        await sweep(marker)
    (run_dir / run_directory.COMMAND).unlink(missing_ok=True)
    return Exit()


def _has_started(run_dir: Path) -> bool:
    """Whether a shim has ever come so far here that an agent may have run."""
    names = (run_directory.SHIM, run_directory.EXIT)
    return bool(_lock_text(run_dir)) or any((run_dir / name).exists() for name in names)


def _holder(run_dir: Path) -> ProcessIdentity | None:
    """The shim that holds the lock; None if it has not written its name or has ended."""
    pid, *start_time = _lock_text(run_dir).split() or ["0"]
    found = identity_of(int(pid))
    return found if found and (found.start_time in start_time or not start_time) else None


def _lock_text(run_dir: Path) -> str:
    return (processes.read_bytes(str(run_dir / run_directory.LOCK)) or b"").decode()


def _kill_shims(run_dir: Path) -> None:
    """Kill the shims of a run directory that have not told who they are."""
    import psutil

    command = {str(SHIM_PROGRAM), str(run_dir)}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if command <= set(process.cmdline()):
                process.kill()


@contextmanager
def _lock(run_dir: Path) -> Generator[bool]:
    """Hold the lock of a run directory, if no shim does; yields whether."""
    with open_private(run_dir / run_directory.LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _marker(run_dir: Path) -> str | None:
    shim = _read_json(run_dir / run_directory.SHIM)
    if shim:
        return shim.get("marker")
    text = processes.read_bytes(str(run_dir / run_directory.COMMAND))
    return run_directory.decode_launch(text).env.get(processes.MARKER) if text else None


def _read_exit(run_dir: Path) -> Exit | None:
    found = _read_json(run_dir / run_directory.EXIT)
    if found is None:
        return None
    reason = found.get("stopped_by")
    return Exit(
        found.get("code"),
        found.get("signal"),
        found.get("launch_error"),
        reason if reason in LIMITS else None,
        found.get("oom", False),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is none, or none that can be read."""
    try:
        found: object = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _write_launch(run_dir: Path, command: Command, options: Sequence[tuple[str, str]]) -> None:
    """Lay out what the shim reads."""
    env = {**command.env, processes.MARKER: command.marker}
    launch = run_directory.encode_launch(
        (
            ("cwd", str(command.cwd)),
            ("grace", str(DEFAULT_GRACE.total_seconds())),
            *options,
            *_limits(command),
            *(("arg", arg) for arg in command.argv),
            *(("env", f"{name}={value}") for name, value in env.items()),
        )
    )
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open_private(run_dir / run_directory.COMMAND, "xb") as file:
            file.write(launch)
        _write(run_dir / run_directory.STDIN, command.stdin)
    except OSError:  # a full disk; half a command must not stand in the way of the next try
        (run_dir / run_directory.COMMAND).unlink(missing_ok=True)
        raise


def _limits(command: Command) -> Iterator[tuple[str, str]]:
    """The command's limits, as the shim reads them."""
    if command.time_limit is not None:
        yield "time_limit_s", str(command.time_limit.total_seconds())
    if command.unattended_limit is not None:
        yield "unattended_limit_s", str(command.unattended_limit.total_seconds())
    if command.output_limit is not None:
        yield "output_limit_bytes", str(command.output_limit)


def _attend(run_dirs: Sequence[Path]) -> None:
    for run_dir in run_dirs:
        with suppress(OSError):  # gone, or on a disk that is full
            (run_dir / run_directory.ATTENDED).touch(0o600)


def _write(path: Path, content: bytes) -> None:
    with open_private(path, "wb") as file:
        file.write(content)


def open_private(path: Path, mode: Literal["ab", "wb", "xb"]) -> BufferedWriter:
    """Open a file to write; a new one is for the user alone."""
    return open(path, mode, opener=run_directory.create_private)
