"""The real CLIs as agents of interactive jobs of a real server, on terminals that it keeps."""

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_script import CallTool, Conversation, Move, Say, Script, Told, in_order
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import make_sandbox
from tests.stories.server import RunningServer, running_server, until

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(120)]

both_clis = pytest.mark.parametrize("cli", ["claude", "codex"])
FINISH = CallTool("finish_job", {"result": "42"})


@dataclass(frozen=True, slots=True)
class Stage:
    """A server whose agents are one of the CLIs, whose user has run it before."""

    cli: str
    server: RunningServer

    def create(self, description: str) -> str:
        """The id of a new interactive job."""
        body = {"description": description, "provider": self.cli, "interactive": True}
        return self.post("/api/jobs", body)["job_id"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.server.rest() as rest:
            return rest.post(path, json=body).raise_for_status().json()

    def outcome(self, job_id: str) -> dict[str, Any]:
        """The job once it is final."""
        with self.server.rest() as rest:
            params: dict[str, Any] = {"job_id": job_id, "timeout_s": 60}
            answer = rest.get("/api/wait", params=params, timeout=httpx2.Timeout(70)).json()
        assert answer["pending"] == [], self.kept(job_id, "screen")
        return answer["jobs"][0]

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's attempts, first to last."""
        with self.server.rest() as rest:
            return rest.get(f"/api/jobs/{job_id}/attempts").json()["attempts"]

    def shows(self, job_id: str, text: str) -> bool:
        """Whether *text* is on the agent's screen now."""
        argv = ("tmux", "-S", "tmux", "capture-pane", "-p", "-J", "-t", "%0")
        folder = self.server.data_dir / "runs" / f"{job_id}.1"
        return (
            text
            in subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False).stdout
        )

    def kept(self, job_id: str, name: str) -> str:
        """A file of the first attempt's run directory; empty if there is none."""
        path = self.server.data_dir / "runs" / f"{job_id}.1" / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@contextmanager
def stage(cli: str, root: Path, script: Script) -> Generator[Stage]:
    endpoint = anthropic_endpoint if cli == "claude" else openai_endpoint
    with endpoint(script) as model:
        sandbox = make_sandbox(root / "sandbox", model.url, model.url)
        known = {"approved": [sandbox.environment["ANTHROPIC_API_KEY"]], "rejected": []}
        user = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": known}
        config = Path(sandbox.environment["CLAUDE_CONFIG_DIR"]) / ".claude.json"
        config.write_text(json.dumps(user), encoding="utf-8")
        server = running_server(root / "data", sandbox.work_dir, {}, sandbox.environment)
        try:
            yield Stage(cli, server)
        finally:
            server.stop()


@both_clis
async def test_an_interactive_job_ends_with_finish_job_and_no_dialog_is_in_its_way(
    cli: str, tmp_path: Path
) -> None:
    with stage(cli, tmp_path, in_order(FINISH, Say("All done here."))) as on:
        job = on.create("Find the answer.")
        answer = on.outcome(job)
        assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "42", 1)
        # The CLI waits for people then: it is told to leave, and what it showed is kept.
        await until(lambda: "ended_at" in on.attempts(job)[0])
        assert "All done here." in on.kept(job, "scrollback.txt")


@both_clis
async def test_a_message_is_typed_and_entered_when_the_agent_waits_for_people(
    cli: str, tmp_path: Path
) -> None:
    def answer(conversation: Conversation) -> Move:
        told = [turn.text for turn in conversation.turns if isinstance(turn, Told)]
        return CallTool("finish_job", {"result": next(one for one in told if "left" in one)})

    text = "Take the left one;\nit has “$HOME” written on it. " + "And so on. " * 40 + "Last."
    with stage(cli, tmp_path, in_order(Say("Which one?"), answer, Say("Bye."))) as on:
        job = on.create("Ask me.")
        await on.server.agent_of(job)
        await until(lambda: on.shows(job, "Which one?"), 40)
        on.post(f"/api/jobs/{job}/messages", {"text": text})
        got = on.outcome(job)
        assert got["status"] == "done"
        assert " ".join(text.split()) in " ".join(got["result"].split())
        assert got["attempt"] == 1
