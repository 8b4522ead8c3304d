"""Completion checks, carried out: git is asked, transcripts are read, commands run under shims."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import anyio.to_thread

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import signal_name
from hurlicane_mcp.domain.checks import LOOK_S, Check, CheckKind
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine.environment import environment_of_commands
from hurlicane_mcp.engine.waiting import Beat, beating
from hurlicane_mcp.errors import GitFailed, LaunchFailed, NotWritable
from hurlicane_mcp.git.commands import run_git
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision import run_directory
from hurlicane_mcp.supervision.host import Command, Exit
from hurlicane_mcp.supervision.one_shot import Ended, OneShots
from hurlicane_mcp.supervision.space import says_not_writable
from hurlicane_mcp.supervision.transcript import size_of

#: Bytes of a command's output that are told: the last whole lines. No more of it is kept.
TOLD: Final = 4096
#: A command that prints more is ended: its output is a file for as long as it runs.
OUTPUT_LIMIT: Final = 64 * 1024 * 1024
_SHOWN: Final = 20  #: paths of a tree that is not clean
#: How often, and after which pause, a transcript is looked at that is not yet read to its end.
_LOOKS, _PAUSE = 20, timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Place:
    """Where checks look. Work that belongs to no attempt has neither of the last two."""

    work_dir: Path
    base_sha: str | None  #: the commit that the work began from; None: there was none
    attempt_id: str | None = None  #: whose output is looked at
    run_dir: Path | None = None  #: where that output is


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a check holds, and what is to be known of that."""

    check: Check
    passed: bool
    told: str  #: how a command ended with the end of its output, what is uncommitted, …


class Checks:
    """Finds out whether checks hold. Nothing that it has started outlives a call."""

    def __init__(self, db: Database, clock: Clock, one_shots: OneShots) -> None:
        self._db = db
        self._clock = clock
        self._one_shots = one_shots

    async def clear(self) -> None:
        """End what a server that was killed has left running; before any check runs."""
        await self._one_shots.clear()

    async def run(
        self, place: Place, checks: Sequence[Check], beat: Beat
    ) -> tuple[CheckResult, ...]:
        """The results of all *checks*, in their order, also after one that fails.

        *beat* hears every 20 s which one runs. When this is cancelled, what runs is ended at once;
        should this process be killed, a command's shim ends it when its time is up.

        Raises:
            LaunchFailed: no command can be started now; `NotWritable` if the disk is full.
        """
        results: list[CheckResult] = []
        doing = ""
        async with beating(self._clock, beat, lambda: doing):
            for number, check in enumerate(checks, 1):
                doing = f"check {number} of {len(checks)} runs: {check.name}"
                results.append(await self._one(place, check))
        return tuple(results)

    async def _one(self, place: Place, check: Check) -> CheckResult:
        match check.kind:
            case CheckKind.COMMAND:
                return await self._command(place, check)
            case CheckKind.NO_ERROR_IN_OUTPUT:
                problem = await self._error_of(place)
                return CheckResult(check, problem is None, problem or "there is none")
            case _:
                look = _uncommitted if check.kind is CheckKind.CLEAN_TREE else _no_change
                # Left alone when it is cancelled: git has a limit of its own.
                problem = await anyio.to_thread.run_sync(
                    partial(_looked, look, place), abandon_on_cancel=True
                )
                return CheckResult(check, problem is None, problem or "it holds")

    async def _command(self, place: Place, check: Check) -> CheckResult:
        assert check.command is not None
        command = Command(
            argv=_argv(check.command),
            cwd=place.work_dir,
            env=environment_of_commands(),
            stdin=b"",
            marker=new_id("check"),
            time_limit=timedelta(seconds=check.time_limit_s),
            output_limit=OUTPUT_LIMIT,
        )
        try:
            ended = await self._one_shots.run_where_it_is(command, TOLD)
        except OSError as error:
            kind = NotWritable if says_not_writable(error) else LaunchFailed
            raise kind(f"The check {check.name} cannot be run: {error}") from error
        return CheckResult(
            check, ended.exit.code == 0 and not ended.exit.limit, _told(ended, check)
        )

    async def _error_of(self, place: Place) -> str | None:
        """The error or refusal that was the last word of the agent's CLI.

        An answer of the model takes it back, and that may stand in lines that are not read yet.
        """
        name = place.attempt_id
        if name is None:
            return None
        output = place.run_dir / run_directory.STDOUT if place.run_dir else None
        size = await anyio.to_thread.run_sync(size_of, output) if output else 0
        row = await self._db.read(lambda session: attempts.get(session, name))
        for _ in range(_LOOKS):
            if _last_error(row) is None or row.offset >= size:
                break
            await self._clock.sleep(_PAUSE)
            row = await self._db.read(lambda session: attempts.get(session, name))
        return _last_error(row)


def _last_error(row: AttemptRow) -> str | None:
    """What the attempt's transcript tells of, as far as it is read."""
    if row.provider_error is None and row.refused_at is not None:
        return str((row.refusal or {}).get("text", "Its model refuses."))
    return row.provider_error


def _argv(command: tuple[str, ...] | str) -> tuple[str, ...]:
    """The program to run. Both its outputs go one way, so that they are told in their order."""
    if isinstance(command, str):
        return ("/bin/sh", "-c", f"exec 2>&1\n{command}")
    return ("/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *command)


def _told(ended: Ended, check: Check) -> str:
    how = _how(ended.exit, check)
    said = storable(ended.said).strip("\n")
    return f"{how}\nThe end of its output:\n{said}" if said else f"{how} It printed nothing."


def _how(exit_: Exit, check: Check) -> str:
    """How a command ended: a sentence."""
    if exit_.limit == "time":
        return f"It was not done after {check.time_limit_s} s and was ended."
    if exit_.limit == "output":
        return f"It printed more than {OUTPUT_LIMIT // 1024**2} MiB and was ended."
    if exit_.code is not None:
        return f"Exit code {exit_.code}."
    if exit_.signal is not None:
        why = ", since the machine ran out of memory" if exit_.oom else ""
        return f"It was ended by {signal_name(exit_.signal)}{why}."
    return exit_.launch_error or "It is gone and left no exit code."


def _looked(look: Callable[[Place], str | None], place: Place) -> str | None:
    try:
        return look(place)
    except GitFailed as error:
        return str(error)


def _uncommitted(place: Place) -> str | None:
    lines = _status(place.work_dir)
    if not lines:
        return None
    shown = "\n".join(lines[:_SHOWN])
    more = "\nand more" if len(lines) > _SHOWN else ""
    return f"These are not committed (git status --porcelain):\n{shown}{more}"


def _no_change(place: Place) -> str | None:
    if _status(place.work_dir) or _has_commits(place.work_dir, place.base_sha):
        return None
    since = f" since {place.base_sha[:12]}" if place.base_sha else ""
    return f"There is no commit{since}, and nothing is uncommitted."


def _status(folder: Path) -> list[str]:
    """What is uncommitted in the repository of *folder*, a line each; not all if it is much."""
    found = run_git(
        folder, "status", "--porcelain", "--untracked-files=all", timeout=LOOK_S, max_bytes=TOLD
    )
    return [storable(line) for line in found.text.splitlines()]


def _has_commits(folder: Path, base: str | None) -> bool:
    """Whether the branch has a commit that *base* has not; without one, any commit."""
    since = (f"^{base}",) if base else ()
    found = run_git(
        folder, "rev-list", "--max-count=1", "HEAD", *since, "--", check=False, timeout=LOOK_S
    )
    if found.code == 0:
        return bool(found.text)
    # There is no commit yet, or *base* is gone, by a rewritten history say: then any is news.
    return run_git(folder, "rev-parse", "--verify", "HEAD", check=False, timeout=LOOK_S).code == 0
