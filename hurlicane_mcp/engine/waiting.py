"""Blocking calls: whoever waits hears within milliseconds, and waiting costs no slot."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.dag import refuse_cycle
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.access import Caller, check_reader, check_visible
from hurlicane_mcp.engine.blocks import needs_person, open_blocks
from hurlicane_mcp.engine.listings import open_questions
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.views import ANSWER_CUT, RESULT_CUT, JobAnswer
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store import attempts, jobs, waits
from hurlicane_mcp.store.bell import Ear
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import final_topic, message_topic

log = logging.getLogger(__name__)

MAX_IDS = 200
#: Claude Code and Codex both give a silent MCP call up after 300 s (measured 2026-11-23), so a wait
#: of a client whose timeouts we did not write ends before that.
LONGEST_FOR_OTHERS = timedelta(seconds=240)
#: Progress keeps Claude Code's idle timer from running out.
BEAT = timedelta(seconds=20)

RESTARTING = "The server is restarting: nothing is lost. Call again with the same arguments."
INTERRUPTED = "A message for you has come: read it, then call again with the same arguments."

Beat = Callable[[float, str], Awaitable[None]]  #: seconds waited so far, and for what


class WaitAnswer(BaseModel):
    """Every job asked for; `pending` are those not yet final."""

    jobs: list[JobAnswer]
    pending: list[str] = field(default_factory=list[str])
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """How long one blocking call may last."""

    launched: timedelta  #: for agents whose timeouts we wrote
    others: timedelta = LONGEST_FOR_OTHERS

    def of(self, caller: Caller, asked: timedelta | None) -> timedelta:
        """What *caller* gets when it asks for *asked* (None: as long as possible)."""
        longest = self.launched if caller.is_agent else self.others
        return longest if asked is None else min(asked, longest)


class Waiting:
    """Keeps callers until what they wait for is there."""

    def __init__(
        self, db: Database, clock: Clock, limits: WaitLimits, messages: Messages | None = None
    ) -> None:
        """With *messages*, whoever waits returns early when there is one for it."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._messages = messages

    async def until_final(
        self,
        caller: Caller,
        job_ids: Sequence[str],
        beat: Beat,
        *,
        timeout: timedelta | None = None,
        any_: bool = False,
    ) -> WaitAnswer:
        """The jobs, as soon as all of them (with *any_*: one of them) are final, or time is up.

        Earlier if a message comes for the caller, or if one of them is a workflow that is blocked
        until somebody does something; an agent is told once of each such block, also of one from
        before the call. Calling again with the same ids is always safe.

        Raises:
            Invalid: no ids, or more than 200.
            NotFound: names the ids that the caller may not see.
            WaitCycle: one of the jobs waits, at last, for the caller.
        """
        wanted = tuple(dict.fromkeys(job_ids))
        if not 0 < len(wanted) <= MAX_IDS:
            raise Invalid(f"`job_ids` must name 1 to {MAX_IDS} jobs, not {len(wanted)}.")

        def is_over(pending: Sequence[str]) -> bool:
            return not pending or (any_ and len(pending) < len(wanted))

        interrupted, since = False, self._clock.now()
        # The ear comes first: what changes after the reading rings it.
        with self._db.bell.listen(final_topic(one) for one in wanted) as ear:
            told = await self._db.read(lambda session: _told(session, caller, wanted, since))

            pending, stuck = await self._db.read(lambda session: _look(session, wanted, told))

            async def over() -> bool:
                pending, stuck = await self._db.read(lambda s: _look(s, wanted, told))
                return bool(stuck) or is_over(pending)

            if stuck:  # that it is told is noted by a wait as well
                async with self.noted(caller, "jobs", wanted):
                    pass
            elif not is_over(pending):
                interrupted = await self.until_rung(
                    caller, "jobs", wanted, ear, over, beat, timeout
                )
        # Results are read once, at the end: there may be 200 of a megabyte.
        answer = await self._db.read(lambda session: _answer(session, wanted))
        if not is_over(answer.pending):
            answer.hint = self.hint(interrupted, _call_again(answer))
        return answer

    async def until_rung(
        self,
        caller: Caller,
        kind: str,
        targets: Sequence[str],
        ear: Ear,
        over: Callable[[], Awaitable[bool]],
        beat: Beat,
        timeout: timedelta | None,
    ) -> bool:
        """Wait until *over* answers true, asking it after each ring, or until time is up.

        Returns whether a message for the caller has ended the wait instead.
        """
        topics = [message_topic(caller.job_id)] if caller.is_agent else []
        with self._db.bell.listen(topics, ear):
            if await self._has_news(caller):
                return True
            doing = f"waiting for {', '.join(targets)}"
            async with (
                self.noted(caller, kind, targets),
                beating(self._clock, beat, lambda: doing),
            ):
                with anyio.move_on_after(self._limits.of(caller, timeout).total_seconds()):
                    while not self._db.bell.closed:
                        await ear.heard()
                        if await over():
                            return False
                        if await self._has_news(caller):
                            return True
        return False

    def longest(self, caller: Caller) -> timedelta:
        """How long one call of *caller* may block."""
        return self._limits.of(caller, None)

    def hint(self, interrupted: bool, otherwise: str) -> str:
        """What to do after a wait that brought nothing: *otherwise* if only time was up."""
        if self._db.bell.closed:
            return RESTARTING
        return INTERRUPTED if interrupted else otherwise

    async def _has_news(self, caller: Caller) -> bool:
        return self._messages is not None and bool(await self._messages.news(caller))

    @asynccontextmanager
    async def noted(
        self, caller: Caller, kind: str, targets: Sequence[str]
    ) -> AsyncGenerator[None]:
        """A row, behind the fence, for a call of an agent that blocks as long as the context lasts.

        It frees the agent's slot, unless the kind is `checks`. Operators hold no slot.

        Raises:
            StaleAttempt, JobFinished: the caller may not write any more.
            WaitCycle: one of the jobs that it waits for waits, at last, for the caller.
        """
        if not caller.is_agent:
            yield
            return
        seq = 0
        # A client that hangs up now must not leave a row behind that nobody knows how to close.
        with anyio.CancelScope(shield=True):
            seq = await self._db.write(lambda session: self._note(session, caller, kind, targets))
        ended_by = "gone"
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            yield
            ended_by = "answered"
        finally:
            # Not awaited: the answer need not wait for this commit, and a client that has gone
            # must not prevent it.
            now, by = self._clock.now(), ended_by
            self._db.post(lambda session: waits.close_wait(session, seq, now, by))

    def _note(self, session: Session, caller: Caller, kind: str, targets: Sequence[str]) -> int:
        now = self._clock.now()
        attempts.fence(session, caller.attempt_id, now)
        if kind == "jobs":
            # Whom it waits for shares its locks from now on, and so does not wait for them.
            also = {caller.job_id: frozenset(targets)}
            graph = lock_table.wait_graph(session, now, also)
            refuse_cycle(graph.edges, caller.job_id, targets, graph.files)
        attempt = attempts.get(session, caller.attempt_id)
        seq = waits.open_wait(session, attempt, kind, targets, now)
        if kind == "jobs":
            lock_table.regrant(session, now)
        return seq


@asynccontextmanager
async def beating(clock: Clock, beat: Beat, doing: Callable[[], str]) -> AsyncGenerator[None]:
    """Progress every `BEAT`, for as long as the context lasts, with what is being done then."""
    began = clock.monotonic()

    async def beats() -> None:
        while True:
            await clock.sleep(BEAT)
            try:
                await beat(clock.monotonic() - began, doing()[:200])
            except Exception:  # a client that cannot take progress can still take the answer
                log.debug("a progress notice was not sent", exc_info=True)
                return

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beats)
        try:
            yield
        except Exception as error:  # out of a task group it would come inside another one
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _told(
    session: Session, caller: Caller, job_ids: tuple[str, ...], now: datetime
) -> Mapping[str, datetime]:
    """When the caller last heard of each of these jobs; operators hear what comes from now on."""
    check_reader(session, caller)
    check_visible(session, caller, *job_ids)
    if not caller.is_agent:
        return dict.fromkeys(job_ids, now)
    return waits.answered(session, caller.attempt_id, "jobs", job_ids)


def _pending(session: Session, job_ids: tuple[str, ...]) -> Sequence[str]:
    statuses = jobs.statuses(session, job_ids)
    return [one for one in job_ids if not JobStatus(statuses[one]).is_final]


def _look(
    session: Session, job_ids: tuple[str, ...], told: Mapping[str, datetime]
) -> tuple[Sequence[str], Sequence[str]]:
    """Those that are not final, and the workflows among them whose block is news to the caller."""
    pending = _pending(session, job_ids)
    return pending, needs_person(session, pending, told)


def _answer(session: Session, job_ids: tuple[str, ...]) -> WaitAnswer:
    rows = jobs.many(session, job_ids)
    last = attempts.last_of(session, job_ids)
    pending = [one for one in job_ids if not JobStatus(rows[one].status).is_final]
    asked = open_questions(session, pending) if pending else {}
    blocks = open_blocks(session, pending) if pending else {}
    answers: list[JobAnswer] = []
    room = ANSWER_CUT
    for one in job_ids:
        answer = JobAnswer.of(rows[one], last.get(one), min(room, RESULT_CUT))
        answer.question = asked.get(one)
        answer.blocked = blocks.get(one)
        room -= len(answer.result or "")
        answers.append(answer)
    return WaitAnswer(jobs=answers, pending=pending)


def _call_again(answer: WaitAnswer) -> str:
    stuck = [job.job_id for job in answer.jobs if job.blocked and job.blocked.needs_person]
    if stuck:
        return (
            f"{', '.join(stuck)} cannot go on by itself: see `blocked` for what to do, and wait "
            "again only after that."
        )
    count = len(answer.pending)
    return f"{count} not finished: call wait_for_jobs again with the ids in `pending`."
