"""Messages on their way: what is remembered, what a restart finds, what wakes waiting calls."""

from datetime import timedelta

import anyio
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.background import background_of
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.waiting import INTERRUPTED, WaitAnswer, Waiting, WaitLimits
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.store import attempts, jobs, messages
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, claim, running
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(db: Database, clock: FakeClock) -> Messages:
    return Messages(db, clock)


async def an_agent(db: Database) -> Caller:
    job, attempt = await db.write(running)
    return Caller(Role.AGENT, job.id, attempt.id)


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


async def replaced(db: Database, agent: Caller) -> Caller:
    """The next attempt of the agent's job."""

    def change(session: Session) -> Caller:
        settlement.settle(session, agent.attempt_id, Outcome(OutcomeKind.INTERRUPTED), BEGINNING)
        settlement.mark_ended(session, agent.attempt_id, Exit(code=0), BEGINNING)
        return Caller(Role.AGENT, agent.job_id, claim(session, agent.job_id).id)

    return await db.write(change)


async def prompt(db: Database, agent: Caller, *, resumed: bool) -> str:
    """What the agent's attempt is told when it starts."""

    def query(session: Session) -> str:
        job = jobs.get(session, agent.job_id)
        previous = attempts.of_job(session, job.id)[-2] if job.attempt > 1 else None
        background = background_of(session, job, previous, resumed=resumed)
        return Prompts.load().for_attempt(job, previous, resumed, background)

    return await db.read(query)


async def test_a_new_server_tells_what_the_last_one_had_not_brought(
    db: Database, clock: FakeClock, talk: Messages
) -> None:
    agent = await an_agent(db)
    await talk.send(OPERATOR, agent.job_id, "Use tabs.")
    new = Messages(db, clock)
    await new.load()
    telling = await new.tell(agent)
    assert telling is not None
    telling.over(True)
    await db.write(lambda session: None)  # what was posted before is stored by then
    # A third one: what was delivered before its start is acknowledged by the next call.
    third = Messages(db, clock)
    await third.load()
    assert await third.tell(agent) is None
    await third.called(agent)
    (sent,) = await third.listing(OPERATOR, agent.job_id)
    assert (sent.attempt, sent.delivered_at, sent.acknowledged_at) == (1, BEGINNING, BEGINNING)


async def test_what_was_not_acknowledged_is_in_the_prompt_of_the_next_attempt(
    db: Database, talk: Messages
) -> None:
    agent = await an_agent(db)
    await talk.send(OPERATOR, agent.job_id, "Known for sure.")
    for _ in range(2):
        await talk.called(agent)
        if telling := await talk.tell(agent):
            telling.over(True)
    await talk.send(OPERATOR, agent.job_id, "Maybe known.")
    telling = await talk.tell(agent)
    assert telling is not None
    telling.over(True)
    await talk.send(OPERATOR, agent.job_id, "Not known.")
    new = await replaced(db, agent)
    resumed = await prompt(db, new, resumed=True)
    assert "From operator (you may know this): Maybe known.\n" in resumed
    assert "From operator: Not known.\n" in resumed
    assert "Known for sure." not in resumed
    # A session that begins anew has heard nothing at all.
    assert "Known for sure." in await prompt(db, new, resumed=False)


async def test_a_job_that_waits_for_a_slot_gets_the_message_with_its_task(
    db: Database, talk: Messages
) -> None:
    job = await db.write(add_job)
    await talk.send(OPERATOR, job.id, "Use tabs.")
    agent = Caller(Role.AGENT, job.id, (await db.write(lambda s: claim(s, job.id))).id)
    assert "From operator: Use tabs." in await prompt(db, agent, resumed=False)


async def test_a_prompt_without_messages_and_questions_does_not_speak_of_them(
    db: Database,
) -> None:
    told = await prompt(db, await an_agent(db), resumed=False)
    assert "## What you" not in told


async def test_a_call_that_waits_is_told_what_another_call_could_not(
    db: Database, clock: FakeClock, talk: Messages
) -> None:
    agent, other = await an_agent(db), await db.write(add_job)
    await db.write(lambda s: jobs.set_values(s, other.id, parent_id=agent.job_id))
    await talk.send(OPERATOR, agent.job_id, "Use tabs.")
    telling = await talk.tell(agent)
    assert telling is not None
    waiting = Waiting(db, clock, WaitLimits(timedelta(minutes=30)), talk)
    answers: list[WaitAnswer] = []

    async def wait() -> None:
        answers.append(await waiting.until_final(agent, [other.id], no_beat))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while await db.read(attempts.count_busy) != 0:
                await anyio.lowlevel.checkpoint()
            assert answers == []
            telling.over(False)
    assert (answers[0].pending, answers[0].hint) == ([other.id], INTERRUPTED)
    assert [row.text for row in await talk.news(agent)] == ["Use tabs."]


async def test_messages_are_forgotten_once_the_agent_has_them(db: Database, talk: Messages) -> None:
    """Whoever has none costs nothing, so nobody may be remembered for ever."""
    agent = await an_agent(db)
    with pytest.raises(NotFound):
        await talk.send(OPERATOR, "job_none", "Hello?")
    await talk.send(OPERATOR, agent.job_id, "Use tabs.")
    telling = await talk.tell(agent)
    assert telling is not None
    telling.over(True)
    await talk.called(agent)
    remembered = (talk._open, talk._told)  # pyright: ignore[reportPrivateUsage]  (nothing tells)
    assert remembered == ({}, {})


async def test_a_message_sent_while_the_last_one_is_acknowledged_is_not_forgotten(
    db: Database, talk: Messages
) -> None:
    agent = await an_agent(db)
    for text in ("first", "second", "third"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.called, agent)
            tasks.start_soon(talk.send, OPERATOR, agent.job_id, text)
        telling = await talk.tell(agent)
        assert telling is not None
        assert telling.texts[-1].endswith(text)
        telling.over(True)


async def test_a_delivery_to_an_attempt_that_was_replaced_is_not_noted(
    db: Database, talk: Messages
) -> None:
    agent = await an_agent(db)
    await talk.send(OPERATOR, agent.job_id, "Use tabs.")
    telling = await talk.tell(agent)
    assert telling is not None
    new = await replaced(db, agent)
    telling.over(True)
    await talk.called(agent)
    (row,) = await db.read(lambda s: messages.of_job(s, agent.job_id, 10))
    assert (row.attempt, row.acknowledged_at) == (None, None)
    assert await talk.tell(new) is not None
