"""Rehearsed limits: the refusals of a model, and the turns that a process may take."""

import time

import anyio

from hurlicane_mcp.providers.scripted_agent.session import Session
from hurlicane_mcp.providers.scripted_agent.stream import Stream
from hurlicane_mcp.providers.scripted_agent.vocabulary import Refuse


class Turns:
    """Counts the requests of one process to the model."""

    def __init__(self, session: Session, stream: Stream, most: int | None) -> None:
        self._session = session
        self._stream = stream
        self._left = most

    def begin(self) -> str | None:
        """Tell of one more request; its id, or None if the process may not make another one.

        It is saved at once: killed during the request, the session must not use its id again.
        """
        if self._left == 0:
            self._stream.event("stopped", mode="turns")
            return None
        if self._left is not None:
            self._left -= 1
        self._session.turns += 1
        self._session.save()
        request_id = f"{self._session.session_id}:{self._session.turns}"
        self._stream.event("turn", id=request_id)
        return request_id


async def refuse(step: Refuse, model: str, session: Session, stream: Stream) -> bool:
    """Be refused as often as *step* says; whether the agent goes on, instead of giving up.

    What a session has been refused it remembers, so that a process which goes on with it is at the
    same step, and counts on.
    """
    if step.models is not None and model not in step.models:
        return True
    key = f"{session.steps_done}: {step}"
    while True:
        times, first = session.refusals.get(key, [0, time.time()])
        resets_at = None if step.resets_in_s is None else first + step.resets_in_s
        is_over = step.times is not None and times >= step.times
        if is_over or (resets_at is not None and time.time() >= resets_at):
            if times:
                stream.event("answered")
            return True
        session.refusals[key] = [times + 1, first]
        session.save()
        stream.event(
            "refused",
            kind=step.kind,
            text=step.text,
            scope=step.scope,
            model=model,
            final=step.final,
            wait_s=None if step.final or step.silent else step.wait_s,
            resets_at=resets_at,
        )
        if step.final:
            return False
        await anyio.sleep(step.wait_s)
