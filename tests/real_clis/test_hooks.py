"""Claude Code's hooks as our provider sets them: what is sent, and what the answers do."""

import json
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hurlicane_mcp.providers.base import EditGate, LaunchRequest
from hurlicane_mcp.providers.claude import ClaudeProvider
from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.loopback import serving
from tests.real_clis.model_endpoint import ScriptedModel
from tests.real_clis.model_script import CallTool, Conversation, Move, Say, Script, in_order
from tests.real_clis.sandbox import NOWHERE, make_sandbox
from tests.real_clis.toy_server import ToyServer, toy_server

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(120)]

Hook = Mapping[str, Any]


@dataclass
class Listener:
    """Takes hooks and answers them by their event."""

    answers: Mapping[str, Mapping[str, object]]
    url: str = ""
    hooks: list[Hook] = field(default_factory=list[Hook])
    tokens: set[str | None] = field(default_factory=set[str | None])

    async def hear(self, request: Request) -> JSONResponse:
        hook: Hook = await request.json()
        self.hooks.append(hook)
        self.tokens.add(request.headers.get("authorization"))
        answer = self.answers.get(hook["hook_event_name"], {})
        return JSONResponse({} if hook.get("stop_hook_active") else answer)

    def events(self) -> Sequence[tuple[str, str | None]]:
        """Each hook's event and tool, in order."""
        return [(hook["hook_event_name"], hook.get("tool_name")) for hook in self.hooks]


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of the CLI ended."""

    exit_code: int
    stderr: str
    events: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """Claude Code below a folder, with a model and an MCP server of its own."""

    root: Path
    model: ScriptedModel
    toy: ToyServer

    def run(self, hooks_url: str | None, edit_gate: EditGate | None = None) -> Run:
        """Start it as the product would."""
        sandbox = make_sandbox(self.root / "sandbox", anthropic_url=self.model.url)
        run_dir = self.root / "run"
        run_dir.mkdir(mode=0o700)
        request = LaunchRequest(
            prompt="Do it.",
            work_dir=sandbox.work_dir,
            run_dir=run_dir,
            model=None,
            mcp_url=self.toy.url,
            token=self.toy.token,
            resume=None,
            wait_limit=timedelta(minutes=1),
            hooks_url=hooks_url,
            edit_gate=edit_gate,
        )
        spec = ClaudeProvider(str(sandbox.claude)).launch(request)
        for file, text in spec.files.items():
            file.write_text(text, encoding="utf-8")
        ran = subprocess.run(
            spec.argv,
            input=spec.stdin,
            cwd=sandbox.work_dir,
            env={**sandbox.environment, **spec.env},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        return Run(ran.returncode, ran.stderr, lines)


@contextmanager
def stage(root: Path, script: Script) -> Generator[Stage]:
    with anthropic_endpoint(script) as model, toy_server() as toy:
        yield Stage(root, model, toy)


@contextmanager
def listening(answers: Mapping[str, Mapping[str, object]]) -> Generator[Listener]:
    listener = Listener(answers)
    app = Starlette(routes=[Route("/hooks/claude", listener.hear, methods=["POST"])])
    with serving(app) as address:
        listener.url = f"{address}/hooks/claude"
        yield listener


def finish(_: Conversation) -> Move:
    return CallTool("finish_job", {"result": "ok"})


WORK = CallTool("Bash", {"command": "echo hi > f"}, server=None)
FAIL = CallTool("Bash", {"command": "exit 3"}, server=None)


def test_hooks_tell_of_work_and_steer_the_agent(tmp_path: Path) -> None:
    context = {"hookEventName": "PostToolUse", "additionalContext": "Hurry up, please."}
    answers = {
        "Stop": {"decision": "block", "reason": "You have not called finish_job."},
        "PostToolUse": {"hookSpecificOutput": context},
    }
    script = in_order(WORK, FAIL, Say("I think that is it."), finish, Say("Now really."))
    with stage(tmp_path, script) as on, listening(answers) as listener:
        run = on.run(listener.url)

        assert (run.exit_code, run.stderr) == (0, "")
        assert on.toy.calls == [("finish_job", {"result": "ok"})]
        assert listener.tokens == {f"Bearer {on.toy.token}"}
        assert listener.events() == [
            ("PostToolUse", "Bash"),
            ("PostToolUseFailure", "Bash"),
            ("Stop", None),
            ("Stop", None),  # and none for our own tool
        ]
        assert [hook.get("stop_hook_active") for hook in listener.hooks[-2:]] == [False, True]
        assert "Hurry up, please." in json.dumps(on.model.requests[1].body)
        assert "You have not called finish_job." in json.dumps(on.model.requests[3].body)


def test_hooks_that_nobody_hears_change_nothing(tmp_path: Path) -> None:
    script = in_order(WORK, FAIL, finish, Say("Done."))
    with stage(tmp_path, script) as on:
        run = on.run(f"{NOWHERE}/hooks/claude")

        assert run.exit_code == 0
        assert on.toy.calls == [("finish_job", {"result": "ok"})]
        assert run.events[-1]["result"] == "Done."
        notes = [one for one in run.events if "hook" in str(one.get("text") or one.get("content"))]
        assert [note["subtype"] for note in notes] == ["notification"]  # of the Stop, for people
        assert "hook" not in json.dumps(on.model.requests[-1].body["messages"][-1])


def written(on: Stage) -> list[str]:
    """The files that the agent has written."""
    work_dir = on.root / "sandbox" / "work"
    return [file.name for file in work_dir.iterdir() if file.name != ".git"]


def write(root: Path) -> CallTool:
    file = root / "sandbox" / "work" / "f.txt"
    return CallTool("Write", {"file_path": str(file), "content": "x"}, server=None)


def test_an_edit_that_nobody_can_allow_is_not_made(tmp_path: Path) -> None:
    """The server is away. An HTTP hook would let it pass, whatever its fault."""
    script = in_order(write(tmp_path), finish, Say("Done."))
    with stage(tmp_path, script) as on:
        run = on.run(None, EditGate(f"{NOWHERE}/hooks/claude/edit"))
        assert run.exit_code == 0
        assert written(on) == []
        (told,) = on.model.requests[-1].conversation.results("Write")
        assert "This edit was not made" in told.text
        assert "try again" in told.text


def test_an_edit_that_nobody_can_allow_is_made_where_that_is_wanted(tmp_path: Path) -> None:
    script = in_order(write(tmp_path), finish, Say("Done."))
    with stage(tmp_path, script) as on:
        on.run(None, EditGate(f"{NOWHERE}/hooks/claude/edit", fail_open=True))
        assert written(on) == ["f.txt"]


NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.mark.parametrize("tool", ["Edit", "NotebookEdit"])
def test_every_tool_for_edits_asks(tmp_path: Path, tool: str) -> None:
    work_dir = tmp_path / "sandbox" / "work"
    file, notebook = str(work_dir / "f.txt"), str(work_dir / "n.ipynb")
    edits: Mapping[str, Mapping[str, object]] = {
        "Edit": {"file_path": file, "old_string": "", "new_string": "y"},
        "NotebookEdit": {
            "notebook_path": notebook,
            "new_source": "y",
            "edit_mode": "insert",
            "cell_type": "code",
        },
    }
    script = in_order(
        CallTool("Bash", {"command": f"printf '%s' '{NOTEBOOK}' > n.ipynb"}, server=None),
        CallTool("Read", {"file_path": notebook}, server=None),
        CallTool(tool, edits[tool], server=None),
        finish,
        Say("Done."),
    )
    answer = {"permissionDecision": "deny", "permissionDecisionReason": "Lock it first."}
    denied = {"hookSpecificOutput": {"hookEventName": "PreToolUse", **answer}}
    with stage(tmp_path, script) as on, listening({"PreToolUse": denied}) as listener:
        on.run(None, EditGate(listener.url))
        (told,) = on.model.requests[-1].conversation.results(tool)
        assert "Lock it first." in told.text
        assert listener.events() == [("PreToolUse", tool)]
        assert listener.tokens == {f"Bearer {on.toy.token}"}
        assert written(on) == ["n.ipynb"]
        assert (work_dir / "n.ipynb").read_text() == NOTEBOOK
