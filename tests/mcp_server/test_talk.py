"""Messages go along with the answers of tools, until the agent is known to have them."""

from typing import Any

import anyio
import pytest
from sqlalchemy import event
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store import events, messages, questions, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, claim
from tests.fakes import BEGINNING
from tests.mcp_server.wire import Answer, an_agent, call, post

pytestmark = pytest.mark.anyio

STATUS = call("report_status", text="working")
GONE = Exit(code=0)


async def send(endpoint: McpEndpoint, to: Caller, text: str, sender: Caller = OPERATOR) -> Answer:
    return await post(endpoint, sender, call("send_message", job_id=to.job_id, text=text))


def told(answer: Answer) -> list[str]:
    """The texts of the messages in an answer, which must be the same in both of its parts."""
    blocks = [part["text"] for part in answer.result["content"][1:]]
    structured = answer.result.get("structuredContent")
    assert structured is None or structured.get("messages", []) == blocks
    return [text.partition("] ")[2] for text in blocks]


async def progress(db: Database, agent: Caller) -> list[str]:
    """What the events say of messages to the agent's job."""
    found = await db.read(
        lambda s: events.after(s, 0, limit=100, job_ids=[agent.job_id], kinds=["message.*"])
    )
    return [one.kind.removeprefix("message.") for one in found]


async def test_the_next_answer_carries_the_message_and_the_next_call_acknowledges_it(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "Use tabs.")
    first = await post(endpoint, agent, STATUS)
    assert first.result["content"][1]["text"] == "[message from operator, 12:00 UTC] Use tabs."
    assert first.result["structuredContent"]["ok"] is True
    await db.write(lambda session: None)
    assert await progress(db, agent) == ["sent", "delivered"]
    second = await post(endpoint, agent, STATUS)
    assert (told(first), told(second)) == (["Use tabs."], [])
    assert await progress(db, agent) == ["sent", "delivered", "acknowledged"]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(call("get_job", job_id="job_none"), id="an error of ours"),
        pytest.param(call("get_job"), id="arguments that are refused"),
    ],
)
async def test_an_answer_that_is_an_error_carries_it_too(
    db: Database, endpoint: McpEndpoint, request_: bytes
) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "Use tabs.")
    answer = await post(endpoint, agent, request_)
    assert (answer.result["isError"], told(answer)) == (True, ["Use tabs."])


async def test_what_was_lost_with_its_answer_is_told_again(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "Use tabs.")
    lost = await post(endpoint, agent, STATUS, is_gone=lambda: True)
    again = await post(endpoint, agent, STATUS)
    assert (told(lost), told(again)) == (["Use tabs."], ["Use tabs."])
    assert told(await post(endpoint, agent, STATUS)) == []
    assert await progress(db, agent) == ["sent", "delivered", "acknowledged"]


async def test_several_messages_come_in_their_order_and_later_ones_alone(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "one")
    await send(endpoint, agent, "two")
    assert told(await post(endpoint, agent, STATUS)) == ["one", "two"]
    await send(endpoint, agent, "three")
    assert told(await post(endpoint, agent, STATUS)) == ["three"]


async def test_calls_side_by_side_carry_it_once(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "Use tabs.")
    answers: list[Answer] = []

    async def report() -> None:
        answers.append(await post(endpoint, agent, STATUS))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(report)
    assert sorted(map(told, answers)) == [[], [], [], [], ["Use tabs."]]


@pytest.mark.parametrize("tool", ["wait_for_jobs", "ask_user", "watch_notes"])
async def test_an_agent_that_waits_is_told_at_once(
    db: Database, endpoint: McpEndpoint, tool: str
) -> None:
    agent = await an_agent(db)
    made = await post(endpoint, agent, call("create_job", description="A part."))
    child = made.result["structuredContent"]["job_id"]
    arguments: dict[str, dict[str, Any]] = {
        "wait_for_jobs": {"job_ids": [child]},
        "ask_user": {"question": "Tabs?"},
        "watch_notes": {"prefix": ""},
    }
    answers: list[Answer] = []

    async def wait() -> None:
        answers.append(await post(endpoint, agent, call(tool, **arguments[tool])))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        while not await db.read(waits.open_waits):
            await anyio.lowlevel.checkpoint()
        await send(endpoint, agent, "Forget the part.")
    assert told(answers[0]) == ["Forget the part."]
    assert "A message for you" in answers[0].result["structuredContent"]["hint"]
    await db.write(lambda session: None)
    assert await db.read(waits.open_waits) == []


async def test_a_message_that_is_there_before_a_wait_ends_it_at_once(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    await send(endpoint, agent, "Use tabs.")
    answer = await post(endpoint, agent, call("watch_notes", prefix=""))
    assert told(answer) == ["Use tabs."]


async def test_a_parent_tells_its_child_and_nobody_else(
    db: Database, endpoint: McpEndpoint
) -> None:
    parent, stranger = await an_agent(db), await an_agent(db)
    made = await post(endpoint, parent, call("create_job", description="A part."))
    child = Caller(Role.AGENT, made.result["structuredContent"]["job_id"])
    assert not (await send(endpoint, child, "Mind the gap.", parent)).result.get("isError")
    for other in (parent, stranger):
        refused = await send(endpoint, other, "Hello.", parent)
        assert "not_found" in refused.result["content"][0]["text"]
    (sent,) = await db.read(lambda s: messages.of_job(s, child.job_id, 10))
    assert (sent.sender, sent.text) == (parent.job_id, "Mind the gap.")


async def test_a_stale_attempt_gets_no_message_and_acknowledges_none(
    db: Database, endpoint: McpEndpoint
) -> None:
    old = await an_agent(db)
    await send(endpoint, old, "Use tabs.")
    assert told(await post(endpoint, old, STATUS)) == ["Use tabs."]

    def replace(session: Session) -> Caller:
        again = Outcome(OutcomeKind.INTERRUPTED)
        settlement.settle(session, old.attempt_id, again, BEGINNING)
        settlement.mark_ended(session, old.attempt_id, GONE, BEGINNING)
        return Caller(Role.AGENT, old.job_id, claim(session, old.job_id).id)

    new = await db.write(replace)
    await send(endpoint, old, "Use spaces.")
    stale = await post(endpoint, old, STATUS)
    assert "stale_attempt" in stale.result["content"][0]["text"]
    assert told(stale) == []
    assert told(await post(endpoint, new, STATUS)) == ["Use tabs.", "Use spaces."]
    refused = await send(endpoint, old, "I am still here.", old)
    assert refused.result["isError"]


async def test_a_job_that_has_ended_takes_no_message(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    done = Outcome(OutcomeKind.DONE, "x")
    await db.write(lambda s: settlement.settle(s, agent.attempt_id, done, BEGINNING))
    refused = await send(endpoint, agent, "Too late.")
    words = f"conflict: Job {agent.job_id} is done already: nobody would read the message."
    assert words in refused.result["content"][0]["text"]
    unknown = await send(endpoint, Caller(Role.AGENT, "job_none"), "Hello?")
    assert "not_found" in unknown.result["content"][0]["text"]


@pytest.mark.parametrize(
    ("text", "words"), [(" ", "is empty"), ("ß" * 8193, "16,384 bytes"), ("a\0", "U+0000")]
)
async def test_a_message_that_cannot_be_is_refused(
    db: Database, endpoint: McpEndpoint, text: str, words: str
) -> None:
    refused = await send(endpoint, await an_agent(db), text)
    assert words in refused.result["content"][0]["text"]


async def test_a_message_sent_again_before_it_was_told_is_the_same(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    first, again = [await send(endpoint, agent, "Use tabs.") for _ in range(2)]
    assert first.result["structuredContent"] == again.result["structuredContent"]
    assert told(await post(endpoint, agent, STATUS)) == ["Use tabs."]
    await db.write(lambda session: None)
    await send(endpoint, agent, "Use tabs.")
    assert told(await post(endpoint, agent, STATUS)) == ["Use tabs."]


async def test_without_messages_a_call_looks_for_none(db: Database, endpoint: McpEndpoint) -> None:
    agent, other = await an_agent(db), await an_agent(db)
    await send(endpoint, other, "Not for you.")
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(db.engine, "before_cursor_execute", note)
    await post(endpoint, agent, STATUS)
    looked = [one for one in statements if "message" in one]
    await post(endpoint, other, STATUS)
    event.remove(db.engine, "before_cursor_execute", note)
    assert looked == []
    assert [one for one in statements if "FROM message" in one]


async def test_an_answer_that_came_while_nobody_asked_is_given_at_the_next_call(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    ask = call("ask_user", question="Which?", choices=["left", "right"])
    hung_up = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: post(endpoint, agent, ask, is_gone=hung_up.is_set))
        while not await db.read(waits.open_waits):
            await anyio.lowlevel.checkpoint()
        hung_up.set()
    (question,) = await db.read(questions.listing)
    answer = call("answer_question", question_id=question.id, answer="LEFT")
    assert not (await post(endpoint, OPERATOR, answer)).result.get("isError")
    heard = await post(endpoint, agent, ask)
    assert heard.result["structuredContent"] == {"question_id": question.id, "answer": "left"}
    await db.write(lambda session: None)
    assert await db.read(lambda s: questions.untold(s, agent.job_id)) == []


async def test_agents_may_not_answer_questions(db: Database, endpoint: McpEndpoint) -> None:
    refused = await post(
        endpoint, await an_agent(db), call("answer_question", question_id="q", answer="x")
    )
    assert b"answer_question" in refused.body
    assert b"error" in refused.body.lower()


async def test_a_waiting_parent_sees_that_its_child_asks(
    db: Database, endpoint: McpEndpoint
) -> None:
    def change(session: Session) -> str:
        child = add_job(session)
        questions.ask(session, child.id, "Which?", ["a", "b"], BEGINNING, BEGINNING)
        return child.id

    child = await db.write(change)
    answer = await post(endpoint, OPERATOR, call("wait_for_jobs", job_ids=[child], timeout_s=0))
    shown = answer.result["structuredContent"]["jobs"][0]["question"]
    assert (shown["text"], shown["choices"]) == ("Which?", ["a", "b"])
