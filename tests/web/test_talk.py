"""Questions, messages and hooks over HTTP."""

import json

import httpx2
import pytest
from sqlmodel import Session

from hurlicane_mcp.engine.access import Caller, Role
from hurlicane_mcp.store import attempts, jobs, messages, questions
from hurlicane_mcp.store.tables import QuestionRow
from hurlicane_mcp.web.hooks import MAX_HOOK
from tests.fakes import BEGINNING
from tests.web.site import Site

pytestmark = pytest.mark.anyio

LATER = BEGINNING.replace(hour=23)
TOOL = {"hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_response": {"stdout": "x"}}


async def asked(site: Site, job_id: str, *choices: str) -> QuestionRow:
    def change(session: Session) -> QuestionRow:
        return questions.ask(session, job_id, "Which?", choices, LATER, BEGINNING)

    return await site.db.write(change)


async def an_agent(site: Site) -> Caller:
    job, attempt = await site.running_job()
    return Caller(Role.AGENT, job.id, attempt.id)


async def hook(site: Site, agent: Caller, body: object) -> httpx2.Response:
    async with site.client(f"token of {agent.attempt_id}") as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post("/hooks/claude", content=content)


async def test_open_questions_are_listed_and_answered(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    agent = await an_agent(site)
    question = await asked(site, agent.job_id, "left", "right")
    (told,) = (await operator.get("/api/questions")).json()["questions"]
    assert told == {
        "question_id": question.id,
        "job_id": agent.job_id,
        "text": "Which?",
        "choices": ["left", "right"],
        "asked_at": "2026-01-01T12:00:00Z",
        "deadline": "2026-01-01T23:00:00Z",
    }
    (line,) = (await operator.get("/api/jobs")).json()["jobs"]
    assert line["question"] == told
    assert (await operator.get(f"/api/jobs/{agent.job_id}")).json()["question"] == told
    path = f"/api/questions/{question.id}/answer"
    refused = await operator.post(path, json={"answer": "up"})
    assert (refused.status_code, refused.json()["error"]) == (422, "invalid")
    answered = await operator.post(path, json={"answer": "left"})
    assert (answered.status_code, answered.json()["answer"]) == (200, "left")
    again = await operator.post(path, json={"answer": "right"})
    assert (again.status_code, again.json()["error"]) == (409, "conflict")
    assert "answered already: left" in again.json()["message"]
    assert (await operator.get("/api/questions")).json() == {"questions": []}
    unknown = await operator.post("/api/questions/q_none/answer", json={"answer": "x"})
    assert unknown.status_code == 404


async def test_messages_are_sent_and_listed(site: Site, operator: httpx2.AsyncClient) -> None:
    agent = await an_agent(site)
    path = f"/api/jobs/{agent.job_id}/messages"
    sent = await operator.post(path, json={"text": "Use tabs."})
    assert (sent.status_code, sent.json()["sender"]) == (201, "operator")
    assert (await operator.get(path)).json() == {"messages": [sent.json()]}
    assert (
        await operator.post("/api/jobs/job_none/messages", json={"text": "x"})
    ).status_code == 404
    await operator.post(f"/api/jobs/{agent.job_id}/cancel")
    late = await operator.post(path, json={"text": "Too late."})
    assert (late.status_code, late.json()["error"]) == (409, "conflict")


async def test_agents_have_tools_instead(site: Site) -> None:
    agent = await an_agent(site)
    async with site.client(f"token of {agent.attempt_id}") as client:
        for path in ("/api/questions", f"/api/jobs/{agent.job_id}/messages"):
            assert (await client.get(path)).status_code == 403


async def test_a_hook_brings_a_message_and_notes_that_it_was_heard(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    agent = await an_agent(site)
    await operator.post(f"/api/jobs/{agent.job_id}/messages", json={"text": "Use tabs."})
    answer = await hook(site, agent, TOOL)
    assert answer.json()["hookSpecificOutput"]["additionalContext"].endswith("Use tabs.")
    assert (await hook(site, agent, TOOL)).json() == {}
    (row,) = await site.db.read(lambda s: messages.of_job(s, agent.job_id, 10))
    assert (row.delivered_at, row.acknowledged_at) == (BEGINNING, BEGINNING)


async def test_a_stop_is_blocked_once(site: Site) -> None:
    agent = await an_agent(site)
    stop = {"hook_event_name": "Stop", "stop_hook_active": False, "session_id": "s"}
    assert (await hook(site, agent, stop)).json()["decision"] == "block"
    assert (await hook(site, agent, stop | {"stop_hook_active": True})).json() == {}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param([1, 2], id="no object"),
        pytest.param({"hook_event_name": {"a": 1}, "stop_hook_active": []}, id="other types"),
        pytest.param({"hook_event_name": "SomethingNew"}, id="an unknown event"),
        pytest.param(b"[" * 2_000_000, id="nested without end"),
        pytest.param(b" " * (MAX_HOOK + 1), id="too long"),
        pytest.param(TOOL | {"tool_response": "x" * 2_000_000}, id="a tool that read much"),
    ],
)
async def test_whatever_a_hook_says_it_is_a_heartbeat_and_never_a_fault(
    site: Site, body: object
) -> None:
    agent = await an_agent(site)
    answer = await hook(site, agent, body)
    assert (answer.status_code, answer.json()) == (200, {})
    await site.db.write(lambda session: None)
    attempt = await site.db.read(lambda s: attempts.get(s, agent.attempt_id))
    assert attempt.heartbeat_at == BEGINNING


async def test_a_stale_attempt_is_told_to_stop(site: Site) -> None:
    agent = await an_agent(site)
    await site.db.write(lambda s: jobs.set_values(s, agent.job_id, attempt=2))
    answer = await hook(site, agent, TOOL)
    assert answer.json() == {"continue": False, "stopReason": "another attempt has taken over"}


async def test_a_hook_on_a_server_that_stops_is_no_fault(site: Site) -> None:
    agent = await an_agent(site)
    await hook(site, agent, TOOL)
    await site.db.close()
    assert (await hook(site, agent, TOOL)).status_code == 200


async def test_hooks_are_for_agents(site: Site, operator: httpx2.AsyncClient) -> None:
    assert (await operator.post("/hooks/claude", json=TOOL)).status_code == 403
    async with site.client("") as nobody:
        assert (await nobody.post("/hooks/claude", json=TOOL)).status_code == 401
