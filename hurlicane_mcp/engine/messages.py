"""Messages: what operators and parents say to an agent at work, told until it is known to have it.

A message goes along with an answer that the agent gets anyway: of a tool of ours, or of a hook of
its CLI. It counts as delivered once that answer was heard, and as acknowledged at the agent's next
call. An attempt that ends before that leaves it to the prompt of the next. For an agent on a
terminal it is typed at once, unless one of its calls has got it meanwhile.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.jobs import JobKind, JobStatus
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.engine.access import Caller, Role, check_visible
from hurlicane_mcp.engine.views import MessageView
from hurlicane_mcp.errors import Conflict, HurlicaneError, Invalid
from hurlicane_mcp.store import attempts, jobs, messages, workflows
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import message_topic
from hurlicane_mcp.store.tables import AttemptRow, MessageRow

MAX_MESSAGE_BYTES = 16 * 1024
#: How many of a job's messages are listed; the newest ones.
LISTED = 200


#: Types a text into the terminal of the agent in this directory; whether it took it.
Typist: TypeAlias = Callable[[Path, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Telling:
    """Messages that go along with an answer; `over` is called with whether that was heard."""

    texts: tuple[str, ...]
    over: Callable[[bool], None]


class Messages:
    """Sends messages and brings them to agents.

    Memory holds which jobs have a message on its way, so that a call of any other agent costs
    nothing. `load` reads that from the rows, before the first call.
    """

    def __init__(self, db: Database, clock: Clock, typist: Typist | None = None) -> None:
        self._db = db
        self._clock = clock
        self._typist = typist
        #: Jobs with a message on its way. The value marks the last sending: what was counted
        #: before it says nothing about the job any more.
        self._open: dict[str, object] = {}
        #: By attempt, what stands in an answer that is on its way or was heard.
        self._told: dict[str, set[int]] = {}

    async def load(self) -> None:
        """Find the messages that the last server had not brought to their agents."""
        for job_id in await self._db.read(messages.jobs_with_open):
            self._open[job_id] = object()

    async def send(self, caller: Caller, job_id: str, text: str) -> MessageView:
        """Say *text* to the agent of a job, or to its next one if none runs.

        The same text again, before the agent was told, is the same message: a caller whose call
        broke may repeat it.

        Raises:
            NotFound: unknown, or not below the caller's own job.
            Conflict: the job is final, or a workflow, which has no agent of its own.
            Invalid: empty, or longer than 16 KiB.
        """
        check_text("text", text)
        if not text.strip():
            raise Invalid("`text` is empty.")
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise Invalid(
                f"`text` is longer than {MAX_MESSAGE_BYTES:,} bytes. Write the long part into a "
                "file and name its path."
            )
        now = self._clock.now()

        def change(session: Session) -> MessageView:
            if caller.is_agent:
                attempts.fence(session, caller.attempt_id, now)
            check_visible(session, caller, job_id)
            _refuse_unread(session, job_id)
            same = messages.untold(session, job_id, caller.name, text)
            return MessageView.of(same or messages.add(session, job_id, caller.name, text, now))

        # Before the writing: from its commit on, the agent's next call must look for it.
        had_others = job_id in self._open
        mark = self._open[job_id] = object()
        try:
            sent = await self._db.write(change)
        except HurlicaneError:
            if not had_others:
                self._forget(job_id, mark)
            raise
        await self._type(job_id)
        return sent

    async def _type(self, job_id: str) -> None:
        """Put what the job's agent was not told yet into its terminal, if it has one."""

        def query(session: Session) -> AttemptRow | None:
            job, attempt = jobs.get(session, job_id), attempts.last_of(session, [job_id])
            found = attempt.get(job_id) if job.interactive else None
            return found if found and found.state == AttemptState.RUNNING else None

        attempt = await self._db.read(query) if self._typist else None
        if attempt is None or self._typist is None:
            return
        telling = await self.tell(Caller(Role.AGENT, job_id, attempt.id))
        if telling is not None:
            typed = False
            try:
                typed = await self._typist(Path(attempt.run_dir), "\n".join(telling.texts))
            finally:
                telling.over(typed)

    async def listing(self, caller: Caller, job_id: str) -> list[MessageView]:
        """The newest 200 messages to a job's agents, oldest first, and how far each has got.

        Raises:
            NotFound: unknown, or not below the caller's own job.
        """

        def query(session: Session) -> list[MessageView]:
            check_visible(session, caller, job_id, own=True)
            return [MessageView.of(row) for row in messages.of_job(session, job_id, LISTED)]

        return await self._db.read(query)

    async def called(self, caller: Caller) -> None:
        """Note that the caller's agent has called, so it has what was delivered to it before."""
        mark = self._open.get(caller.job_id)
        if mark is None:
            return
        now = self._clock.now()
        left = await self._db.write(lambda s: messages.acknowledge(s, caller.attempt_id, now))
        if left == 0:
            self._forget(caller.job_id, mark)

    async def news(self, caller: Caller) -> Sequence[MessageRow]:
        """What the caller's agent has not been told, oldest first; nothing for an operator."""
        if caller.job_id not in self._open:
            return ()
        rows = await self._db.read(lambda session: messages.to_tell(session, caller.attempt_id))
        told = self._told.get(caller.attempt_id, ())
        return [row for row in rows if row.seq not in told]

    async def tell(self, caller: Caller) -> Telling | None:
        """What goes along with an answer to the caller's agent, if there is anything."""
        news = await self.news(caller)
        if not news:
            return None
        seqs = frozenset(row.seq for row in news)
        # Two answers at the same time do not both carry it.
        told = self._told.setdefault(caller.attempt_id, set())
        told |= seqs

        def over(heard: bool) -> None:
            if heard:
                now = self._clock.now()
                self._db.post(lambda s: messages.deliver(s, caller.attempt_id, seqs, now))
            else:
                told.difference_update(seqs)
                # Another call of the agent may be waiting: it can be told there.
                self._db.bell.ring([message_topic(caller.job_id)])

        return Telling(tuple(told_text(row) for row in news), over)

    def _forget(self, job_id: str, mark: object) -> None:
        if self._open.get(job_id) is mark:
            del self._open[job_id]
            for attempt_id in [one for one in self._told if one.rpartition(".")[0] == job_id]:
                del self._told[attempt_id]


def told_text(message: MessageRow) -> str:
    """A message as an agent reads it, with who says it and when (UTC)."""
    return f"[message from {message.sender}, {message.sent_at:%H:%M} UTC] {message.text}"


def _refuse_unread(session: Session, job_id: str) -> None:
    """Refuse a message that no agent would ever read."""
    job = jobs.many(session, [job_id])[job_id]
    if JobStatus(job.status).is_final:
        raise Conflict(f"Job {job_id} is {job.status} already: nobody would read the message.")
    if job.kind == JobKind.WORKFLOW:
        phase = workflows.phase_of(session, workflows.get(session, job_id))
        whom = f"tell the job of its phase, {phase.job_id}" if phase else "it is about to end"
        raise Conflict(f"{job_id} is a workflow and has no agent of its own: {whom}.")
