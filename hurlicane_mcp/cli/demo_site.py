"""What the demos run on: a server, a repository and data of their own, gone afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from hurlicane_mcp.errors import HurlicaneError

STOP_S: Final = 15.0  #: for the server to end
#: Settings of the server that runs the user's own CLIs.
KEPT: Final = frozenset({"HURLICANE_CLAUDE_BIN", "HURLICANE_CODEX_BIN"})


def checked(response: httpx2.Response) -> Mapping[str, Any]:
    """What the server answers.

    Raises:
        HurlicaneError: it refused.
    """
    if response.is_success:
        return response.json()
    raise HurlicaneError(f"The server refused: {response.text}")


@contextmanager
def server(data_dir: Path, repository: Path, agent: str) -> Generator[httpx2.Client]:
    """A client of a server that lives as long as the context."""
    data_dir.mkdir(mode=0o700)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HURLICANE_") or name in KEPT
    }
    options = ("--data-dir", data_dir, "--port", "0", "--provider", agent, "--work-dir", repository)
    with (data_dir / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hurlicane_mcp", "serve", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
        )
    try:
        url = _ready(process, data_dir / "server.log")
        token = (data_dir / "operator.token").read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as http:
            yield http
            _wait_for_agents(http)
    finally:
        _stop(process)


def _ready(process: "subprocess.Popen[str]", log: Path) -> str:
    """The URL of the server once it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    for word in line.split():
        if word.startswith("http"):
            return word.removesuffix("/mcp")
    raise HurlicaneError(f"The server did not start: {log.read_text(encoding='utf-8').strip()}")


def _wait_for_agents(http: httpx2.Client) -> None:
    """Let the agents of finished jobs end by themselves: they write into our directory."""
    deadline = time.monotonic() + STOP_S
    while checked(http.get("/api/agents"))["agents"] and time.monotonic() < deadline:
        time.sleep(0.1)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def new_repository(path: Path) -> Path:
    """A git repository with one commit, whose committer needs no configuration."""
    path.mkdir()
    (path / "README.md").write_text("# greet\n", encoding="utf-8")
    (path / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    git(path, "init", "--quiet", "--initial-branch=main")
    for name, value in (("user.name", "Demo"), ("user.email", "demo@localhost")):
        git(path, "config", name, value)
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message=Begin")
    return path


def git(repository: Path, *args: str) -> str:
    """What git prints.

    Raises:
        HurlicaneError: there is no git, or it failed.
    """
    command = ["git", "-c", "commit.gpgSign=false", "-C", str(repository), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise HurlicaneError("The demo needs git: install it and run the demo again.") from None
    if done.returncode:
        raise HurlicaneError(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
