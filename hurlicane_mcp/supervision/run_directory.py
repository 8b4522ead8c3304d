"""The files by which a host and a shim speak. Standard library only: the shim loads this by path.

command     host to shim: what to run; removed once the agent runs, as its environment may hold
            a token
stdin       host to shim: becomes the agent's standard input
ready       host to shim: a pipe for the word that the agent runs, for a shim that inherits none
grace       host to shim: seconds between TERM and KILL, read when SIGTERM asks for a stop
attended    host to shim: its changes tell that a server looks after the agent
shim.lock   flock held for as long as the shim lives; once something may have been started, its
            pid and start time
shim.json   shim to host: who runs; written when the agent has been executed
shim.log    the shim's own troubles
stdout, stderr   the agent's own, opened for appending; an agent on a terminal has none
tmux        the socket of the tmux that an agent's terminal belongs to
screen      the first 64 MiB of all that was sent to that terminal, as it was sent
scrollback.txt   shim to people: the terminal's text at its end, its last 20,000 lines
exit.json   shim to host: how it ended; written only when nothing of the tree is left
"""
# ruff: noqa: PTH105
# As in processes.py, imports are few; json costs 14 ms, so no agent's start waits for it.

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMAND, STDIN, GRACE, ATTENDED = "command", "stdin", "grace", "attended"
LOCK, SHIM, LOG, EXIT = "shim.lock", "shim.json", "shim.log", "exit.json"
STDOUT, STDERR = "stdout", "stderr"
READY, TMUX, SCREEN, SCROLLBACK = "ready", "tmux", "screen", "scrollback.txt"

#: Bytes that are kept for a file which has to be written, come what may.
RESERVED = 4096
#: Exit statuses of a shim that ran nothing.
ALREADY_RUNNING, ALREADY_RAN, NOTHING_TO_RUN = 75, 76, 77


class Launch:
    """The content of a `command` file: NUL-separated key=value entries, as exec(2) itself
    allows no NUL in any of them."""

    def __init__(self, entries: "Iterable[tuple[str, str]]") -> None:
        fields: dict[str, list[str]] = {}
        for key, value in entries:
            fields.setdefault(key, []).append(value)
        self.argv = fields.get("arg", [])
        self.cwd = fields["cwd"][0]
        self.env = dict(entry.split("=", 1) for entry in fields.get("env", []))
        self.grace = float(fields["grace"][0])
        self.time_limit = float(fields.get("time_limit_s", ["inf"])[0])
        self.unattended_limit = float(fields.get("unattended_limit_s", ["inf"])[0])
        self.output_limit = float(fields.get("output_limit_bytes", ["inf"])[0])
        self.tmux: str | None = fields.get("tmux", [None])[0]


def encode_launch(entries: "Iterable[tuple[str, str]]") -> bytes:
    """The text of a `command` file.

    Keys: arg and env (NAME=VALUE), each any number of times; cwd; grace, in seconds; and
    perhaps time_limit_s, unattended_limit_s and output_limit_bytes. With tmux, its program, the
    shim was started in a pane of it, and the agent gets that terminal instead of files.

    Raises:
        ValueError: a value holds a NUL.
    """
    lines = [f"{key}={value}" for key, value in entries]
    if any("\0" in line for line in lines):
        raise ValueError("Arguments, environment and directory must not contain NUL characters.")
    return os.fsencode("\0".join(lines))


def decode_launch(text: bytes) -> Launch:
    """What `encode_launch` was given."""
    entries = (entry.partition("=") for entry in os.fsdecode(text).split("\0"))
    return Launch((key, value) for key, _, value in entries)


def create_private(path: str, flags: int) -> int:
    """An `opener` for open(): a new file is for the user alone."""
    return os.open(path, flags, 0o600)


def reserve(directory: str, name: str) -> None:
    """Take the space on disk that `write_json` will need for this file."""
    temporary = os.path.join(directory, f"{name}.tmp")  # noqa: PTH118
    with open(temporary, "wb", opener=create_private) as file:
        file.write(b" " * RESERVED)


def write_json(directory: str, name: str, content: "Mapping[str, object]") -> None:
    """Replace a file, so that it is whole or absent even after a loss of power.

    After `reserve` that works on a full disk as well.
    """
    import json

    temporary = os.path.join(directory, f"{name}.tmp")  # noqa: PTH118
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        text = json.dumps(content).encode()
        os.write(file, text.ljust(os.fstat(file).st_size))  # JSON may end with spaces
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(temporary, os.path.join(directory, name))  # noqa: PTH118
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
