"""The form of every tool's answer, and of every error that a model reads."""

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel
from starlette.requests import Request

from hurlicane_mcp.engine.access import CALLER_KEY, OVER_KEY, Caller
from hurlicane_mcp.errors import HurlicaneError

P = ParamSpec("P")
R = TypeVar("R")

Ctx = Context[Any]


def answers(tool: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let the agent read our errors. Others stay in our log; the SDK masks them."""

    @wraps(tool)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await tool(*args, **kwargs)
        except HurlicaneError as error:
            raise ToolError(f"{error.code}: {error}") from error

    return call


def answer(value: BaseModel | dict[str, Any]) -> CallToolResult:
    """*value* as structured content and as the same JSON in text, without its empty fields."""
    data = (
        value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    )
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data)


def request_of(ctx: Ctx) -> Request:
    """The HTTP request that carries the call."""
    return cast("Request", ctx.request_context.request)


def caller_of(ctx: Ctx) -> Caller:
    """Who calls, as the guard in front of this endpoint found out."""
    return request_of(ctx).scope[CALLER_KEY]


def once_over(ctx: Ctx, action: Callable[[bool], None]) -> None:
    """Call *action* when the response is over, with whether the client was there to hear it."""
    request_of(ctx).scope.setdefault(OVER_KEY, []).append(action)


def beat_of(ctx: Ctx) -> Callable[[float, str], Awaitable[None]]:
    """Sends progress to the caller, if it asked for any."""

    async def beat(waited_s: float, what: str) -> None:
        await ctx.report_progress(waited_s, None, what)

    return beat
