"""Where a server keeps its things and where it can be reached, read without the settings.

Importing those takes longer than a whole `hurlicane ps`. A test holds both to the same defaults.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hurlicane_mcp.errors import ServerUnreachable, Unauthorized

HOST: Final = "127.0.0.1"
PORT: Final = 7717


@dataclass(frozen=True, slots=True)
class Server:
    """A server to talk to, and the token that it takes for the operator's."""

    url: str  #: without a slash at its end
    token: str
    data_dir: Path | None  #: None when it was named by its URL


def data_dir_of(option: str | None) -> Path:
    """The data folder, absolute: the option, else HURLICANE_DATA_DIR, else the user's own."""
    if named := option or os.environ.get("HURLICANE_DATA_DIR"):
        return Path(named).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return (Path(state).expanduser() / "hurlicane").absolute()


def server_of(data_dir_option: str | None) -> Server:
    """The server that the client commands mean; it need not run.

    HURLICANE_URL and HURLICANE_TOKEN name one anywhere, unless a data folder is given.

    Raises:
        ServerUnreachable: no server has ever run on the data folder.
        Unauthorized: the operator's token is not ours to read, or there is none.
    """
    if (url := os.environ.get("HURLICANE_URL")) and data_dir_option is None:
        token = os.environ.get("HURLICANE_TOKEN")
        if not token:
            raise Unauthorized("HURLICANE_URL is set without HURLICANE_TOKEN: set both.")
        return Server(url.rstrip("/").removesuffix("/mcp"), token, None)
    data_dir = data_dir_of(data_dir_option)
    known = worker_of(data_dir)
    if known is None:
        raise no_server(data_dir)
    return Server(known.url, operator_token(data_dir), data_dir)


@dataclass(frozen=True, slots=True)
class LastWorker:
    """What the latest worker wrote into `server.json`; it may be gone."""

    url: str
    pid: int


def worker_of(data_dir: Path) -> LastWorker | None:
    """The latest worker of the data folder, or None if there never was one."""
    try:
        known: dict[str, Any] = json.loads((data_dir / "server.json").read_text(encoding="utf-8"))
        return LastWorker(str(known["url"]), int(known["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def operator_token(data_dir: Path) -> str:
    """The operator's token, as the server has written it.

    Raises:
        Unauthorized: it cannot be read.
    """
    path = data_dir / "operator.token"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unauthorized(
            f"Cannot read the operator's token {path} ({error.strerror}): "
            "run the command as the user who runs the server."
        ) from None
    if not token:
        raise Unauthorized(f"The operator's token {path} is empty: start the server once more.")
    return token


def no_server(data_dir: Path) -> ServerUnreachable:
    """The error of every command that needs a running server."""
    return ServerUnreachable(
        f"No server runs for {data_dir}: start one with `hurlicane serve --data-dir {data_dir}`."
    )
