"""Calls of git: argument lists only, an environment without surprises, a limit of time and size.

Blocking: call it in a worker thread.
"""

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from hurlicane_mcp.errors import GitBusy, GitDiskFull, GitFailed

#: Seconds that a call may take if nothing else is said.
TIMEOUT_S: Final = 60.0

_CHUNK = 64 * 1024
#: Of the variables that git reads (`man git`), only what says who the user is and how servers are
#: reached. The others name a repository, an index or a format: a server that was started from a
#: hook has them.
_KEPT: Final = (
    *("GIT_SSH", "GIT_PROXY_", "GIT_HTTP_", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
)
#: Nobody is asked anything, nothing is shown, messages are English, and what only looks takes no
#: lock that an agent's git might run into.
_FIXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "true",
        "GIT_SEQUENCE_EDITOR": "true",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_OPTIONAL_LOCKS": "0",
        "SSH_ASKPASS_REQUIRE": "never",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
)
#: What a user may have set that would change answers, or start programs in the background.
_CONFIG: Final = (
    *(
        "core.quotePath=false",
        "color.ui=never",
        "core.fsmonitor=false",
        "advice.detachedHead=false",
    ),
    *("gc.auto=0", "maintenance.auto=false", "commit.gpgSign=false", "tag.gpgSign=false"),
    "log.showSignature=false",  # it has `git reflog` and `git show` run gpg and print its words
)
#: Git says so of every lock (seen with 2.39): index, references and configuration.
_BUSY: Final = ".lock': File exists"
_NO_ROOM: Final = ("No space left on device", "Disk quota exceeded", "Read-only file system")
_AGAIN_S: Final = 0.2
_LOOK_S: Final = 0.05
#: How long a call that has ended is still listened to, while others hold its output open.
_LEFT_S: Final = 1.0
_NO_HOOKS: Final = "core.hooksPath=/dev/null"


@dataclass(frozen=True, slots=True)
class Completed:
    """How a call of git ended. The code of one that was stopped at its `max_bytes` is 0."""

    code: int
    stdout: bytes
    stderr: bytes
    is_cut: bool = False  #: it had more to say than was wanted

    @property
    def text(self) -> str:
        """Its output without the last newline; what is no UTF-8 is replaced."""
        return self.stdout.decode(errors="replace").rstrip("\n")

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields of an output made with `-z`, as the file system names them."""
        return tuple(os.fsdecode(one) for one in self.stdout.split(b"\0") if one)

    @property
    def complaint(self) -> str:
        """What git itself says went wrong: its last `fatal:` or `error:` line, else its last."""
        lines = [line.strip() for line in self.stderr.decode(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        faults = [line for line in lines if line.startswith(("fatal:", "error:"))]
        return (faults or lines or ["it said nothing"])[-1]


def run_git(
    folder: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
    input: bytes | None = None,
    check: bool = True,
    hooks: bool = False,
    max_bytes: int | None = None,
    patience: float = 0,
    hold: int | None = None,
) -> Completed:
    """Run `git` with *args* in *folder* and return how it ended. Blocking.

    *env* comes on top of a clean environment, *input* is its standard input. The user's hooks run
    only if *hooks* says so (git-lfs, for one, uploads in a pre-push hook). After *max_bytes* of
    output it is ended: the answer holds so many and says so. *timeout* is in seconds, and so is
    *patience*: how long it is tried again while a lock of git's is held. *hold* is a file that
    stays open as long as git runs, even if this process is killed: a lock, say.

    Raises:
        GitBusy: a lock was held all the time.
        GitDiskFull: it could not write.
        GitFailed: it could not be started, took too long or, with *check*, ended with another code
            than 0.
    """
    config = (*_CONFIG, *(() if hooks else (_NO_HOOKS,)))
    options = [word for one in config for word in ("-c", one)]
    call = _Call(
        ("git", "-C", str(folder), *options, *args),
        f"git {' '.join(_without_options(args))}",
        folder,
        _environment(env or {}),
        input,
        timeout,
        max_bytes,
        () if hold is None else (hold,),
    )
    deadline = time.monotonic() + patience
    while True:
        ended = call.run()
        if ended.code == 0 or not check:
            return ended
        error = _failure(call, ended)
        if not isinstance(error, GitBusy) or time.monotonic() >= deadline:
            raise error
        time.sleep(_AGAIN_S)


def _without_options(args: Sequence[str]) -> Sequence[str]:
    """What was tried, for a reader: without `-c name=value`."""
    while args[:1] == ("-c",):
        args = args[2:]
    return args


@dataclass(frozen=True, slots=True)
class _Call:
    argv: Sequence[str]
    tried: str
    folder: Path
    env: Mapping[str, str]
    input: bytes | None
    timeout: float
    max_bytes: int | None
    held: Sequence[int]

    def run(self) -> Completed:
        with _given(self.input) as given:
            try:
                # A session of its own: no terminal to ask at, and one group to end.
                process = subprocess.Popen(
                    self.argv,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self.env,
                    start_new_session=True,
                    pass_fds=self.held,
                )
            except OSError as error:
                raise GitFailed(
                    self.tried, self.folder, f"git cannot be started: {error}"
                ) from None
        ended, is_late = _heard(process, self.timeout, self.max_bytes)
        if is_late:
            said = f"it took longer than {self.timeout:g} s and was ended"
            raise GitFailed(self.tried, self.folder, said)
        return ended


def _failure(call: _Call, ended: Completed) -> GitFailed:
    said = ended.stderr.decode(errors="replace")
    kind = GitFailed
    if _BUSY in said:
        kind = GitBusy
    elif any(words in said for words in _NO_ROOM):
        kind = GitDiskFull
    return kind(call.tried, call.folder, ended.complaint)


def _given(input_: bytes | None) -> IO[bytes]:
    """A file to read standard input from; one of any size cannot block anybody."""
    if not input_:
        return Path(os.devnull).open("rb")
    file = tempfile.TemporaryFile()  # noqa: SIM115  (its user closes it)
    file.write(input_)
    file.seek(0)
    return file


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        # The server's own may hold the password of its database: no hook and no filter needs them.
        if not name.startswith(("GIT_", "HURLICANE_")) or name.startswith(_KEPT)
    }
    return {**inherited, **_FIXED, **more}


def _heard(
    process: subprocess.Popen[bytes], timeout: float, max_bytes: int | None
) -> tuple[Completed, bool]:
    """How it ended, and whether its time was up. It is gone after this."""
    assert process.stdout is not None, "it was started with a pipe"
    assert process.stderr is not None, "it was started with a pipe"
    deadline = time.monotonic() + timeout
    stdout, stderr = process.stdout.fileno(), process.stderr.fileno()
    heard = {stdout: bytearray(), stderr: bytearray()}
    gone_at: float | None = None
    is_cut = is_late = False
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        for pipe in heard:
            selector.register(pipe, selectors.EVENT_READ)
        try:
            while selector.get_map() and not (is_cut or is_late):
                for key, _ in selector.select(_LOOK_S):
                    chunk = os.read(key.fd, _CHUNK)
                    heard[key.fd] += chunk
                    if not chunk:
                        selector.unregister(key.fd)
                is_cut = max_bytes is not None and len(heard[stdout]) > max_bytes
                now = time.monotonic()
                if process.poll() is None:
                    is_late = now >= deadline
                elif now >= (gone_at := gone_at or now) + _LEFT_S:
                    break  # whoever it left behind, a hook's daemon say, still holds them
            if not (is_cut or is_late):
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            if process.poll() is None:
                _kill(process)
                process.wait()
    code = 0 if is_cut else process.returncode
    return Completed(code, bytes(heard[stdout][:max_bytes]), bytes(heard[stderr]), is_cut), is_late


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
