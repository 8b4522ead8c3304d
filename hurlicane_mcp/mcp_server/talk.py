"""The tools by which people and agents talk, and the messages that go along with answers."""

import logging
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Annotated, Any, TypeVar, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.engine.access import CALLER_KEY, OVER_KEY, Caller
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.mcp_server.answers import Ctx, answers, beat_of, caller_of, once_over
from hurlicane_mcp.mcp_server.answers import answer as view_of

log = logging.getLogger(__name__)

T = TypeVar("T")


class TalkTools:
    """Questions of agents to people, and messages to agents."""

    def __init__(self, questions: Questions, messages: Messages) -> None:
        self._questions = questions
        self._messages = messages

    @answers
    async def ask_user(
        self,
        ctx: Ctx,
        question: str,
        choices: Annotated[
            list[str] | None, Field(description="The answer will be one of these")
        ] = None,
        deadline_s: Annotated[float, Field(description="60 to 604800")] = 3600,
    ) -> CallToolResult:
        """Ask the people who run you and block until they answer.

        Always safe to repeat: the same question goes on. Ask only what you cannot decide.
        """
        limit = timedelta(seconds=min(max(deadline_s, 0), 1e9))
        caller = caller_of(ctx)
        asked = await self._questions.ask(caller, question, choices or (), limit, beat_of(ctx))
        if asked.is_closed:
            once_over(ctx, lambda heard: self._questions.told(caller, asked.question_id, heard))
        return view_of(asked.model_dump(mode="json", exclude_none=True, exclude={"is_closed"}))

    @answers
    async def answer_question(
        self,
        ctx: Ctx,
        question_id: Annotated[str, Field(description="`question` of list_jobs and get_job")],
        answer: str,
    ) -> CallToolResult:
        """Answer what an agent asks: with one of the choices, if there are any."""
        answered = await self._questions.answer(caller_of(ctx), question_id, answer)
        return view_of(answered)

    @answers
    async def send_message(self, ctx: Ctx, job_id: str, text: str) -> CallToolResult:
        """Tell the agent of a job something; it reads that with its next tool call."""
        sent = await self._messages.send(caller_of(ctx), job_id, text)
        return view_of({"message_id": sent.message_id, "job_id": job_id})

    async def deliver(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Middleware of the agents' server: an answer to a call takes messages along.

        They stand in the structured content as well: where there is one, Claude Code and Codex show
        the model nothing else of an answer (reported for Claude Code 2.1.280, September 2026).
        """
        if ctx.method != "tools/call" or ctx.request is None:
            return await call_next(ctx)
        scope = ctx.request.scope
        caller: Caller = scope[CALLER_KEY]
        await _quietly(self._messages.called(caller))
        result = await call_next(ctx)
        telling = await _quietly(self._messages.tell(caller)) if isinstance(result, dict) else None
        if telling is not None:
            scope.setdefault(OVER_KEY, []).append(telling.over)
            _add(cast("dict[str, Any]", result), telling.texts)
        return result


def _add(result: dict[str, Any], texts: Sequence[str]) -> None:
    result["content"] = [*result["content"], *({"type": "text", "text": one} for one in texts)]
    if result.get("structuredContent") is not None:
        result["structuredContent"] = {**result["structuredContent"], "messages": list(texts)}


async def _quietly(step: Awaitable[T]) -> T | None:
    """Messages must not cost the agent an answer whose work is done: they are told later."""
    try:
        return await step
    except Exception:  # top-level handler
        log.exception("messages could not be looked for")
        return None
