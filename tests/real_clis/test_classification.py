"""A real CLI is asked how hard a job is, before another one does it."""

import json
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.providers.base import MessageSeen
from hurlicane_mcp.providers.codex import CodexProvider
from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    HttpError,
    Move,
    Say,
    Script,
    Told,
    in_order,
)
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import make_sandbox
from tests.real_clis.test_product import stage
from tests.stories.server import until

pytestmark = [pytest.mark.anyio, pytest.mark.real_cli]

QUESTION = "How hard is the following job"
WORK = in_order(CallTool("finish_job", {"result": "done"}), Say("Bye."))
REFUSAL = HttpError(
    429, body={"type": "error", "error": {"type": "rate_limit_error", "message": "Too many."}}
)


def told(conversation: Conversation) -> str:
    """All that the model was told."""
    return "\n".join(turn.text for turn in conversation.turns if isinstance(turn, Told))


def judging(haiku: Move, sonnet: Move) -> Script:
    """A model that says how hard a job is, by its name, and that does the job."""

    def script(conversation: Conversation) -> Move:
        if QUESTION not in told(conversation):
            return WORK(conversation)
        return haiku if "haiku" in conversation.model else sonnet

    return script


async def test_a_judge_without_tools_chooses_the_model_of_the_job(tmp_path: Path) -> None:
    never = HttpError(400)
    with stage(tmp_path, judging(Say("complex"), never), classify="true") as on:
        job = on.create("claude", "Find the race in the scheduler.")
        answer = on.outcome(job)
        assert (answer["status"], answer["result"]) == ("done", "done"), answer
        question, *work = on.models["claude"].requests
        assert {request.body["model"] for request in work} == {"claude-opus-5-5"}
        await until(lambda: "ended_at" in on.attempts(job)[0])
        with on.server.rest() as rest:
            params = {"job": job, "after": 0}
            events = rest.get("/api/events", params=params).json()["events"]
            cost = rest.get(f"/api/jobs/{job}").json()["cost_usd"]
        (attempt,) = on.attempts(job)
    (chosen,) = [event["data"] for event in events if event["kind"] == "job.classified"]
    assert chosen == {"model": "opus", "because": "haiku finds it complex."}
    assert question.body["model"] == "claude-haiku-5-5"
    assert "> Find the race in the scheduler." in told(question.conversation)
    assert question.body.get("tools", []) == []
    assert len(json.dumps(question.body)) < 6000  # half of that is the question
    # The question has left no session in the user's folder; the job has left its own.
    sessions = list((tmp_path / "sandbox").rglob("projects/**/*.jsonl"))
    assert [one.stem for one in sessions] == [attempt["session_id"]]
    assert float(cost) > float(attempt["cost_usd"]) > 0


async def test_sonnet_is_asked_at_once_when_haiku_is_limited(tmp_path: Path) -> None:
    with stage(tmp_path, judging(REFUSAL, Say("Complex.")), classify="true") as on:
        job = on.create("claude", "Find the race.")
        answer = on.outcome(job)
        assert answer["status"] == "done", answer
        asked = [one for one in on.models["claude"].requests if QUESTION in told(one.conversation)]
        with on.server.rest() as rest:
            params = {"job": job, "after": 0}
            events = rest.get("/api/events", params=params).json()["events"]
    assert [one.body["model"] for one in asked] == ["claude-haiku-5-5", "claude-sonnet-5-5"]
    (chosen,) = [event["data"] for event in events if event["kind"] == "job.classified"]
    assert chosen == {"model": "opus", "because": "sonnet finds it complex."}
    assert "call.limited" in {event["kind"] for event in events}


async def test_codex_answers_a_question_and_keeps_no_thread_of_it(tmp_path: Path) -> None:
    with openai_endpoint(lambda _: Say("simple")) as model:
        sandbox = make_sandbox(tmp_path / "sandbox", openai_url=model.url)
        provider = CodexProvider(str(sandbox.codex))
        spec = provider.ask("How hard is it?", "gpt-5-codex", tmp_path)
        ended = await anyio.run_process(
            spec.argv, input=spec.stdin.encode(), env=sandbox.environment, cwd=tmp_path
        )
        (request,) = model.requests
    readings = [one for line in ended.stdout.splitlines() for one in provider.parse_line(line)]
    assert [one.text for one in readings if isinstance(one, MessageSeen)] == ["simple"]
    assert request.body["model"] == "gpt-5-codex"
    assert list((tmp_path / "sandbox").rglob("rollout-*")) == []
