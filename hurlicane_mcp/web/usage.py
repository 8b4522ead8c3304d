"""The route about what was used."""

from typing import Literal

from pydantic import Field

from hurlicane_mcp.engine.usage import Usage, UsageView
from hurlicane_mcp.store.usage import Grouping
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class UsageQuery(Input):
    """What to sum up, and by what."""

    by: Literal["day", "model", "job", "project", "tree", "workflow"] = "day"
    days: int | None = Field(
        None,
        ge=1,
        le=3660,
        description="The last days (UTC), today included. Default: 7; with job_id all",
    )
    job_id: str | None = Field(None, description="Only this job and those below it")
    limit: int = Field(200, ge=1, le=1000, description="Lines at most; the total counts all")


class UsageRoutes:
    """Usage over HTTP."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    @property
    def operations(self) -> Operations:
        """What this route can do."""
        return (Operation("GET", "/api/usage", self.usage, UsageQuery, Nothing, UsageView),)

    async def usage(self, call: Call[UsageQuery, Nothing]) -> UsageView:
        """Turns, tokens and costs by day, model, job, project, tree of jobs or workflow."""
        query = call.query
        return await self._usage.of(
            call.caller,
            Grouping(query.by),
            days=query.days,
            job_id=query.job_id,
            limit=query.limit,
        )
