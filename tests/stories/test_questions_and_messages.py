"""People and agents talk while jobs run, whatever is killed meanwhile."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import anyio
import httpx2
import pytest

from tests.stories.server import Agent, Refused, RunningServer, until

pytestmark = pytest.mark.anyio


def step(tool: str, **arguments: object) -> str:
    return f"call {tool} {json.dumps(arguments)} as a"


def get(server: RunningServer, path: str) -> Any:
    with server.rest() as rest:
        return rest.get(path).raise_for_status().json()


def send(server: RunningServer, job_id: str, text: str) -> None:
    with server.rest() as rest:
        rest.post(f"/api/jobs/{job_id}/messages", json={"text": text}).raise_for_status()


def answer(server: RunningServer, text: str) -> None:
    """Answer the only open question."""
    (question,) = get(server, "/api/questions")["questions"]
    with server.rest() as rest:
        path = f"/api/questions/{question['question_id']}/answer"
        rest.post(path, json={"answer": text}).raise_for_status()


async def asks(server: RunningServer, job_id: str) -> dict[str, Any]:
    """The job's open question, once it has one and its agent waits for the answer."""

    def question() -> dict[str, Any] | None:
        return get(server, f"/api/jobs/{job_id}").get("question")

    def is_waiting() -> bool:
        return (
            bool(question())
            and get(server, f"/api/jobs/{job_id}/attempts")["attempts"][-1]["waiting"]
        )

    await until(is_waiting)
    found = question()
    assert found is not None
    return found


def told(server: RunningServer, job_id: str, *kinds: str) -> list[tuple[str, Any]]:
    """The events of these kinds, each with who or what it was by."""
    query = "&".join(f"kind={kind}.*" for kind in kinds)
    found = get(server, f"/api/events?job={job_id}&{query}")["events"]
    return [(one["kind"], one["data"].get("by")) for one in found]


async def test_an_agent_asks_and_gets_the_answer(server: RunningServer, mode: str) -> None:
    """By the tool of the operator; meanwhile the agent holds no slot."""
    async with server.operator(mode) as operator:
        job = await operator.create(
            f"mode {mode}",
            step("ask_user", question="Which?", choices=["left", "right"]),
            "finish ${a.answer}",
        )
        question = await asks(server, job)
        (line,) = (await operator.call("list_jobs"))["jobs"]
        assert line["question"]["question_id"] == question["question_id"]
        assert get(server, "/api/snapshot")["slots"]["busy"] == 0
        with pytest.raises(Refused, match="one of: left, right"):
            await operator.call("answer_question", question_id=question["question_id"], answer="up")
        await operator.call("answer_question", question_id=question["question_id"], answer="left")
        (done,) = await operator.outcome(job)
    assert (done["result"], done.get("question")) == ("left", None)
    assert told(server, job, "question") == [
        ("question.asked", None),
        ("question.answered", "operator"),
    ]


async def test_a_question_outlives_the_worker(server: RunningServer, mode: str) -> None:
    """The call is cut; asked again, it is the same question, which was answered meanwhile."""
    ask = step("ask_user", question="Which?")
    pause = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"
    async with server.operator() as operator:
        job = await operator.create(
            f"mode {mode}", "on_error continue", ask, pause, ask, "finish ${a.answer}"
        )
    before = await asks(server, job)
    worker = server.worker_pid
    os.kill(worker, signal.SIGKILL)
    await until(lambda: server.worker_pid != worker)
    answer(server, "The left one.")
    await anyio.Path(server.work_dir / "go").touch()
    async with server.operator() as operator:
        (done,) = await operator.outcome(job)
    assert (done["result"], done["attempt"]) == ("The left one.", 1)
    assert [kind for kind, _ in told(server, job, "question")] == [
        "question.asked",
        "question.answered",
    ]
    assert before["text"] == "Which?"


async def test_an_answer_reaches_the_agent_that_was_started_anew(server: RunningServer) -> None:
    ask = step("ask_user", question="Which?")
    async with server.operator() as operator:
        job = await operator.create(ask, "hang", "on_resume", ask, "finish ${a.answer}")
        await asks(server, job)
        (await server.agent_of(job)).send_signal(signal.SIGKILL)
        await server.agent_of(job, attempt=2)
        await asks(server, job)
        answer(server, "The right one.")
        (done,) = await operator.outcome(job)
    assert (done["result"], done["attempt"]) == ("The right one.", 2)


async def test_nobody_answers_in_time(server: RunningServer, mode: str) -> None:
    """The watchdog closes it, and the agent that waits is told so."""
    async with server.operator(mode) as operator:
        job = await operator.create(
            f"mode {mode}", step("ask_user", question="Anybody?", deadline_s=60), "finish ${a.hint}"
        )
        await asks(server, job)
        # Nobody wants to wait for a minute: its time is up at once.
        with closing(sqlite3.connect(server.data_dir / "hurlicane.db", timeout=20)) as database:
            database.execute("UPDATE question SET deadline = asked_at")
            database.commit()
        (done,) = await operator.outcome(job)
    assert done["result"].startswith("Nobody answered in time. Decide yourself")
    assert told(server, job, "question")[-1] == ("question.closed", "deadline")


async def test_a_busy_agent_is_told_with_its_next_call(server: RunningServer, mode: str) -> None:
    pause = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"
    async with server.operator(mode) as operator:
        job = await operator.create(
            f"mode {mode}",
            pause,
            step("report_status", text="on"),
            "finish ${a.messages.0}",
        )
        await server.agent_of(job)
        await operator.call("send_message", job_id=job, text="Use tabs.")
        await anyio.Path(server.work_dir / "go").touch()
        (done,) = await operator.outcome(job)
    assert done["result"].startswith("[message from operator, ")
    assert done["result"].endswith(" UTC] Use tabs.")
    (message,) = get(server, f"/api/jobs/{job}/messages")["messages"]
    assert message["sent_at"] < message["delivered_at"] < message["acknowledged_at"]
    kinds = [kind for kind, _ in told(server, job, "message")]
    assert kinds == ["message.sent", "message.delivered", "message.acknowledged"]


async def test_a_waiting_parent_is_told_at_once_and_tells_its_child(
    server: RunningServer, mode: str
) -> None:
    child = 'A child.\n! call watch_notes {"prefix": ""} as n\n! finish $${n.messages.0}'
    wait = 'call wait_for_jobs {"job_ids": ["${c.job_id}"]} as w'
    async with server.operator(mode) as operator:
        job = await operator.create(
            f"mode {mode}",
            f"call create_job {json.dumps({'description': child})} as c",
            wait,
            'call send_message {"job_id": "${c.job_id}", "text": "${w.messages.0}"}',
            wait,
            "finish ${w.jobs.0.result}",
        )
        await until(lambda: [one["waiting"] for one in agents(server)] == [True, True])
        await operator.call("send_message", job_id=job, text="Tell the child.")
        (done,) = await operator.outcome(job)
    # What the child was told is what the parent was told, each with its sender.
    assert done["result"].startswith(f"[message from {job}, ")
    assert "[message from operator, " in done["result"]
    assert done["result"].endswith("Tell the child.")


def agents(server: RunningServer) -> list[dict[str, Any]]:
    return get(server, "/api/agents")["agents"]


async def test_a_message_in_an_answer_that_nobody_heard_is_told_again(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create("hang")
        token = await server.token_of(job)
        await operator.call("send_message", job_id=job, text="Use tabs.")
        while get(server, f"/api/jobs/{job}").get("progress") != "lost":
            await call_and_hang_up(server, token, "report_status", text="lost")
        async with server.client(token) as agent:
            assert (await heard(agent))[0].endswith("Use tabs.")
            await until(lambda: told(server, job, "message")[-1][0] == "message.delivered")
            assert "messages" not in await agent.call("report_status", text="on")
    assert [kind for kind, _ in told(server, job, "message")] == [
        "message.sent",
        "message.delivered",
        "message.acknowledged",
    ]


async def call_and_hang_up(
    server: RunningServer, token: str, tool: str, **arguments: object
) -> None:
    """A client that dies while its call is being worked on."""
    params = {"name": tool, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    url = httpx2.URL(server.url)
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    path = server.data_dir / "hurlicane.db"
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # nothing is answered before we let go of this
        async with await anyio.connect_tcp("127.0.0.1", url.port or 0) as stream:
            await stream.send((head + body).encode())
            await anyio.sleep(0.3)
        await anyio.sleep(0.1)
        database.execute("ROLLBACK")
    await anyio.sleep(0.2)


async def test_a_message_outlives_the_worker(server: RunningServer) -> None:
    """Killed between the sending and the next call: rows bring it, not memory."""
    async with server.operator() as operator:
        job = await operator.create("hang")
        token = await server.token_of(job)
        await operator.call("send_message", job_id=job, text="Use tabs.")
    worker = server.worker_pid
    os.kill(worker, signal.SIGKILL)
    await until(lambda: server.worker_pid != worker)
    async with server.client(token) as agent:
        first = await agent.call("report_status", text="on")
        assert first["messages"][0].endswith("Use tabs.")
        assert "messages" not in await agent.call("report_status", text="on")


async def test_an_attempt_that_ended_before_it_had_the_message_leaves_it_to_the_next(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create("sleep 1", "on_resume", "hang")
        send(server, job, "Use tabs.")
        await server.agent_of(job, attempt=2)
        # The scripted agent keeps no prompt; that it stood there is known by its delivery.
        await until(
            lambda: get(server, f"/api/jobs/{job}/messages")["messages"][0].get("attempt") == 2
        )
        async with server.client(await server.token_of(job, attempt=2)) as agent:
            assert "messages" not in await agent.call("report_status", text="on")
        (message,) = get(server, f"/api/jobs/{job}/messages")["messages"]
        assert "acknowledged_at" in message
        await operator.call("cancel_job", job_id=job)


async def test_a_stale_token_asks_sends_and_hears_nothing(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create("sleep 1", "on_resume", "hang")
        old = await server.token_of(job)
        new = await server.token_of(job, attempt=2)
        send(server, job, "For the new one.")
        async with server.client(old) as zombie, server.client(new) as agent:
            for tool, arguments in [
                ("ask_user", {"question": "Am I still here?"}),
                ("send_message", {"job_id": job, "text": "Hello."}),
                ("report_status", {"text": "I was first"}),
            ]:
                with pytest.raises(Refused, match=r"stale_attempt.*Stop now"):
                    await zombie.call(tool, **arguments)
            headers = {"Authorization": f"Bearer {old}"}
            body = {"hook_event_name": "PostToolUse"}
            told_so = httpx2.post(f"{server.url}/hooks/claude", json=body, headers=headers).json()
            assert told_so == {
                "continue": False,
                "stopReason": "another attempt has taken over",
            }
            assert get(server, "/api/questions") == {"questions": []}
            assert (await heard(agent))[0].endswith("For the new one.")
        await operator.call("cancel_job", job_id=job)


async def heard(agent: Agent) -> list[str]:
    """The messages that come with the agent's next call."""
    return (await agent.call("report_status", text="on"))["messages"]


async def test_a_question_is_closed_when_its_job_is_cancelled(
    start: Callable[..., RunningServer],
) -> None:
    server = start(slots="1")
    async with server.operator() as operator:
        job = await operator.create(step("ask_user", question="Which?"))
        await asks(server, job)
        # The slot is free while it waits.
        assert (await operator.outcome(await operator.create("finish other")))[0]["result"]
        await operator.call("cancel_job", job_id=job)
    assert get(server, "/api/questions") == {"questions": []}
    assert told(server, job, "question")[-1] == ("question.closed", "settled")
