"""The real CLIs, started headless by argv, against scripted models and a toy MCP server."""

import json
import subprocess
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_endpoint import ScriptedModel
from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    HttpError,
    Move,
    Said,
    Say,
    Script,
    Told,
    by_role,
    in_order,
    refusing,
)
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import Sandbox, make_sandbox
from tests.real_clis.toy_server import ToyServer, toy_server

pytestmark = pytest.mark.real_cli

both_clis = pytest.mark.parametrize("cli", ["claude", "codex"])


@dataclass(frozen=True, slots=True)
class Run:
    """How a CLI ended and the events that it printed."""

    exit_code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def session(self) -> str:
        """The id under which the run can be resumed: Claude's session or Codex's thread."""
        return self.events[0].get("session_id") or self.events[0]["thread_id"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One real CLI with its scripted model and its tools."""

    cli: str
    sandbox: Sandbox
    model: ScriptedModel
    toy: ToyServer
    mcp_config: Path  #: Claude's; Codex is told by overrides

    def run(self, prompt: str, session: str | None = None) -> Run:
        """Run the CLI to its end, with *prompt* as its standard input."""
        argv = self._claude(session) if self.cli == "claude" else self._codex(session)
        ended = subprocess.run(
            argv,
            input=prompt,
            text=True,
            capture_output=True,
            env={**self.sandbox.environment, "HURLICANE_TOKEN": self.toy.token},
            cwd=self.sandbox.work_dir,
            timeout=50,
            check=False,
        )
        events = [json.loads(line) for line in ended.stdout.splitlines()]
        return Run(ended.returncode, events, ended.stderr)

    def _claude(self, session: str | None) -> list[str]:
        return [
            *(str(self.sandbox.claude), "--print", "--output-format", "stream-json", "--verbose"),
            *("--mcp-config", str(self.mcp_config), "--strict-mcp-config"),
            *("--permission-mode", "acceptEdits", "--allowedTools", "mcp__hurlicane", "Bash"),
            *(("--resume", session) if session else ()),
        ]

    def _codex(self, session: str | None) -> list[str]:
        overrides = {
            "approval_policy": "never",
            "sandbox_mode": "danger-full-access",
            "mcp_servers.hurlicane.url": self.toy.url,
            "mcp_servers.hurlicane.bearer_token_env_var": "HURLICANE_TOKEN",
            "mcp_servers.hurlicane.tool_timeout_sec": 1800,
            "mcp_servers.hurlicane.default_tools_approval_mode": "approve",
        }
        return [
            *(str(self.sandbox.codex), "exec", "--json", "--skip-git-repo-check"),
            *(part for key, value in overrides.items() for part in ("-c", toml(key, value))),
            *(("resume", session) if session else ()),
            "-",
        ]


def toml(key: str, value: str | int) -> str:
    """One override for Codex's `-c`: JSON's strings and numbers are TOML's."""
    return f"{key}={json.dumps(value)}"


@contextmanager
def stage(cli: str, root: Path, script: Script) -> Generator[Stage]:
    endpoint = anthropic_endpoint if cli == "claude" else openai_endpoint
    with endpoint(script) as model, toy_server() as toy:
        sandbox = make_sandbox(root, model.url, model.url)
        yield Stage(cli, sandbox, model, toy, write_mcp_config(root / "mcp.json", toy))


def write_mcp_config(path: Path, toy: ToyServer) -> Path:
    headers = {"Authorization": f"Bearer {toy.token}"}
    server = {"type": "http", "url": toy.url, "headers": headers, "timeout": 1_800_000}
    path.touch(mode=0o600)
    path.write_text(json.dumps({"mcpServers": {"hurlicane": server}}), encoding="utf-8")
    return path


def wait_for_created(conversation: Conversation) -> Move:
    ids = [result.data()["job_id"] for result in conversation.results("create_job")]
    return CallTool("wait_for_jobs", {"job_ids": ids})


def finish_with_states(conversation: Conversation) -> Move:
    (waited,) = conversation.results("wait_for_jobs")
    return CallTool("finish_job", {"result": f"the job is {waited.data()['jobs']['job_1']}"})


def lead() -> Script:
    return in_order(
        CallTool("create_job", {"description": "[[role:child]] write\n“quoted” $HOME `text`"}),
        wait_for_created,
        finish_with_states,
        Say("All done."),
    )


@both_clis
def test_the_cli_calls_our_tools_as_its_model_says_and_exits_0(cli: str, tmp_path: Path) -> None:
    with stage(cli, tmp_path, by_role({"lead": lead()})) as on:
        run = on.run("[[role:lead]] Have a job done.")
        assert (run.exit_code, run.stderr) == (0, "")
        assert on.toy.calls == [
            ("create_job", {"description": "[[role:child]] write\n“quoted” $HOME `text`"}),
            ("wait_for_jobs", {"job_ids": ["job_1"]}),
            ("finish_job", {"result": "the job is done"}),
        ]
        assert on.model.roles() == ["lead"] * 4
        assert on.model.other_requests == []


@both_clis
def test_a_prompt_of_256_kb_reaches_the_model_whole_by_standard_input(
    cli: str, tmp_path: Path
) -> None:
    prompt = "[[role:lead]] --help '“$(x)\n" + "0123456789abcdef" * 16 * 1024 + "\nthe end"
    with stage(cli, tmp_path, by_role({"lead": in_order(Say("Read."))})) as on:
        assert on.run(prompt).exit_code == 0
        (request,) = on.model.requests
        told = [turn.text for turn in request.conversation.turns if isinstance(turn, Told)]
        assert prompt in told


@both_clis
def test_a_resumed_session_hears_the_reminder_and_keeps_its_history(
    cli: str, tmp_path: Path
) -> None:
    script = in_order(Say("Bye."), CallTool("finish_job", {"result": "late"}), Say("Now really."))
    with stage(cli, tmp_path, by_role({"lead": script})) as on:
        first = on.run("[[role:lead]] Finish your job.")
        second = on.run("You have not called finish_job.", first.session)
        assert second.exit_code == 0
        assert second.session == first.session
        assert on.toy.calls == [("finish_job", {"result": "late"})]
        resumed = on.model.requests[1].conversation.turns
        assert Said("Bye.") in resumed
        assert Told("You have not called finish_job.") in resumed


@both_clis
def test_a_refused_request_ends_the_cli_with_exit_1(cli: str, tmp_path: Path) -> None:
    error = {"type": "invalid_request_error", "message": "the model is out of sorts"}
    refused = HttpError(400, body={"type": "error", "error": error})
    with stage(cli, tmp_path, by_role({"lead": in_order(refused)})) as on:
        run = on.run("[[role:lead]] Try.")
        assert run.exit_code == 1
        assert "out of sorts" in json.dumps(run.events)


@both_clis
def test_a_passing_rate_limit_is_retried_within_the_run(cli: str, tmp_path: Path) -> None:
    error = {"type": "rate_limit_error", "message": "slow down"}
    limited = HttpError(429, {"retry-after": "1"}, {"type": "error", "error": error})
    script = in_order(refusing(1, limited, CallTool("finish_job", {"result": "ok"})), Say("Done."))
    with stage(cli, tmp_path, by_role({"lead": script})) as on:
        assert on.run("[[role:lead]] Try.").exit_code == 0
        assert on.toy.calls == [("finish_job", {"result": "ok"})]
        assert [type(request.move) for request in on.model.requests] == [HttpError, CallTool, Say]


@both_clis
def test_agents_that_run_side_by_side_follow_each_its_own_role(cli: str, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=20)

    def meet(conversation: Conversation) -> Move:
        together.wait()
        return CallTool("finish_job", {"result": f"from {conversation.role}"})

    script = in_order(meet, Say("Done."))
    prompts = [f"[[role:{role}]] Meet the other." for role in ("lead", "child")]
    with (
        stage(cli, tmp_path, by_role({"lead": script, "child": script})) as on,
        ThreadPoolExecutor() as agents,
    ):
        runs = list(agents.map(on.run, prompts))
        assert [run.exit_code for run in runs] == [0, 0]
        results = sorted(str(arguments["result"]) for _, arguments in on.toy.calls)
        assert results == ["from child", "from lead"]


def built_in_shell(cli: str, command: str) -> CallTool:
    name, argument = ("Bash", "command") if cli == "claude" else ("exec_command", "cmd")
    return CallTool(name, {argument: command}, server=None)


@both_clis
def test_the_agent_can_commit_a_file_with_its_own_shell(cli: str, tmp_path: Path) -> None:
    commit = built_in_shell(cli, "echo hi > f && git add f && git commit -qm 'Add f'")
    with stage(cli, tmp_path, by_role({"child": in_order(commit, Say("Done."))})) as on:
        assert on.run("[[role:child]] Write f.").exit_code == 0
        log = subprocess.run(
            ["git", "log", "--format=%an: %s"],
            cwd=on.sandbox.work_dir,
            env=dict(on.sandbox.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        assert log.stdout.splitlines() == ["Agent: Add f", "Agent: Begin"]


def ask(model: ScriptedModel, **more: object) -> Mapping[str, Any]:
    message = {"role": "user", "content": "[[role:lead]] Hello"}
    body = {"model": "claude-haiku-5-5", "messages": [message], **more}
    return httpx2.post(f"{model.url}/v1/messages", json=body, trust_env=False).json()


def test_the_messages_endpoint_answers_without_a_stream_too() -> None:
    with anthropic_endpoint(in_order(Say("Hello."))) as model:
        answer = ask(model)
        assert answer["content"] == [{"type": "text", "text": "Hello."}]
        counted = httpx2.post(f"{model.url}/v1/messages/count_tokens", json={}, trust_env=False)
        assert "input_tokens" in counted.json()
        assert httpx2.get(f"{model.url}/elsewhere", trust_env=False).json() == {}
        assert model.other_requests == ["GET /elsewhere"]


def test_a_script_that_fails_fails_the_test() -> None:
    with (
        pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="lead")),
        anthropic_endpoint(by_role({"child": in_order(Say("Hello."))})) as model,
    ):
        assert ask(model)["error"]["message"] == "script failed: KeyError('lead')"
