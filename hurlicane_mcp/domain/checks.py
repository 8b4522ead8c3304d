"""What has to hold before a job may be done, whatever its agent says: completion checks.

A check is written as one of three words, `clean_tree`, `diff_not_empty` or `no_error_in_output`, or
as a command: `{"command": ["make", "test"], "time_limit_s": 300}`. A command that is a string is
the user's own, for `/bin/sh -c`; nothing else in this program is ever given to a shell.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, cast

from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.errors import Invalid

MAX_CHECKS: Final = 10
MAX_COMMAND: Final = 8192  #: characters, all arguments together
TRIES: Final = range(1, 11)
DEFAULT_TRIES: Final = 3
DEFAULT_TIME_LIMIT_S: Final = 600
MAX_TIME_LIMIT_S: Final = 3600
#: How long a look at a repository takes at the very most, seconds.
LOOK_S: Final = 60
_NAMED: Final = 80  #: characters of a command in a name


class CheckKind(StrEnum):
    """What is looked at."""

    DIFF_NOT_EMPTY = "diff_not_empty"  #: commits since the job began, or uncommitted changes
    CLEAN_TREE = "clean_tree"  #: nothing is uncommitted; untracked files count, ignored ones not
    #: The agent's CLI has not told, as a structured event, of an error or a refusal of its model
    #: that no answer has followed. What the agent itself writes is prose and never counts.
    NO_ERROR_IN_OUTPUT = "no_error_in_output"
    COMMAND = "command"  #: exits with 0 within its time


#: The kinds that are written as a word.
WORDS: Final = tuple(kind for kind in CheckKind if kind is not CheckKind.COMMAND)
_DEMANDS: Final[Mapping[CheckKind, str]] = MappingProxyType(
    {
        CheckKind.DIFF_NOT_EMPTY: "there are commits since the job began, or uncommitted changes",
        CheckKind.CLEAN_TREE: "nothing is uncommitted, untracked files included, ignored ones not",
        CheckKind.NO_ERROR_IN_OUTPUT: "your CLI's last word is no error",
    }
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold. Two that ask for the same are equal."""

    kind: CheckKind
    command: tuple[str, ...] | str | None = None  #: a program and its arguments, or a shell's line
    time_limit_s: int = DEFAULT_TIME_LIMIT_S  #: of a command

    def stored(self) -> object:
        """The check as it is written in JSON; `parse_checks` reads it."""
        if self.command is None:
            return self.kind.value
        command = self.command if isinstance(self.command, str) else list(self.command)
        return {"command": command, "time_limit_s": self.time_limit_s}

    @property
    def name(self) -> str:
        """The check in a few words."""
        if self.command is None:
            return self.kind.value
        line = self.command if isinstance(self.command, str) else shlex.join(self.command)
        line = " ".join(line.split())
        return f"`{line if len(line) <= _NAMED else line[: _NAMED - 1] + '…'}`"

    @property
    def demand(self) -> str:
        """What has to hold, for who has to see to it."""
        if self.command is None:
            return f"{self.kind}: {_DEMANDS[self.kind]}"
        return f"{self.name} exits with 0 within {self.time_limit_s} s"


def parse_checks(value: object) -> tuple[Check, ...]:
    """The checks of a list, as `Check.stored` and people write them; None is an empty one.

    One that is there twice counts once.

    Raises:
        Invalid: the message names the entry, what is wrong and what is allowed.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise Invalid(f"`checks` must be a list of checks. {_allowed()}")
    entries = cast("Sequence[object]", value)
    if len(entries) > MAX_CHECKS:
        raise Invalid(f"`checks` has {len(entries)} entries, {MAX_CHECKS} are allowed.")
    return tuple(
        dict.fromkeys(_check(f"`checks` entry {i}", one) for i, one in enumerate(entries, 1))
    )


def check_in_words(word: str) -> object:
    """A check as a person types it: one of the words, else a command for the shell."""
    return word if word in WORDS else {"command": word}


def longest_run_s(checks: Sequence[Check]) -> int:
    """How long all of them take one after the other, seconds, if each takes what it may."""
    return sum(
        check.time_limit_s if check.kind is CheckKind.COMMAND else LOOK_S for check in checks
    )


def _allowed() -> str:
    return (
        f'Allowed: {", ".join(WORDS)}, or {{"command": ["make", "test"], "time_limit_s": 300}}, '
        "where the command may be a string for /bin/sh."
    )


def _check(where: str, value: object) -> Check:
    if isinstance(value, str):
        if value not in WORDS:
            raise Invalid(f"{where} is {value[:_NAMED]!r}, which is no check. {_allowed()}")
        return Check(CheckKind(value))
    if not isinstance(value, Mapping):
        raise Invalid(f"{where} is neither a word nor a command. {_allowed()}")
    fields = cast("Mapping[object, object]", value)
    unknown = [key for key in fields if key not in ("command", "time_limit_s")]
    if "command" not in fields or unknown:
        what = f"has the unknown field {unknown[0]!r}" if unknown else "has no `command`"
        raise Invalid(f"{where} {what}. {_allowed()}")
    limit = _time_limit(where, fields.get("time_limit_s", DEFAULT_TIME_LIMIT_S))
    return Check(CheckKind.COMMAND, _command(where, fields["command"]), limit)


def _time_limit(where: str, value: object) -> int:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or not 1 <= cast("float", value) <= MAX_TIME_LIMIT_S:
        raise Invalid(
            f"{where}: `time_limit_s` must be 1 to {MAX_TIME_LIMIT_S} whole seconds, not {value!r}."
        )
    return int(cast("float", value))


def _command(where: str, value: object) -> tuple[str, ...] | str:
    if isinstance(value, str):
        command: tuple[str, ...] | str = value
        words: tuple[str, ...] = (value,)
    elif isinstance(value, list | tuple):
        entries = cast("Sequence[object]", value)
        if not all(isinstance(word, str) for word in entries):
            raise Invalid(f"{where}: every argument of `command` must be a text.")
        command = words = tuple(cast("Sequence[str]", entries))
    else:
        raise Invalid(f"{where}: `command` must be a list of arguments or a string for /bin/sh.")
    if not words or not words[0].strip():
        raise Invalid(f"{where}: `command` is empty: name the program to run.")
    if sum(len(word) for word in words) > MAX_COMMAND:
        raise Invalid(
            f"{where}: `command` is longer than {MAX_COMMAND:,} characters: put it into a script."
        )
    for word in words:
        check_text(f"{where}: command", word)
    return command
