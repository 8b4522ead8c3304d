"""Starting a server that outlives the command which needed it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from hurlicane_mcp.cli.connection import Connection, asking
from hurlicane_mcp.cli.whereabouts import Server, data_dir_of, server_of
from hurlicane_mcp.errors import HurlicaneError, ServerUnreachable

_READY_S: Final = 30.0
_LOOK_S: Final = 0.05
#: A server that found another one already at work has this long to be overtaken by it.
_OVERTAKEN_S: Final = 5.0


def running_or_started(data_dir_option: str | None) -> tuple[Server, bool]:
    """The server that the option means, and whether it was started for this.

    Raises:
        ServerUnreachable: it does not start; the message has the reason from its log. Or it is
            one that was named by its URL and does not answer.
    """
    if (server := _answering(data_dir_option)) is not None:
        return server, False
    data_dir = data_dir_of(data_dir_option)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data_dir / "server.log"
    process = _start(data_dir, log)
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if (server := _answering(data_dir_option)) is not None:
            return server, True
        if process.poll() is not None:
            deadline = min(deadline, time.monotonic() + _OVERTAKEN_S)
            if "already uses" not in _last_line(log):
                break
        time.sleep(_LOOK_S)
    raise ServerUnreachable(f"The server did not start: {_last_line(log)} (all of it: {log})")


def _answering(data_dir_option: str | None) -> Server | None:
    async def probe(connection: Connection) -> Server:
        await connection.get("/healthz")
        return connection.server

    try:
        return asking(server_of(data_dir_option), probe)
    except HurlicaneError:
        if os.environ.get("HURLICANE_URL") and data_dir_option is None:
            raise  # nothing that we could start
        return None


def _start(data_dir: Path, log: Path) -> "subprocess.Popen[bytes]":
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # -P: the folder that we are in may hold anything, also modules with names of ours.
        command = (sys.executable, "-P", "-m", "hurlicane_mcp", "serve", "--data-dir", data_dir)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,  # neither Ctrl-C nor the end of the terminal ends it
        )
    finally:
        os.close(descriptor)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it said nothing"
