"""Questions of agents: asked once, answered once, and over at their deadline whoever looks."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.background import background_of
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.questions import AskAnswer, Questions
from hurlicane_mcp.engine.waiting import RESTARTING, Waiting, WaitLimits
from hurlicane_mcp.errors import Conflict, Forbidden, Invalid, JobFinished, NotFound, StaleAttempt
from hurlicane_mcp.store import attempts, events, jobs, questions, waits
from hurlicane_mcp.store.database import Database
from tests.factories import running
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture
def asking(db: Database, clock: FakeClock) -> Questions:
    waiting = Waiting(db, clock, WaitLimits(launched=timedelta(milliseconds=1)))
    return Questions(db, clock, waiting)


@pytest.fixture
def patient(db: Database, clock: FakeClock) -> Questions:
    return Questions(db, clock, Waiting(db, clock, WaitLimits(launched=timedelta(minutes=30))))


async def an_agent(db: Database) -> Caller:
    job, attempt = await db.write(running)
    return Caller(Role.AGENT, job.id, attempt.id)


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


async def ask(
    asking: Questions,
    agent: Caller,
    text: str = "Which?",
    choices: Sequence[str] = (),
    limit: timedelta = HOUR,
) -> AskAnswer:
    return await asking.ask(agent, text, choices, limit, no_beat)


async def told(db: Database, agent: Caller) -> list[tuple[str, Any]]:
    """The events of the job's questions, with who or what ended them."""
    found = await db.read(
        lambda s: events.after(s, 0, limit=100, job_ids=[agent.job_id], kinds=["question.*"])
    )
    return [(one.kind.removeprefix("question."), one.data.get("by")) for one in found]


async def test_who_waits_hears_the_answer_and_holds_no_slot_meanwhile(
    db: Database, patient: Questions
) -> None:
    agent = await an_agent(db)
    answers: list[AskAnswer] = []

    async def wait() -> None:
        answers.append(await ask(patient, agent))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not await db.read(waits.open_waits):
                await anyio.lowlevel.checkpoint()
            assert await db.read(attempts.count_busy) == 0
            (question,) = await patient.listing(OPERATOR)
            await patient.answer(OPERATOR, question.question_id, "The left one.")
    assert (answers[0].answer, answers[0].is_closed) == ("The left one.", True)
    assert await told(db, agent) == [("asked", None), ("answered", "operator")]


async def test_the_same_question_goes_on_until_its_end_was_told(
    db: Database, asking: Questions
) -> None:
    agent = await an_agent(db)
    first = await ask(asking, agent, "Which?", ["a", "b"])
    assert first.hint == "Nobody has answered yet. Call ask_user again with the same arguments."
    again = await ask(asking, agent, "Which?", ["a", "b"])
    other = await ask(asking, agent, "Which?", ["a", "c"])
    assert (again.question_id, other.question_id == first.question_id) == (first.question_id, False)
    await asking.answer(OPERATOR, first.question_id, "b")
    for heard in (False, True):  # an answer that was lost is given again
        answer = await ask(asking, agent, "Which?", ["a", "b"])
        assert (answer.question_id, answer.answer) == (first.question_id, "b")
        asking.told(agent, answer.question_id, heard)
    new = await ask(asking, agent, "Which?", ["a", "b"])
    assert (new.answer, new.question_id == first.question_id) == (None, False)


async def test_time_is_up_whoever_looks(db: Database, asking: Questions, clock: FakeClock) -> None:
    agent = await an_agent(db)
    asked = await ask(asking, agent)
    assert await asking.close_overdue() == 0
    clock.move(HOUR)
    with pytest.raises(Conflict, match="its time was up at 13:00 UTC"):
        await asking.answer(OPERATOR, asked.question_id, "x")
    assert (await asking.close_overdue(), await asking.close_overdue()) == (1, 0)
    over = await ask(asking, agent)
    assert (over.question_id, over.answer) == (asked.question_id, None)
    assert over.hint == (
        "Nobody answered in time. Decide yourself, or call finish_job with outcome failed."
    )
    assert await told(db, agent) == [("asked", None), ("closed", "deadline")]


async def test_the_agent_itself_finds_that_time_is_up(
    db: Database, asking: Questions, clock: FakeClock
) -> None:
    agent = await an_agent(db)
    await ask(asking, agent)
    clock.move(HOUR)
    assert (await ask(asking, agent)).is_closed


async def test_the_sweep_wakes_who_waits(
    db: Database, patient: Questions, clock: FakeClock
) -> None:
    agent = await an_agent(db)
    answers: list[AskAnswer] = []

    async def wait() -> None:
        answers.append(await ask(patient, agent))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not await db.read(waits.open_waits):
                await anyio.lowlevel.checkpoint()
            clock.move(HOUR)
            await patient.close_overdue()
    assert answers[0].is_closed


async def test_a_stopping_server_says_that_the_question_stays(
    db: Database, patient: Questions
) -> None:
    agent = await an_agent(db)
    db.bell.close()
    assert (await ask(patient, agent)).hint == RESTARTING
    assert len(await patient.listing(OPERATOR)) == 1


async def test_a_question_is_answered_once(db: Database, asking: Questions) -> None:
    agent = await an_agent(db)
    asked = await ask(asking, agent)
    first = await asking.answer(OPERATOR, asked.question_id, "yes")
    with pytest.raises(Conflict, match="was answered already: yes"):
        await asking.answer(OPERATOR, asked.question_id, "no")
    # Somebody whose call broke sends the same again.
    assert await asking.answer(OPERATOR, asked.question_id, "yes") == first
    assert await told(db, agent) == [("asked", None), ("answered", "operator")]


async def test_with_choices_the_answer_is_one_of_them(db: Database, asking: Questions) -> None:
    asked = await ask(asking, await an_agent(db), "Which?", ["Left", " Right "])
    with pytest.raises(Invalid, match="must be one of: Left, Right"):
        await asking.answer(OPERATOR, asked.question_id, "Straight on")
    answered = await asking.answer(OPERATOR, asked.question_id, " right\n")
    assert answered.answer == "Right"


async def test_only_operators_see_and_answer_questions(db: Database, asking: Questions) -> None:
    agent = await an_agent(db)
    asked = await ask(asking, agent)
    with pytest.raises(Forbidden):
        await asking.answer(agent, asked.question_id, "I say yes")
    with pytest.raises(Forbidden):
        await asking.listing(agent)
    with pytest.raises(NotFound, match="q_none"):
        await asking.answer(OPERATOR, "q_none", "x")


async def test_a_job_that_ends_closes_its_questions(db: Database, asking: Questions) -> None:
    agent = await an_agent(db)
    asked = await ask(asking, agent)
    await db.write(lambda s: settlement.cancel(s, agent.job_id, "Enough.", BEGINNING))
    assert await asking.listing(OPERATOR) == []
    with pytest.raises(Conflict, match="its job has ended"):
        await asking.answer(OPERATOR, asked.question_id, "x")
    with pytest.raises(JobFinished):
        await ask(asking, agent)
    assert await told(db, agent) == [("asked", None), ("closed", "settled")]


async def test_the_next_attempt_goes_on_with_the_question_and_knows_the_answer(
    db: Database, asking: Questions
) -> None:
    agent = await an_agent(db)
    asked = await ask(asking, agent, "Which?", ["left", "right"])
    await ask(asking, agent, "And why?")
    interrupted = Outcome(OutcomeKind.INTERRUPTED)
    await db.write(lambda s: settlement.settle(s, agent.attempt_id, interrupted, BEGINNING))
    await asking.answer(OPERATOR, asked.question_id, "left")

    def prompt(session: Session) -> str:
        job, previous = jobs.get(session, agent.job_id), attempts.get(session, agent.attempt_id)
        background = background_of(session, job, previous, resumed=True)
        return Prompts.load().for_attempt(job, previous, True, background)

    text = await db.read(prompt)
    assert "- Which? (left, right)\n  Answer: left\n" in text
    assert "- And why?\n  Nobody has answered yet." in text


@pytest.mark.parametrize(
    ("text", "choices", "limit", "words"),
    [
        pytest.param(" ", (), HOUR, "1 to 4,000", id="empty"),
        pytest.param("x" * 4001, (), HOUR, "1 to 4,000", id="long"),
        pytest.param("a\0b", (), HOUR, r"U\+0000", id="unstorable"),
        pytest.param("?", "abcdefghijk", HOUR, "11 entries, 10", id="many choices"),
        pytest.param("?", ("a", " "), HOUR, "1 to 200", id="an empty choice"),
        pytest.param("?", ("a", "A"), HOUR, "must differ", id="the same choice"),
        pytest.param("?", (), timedelta(seconds=59), "from 60", id="soon"),
        pytest.param("?", (), timedelta(days=8), "604800", id="late"),
    ],
)
async def test_a_question_that_cannot_be_is_refused(
    db: Database,
    asking: Questions,
    text: str,
    choices: Sequence[str],
    limit: timedelta,
    words: str,
) -> None:
    with pytest.raises(Invalid, match=words):
        await ask(asking, await an_agent(db), text, choices, limit)
    assert await asking.listing(OPERATOR) == []


@pytest.mark.parametrize("answer", [" ", "x" * 16385, "a\0"])
async def test_an_answer_that_cannot_be_is_refused(
    db: Database, asking: Questions, answer: str
) -> None:
    asked = await ask(asking, await an_agent(db))
    with pytest.raises(Invalid):
        await asking.answer(OPERATOR, asked.question_id, answer)


async def test_a_job_has_ten_open_questions_at_most(db: Database, asking: Questions) -> None:
    agent = await an_agent(db)
    for number in range(10):
        await ask(asking, agent, f"Question {number}?")
    with pytest.raises(Conflict, match="10 open questions"):
        await ask(asking, agent, "One more?")
    await ask(asking, agent, "Question 3?")


async def test_the_answer_is_for_whoever_holds_the_job(db: Database, patient: Questions) -> None:
    """An agent that was replaced while it waited gets no answer and uses none up."""
    agent = await an_agent(db)

    async def wait() -> None:
        with pytest.raises(StaleAttempt):
            await ask(patient, agent)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not await db.read(waits.open_waits):
                await anyio.lowlevel.checkpoint()
            await db.write(lambda s: jobs.set_values(s, agent.job_id, attempt=2))
            (question,) = await patient.listing(OPERATOR)
            await patient.answer(OPERATOR, question.question_id, "left")
            patient.told(agent, question.question_id, True)
    await db.write(lambda session: None)
    (row,) = await db.read(lambda s: questions.untold(s, agent.job_id))
    assert row.answer == "left"


async def test_an_agent_whose_job_is_cancelled_while_it_asks_is_told_so(
    db: Database, patient: Questions
) -> None:
    agent = await an_agent(db)
    answers: list[AskAnswer] = []

    async def wait() -> None:
        answers.append(await ask(patient, agent))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not await db.read(waits.open_waits):
                await anyio.lowlevel.checkpoint()
            await db.write(lambda s: settlement.cancel(s, agent.job_id, "Enough.", BEGINNING))
    assert answers[0].hint == "Your job is over: end your turn."


async def test_a_stale_attempt_asks_nothing(db: Database, asking: Questions) -> None:
    agent = await an_agent(db)
    await db.write(lambda s: jobs.set_values(s, agent.job_id, attempt=2))
    with pytest.raises(StaleAttempt):
        await ask(asking, agent)
    assert await db.read(questions.listing) == []
