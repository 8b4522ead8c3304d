"""Options that several commands share."""

import re
from typing import Annotated, TypeAlias

import typer

from hurlicane_mcp.errors import Invalid


def _job_id(given: str) -> str:
    """*given*, which becomes a part of a path."""
    if not re.fullmatch(r"\w+", given, re.ASCII):
        raise Invalid(f"{given!r} is no job's id: `hurlicane ps` lists the jobs.")
    return given


def checked_word(given: str) -> str:
    """*given*, a name that becomes a part of a path.

    Raises:
        Invalid: it has other characters than letters, digits and `_`.
    """
    if not re.fullmatch(r"\w+", given, re.ASCII):
        raise Invalid(f"{given!r} is no name: it has letters, digits and _ only.")
    return given


def goes_on(context: typer.Context, *, has_options: bool) -> bool:
    """Whether another command follows, to which the work is left; *has_options*: this one got some.

    Raises:
        Invalid: options stand before the command that they are for.
    """
    if context.invoked_subcommand is None:
        return False
    if has_options:
        raise Invalid(f"Options go behind {context.invoked_subcommand!r}.")
    return True


DataDir: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Data folder of the server. Default: HURLICANE_DATA_DIR, or the user's own.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id.", callback=_job_id)
]
