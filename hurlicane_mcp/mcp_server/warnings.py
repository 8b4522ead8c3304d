"""The tool about warnings; list_jobs and get_job tell them."""

from typing import Annotated

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, caller_of


class WarningTools:
    """What operators may do about warnings."""

    def __init__(self, health: Health) -> None:
        self._health = health

    @answers
    async def dismiss_warning(
        self,
        ctx: Ctx,
        job_id: str,
        kind: Annotated[str, Field(description="`kind` in `warnings` of list_jobs and get_job")],
    ) -> CallToolResult:
        """Show a warning no more while it holds."""
        return answer(await self._health.dismiss(caller_of(ctx), job_id, kind))
