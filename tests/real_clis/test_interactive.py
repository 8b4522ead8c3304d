"""The real CLIs on a terminal, as our providers start them: nobody has to press a key."""

import json
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from hurlicane_mcp.providers.base import LaunchRequest, LaunchSpec, Provider
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_endpoint import ScriptedModel
from tests.real_clis.model_script import CallTool, Conversation, Move, Say, Script, Told, in_order
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import Sandbox, make_sandbox
from tests.real_clis.toy_server import ToyServer, toy_server

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(120)]

both_clis = pytest.mark.parametrize("cli", ["claude", "codex"])
LINE = "0123456789abcdef" * 8 + "\n"


@dataclass(frozen=True, slots=True)
class Stage:
    """One CLI, whose user has run it before but never in this folder."""

    cli: str
    root: Path
    sandbox: Sandbox
    model: ScriptedModel
    toy: ToyServer

    @property
    def request(self) -> LaunchRequest:
        """The usual launch."""
        return LaunchRequest(
            prompt="Do it.",
            work_dir=self.sandbox.work_dir,
            run_dir=self.root / "run",
            model=None,
            mcp_url=self.toy.url,
            token=self.toy.token,
            resume=None,
            wait_limit=timedelta(minutes=1),
            interactive=True,
        )

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """What the provider makes of *request*; its files are written."""
        claude: Provider = ClaudeProvider(str(self.sandbox.claude))
        provider = claude if self.cli == "claude" else CodexProvider(str(self.sandbox.codex))
        spec = provider.launch(request)
        request.run_dir.mkdir(mode=0o700, exist_ok=True)
        for file, text in spec.files.items():
            file.write_text(text, encoding="utf-8")
        return spec

    def is_saved(self, session_id: str | None, text: str) -> bool:
        """Whether Claude Code has *text* in its file of the session: it writes a moment late."""
        folder = Path(self.sandbox.environment["CLAUDE_CONFIG_DIR"]) / "projects"
        files = folder.glob(f"*/{session_id}.jsonl")
        return any(text in file.read_text(encoding="utf-8") for file in files)

    def saved_trust(self) -> bool:
        """Whether the user's own configuration trusts the folder now."""
        home, codex_home = self.sandbox.environment["HOME"], self.sandbox.environment["CODEX_HOME"]
        if self.cli == "codex":
            return "trust_level" in (Path(codex_home) / "config.toml").read_text(encoding="utf-8")
        text = (Path(home) / "claude" / ".claude.json").read_text(encoding="utf-8")
        projects = json.loads(text).get("projects", {}).values()
        return any(project.get("hasTrustDialogAccepted") for project in projects)


@contextmanager
def stage(cli: str, root: Path, script: Script) -> Generator[Stage]:
    endpoint = anthropic_endpoint if cli == "claude" else openai_endpoint
    with endpoint(script) as model, toy_server() as toy:
        sandbox = make_sandbox(root / "sandbox", model.url, model.url)
        known = {"approved": [sandbox.environment["ANTHROPIC_API_KEY"]], "rejected": []}
        user = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": known}
        config = Path(sandbox.environment["CLAUDE_CONFIG_DIR"]) / ".claude.json"
        config.write_text(json.dumps(user), encoding="utf-8")
        yield Stage(cli, root, sandbox, model, toy)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A pane of a tmux server of its own."""

    socket: Path

    def tmux(self, *arguments: str) -> str:
        argv = ("tmux", "-u", "-S", str(self.socket), "-f", "/dev/null", *arguments)
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def until(self, condition: Callable[[], object], timeout_s: float = 30) -> None:
        """Return once *condition* holds; fails with what is on the screen."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(self.tmux("capture-pane", "-p", "-t", "0"))
            time.sleep(0.05)

    def shows(self, text: str) -> bool:
        """Whether *text* is on the screen or above it."""
        return text in self.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", "0")


@contextmanager
def terminal(on: Stage, spec: LaunchSpec) -> Generator[Terminal]:
    """The CLI on a terminal, as long as the context lasts."""
    environment = {**on.sandbox.environment, **spec.env, "TERM": "screen-256color"}
    command: Sequence[str] = (
        "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *spec.argv,
    )  # fmt: skip
    pane = Terminal(on.root / f"tmux.{time.monotonic_ns()}")  # a tmux that leaves refuses the next
    size = ("-x", "150", "-y", "40")
    pane.tmux("new-session", "-d", *size, "-c", str(on.sandbox.work_dir), "--", *command)
    try:
        yield pane
    finally:
        pane.tmux("kill-server")


FINISH = CallTool("finish_job", {"result": "ok"})


@both_clis
def test_an_agent_on_a_terminal_works_without_a_key_being_pressed(cli: str, tmp_path: Path) -> None:
    prompt = "--help “me”; $(touch x)\n# and `so` on"
    with stage(cli, tmp_path, in_order(FINISH, Say("All done here."))) as on:
        spec = on.launch(replace(on.request, prompt=prompt))
        with terminal(on, spec) as pane:
            pane.until(lambda: pane.shows("All done here."))
            told = [one.text for one in on.model.requests[0].conversation.turns
                    if isinstance(one, Told)]  # fmt: skip
            assert prompt in told
            assert on.toy.calls == [("finish_job", {"result": "ok"})]
            assert not on.saved_trust()


@both_clis
def test_a_long_prompt_is_read_from_its_file_without_a_question(cli: str, tmp_path: Path) -> None:
    file = tmp_path / "run" / "prompt.md"

    def read(_: Conversation) -> Move:
        if cli == "claude":
            return CallTool("Read", {"file_path": str(file), "limit": 3}, server=None)
        return CallTool("exec_command", {"cmd": f"head -3 {file}"}, server=None)

    with stage(cli, tmp_path, in_order(read, FINISH, Say("All done here."))) as on:
        spec = on.launch(replace(on.request, prompt=LINE * 1_000))
        with terminal(on, spec) as pane:
            pane.until(lambda: pane.shows("All done here."))
            assert str(file) in json.dumps(on.model.requests[0].body)
            assert LINE.strip() in json.dumps(on.model.requests[1].body)


def test_the_session_that_we_named_can_be_gone_on_with(tmp_path: Path) -> None:
    script = in_order(Say("First."), FINISH, Say("Second."))
    with stage("claude", tmp_path, script) as on:
        spec = on.launch(on.request)
        with terminal(on, spec) as pane:
            pane.until(lambda: pane.shows("First."))
            pane.until(lambda: on.is_saved(spec.session_id, "First."))
        again = on.launch(replace(on.request, prompt="Go on.", resume=spec.session_id))
        with terminal(on, again) as pane:
            pane.until(lambda: pane.shows("Second."))
        assert "First." in json.dumps(on.model.requests[1].body["messages"])
        assert on.toy.calls == [("finish_job", {"result": "ok"})]


def test_codex_in_a_worktree_is_not_asked_either(tmp_path: Path) -> None:
    with stage("codex", tmp_path, in_order(FINISH, Say("All done here."))) as on:
        tree = tmp_path / "tree"
        argv = ("git", "worktree", "add", "--quiet", str(tree))
        subprocess.run(argv, cwd=on.sandbox.work_dir, env=dict(on.sandbox.environment), check=True)
        elsewhere = replace(on, sandbox=replace(on.sandbox, work_dir=tree))
        with terminal(elsewhere, elsewhere.launch(elsewhere.request)) as pane:
            pane.until(lambda: pane.shows("All done here."))
