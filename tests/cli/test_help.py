"""What holds for every command."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from hurlicane_mcp.cli.main import app
from tests.cli.command import START


def commands(group: typer.Typer, above: str = "") -> Iterator[tuple[str, str]]:
    """The name and the help text of each command."""
    for one in group.registered_commands:
        assert one.callback is not None
        yield above + (one.name or one.callback.__name__), one.callback.__doc__ or ""
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, f"{inner.name} ")


@pytest.mark.parametrize(("name", "text"), tuple(commands(app)))
def test_every_command_says_what_it_does(name: str, text: str) -> None:
    assert re.match(r"[A-Z].*[.]", text), name


def test_a_command_line_starts_without_the_server_s_libraries() -> None:
    code = (
        "import sys, json; import hurlicane_mcp.cli.main; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    heavy = {"mcp", "sqlmodel", "sqlalchemy", "uvicorn", "starlette", "pydantic", "alembic"}
    assert heavy & set(json.loads(loaded.stdout)) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "No such command 'nope'"),
        (("show",), "Missing argument 'JOB'"),
        (("ps", "--nope"), "No such option: --nope"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    refused = subprocess.run(
        [*START, *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: {message}")
