"""Questions: an agent asks the people and waits for the answer, which costs no slot.

A question belongs to the job, not to the call: asked again with the same words, by this attempt or
a later one, it goes on. So it outlives the end of a call, of the agent and of the server.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import Standing
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.engine.access import Caller, check_reader
from hurlicane_mcp.engine.views import QuestionView, View
from hurlicane_mcp.engine.waiting import Beat, Waiting
from hurlicane_mcp.errors import Conflict, Forbidden, Invalid
from hurlicane_mcp.store import attempts, questions
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import question_topic
from hurlicane_mcp.store.questions import ClosedBy
from hurlicane_mcp.store.tables import QuestionRow

MAX_QUESTION = 4000
MAX_CHOICES = 10
MAX_CHOICE = 200
MAX_ANSWER_BYTES = 16 * 1024
MAX_OPEN = 10
SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(days=7)

_NOBODY = "Nobody answered in time. Decide yourself, or call finish_job with outcome failed."
_JOB_OVER = "Your job is over: end your turn."
_STILL_OPEN = "Nobody has answered yet. Call ask_user again with the same arguments."


class AskAnswer(View):
    """What `ask_user` brought: an answer, or a hint what to do without one."""

    question_id: str
    answer: str | None = None
    hint: str | None = None
    is_closed: bool


class Questions:
    """Asks people on behalf of agents, and takes their answers."""

    def __init__(self, db: Database, clock: Clock, waiting: Waiting) -> None:
        self._db = db
        self._clock = clock
        self._waiting = waiting

    async def ask(
        self, caller: Caller, text: str, choices: Sequence[str], limit: timedelta, beat: Beat
    ) -> AskAnswer:
        """The answer to a question, once there is one or its time is up.

        Earlier, with the advice to ask again, when the call may not last longer, a message comes
        for the caller, or the server stops. The same text and choices continue a question whose
        end the agent was not told, with the deadline that it had.

        Raises:
            Invalid: a text, a choice or *limit* (1 minute to 7 days) breaks its bounds.
            Conflict: the job has ten open questions.
            StaleAttempt, JobFinished: the caller may not write any more.
        """
        wanted = tuple(choice.strip() for choice in choices)
        _check(text, wanted, limit)
        now = self._clock.now()
        begun = await self._db.write(lambda s: _begin(s, caller, text, wanted, now + limit, now))
        interrupted = False
        with self._db.bell.listen([question_topic(begun.id)]) as ear:
            question = await self._get(begun.id)

            async def over() -> bool:
                nonlocal question
                question = await self._get(begun.id)
                return question.closed_at is not None

            left = begun.deadline - self._clock.now()
            if question.closed_at is None and left > timedelta(0):
                interrupted = await self._waiting.until_rung(
                    caller, "question", [begun.id], ear, over, beat, left
                )
        # The answer is for whoever holds the job by now.
        await self._db.read(lambda session: check_reader(session, caller))
        if question.closed_at is None and self._clock.now() >= question.deadline:
            await self.close_overdue()
            question = await self._get(begun.id)
        if question.closed_at is None:
            hint = self._waiting.hint(interrupted, _STILL_OPEN)
            return AskAnswer(question_id=question.id, hint=hint, is_closed=False)
        hint = _hint_of(question)
        return AskAnswer(question_id=question.id, answer=question.answer, hint=hint, is_closed=True)

    def told(self, caller: Caller, question_id: str, heard: bool) -> None:
        """Note that the agent heard how the question ended; otherwise it is told again."""
        now = self._clock.now()

        def change(session: Session) -> None:
            if attempts.standing_of(session, caller.attempt_id) is not Standing.STALE:
                questions.mark_told(session, question_id, now)

        if heard:
            self._db.post(change)

    async def listing(self, caller: Caller) -> list[QuestionView]:
        """All open questions, oldest first. For operators."""
        if caller.is_agent:
            raise Forbidden("Only an operator may list the questions.")
        rows = await self._db.read(questions.listing)
        return [QuestionView.of(row) for row in rows]

    async def answer(self, caller: Caller, question_id: str, text: str) -> QuestionView:
        """Answer a question; whoever waits for it hears that at once.

        With choices the answer has to be one of them, in upper or lower case. The same answer
        again, by somebody whose call broke, changes nothing.

        Raises:
            Forbidden: an agent has called.
            NotFound: there is no such question.
            Conflict: it is answered or closed; the message says how.
            Invalid: empty, longer than 16 KiB, or none of the choices.
        """
        if caller.is_agent:
            raise Forbidden("Agents may not answer questions: they are for people.")
        check_text("answer", text)
        if not text.strip():
            raise Invalid("`answer` is empty.")
        if len(text.encode()) > MAX_ANSWER_BYTES:
            raise Invalid(f"`answer` is longer than {MAX_ANSWER_BYTES:,} bytes.")
        now = self._clock.now()

        def change(session: Session) -> QuestionView:
            question = questions.get(session, question_id)
            chosen = _chosen(question, text)
            if question.answer == chosen:
                return QuestionView.of(question)
            _refuse_closed(question, now)
            questions.close(session, question, ClosedBy.ANSWERED, now, chosen, caller.name)
            return QuestionView.of(questions.get(session, question_id))

        return await self._db.write(change)

    async def close_overdue(self) -> int:
        """Close the questions whose time is up; how many there were. Reads one index if none."""
        now = self._clock.now()
        if not await self._db.read(lambda session: len(questions.overdue(session, now))):
            return 0

        def change(session: Session) -> int:
            rows = questions.overdue(session, now)
            return sum(questions.close(session, row, ClosedBy.DEADLINE, now) for row in rows)

        return await self._db.write(change)

    async def _get(self, question_id: str) -> QuestionRow:
        return await self._db.read(lambda session: questions.get(session, question_id))


def _check(text: str, choices: Sequence[str], limit: timedelta) -> None:
    check_text("question", text)
    if not 0 < len(text.strip()) <= MAX_QUESTION:
        raise Invalid(f"`question` must have 1 to {MAX_QUESTION:,} characters.")
    if len(choices) > MAX_CHOICES:
        raise Invalid(f"`choices` has {len(choices)} entries, {MAX_CHOICES} are allowed.")
    for choice in choices:
        check_text("choices", choice)
        if not 0 < len(choice) <= MAX_CHOICE:
            raise Invalid(f"Each of `choices` must have 1 to {MAX_CHOICE} characters.")
    if len({choice.casefold() for choice in choices}) < len(choices):
        raise Invalid("`choices` must differ from each other.")
    if not SHORTEST <= limit <= LONGEST:
        raise Invalid("`deadline_s` must be from 60 (a minute) to 604800 (seven days).")


def _begin(
    session: Session,
    caller: Caller,
    text: str,
    choices: tuple[str, ...],
    deadline: datetime,
    now: datetime,
) -> QuestionRow:
    """The question of these words that goes on, or a new one."""
    attempts.fence(session, caller.attempt_id, now)
    untold = questions.untold(session, caller.job_id)
    for known in untold:
        if (known.text, tuple(known.choices)) == (text, choices):
            return known
    if sum(one.closed_at is None for one in untold) >= MAX_OPEN:
        raise Conflict(f"The job has {MAX_OPEN} open questions: wait for their answers first.")
    return questions.ask(session, caller.job_id, text, choices, deadline, now)


def _hint_of(question: QuestionRow) -> str | None:
    """What to do about a question that is closed; nothing if it was answered."""
    if question.closed_by == ClosedBy.ANSWERED:
        return None
    return _JOB_OVER if question.closed_by == ClosedBy.SETTLED else _NOBODY


def _refuse_closed(question: QuestionRow, now: datetime) -> None:
    if question.closed_by == ClosedBy.ANSWERED:
        raise Conflict(f"Question {question.id} was answered already: {question.answer}")
    if question.closed_by == ClosedBy.SETTLED:
        raise Conflict(f"Question {question.id} is closed: its job has ended.")
    if question.closed_at is not None or now >= question.deadline:
        raise Conflict(
            f"Question {question.id} is closed: its time was up at {question.deadline:%H:%M} UTC. "
            "send_message can still tell the agent something."
        )


def _chosen(question: QuestionRow, text: str) -> str:
    """The answer as it is stored: the choice that was meant, or the text as it is."""
    if not question.choices:
        return text
    meant = text.strip().casefold()
    for choice in question.choices:
        if choice.casefold() == meant:
            return choice
    raise Invalid(f"`answer` must be one of: {', '.join(question.choices)}.")
