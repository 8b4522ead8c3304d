"""Hooks of Claude Code: an agent is sent back once, told messages, and stopped when it is stale."""

from datetime import timedelta

import pytest

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.hooks import Hooks
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.store import attempts, jobs, messages
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from tests.factories import running
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(db: Database, clock: FakeClock) -> Messages:
    return Messages(db, clock)


@pytest.fixture
def hooks(db: Database, clock: FakeClock, talk: Messages) -> Hooks:
    return Hooks(db, clock, talk)


async def an_agent(db: Database, **values: object) -> Caller:
    job, attempt = await db.write(lambda session: running(session, **values))
    return Caller(Role.AGENT, job.id, attempt.id)


async def stored(db: Database, agent: Caller) -> AttemptRow:
    await db.write(lambda session: None)  # what was posted before is stored by then
    return await db.read(lambda session: attempts.get(session, agent.attempt_id))


async def test_an_agent_that_stops_without_finish_job_is_sent_back_once(
    db: Database, hooks: Hooks
) -> None:
    agent = await an_agent(db)
    first = await hooks.answer(agent, "Stop")
    assert first.body["decision"] == "block"
    assert "finish_job" in first.body["reason"]
    assert (await hooks.answer(agent, "Stop", stops_again=True)).body == {}


@pytest.mark.parametrize("values", [{"completion": "exit"}, {"interactive": True}])
async def test_an_agent_that_may_end_its_turn_is_not_sent_back(
    db: Database, hooks: Hooks, values: dict[str, object]
) -> None:
    assert (await hooks.answer(await an_agent(db, **values), "Stop")).body == {}


async def test_after_finish_job_an_agent_may_stop(db: Database, hooks: Hooks) -> None:
    agent = await an_agent(db)
    done = Outcome(OutcomeKind.DONE, "x")
    await db.write(lambda s: settlement.settle(s, agent.attempt_id, done, BEGINNING))
    assert (await hooks.answer(agent, "Stop")).body == {}
    assert (await stored(db, agent)).heartbeat_at is None


async def test_a_message_comes_with_the_hook_after_a_tool_and_is_told_again_if_it_was_lost(
    db: Database, hooks: Hooks, talk: Messages
) -> None:
    agent = await an_agent(db)
    await talk.send(OPERATOR, agent.job_id, "Use tabs.")
    for heard in (False, True):
        answer = await hooks.answer(agent, "PostToolUse")
        assert answer.body == {
            "hookSpecificOutput": {
                "hookEventName": "PostToolUse",
                "additionalContext": "[message from operator, 12:00 UTC] Use tabs.",
            }
        }
        assert answer.over is not None
        answer.over(heard)
    assert (await hooks.answer(agent, "PostToolUse")).body == {}
    (row,) = await db.read(lambda s: messages.of_job(s, agent.job_id, 10))
    assert (row.attempt, row.acknowledged_at) == (1, BEGINNING)


async def test_an_agent_that_stops_with_a_message_unread_reads_it_first(
    db: Database, hooks: Hooks, talk: Messages
) -> None:
    agent = await an_agent(db, completion="exit")
    await talk.send(OPERATOR, agent.job_id, "One more thing.")
    answer = await hooks.answer(agent, "Stop")
    assert answer.body["decision"] == "block"
    assert answer.body["reason"].endswith("One more thing.")


async def test_every_hook_is_a_heartbeat_noted_every_15_seconds_at_most(
    db: Database, hooks: Hooks, clock: FakeClock
) -> None:
    agent = await an_agent(db)
    noted: list[float] = []
    for second in range(0, 40, 5):
        await hooks.answer(agent, "Notification")
        at = (await stored(db, agent)).heartbeat_at
        assert at is not None
        noted.append((at - BEGINNING).total_seconds())
        assert noted[-1] <= second
        clock.move(timedelta(seconds=5))
    assert noted == [0, 0, 0, 15, 15, 15, 30, 30]


@pytest.mark.parametrize("event", ["Stop", "PostToolUse", "Notification", ""])
async def test_a_stale_attempt_is_told_to_stop_and_notes_nothing(
    db: Database, hooks: Hooks, talk: Messages, event: str
) -> None:
    agent = await an_agent(db)
    await talk.send(OPERATOR, agent.job_id, "For the new one.")
    await db.write(lambda s: jobs.set_values(s, agent.job_id, attempt=2))
    answer = await hooks.answer(agent, event)
    assert answer.body == {"continue": False, "stopReason": "another attempt has taken over"}
    assert (await stored(db, agent)).heartbeat_at is None
