"""`hurlicane doctor`: what the server needs on this machine, and how to mend what is missing."""

import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from rich.text import Text

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import console, print_json
from hurlicane_mcp.cli.whereabouts import HOST, PORT, data_dir_of
from hurlicane_mcp.cli.words import cause, remedy
from hurlicane_mcp.errors import HurlicaneError

#: Set by what the options and formats that we use are documented for; only 3.3a was tried.
_TMUX_NEEDED: Final = (3, 0)
_TELL_S: Final = 10  #: for a program to tell its version
_STYLES: Final = (("ok", "green"), ("warn", "yellow"), ("fail", "red"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. *mend* says what to do if it is not ok."""

    subject: str
    level: Literal["ok", "warn", "fail"]
    text: str
    mend: str = ""


def doctor(*, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Check what the server needs here. Exit code 1 if something needed is missing."""
    findings = list(_findings(data_dir))
    if as_json:
        print_json({"findings": [asdict(one) for one in findings]})
    else:
        out = console()
        for one in findings:
            level = Text(f"{one.level:5}", dict(_STYLES)[one.level])
            mend = f" → {one.mend}" if one.mend else ""
            out.print(Text.assemble(level, f"{one.subject:15} {one.text}{mend}"))
    return 1 if any(one.level == "fail" for one in findings) else 0


def _findings(data_dir_option: str | None) -> Iterator[Finding]:
    place = data_dir_of(data_dir_option)
    server = _server(data_dir_option)
    yield _agent_cli("claude", "npm install -g @anthropic-ai/claude-code")
    yield _agent_cli("codex", "npm install -g @openai/codex")
    yield _program("git", "git", "install git with your system's package manager")
    gh = os.environ.get("HURLICANE_GH_BIN") or "gh"
    yield _program("gh", gh, "only pull requests need it: cli.github.com, then gh auth login")
    yield _tmux()
    yield _data_directory(place)
    yield _database(place)
    yield _port() if server is None else Finding("port", "ok", f"the server has {server['url']}")
    yield _running(server)
    if server is not None:
        yield from _limits(data_dir_option)


def _agent_cli(name: str, install: str) -> Finding:
    """An agent CLI; it is needed if jobs use it by default."""
    needed = os.environ.get("HURLICANE_PROVIDER", "claude") == name
    variable = f"HURLICANE_{name.upper()}_BIN"
    program = os.environ.get(variable) or name
    return _program(
        name, program, f"{install}, or set {variable}", level="fail" if needed else "warn"
    )


def _tmux() -> Finding:
    """The terminal of interactive jobs; other jobs do without."""
    mend = "only interactive jobs need it: apt-get install tmux, or brew"
    found = _program("tmux", "tmux", mend, argument="-V")
    told = re.match(r"tmux (?:next-)?(\d+)\.(\d+)", found.text)
    if told and (int(told[1]), int(told[2])) < _TMUX_NEEDED:
        needed = ".".join(map(str, _TMUX_NEEDED))
        return Finding("tmux", "warn", f"{found.text} is older than {needed}", mend)
    return found


def _program(
    subject: str,
    program: str,
    mend: str,
    *,
    argument: str = "--version",
    level: Literal["warn", "fail"] = "warn",
) -> Finding:
    path = shutil.which(program)
    if path is None:
        return Finding(subject, level, f"{program} is not installed", mend)
    try:
        told = subprocess.run(
            [path, argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TELL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(subject, level, f"{path} does not run ({error})", mend)
    lines = told.stdout.strip().splitlines()
    if told.returncode != 0 or not lines:
        return Finding(subject, level, f"{path} {argument} exits with {told.returncode}", mend)
    return Finding(subject, "ok", f"{lines[0]} ({path})")


def _data_directory(place: Path) -> Finding:
    subject = "data folder"
    if not place.exists():
        above = next(one for one in place.parents if one.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return Finding(subject, "ok", f"{place} is made at the first start")
        return Finding(subject, "fail", f"{above} is not writable", "choose another --data-dir")
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        text = f"{place} is no folder that you can write to"
        return Finding(subject, "fail", text, "chown or remove it, or choose another --data-dir")
    if place.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"others may look into {place}"
        return Finding(subject, "warn", text, f"chmod 700 {place}")
    return Finding(subject, "ok", str(place))


def _database(place: Path) -> Finding:
    url = os.environ.get("HURLICANE_DATABASE_URL")
    if url and not url.startswith("sqlite"):
        return _postgres(url)
    path = Path(urlsplit(url).path.removeprefix("/")) if url else place / "hurlicane.db"
    if not path.exists():
        return Finding("database", "ok", f"{path} is made at the first start")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        mend = "restore it from a backup, or move it away to begin anew"
        return Finding("database", "fail", f"{path} cannot be read ({error})", mend)
    size = path.stat().st_size / 1e6
    return Finding("database", "ok", f"{path}, {size:.1f} MB, schema {revision}")


def _postgres(url: str) -> Finding:
    try:
        import psycopg
    except ImportError:
        mend = "pip install 'hurlicane-mcp[postgres]'"
        return Finding("database", "fail", "the driver of PostgreSQL is missing", mend)
    try:
        with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=5) as connection:
            parts = connection.info
            return Finding(
                "database", "ok", f"PostgreSQL, {parts.host}:{parts.port}/{parts.dbname}"
            )
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        return Finding("database", "fail", reason, "check HURLICANE_DATABASE_URL")


def _port() -> Finding:
    """Whether the port is free, given that no server of ours runs."""
    host = os.environ.get("HURLICANE_HOST") or HOST
    port = os.environ.get("HURLICANE_PORT") or str(PORT)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, int(port)), family=family):
            return Finding("port", "ok", f"{port} is free on {host}")
    except (OSError, OverflowError, ValueError) as error:
        text = f"{port} cannot be used on {host} ({error})"
        return Finding("port", "fail", text, "set HURLICANE_PORT, or stop the other program")


def _server(data_dir_option: str | None) -> dict[str, Any] | None:
    try:
        return ask(data_dir_option, lambda server: server.get("/api/server"))
    except HurlicaneError:
        return None


def _running(server: dict[str, Any] | None) -> Finding:
    if server is None:
        return Finding("server", "warn", "none runs", "hurlicane serve")
    text = f"{server['version']} at {server['url']} (pid {server['pid']})"
    if server["version"] != version("hurlicane-mcp"):
        return Finding("server", "warn", f"{text}, an older one", "hurlicane stop, then serve")
    return Finding("server", "ok", text)


def _limits(data_dir_option: str | None) -> Iterator[Finding]:
    """The limits of models that nobody but a person ends."""
    try:
        found = ask(data_dir_option, lambda server: server.get("/api/models/rate-limits"))
    except HurlicaneError as error:
        yield Finding("models", "warn", f"the server does not tell their limits ({error})")
        return
    lasting = [limit for limit in found["limits"] if not limit.get("until")]
    for limit in lasting:
        parked = f", {limit['parked']} jobs parked for it" if limit["parked"] else ""
        text = f"{limit['name']} is limited until it is cleared{parked} ({cause(limit)})"
        yield Finding("models", "warn", text, remedy(limit))
    if not lasting:
        yield Finding("models", "ok", "none is limited until somebody clears it")
