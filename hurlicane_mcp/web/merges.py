"""The route about merging what jobs have done."""

from hurlicane_mcp.engine.merges import Merges, MergeView
from hurlicane_mcp.web.operations import Call, Nothing, Operation, Operations


class MergeRoutes:
    """Previews of merges over HTTP."""

    def __init__(self, merges: Merges) -> None:
        self._merges = merges

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/api/jobs/{job_id}/merge-preview", Nothing
        return (Operation("GET", path, self.preview, none, none, MergeView),)

    async def preview(self, call: Call[Nothing, Nothing]) -> MergeView:
        """What merging the branch of a job with a worktree into its base would do."""
        return await self._merges.preview(call.caller, call.path("job_id"))
