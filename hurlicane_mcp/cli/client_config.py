"""`hurlicane mcp-config`: how an IDE or agent CLI connects to the server as its operator."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hurlicane_mcp.cli.options import DataDir
from hurlicane_mcp.cli.render import note
from hurlicane_mcp.cli.whereabouts import Server, server_of
from hurlicane_mcp.errors import Conflict, Invalid

NAME: Final = "hurlicane"
_TABLE: Final = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+\s*(#.*)?")
_OURS: Final = re.compile(r"mcp_servers\s*\.\s*[\"']?hurlicane[\"']?(\s*\..*)?")


class Client(StrEnum):
    """Whose configuration."""

    CLAUDE = "claude"
    CODEX = "codex"
    VSCODE = "vscode"
    CURSOR = "cursor"
    JSON = "json"


def mcp_config(
    client: Annotated[Client, typer.Argument(help="Whose configuration.")],
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Merge it into the client's file.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="The project whose file is written. Default: this folder."),
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Print, or write, the configuration with which an IDE or CLI uses the server.

    It holds the operator's token, which may do everything: keep it out of repositories.
    """
    server = server_of(data_dir)
    if not write:
        sys.stdout.write(merged(client, server, ""))
        return 0
    path = file_of(client, folder)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        after = merged(client, server, before)
    except Conflict as error:
        raise Conflict(f"{path} {error}") from None
    _replace(path, after)
    note(f"Wrote {path}.")
    if _may_be_committed(path):
        note(
            f"warning: {path} holds the operator's token and git does not ignore it: "
            f"add {path.name} to .gitignore or .git/info/exclude."
        )
    return 0


def file_of(client: Client, folder: Path | None) -> Path:
    """The file that *client* reads for the project in *folder*; Codex has one for the user.

    Raises:
        Invalid: `json` stands for no client.
    """
    place = (folder or Path()).absolute()
    match client:
        case Client.CLAUDE:
            return place / ".mcp.json"
        case Client.VSCODE:
            return place / ".vscode" / "mcp.json"
        case Client.CURSOR:
            return place / ".cursor" / "mcp.json"
        case Client.CODEX:
            home = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")
            return (place / ".codex" if folder else home) / "config.toml"
        case Client.JSON:
            raise Invalid("`json` is no client with a file: name one, or leave --write out.")


def merged(client: Client, server: Server, before: str) -> str:
    """The text of *client*'s file: *before* with our server in it.

    Raises:
        Conflict: *before* cannot be read or changed safely; the message goes on after its name.
    """
    if client is Client.CODEX:
        return _merged_toml(before, server)
    entry = {"type": "http", "url": f"{server.url}/mcp", "headers": _headers(server)}
    key = "servers" if client is Client.VSCODE else "mcpServers"
    try:
        whole: Any = json.loads(before or "{}")
    except ValueError as error:
        raise Conflict(
            f"is not plain JSON ({error}): run the command without --write and add what it prints."
        ) from None
    try:
        changed: Any = {**whole, key: {**whole.get(key, {}), NAME: entry}}
    except (TypeError, AttributeError):
        raise Conflict(f"has no object {key!r} where one belongs: mend it first.") from None
    return json.dumps(changed, indent=2, ensure_ascii=False) + "\n"


def _headers(server: Server) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def _merged_toml(before: str, server: Server) -> str:
    """*before* with our table at its end, and everything else as it was, comments too."""
    authorization = json.dumps(_headers(server)["Authorization"])
    table = (
        f"[mcp_servers.{NAME}]\n"
        f"url = {json.dumps(f'{server.url}/mcp')}\n"
        f"http_headers = {{ Authorization = {authorization} }}\n"
    )
    kept = _without_our_table(before).rstrip()
    after = f"{kept}\n\n{table}" if kept else table
    # The text was cut line by line; the proof that nothing else has changed is in the values.
    try:
        intact = _others(tomllib.loads(before)) == _others(tomllib.loads(after))
    except tomllib.TOMLDecodeError:
        intact = False
    if not intact:
        raise Conflict(
            "is written in a way that cannot be changed safely: run the command without --write "
            f"and put what it prints in place of the table mcp_servers.{NAME}."
        )
    return after


def _without_our_table(text: str) -> str:
    kept: list[str] = []
    ours: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if header := _TABLE.fullmatch(line.rstrip("\r\n")):
            if inside and not _OURS.fullmatch(header[1]):
                kept += _comments_at_end(ours)  # they belong to the table that follows
            inside = _OURS.fullmatch(header[1]) is not None
            ours = []
        (ours if inside else kept).append(line)
    return "".join(kept)


def _comments_at_end(lines: list[str]) -> list[str]:
    start = len(lines)
    while start and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return lines[start:]


def _others(values: dict[str, Any]) -> dict[str, Any]:
    """Everything but our own table."""
    servers = {name: one for name, one in values.get("mcp_servers", {}).items() if name != NAME}
    return {**values, "mcp_servers": servers}


def _replace(path: Path, text: str) -> None:
    """Write *text* for the owner's eyes only; a reader sees the old file or the new one."""
    target = path.resolve()  # of a link, what it points to
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _may_be_committed(path: Path) -> bool:
    """Whether *path* lies in a git work tree that does not ignore it."""
    target = path.resolve()
    try:
        asked = subprocess.run(
            ["git", "-C", target.parent, "check-ignore", "--quiet", "--", target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 1  # 0: ignored, 128: no work tree
