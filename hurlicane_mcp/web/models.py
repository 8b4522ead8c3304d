"""The routes about models and their limits."""

from datetime import datetime

from pydantic import Field

from hurlicane_mcp.engine.models import LimitList, LimitView, ModelList, Models
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class ProviderQuery(Input):
    """Whose model is meant, if its name does not say so."""

    provider: str | None = None


class NewLimit(ProviderQuery):
    """Which model is not to be used, and how long: until it is cleared if nothing is said."""

    model: str = Field(description="Id, alias, `default` or `*`, also as `provider:model`")
    until: datetime | None = Field(None, description="With its time zone")
    for_s: float | None = Field(None, description="Seconds, instead of `until`")
    reason: str = ""


class ModelRoutes:
    """Models over HTTP."""

    def __init__(self, models: Models) -> None:
        self._models = models

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/api/models", Nothing
        limits = f"{path}/rate-limits"
        one = f"{limits}/{{model:path}}"
        return (
            Operation("GET", path, self.listing, none, none, ModelList),
            Operation("GET", limits, self.limits, none, none, LimitList),
            Operation("POST", limits, self.limit, none, NewLimit, LimitView),
            Operation("DELETE", one, self.clear, ProviderQuery, none, LimitView),
        )

    async def listing(self, call: Call[Nothing, Nothing]) -> ModelList:
        """Every model that is known by name, whether it may be used now, and the chains."""
        return await self._models.listing(call.caller)

    async def limits(self, call: Call[Nothing, Nothing]) -> LimitList:
        """What is limited, until when and why."""
        return await self._models.limits(call.caller)

    async def limit(self, call: Call[Nothing, NewLimit]) -> LimitView:
        """Keep new launches from a model; agents that run on it go on. Replaces an older limit."""
        new = call.body
        return await self._models.limit(
            call.caller,
            new.model,
            provider=new.provider,
            until=new.until,
            for_s=new.for_s,
            reason=new.reason,
        )

    async def clear(self, call: Call[ProviderQuery, Nothing]) -> LimitView:
        """Drop a limit, which is answered as it was. Jobs that are parked for it go on."""
        model, provider = call.path("model"), call.query.provider
        return await self._models.clear(call.caller, model, provider=provider)
