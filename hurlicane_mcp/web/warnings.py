"""The routes about warnings."""

from pydantic import BaseModel

from hurlicane_mcp.engine.health import Health, JobWarning
from hurlicane_mcp.engine.warnings import WarningView
from hurlicane_mcp.web.operations import Call, Nothing, Operation, Operations


class WarningList(BaseModel):
    """What holds and was not dismissed, oldest first."""

    warnings: list[JobWarning]


class WarningRoutes:
    """Warnings over HTTP."""

    def __init__(self, health: Health) -> None:
        self._health = health

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        one, none = "/api/jobs/{job_id}/warnings/{kind}", Nothing
        return (
            Operation("GET", "/api/warnings", self.listing, none, none, WarningList),
            Operation("DELETE", one, self.dismiss, none, none, WarningView),
        )

    async def listing(self, call: Call[Nothing, Nothing]) -> WarningList:
        """The warnings about all jobs that are not final."""
        return WarningList(warnings=await self._health.listing(call.caller))

    async def dismiss(self, call: Call[Nothing, Nothing]) -> WarningView:
        """Show a warning no more while it holds. 404 if the job has no such warning now."""
        return await self._health.dismiss(call.caller, call.path("job_id"), call.path("kind"))
