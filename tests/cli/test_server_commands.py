"""Starting and stopping servers from the command line."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hurlicane_mcp.cli import serve, whereabouts
from hurlicane_mcp.settings import PORT, Settings
from tests.cli.command import Command, task
from tests.cli.test_parent import is_gone
from tests.gh import StubGh
from tests.stories.server import RunningServer


@pytest.fixture
def hurlicane(tmp_path: Path) -> Iterator[Command]:
    """Commands for a data folder on which nothing runs; what they start is stopped."""
    command = Command(tmp_path / "data", tmp_path)
    yield command
    command("stop", "--agents", "stop")


def _worker_pid(data_dir: Path) -> int:
    return json.loads((data_dir / "server.json").read_text())["pid"]


def test_run_starts_a_server_and_stop_ends_it(hurlicane: Command) -> None:
    done = hurlicane("run", task("finish ok"))
    assert (done.returncode, done.stdout) == (0, "ok\n")
    assert done.stderr.startswith("Started a server at http://127.0.0.1:")
    again = hurlicane("run", task("finish ok"))
    assert "Started" not in again.stderr
    worker = psutil.Process(_worker_pid(hurlicane.data_dir))
    parent = worker.parent()
    stopped = hurlicane("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert parent is not None
    assert is_gone(worker.pid)
    assert is_gone(parent.pid)
    assert hurlicane("stop").returncode == 1


def test_stop_keeps_agents_unless_it_is_told_to_stop_them(
    server: RunningServer, tmp_path: Path
) -> None:
    hurlicane = Command(server.data_dir, tmp_path)
    job = hurlicane("run", "-d", task("hang")).stdout.strip()
    shim = server.data_dir / "runs" / f"{job}.1" / "shim.json"
    assert hurlicane("wait", job, "--timeout", "1").returncode == 124
    agent = psutil.Process(json.loads(shim.read_text())["agent_pid"])
    assert hurlicane("stop").returncode == 0
    assert not is_gone(agent.pid)
    hurlicane("run", "-d", task("finish ok"))
    assert hurlicane("stop", "--agents", "stop").returncode == 0
    assert is_gone(agent.pid)


def test_stop_never_ends_a_process_that_only_has_the_pid(hurlicane: Command) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with bystander:
        hurlicane.data_dir.mkdir()
        known = {"url": "http://127.0.0.1:9", "pid": bystander.pid}
        (hurlicane.data_dir / "server.json").write_text(json.dumps(known))
        stopped = hurlicane("stop")
        assert stopped.returncode == 1
        assert stopped.stderr.startswith(f"error: No server runs for {hurlicane.data_dir}")
        assert bystander.poll() is None


@pytest.mark.parametrize(
    "arguments", [("ps",), ("show", "job_x"), ("mcp",), ("mcp-config", "claude"), ("stop",)]
)
def test_without_a_server_commands_say_how_to_start_one(
    hurlicane: Command, arguments: tuple[str, ...]
) -> None:
    refused = hurlicane(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    place = hurlicane.data_dir
    assert refused.stderr == (
        f"error: No server runs for {place}: start one with `hurlicane serve --data-dir {place}`.\n"
    )


def test_a_second_server_on_a_data_folder_ends_with_one_line(
    server: RunningServer, tmp_path: Path
) -> None:
    second = Command(server.data_dir, tmp_path)("serve")
    assert (second.returncode, second.stdout) == (1, "")
    (line,) = second.stderr.splitlines()
    assert f"A server at {server.url} (pid {server.worker_pid}) already uses" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--slots", "x"), "slots: ", id="not a number"),
        pytest.param(("--port", "70000"), "port: '70000'", id="port"),
        pytest.param(("--log-level", "loud"), "log_level: ", id="choice"),
        pytest.param(("--host", "0.0.0.0"), "host 0.0.0.0 is not loopback", id="open to all"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(
    hurlicane: Command, arguments: tuple[str, ...], message: str
) -> None:
    refused = hurlicane("serve", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_run_tells_why_its_server_does_not_start(hurlicane: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = hurlicane("run", "x", HURLICANE_PORT=port)
    assert failed.returncode == 1
    assert f"did not start: Port {port} is in use" in failed.stderr


def test_doctor_fails_when_the_cli_of_the_default_provider_is_missing(hurlicane: Command) -> None:
    missing = hurlicane(
        "doctor", "--json", HURLICANE_PROVIDER="claude", HURLICANE_CLAUDE_BIN="no-such-program"
    )
    found = {one["subject"]: one for one in json.loads(missing.stdout)["findings"]}
    assert missing.returncode == 1
    assert found["claude"]["level"] == "fail"
    assert "npm install" in found["claude"]["mend"]
    assert found["server"]["level"] == "warn"


def test_doctor_misses_gh_without_failing(hurlicane: Command, tmp_path: Path) -> None:
    gh = StubGh(tmp_path / "gh")
    for program, level in (("no-such-gh", "warn"), (gh.program, "ok")):
        told = hurlicane("doctor", "--json", HURLICANE_GH_BIN=program)
        findings = {one["subject"]: one for one in json.loads(told.stdout)["findings"]}
        assert findings["gh"]["level"] == level


@pytest.mark.parametrize(
    ("version", "level", "words"),
    [
        pytest.param("tmux 3.3a", "ok", "tmux 3.3a", id="new enough"),
        pytest.param("tmux next-3.6", "ok", "tmux next-3.6", id="unreleased"),
        pytest.param("tmux 2.9", "warn", "is older than 3.0", id="too old"),
    ],
)
def test_doctor_tells_whether_tmux_will_do(
    hurlicane: Command, tmp_path: Path, version: str, level: str, words: str
) -> None:
    tmux = tmp_path / "tmux"
    tmux.write_text(f"#!/bin/sh\necho '{version}'\n")
    tmux.chmod(0o700)
    told = hurlicane("doctor", "--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    (found,) = (one for one in json.loads(told.stdout)["findings"] if one["subject"] == "tmux")
    assert found["level"] == level
    assert words in found["text"]


def test_the_options_of_serve_are_the_settings() -> None:
    assert set(serve.OPTIONS) == set(Settings.model_fields)


def test_commands_and_server_have_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = Settings.model_validate({})
    assert (settings.host, PORT) == (whereabouts.HOST, whereabouts.PORT)
    assert whereabouts.data_dir_of(None) == settings.data_dir
