"""Agents on a terminal: the shim runs in a pane of tmux, and people may look over its shoulder.

Each attempt has a tmux server of its own, so that none takes other agents along when it fails. Its
socket is the run directory's `tmux`: programs meet at it from within that directory, since the path
of a socket may have 107 bytes only. Nothing of the user's tmux is used or changed.

The process that counts is the shim, as in shim_host.py. If the terminal goes (tmux dies, somebody
kills the session), the kernel tells the shim, which ends the agent within two seconds. A viewer
that leaves or dies changes nothing. What is said here of tmux was measured with 3.3a in November
2026.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import anyio
from anyio import to_thread

from hurlicane_mcp.errors import LaunchFailed, ShimDied
from hurlicane_mcp.supervision import run_directory
from hurlicane_mcp.supervision.host import Command, Exit, Handle, ProcessIdentity
from hurlicane_mcp.supervision.identity import boot_id, identity_of
from hurlicane_mcp.supervision.shim_host import ShimHost, open_private

HOW_TO_INSTALL = (
    "Install it with the system's package manager: apt-get install tmux, brew install tmux."
)
PANE = "%0"  #: the first pane of a tmux server: the agent's
SIZE = ("-x", "160", "-y", "48")  #: until somebody attaches
TERM = "screen-256color"  #: known to every system that knows colours; tmux allows no other kind
ANSWER_LIMIT_S = 20  #: for tmux; a frozen one never answers
#: How long a typed text may take to show on the screen, and how often is looked.
ECHO_LIMIT, ECHO_LOOK = timedelta(seconds=2), timedelta(seconds=0.1)
# tmux runs this by sh, in the run directory; the limit is 64 MiB in blocks of 512 bytes.
RECORD = f"ulimit -f 131072; exec cat >> {run_directory.SCREEN}"
OPTIONS = (
    *("default-terminal", TERM),
    *("history-limit", "20000"),
    *("update-environment", ""),  # a viewer's environment stays the viewer's
    *("escape-time", "20"),
    *("status-left-length", "60"),
    *("status-right", "C-b d leaves, the agent goes on"),
    *("status-right-length", "40"),
)
#: What tmux and its panes get of our environment: nothing that could be a secret.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
#: Marks of a terminal that the server itself may have been started on.
FOREIGN = frozenset({"TMUX", "TMUX_PANE", "STY", "COLUMNS", "LINES", "TERM_PROGRAM", "WINDOWID"})
# What CLIs show instead of a long text that was pasted.
PASTED = "[Pasted "
UNTYPABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
NOT_TEXT = re.compile(r"[\s\u2500-\u257f|]+")  # spaces and frames, around which CLIs wrap


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where people attach: `tmux -S NAME attach -t =SESSION` in the folder of the socket."""

    socket: Path
    session: str  #: the attempt's id; tmux allows no dot in it


def terminal_of(run_dir: Path) -> Terminal:
    """The terminal of the agent that runs in *run_dir*, if it has one."""
    return Terminal(run_dir / run_directory.TMUX, re.sub(r"\W", "_", run_dir.name))


class LocalHost:
    """Keeps every agent of this machine: with its streams in files, or on a terminal."""

    def __init__(self, files: ShimHost, terminals: "TmuxHost") -> None:
        self._files, self._terminals = files, terminals

    async def start(self, run_dir: Path, command: Command) -> Handle:
        host = self._terminals if command.terminal else self._files
        return await host.start(run_dir, command)

    async def adopt(self, run_dir: Path) -> Handle | Exit | None:
        return await self._files.adopt(run_dir)  # a shim is a shim

    async def clear(self, identity: ProcessIdentity | None, marker: str) -> None:
        await self._files.clear(identity, marker)

    async def attend(self, run_dirs: Iterable[Path]) -> None:
        await self._files.attend(run_dirs)


class TmuxHost(ShimHost):
    """Starts each agent under a shim on a terminal of its own, and types into it."""

    def __init__(self, python: str = sys.executable, program: str = "tmux") -> None:
        """*python* runs the shims, *program* is tmux: a name to look up or a path."""
        super().__init__(python)
        self._program = program
        self._typing = anyio.Lock()

    async def start(self, run_dir: Path, command: Command) -> Handle:
        inherited = {name: text for name, text in command.env.items() if name not in FOREIGN}
        on_terminal = replace(command, env={**inherited, "TERM": TERM})
        try:
            return await super().start(run_dir, on_terminal)
        except ShimDied:
            left = await self.adopt(run_dir)  # tmux may have started it without telling
            if left is not None and not isinstance(left, Exit):
                await left.stop(timedelta(0))
            raise

    async def type(self, run_dir: Path, text: str) -> bool:
        """Put *text* into what the agent is asking for, and press Enter; whether that was done.

        Enter is pressed only once the end of the text is on the screen, so that it answers no
        dialog. The text is pasted: lines stay together where the CLI knows pastes, control
        characters are left out, and another text that somebody has begun there is sent along.

        False: the terminal is gone, tmux is missing, or the screen did not take the text.
        """
        clean = UNTYPABLE.sub("", text.replace("\t", " ")).strip()
        if not clean:
            return False
        async with self._typing:
            try:
                return await self._type(run_dir, clean)
            except (OSError, LaunchFailed):
                return False

    async def shows(self, run_dir: Path) -> str | None:
        """What the terminal of the agent in *run_dir* shows now; None if it has none."""
        if not (run_dir / run_directory.TMUX).exists():
            return None
        try:
            return await self._screen(run_dir)
        except (OSError, LaunchFailed):
            return None

    async def _type(self, run_dir: Path, text: str) -> bool:
        before = await self._screen(run_dir)
        await self._paste(run_dir, text, "-p")
        if not await self._has_taken(run_dir, text, before):
            return False
        await anyio.sleep(ECHO_LOOK.total_seconds())  # the CLI may still be taking the paste in
        await self._paste(run_dir, "\r", "-r")
        return True

    async def _has_taken(self, run_dir: Path, text: str, before: str) -> bool:
        with anyio.move_on_after(ECHO_LIMIT.total_seconds()):
            while not _took(text, before, await self._screen(run_dir)):  # noqa: ASYNC110
                await anyio.sleep(ECHO_LOOK.total_seconds())  # nobody tells of a screen's changes
            return True
        return False

    async def _screen(self, run_dir: Path) -> str:
        return await to_thread.run_sync(
            self._run, run_dir, ("capture-pane", "-p", "-J", "-t", PANE), ""
        )

    async def _paste(self, run_dir: Path, text: str, how: str) -> None:
        """By a buffer, not by keys: these would go astray while a viewer scrolls."""
        load = ("load-buffer", "-b", "text", "-")
        paste = ("paste-buffer", "-d", how, "-b", "text", "-t", PANE)
        await to_thread.run_sync(self._run, run_dir, (*load, ";", *paste), text)

    def _options(self) -> Sequence[tuple[str, str]]:
        return (("tmux", self._tmux()),)

    def _spawn(self, run_dir: Path) -> tuple[ProcessIdentity, int]:
        pipe = run_dir / run_directory.READY
        os.mkfifo(pipe, 0o600)
        ready = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # with a writer it never seems ended
        try:
            open_private(run_dir / run_directory.SCREEN, "ab").close()
            pid = int(self._run(run_dir, self._new_session(run_dir), ""))
        except (OSError, ValueError, LaunchFailed) as error:
            os.close(ready)
            (run_dir / run_directory.COMMAND).unlink(missing_ok=True)  # a belated shim finds none
            raise ShimDied(f"tmux could not start the agent's shim: {error}") from error
        # Not our child: it may be gone, and reaped, already.
        return identity_of(pid) or ProcessIdentity(pid, "", boot_id()), ready

    def _new_session(self, run_dir: Path) -> Sequence[str]:
        """tmux's commands, which it carries out before it reads what the shim prints."""
        options = zip(OPTIONS[::2], OPTIONS[1::2], strict=True)
        name = terminal_of(run_dir).session
        shim = (_literal(arg) for arg in self._argv(run_dir, run_directory.READY))
        return (
            "start-server",
            *(word for name, value in options for word in (";", "set-option", "-g", name, value)),
            *(";", "new-session", "-d", "-P", "-F", "#{pane_pid}", "-s", name, *SIZE, "--", *shim),
            *(";", "pipe-pane", RECORD),
        )

    def _run(self, run_dir: Path, commands: Sequence[str], text: str) -> str:
        """What tmux prints when it carries out *commands* with *text* as its input.

        Raises:
            LaunchFailed: there is no tmux.
            OSError: it does not answer, or refuses.
        """
        argv = (self._tmux(), "-u", "-S", run_directory.TMUX, "-f", "/dev/null", *commands)
        try:
            ran = subprocess.run(
                argv,
                cwd=run_dir,
                env=_environment(),
                input=text.encode(),
                capture_output=True,
                timeout=ANSWER_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"tmux has not answered for {ANSWER_LIMIT_S} s") from None
        if ran.returncode != 0:
            raise OSError(ran.stderr.decode(errors="replace").strip() or "tmux gave no reason")
        return ran.stdout.decode(errors="replace")

    def _tmux(self) -> str:
        found = shutil.which(self._program)
        if found is None:
            raise LaunchFailed(
                f"{self._program} is missing, which interactive jobs need. {HOW_TO_INSTALL}"
            )
        return found


def _environment() -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "TERM": TERM, "SHELL": "/bin/sh"}


def _literal(arg: str) -> str:
    """An argument as tmux has to be given it: a semicolon at its end would end the command."""
    return f"{arg[:-1]}\\;" if arg.endswith(";") else arg


def _took(text: str, before: str, after: str) -> bool:
    """Whether the screen shows the end of *text*, or a word for a long one, once more."""
    end = NOT_TEXT.sub("", text.splitlines()[-1])[-12:]
    if NOT_TEXT.sub("", after).count(end) > NOT_TEXT.sub("", before).count(end):
        return True
    return after.count(PASTED) > before.count(PASTED)
