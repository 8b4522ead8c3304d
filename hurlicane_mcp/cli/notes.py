"""`hurlicane note`: what the jobs of a project tell each other."""

import sys
from typing import Annotated, TypeAlias
from urllib.parse import quote

import typer

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import brief, note, print_json, print_result

Key: TypeAlias = Annotated[str, typer.Argument(help="The note's key, such as plan/api.")]
Project: TypeAlias = Annotated[
    str | None, typer.Option(help="Whose notes. Default: the server's own project.")
]

notes = typer.Typer(help="Read and write the notes that the jobs of a project share.")


@notes.command("list")
def list_notes(
    prefix: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "",
    *,
    project: Project = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the keys of notes."""
    found = ask(data_dir, lambda server: server.get("/api/notes", prefix=prefix, project=project))
    if as_json:
        print_json(found)
    for one in () if as_json else found["notes"]:
        print_result(f"{brief(one['key'], 60):60} v{one['version']:<4} {one['author']}")
    return 0


@notes.command("get")
def get_note(
    key: Key, *, project: Project = None, as_json: AsJson = False, data_dir: DataDir = None
) -> int:
    """Print a note."""
    found = ask(data_dir, lambda server: server.get(_path(key), project=project))
    if as_json:
        print_json(found)
    else:
        print_result(found["value"])
    return 0


@notes.command("set")
def set_note(
    key: Key,
    value: Annotated[str, typer.Argument(help="The text; `-` reads it from standard input.")],
    *,
    project: Project = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Write a note, replacing what was there."""
    text = sys.stdin.read() if value == "-" else value
    written = ask(data_dir, lambda server: server.put(_path(key), {"value": text}, project=project))
    if as_json:
        print_json(written)
    else:
        note(f"{key} is at version {written['version']}.")
    return 0


def _path(key: str) -> str:
    return f"/api/notes/{quote(key)}"
