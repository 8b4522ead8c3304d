"""The routes about the folders that agents work in: worktrees, and what attempts changed."""

from typing import Annotated

from pydantic import Field

from hurlicane_mcp.engine.diffs import DiffView
from hurlicane_mcp.engine.folders import Folders
from hurlicane_mcp.engine.worktree_views import WorktreeViews
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class WorktreeQuery(Input):
    """Which worktrees to list."""

    removed: bool = Field(False, description="Also those that are gone")
    limit: int = Field(200, ge=1, le=1000)


class DiffQuery(Input):
    """Which attempt's diff."""

    attempt: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="Its number. Default: the last one with a diff"
    )


class FolderRoutes:
    """Worktrees and diffs over HTTP."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        diff = "/api/jobs/{job_id}/diff"
        return (
            Operation("GET", "/api/worktrees", self.listing, WorktreeQuery, Nothing, WorktreeViews),
            Operation("GET", diff, self.diff, DiffQuery, Nothing, DiffView, for_agents=True),
        )

    async def listing(self, call: Call[WorktreeQuery, Nothing]) -> WorktreeViews:
        """The worktrees made for jobs, newest first."""
        query = call.query
        found = await self._folders.worktrees.listing(
            call.caller, removed=query.removed, limit=query.limit
        )
        return WorktreeViews(worktrees=found)

    async def diff(self, call: Call[DiffQuery, Nothing]) -> DiffView:
        """What an attempt changed in its git repository, from its start to its end."""
        return await self._folders.diffs.of(call.caller, call.path("job_id"), call.query.attempt)
