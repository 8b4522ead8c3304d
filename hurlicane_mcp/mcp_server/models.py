"""The tools about models and their limits."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeAlias

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.engine.models import Models
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, caller_of

ModelName: TypeAlias = Annotated[
    str, Field(description="Id or alias, also as provider:model; claude:* is all of claude")
]


class ModelTools:
    """What operators may do about models."""

    def __init__(self, models: Models) -> None:
        self._models = models

    @property
    def tools(self) -> Sequence[Callable[..., Awaitable[CallToolResult]]]:
        """All of them."""
        return (self.list_models, self.set_model_limit, self.clear_model_limit)

    @answers
    async def list_models(self, ctx: Ctx) -> CallToolResult:
        """The models by name: aliases, prices, chains; which are limited, until when and why."""
        return answer(await self._models.listing(caller_of(ctx)))

    @answers
    async def set_model_limit(
        self,
        ctx: Ctx,
        model: ModelName,
        for_s: Annotated[float | None, Field(description="Seconds; default: until cleared")] = None,
        until: Annotated[
            datetime | None, Field(description="Instead of for_s; with a time zone")
        ] = None,
        reason: str = "",
    ) -> CallToolResult:
        """Start no more agents on a model; those that run on it go on. Jobs take the next one."""
        limited = await self._models.limit(
            caller_of(ctx), model, until=until, for_s=for_s, reason=reason
        )
        return answer(limited)

    @answers
    async def clear_model_limit(self, ctx: Ctx, model: ModelName) -> CallToolResult:
        """Let a model be used again, and jobs that are parked for it go on."""
        return answer(await self._models.clear(caller_of(ctx), model))
