"""What Claude Code is answered when it tells us of itself through its HTTP hooks.

The events and the forms of the answers are those of Claude Code 2.1 (measured 2026-11-24): a Stop
that is blocked sends the agent on with the reason, and its next Stop says so; the context added
after a tool's use stands before the model at its next step. Hooks are an extra: without them, or
while the server is away, the agent works all the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import Standing
from hurlicane_mcp.domain.jobs import Completion
from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store.database import Database

#: A heartbeat is noted this often at most.
BEAT = timedelta(seconds=15)
_REMEMBERED = 4096

_UNFINISHED = (
    "You have not called finish_job, so your job is still open and nobody has its result. If the "
    "work is done, call the finish_job tool of the hurlicane server with the result now. If "
    "something is missing, do it first. If you cannot go on, call it with outcome failed."
)


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """The body of the answer; `over` is to be called with whether it was heard."""

    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    over: Callable[[bool], None] | None = None


@dataclass(frozen=True, slots=True)
class _Agent:
    """What the answer depends on."""

    standing: Standing
    has_to_finish: bool  #: its turn may not end without finish_job


class Hooks:
    """Answers the hooks of agents."""

    def __init__(self, db: Database, clock: Clock, messages: Messages) -> None:
        self._db = db
        self._clock = clock
        self._messages = messages
        self._noted: OrderedDict[str, float] = OrderedDict()

    async def answer(self, caller: Caller, event: str, *, stops_again: bool = False) -> HookAnswer:
        """The answer to one hook; empty for an event that we have nothing to say to.

        *stops_again*: the agent was sent back when it stopped before. A stale attempt is told to
        stop, whatever the event, and notes nothing.
        """
        agent = await self._db.read(lambda session: _look(session, caller))
        if agent.standing is Standing.STALE:
            stop = {"continue": False, "stopReason": "another attempt has taken over"}
            return HookAnswer(stop)
        if agent.standing is not Standing.CURRENT:
            return HookAnswer()
        self._beat(caller.attempt_id)
        await self._messages.called(caller)
        if event == "PostToolUse":
            return await self._after_a_tool(caller)
        if event == "Stop" and not stops_again:
            return await self._at_a_stop(caller, agent)
        return HookAnswer()

    async def _after_a_tool(self, caller: Caller) -> HookAnswer:
        telling = await self._messages.tell(caller)
        if telling is None:
            return HookAnswer()
        context = "\n\n".join(telling.texts)
        added = {"hookEventName": "PostToolUse", "additionalContext": context}
        return HookAnswer({"hookSpecificOutput": added}, telling.over)

    async def _at_a_stop(self, caller: Caller, agent: _Agent) -> HookAnswer:
        telling = await self._messages.tell(caller)
        reasons = [*(telling.texts if telling else ()), *([_UNFINISHED] * agent.has_to_finish)]
        if not reasons:
            return HookAnswer()
        body = {"decision": "block", "reason": "\n\n".join(reasons)}
        return HookAnswer(body, telling.over if telling else None)

    def _beat(self, attempt_id: str) -> None:
        moment, last = self._clock.monotonic(), self._noted.get(attempt_id)
        if last is not None and moment - last < BEAT.total_seconds():
            return
        self._noted[attempt_id] = moment
        self._noted.move_to_end(attempt_id)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        now = self._clock.now()
        self._db.post(lambda session: attempts.beat(session, attempt_id, now))


def _look(session: Session, caller: Caller) -> _Agent:
    job = jobs.many(session, [caller.job_id])[caller.job_id]
    # In a terminal people talk with the agent: it ends its turn to let them speak.
    has_to_finish = job.completion == Completion.FINISH_JOB and not job.interactive
    return _Agent(attempts.standing_of(session, caller.attempt_id), has_to_finish)
