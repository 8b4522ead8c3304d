"""The real CLIs as agents of a real server; only what their models say is scripted."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_endpoint import ScriptedModel
from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    Move,
    Say,
    Script,
    by_role,
    in_order,
)
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import make_sandbox
from tests.stories.server import RunningServer, running_server, until

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(120)]

clis = ("claude", "codex")


@dataclass(frozen=True, slots=True)
class Stage:
    """A server whose agents are the real CLIs, and the models behind them."""

    server: RunningServer
    models: Mapping[str, ScriptedModel]  #: by provider

    def create(self, provider: str, description: str) -> str:
        """The id of a new job."""
        with self.server.rest() as rest:
            body = {"description": description, "provider": provider}
            return rest.post("/api/jobs", json=body).raise_for_status().json()["job_id"]

    def outcome(self, job_id: str) -> dict[str, Any]:
        """The job once it is final."""
        with self.server.rest() as rest:
            params: dict[str, Any] = {"job_id": job_id, "timeout_s": 60}
            answer = rest.get("/api/wait", params=params, timeout=httpx2.Timeout(70))
            assert answer.json()["pending"] == [], answer.json()
            return answer.json()["jobs"][0]

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's attempts, first to last."""
        with self.server.rest() as rest:
            return rest.get(f"/api/jobs/{job_id}/attempts").json()["attempts"]


@contextmanager
def stage(root: Path, script: Script, **settings: str) -> Generator[Stage]:
    """Everything that *script*'s agents need, on loopback and below *root*."""
    with anthropic_endpoint(script) as anthropic, openai_endpoint(script) as openai:
        sandbox = make_sandbox(root / "sandbox", anthropic.url, openai.url)
        server = running_server(root / "data", sandbox.work_dir, settings, sandbox.environment)
        try:
            yield Stage(server, {"claude": anthropic, "codex": openai})
        finally:
            server.stop()


def wait_for_child(conversation: Conversation) -> Move:
    (created,) = conversation.results("create_job")
    return CallTool("wait_for_jobs", {"job_ids": [created.data()["job_id"]]})


def finish_with_childs_result(conversation: Conversation) -> Move:
    (waited,) = conversation.results("wait_for_jobs")
    return CallTool("finish_job", {"result": f"It says: {waited.data()['jobs'][0]['result']}"})


def lead_of(child: str, *between: Script) -> Script:
    """Creates a child, waits for it, finishes; *between* may delay its second call."""

    def wait(conversation: Conversation) -> Move:
        for pause in between:
            pause(conversation)
        return wait_for_child(conversation)

    return in_order(
        CallTool("create_job", {"description": "[[role:child]] Answer.", "provider": child}),
        wait,
        finish_with_childs_result,
        Say("All done."),
    )


CHILD = in_order(
    CallTool("report_status", {"text": "Thinking it over."}),
    CallTool("finish_job", {"result": "42, “quoted” $HOME"}),
    Say("Bye."),
)


@pytest.mark.parametrize("child", clis)
@pytest.mark.parametrize("lead", clis)
async def test_a_lead_creates_a_child_waits_and_finishes(
    lead: str, child: str, tmp_path: Path
) -> None:
    script = by_role({"lead": lead_of(child), "child": CHILD})
    with stage(tmp_path, script) as on:
        job = on.create(lead, "[[role:lead]] Find the answer.")
        answer = on.outcome(job)
        assert answer["status"] == "done", answer
        assert (answer["result"], answer["attempt"]) == ("It says: 42, “quoted” $HOME", 1)
        await until(lambda: "ended_at" in on.attempts(job)[0])
        (attempt,) = on.attempts(job)
        with on.server.rest() as rest:
            (below,) = rest.get("/api/jobs", params={"parent_id": job}).json()["jobs"]
    assert (below["provider"], below["status"]) == (child, "done")
    # The model's last words came after finish_job: the process was left to end by itself.
    assert (attempt["exit_code"], attempt["turns"]) == (0, 4)
    assert attempt["session_id"]
    assert attempt["input_tokens"] > 0


@pytest.mark.parametrize("cli", clis)
async def test_a_worker_killed_between_two_calls_goes_unnoticed(cli: str, tmp_path: Path) -> None:
    """Both agents live on as the same processes, in their first attempts."""
    between, killed = threading.Event(), threading.Event()

    def pause(_: Conversation) -> Move:
        between.set()
        assert killed.wait(40)
        return Say("")

    def child_pause(_: Conversation) -> Move:
        assert killed.wait(40)
        return CallTool("finish_job", {"result": "still here"})

    child = in_order(CallTool("report_status", {"text": "At work."}), child_pause, Say("Bye."))
    with stage(tmp_path, by_role({"lead": lead_of(cli, pause), "child": child})) as on:
        job = on.create(cli, "[[role:lead]] Find the answer.")
        await until(between.is_set, 40)
        with on.server.rest() as rest:
            (below,) = rest.get("/api/jobs", params={"parent_id": job}).json()["jobs"]
            await until(lambda: rest.get(f"/api/jobs/{below['job_id']}").json().get("progress"), 40)
        agents = [await on.server.agent_of(one) for one in (job, below["job_id"])]
        worker = psutil.Process(on.server.worker_pid)
        worker.kill()
        worker.wait()  # until its memory is freed its connections stay open, and take requests
        killed.set()
        answer = on.outcome(job)
        assert (answer["status"], answer.get("result")) == ("done", "It says: still here"), answer
        assert answer["attempt"] == 1
        assert on.server.worker_pid != worker.pid
        for agent in agents:  # they ended by themselves, after their last words
            agent.wait(20)
        kinds = {"job.done", "attempt.adopted"}
        with on.server.rest() as rest:
            events = rest.get("/api/events", params={"job": job, "after": 0}).json()["events"]
        assert kinds <= {event["kind"] for event in events}


FORGETFUL = in_order(
    Say("I think that is it."), CallTool("finish_job", {"result": "late"}), Say("Bye.")
)


@pytest.mark.parametrize("cli", clis)
async def test_an_end_without_finish_job_is_resumed_in_the_same_session(
    cli: str, tmp_path: Path
) -> None:
    with stage(tmp_path, by_role({"lead": FORGETFUL}), claude_hooks="false") as on:
        job = on.create(cli, "[[role:lead]] Do it.")
        answer = on.outcome(job)
        assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "late", 2)
        first, second = on.attempts(job)
        assert first["session_id"] == second["session_id"]
        assert first["outcome"] == "unfinished"
        assert "finish_job" in on.models[cli].requests[1].conversation.told


async def test_claude_is_sent_back_before_it_ends_without_finish_job(tmp_path: Path) -> None:
    with stage(tmp_path, by_role({"lead": FORGETFUL})) as on:
        job = on.create("claude", "[[role:lead]] Do it.")
        answer = on.outcome(job)
        assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "late", 1)
        assert "You have not called finish_job" in on.models["claude"].requests[1].conversation.told


@pytest.mark.parametrize(
    ("cli", "call"),
    [
        pytest.param("claude", CallTool("report_status", {"text": "At work."}), id="claude"),
        pytest.param("codex", CallTool("report_status", {"text": "At work."}), id="codex"),
        pytest.param("claude", CallTool("Bash", {"command": "true"}, server=None), id="by hook"),
    ],
)
async def test_a_message_reaches_the_model_with_the_next_tool_result(
    cli: str, call: CallTool, tmp_path: Path
) -> None:
    thinking, sent = threading.Event(), threading.Event()

    def pause(_: Conversation) -> Move:
        thinking.set()
        assert sent.wait(40)
        return call

    script = in_order(pause, CallTool("finish_job", {"result": "ok"}), Say("Bye."))
    with stage(tmp_path, by_role({"lead": script})) as on:
        job = on.create(cli, "[[role:lead]] Do it.")
        await until(thinking.is_set, 40)
        with on.server.rest() as rest:
            path = f"/api/jobs/{job}/messages"
            rest.post(path, json={"text": "Use tabs, please."}).raise_for_status()
            sent.set()
            assert on.outcome(job)["status"] == "done"
            (message,) = rest.get(path).json()["messages"]
        after = on.models[cli].requests[1]
    assert "Use tabs, please." in json.dumps(after.body)
    assert message["acknowledged_at"]
