"""The program that asks before an edit: whatever goes wrong, the edit is refused."""

import json
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hurlicane_mcp.providers.base import EditGate, LaunchRequest
from hurlicane_mcp.providers.claude import ClaudeProvider

HOOK = {
    "hook_event_name": "PreToolUse",
    "tool_name": "Write",
    "cwd": "/r",
    "tool_input": {"file_path": "/r/a", "content": "x" * 100_000},
}
DENIED: dict[str, object] = {"hookSpecificOutput": {"permissionDecision": "deny"}}


class _Handler(BaseHTTPRequestHandler):
    answer: tuple[int, bytes] = (200, b"{}")
    heard: Sequence[Any] = ()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).heard = [*self.heard, (self.path, self.headers["Authorization"], body)]
        status, answer = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def answering(status: int, answer: bytes) -> Generator[tuple[str, type[_Handler]]]:
    handler = type("Handler", (_Handler,), {"answer": (status, answer)})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/claude/edit", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def command(tmp_path: Path, url: str, **more: object) -> str:
    """What the CLI is told to run before an edit, its file written."""
    request = LaunchRequest(
        prompt="Do it.",
        work_dir=tmp_path,
        run_dir=tmp_path,
        model=None,
        mcp_url="http://127.0.0.1:9/mcp",
        token="the-token",
        resume=None,
        wait_limit=timedelta(minutes=1),
        edit_gate=EditGate(url),
    )
    spec = ClaudeProvider("/bin/true").launch(request)
    assert "the-token" not in " ".join(spec.argv)
    for file, text in spec.files.items():
        file.write_text(text, encoding="utf-8")
    target = tmp_path / "edit_gate.json"
    target.write_text(json.dumps({**json.loads(target.read_text()), **more}), encoding="utf-8")
    hooks = json.loads((tmp_path / "settings.json").read_text())["hooks"]
    (entry,) = hooks["PreToolUse"]
    assert entry["matcher"] == "Edit|Write|MultiEdit|NotebookEdit"
    (hook,) = entry["hooks"]
    assert (hook["type"], "the-token" in hook["command"]) == ("command", False)
    return hook["command"]


def run(told: str, hook: object = HOOK) -> subprocess.CompletedProcess[str]:
    text = hook if isinstance(hook, str) else json.dumps(hook)
    return subprocess.run(
        ["/bin/sh", "-c", told], input=text, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("answer", [{}, DENIED])
def test_the_servers_answer_is_handed_on(tmp_path: Path, answer: dict[str, object]) -> None:
    with answering(200, json.dumps(answer).encode()) as (url, handler):
        ran = run(command(tmp_path, url))
    assert (ran.returncode, json.loads(ran.stdout), ran.stderr) == (0, answer, "")
    ((path, token, body),) = handler.heard
    assert (path, token) == ("/hooks/claude/edit", "Bearer the-token")
    assert json.loads(body)["tool_input"] == {"file_path": "/r/a"}  # not what is to be written


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_error_refuses_the_edit(tmp_path: Path, status: int) -> None:
    with answering(status, b'{"detail": "why"}') as (url, _):
        ran = run(command(tmp_path, url))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"it answered {status}" in ran.stderr


def test_half_an_answer_refuses_the_edit(tmp_path: Path) -> None:
    with answering(200, b'{"hook') as (url, _):
        assert run(command(tmp_path, url)).returncode == 2


def test_a_server_that_is_away_refuses_the_edit_and_says_what_to_do(tmp_path: Path) -> None:
    ran = run(command(tmp_path, "http://127.0.0.1:9/hooks/claude/edit"))
    assert ran.returncode == 2
    assert "Wait some seconds and try again" in ran.stderr


def test_a_server_that_does_not_answer_refuses_the_edit_in_time(tmp_path: Path) -> None:
    silent = HTTPServer(("127.0.0.1", 0), _Handler)  # listens, and never looks
    try:
        url = f"http://127.0.0.1:{silent.server_port}/hooks/claude/edit"
        ran = run(command(tmp_path, url, patience_s=1))
    finally:
        silent.server_close()
    assert ran.returncode == 2
    assert "does not answer" in ran.stderr


@pytest.mark.parametrize("hook", ["", "{", "[]"])
def test_a_hook_that_cannot_be_read_refuses_the_edit(tmp_path: Path, hook: str) -> None:
    assert run(command(tmp_path, "http://127.0.0.1:9/x"), hook).returncode == 2


def test_a_program_that_is_gone_refuses_the_edit(tmp_path: Path) -> None:
    """The package was removed, say, while the agent worked."""
    told = command(tmp_path, "http://127.0.0.1:9/x")
    assert run(told.replace("edit_gate.py", "gone.py")).returncode == 2
    assert run(f"/nowhere/python {told.partition(' ')[2]}").returncode == 2


def test_where_edits_may_pass_a_plain_http_hook_asks(tmp_path: Path) -> None:
    request = LaunchRequest(
        prompt="Do it.",
        work_dir=tmp_path,
        run_dir=tmp_path,
        model=None,
        mcp_url="http://127.0.0.1:9/mcp",
        token="the-token",
        resume=None,
        wait_limit=timedelta(minutes=1),
        hooks_url="http://127.0.0.1:9/hooks/claude",
        edit_gate=EditGate("http://127.0.0.1:9/hooks/claude/edit", fail_open=True),
    )
    spec = ClaudeProvider("/bin/true").launch(request)
    settings = json.loads(spec.files[tmp_path / "settings.json"])
    (entry,) = settings["hooks"]["PreToolUse"]
    assert entry["hooks"][0]["type"] == "http"
    assert entry["hooks"][0]["url"].endswith("/edit")
    assert tmp_path / "edit_gate.json" not in spec.files
