"""What is done about an attempt's work folder before its agent starts and after it is gone."""

from dataclasses import replace
from pathlib import Path

from hurlicane_mcp.engine.diffs import Diffs
from hurlicane_mcp.engine.dispatcher import Launch
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.git import repository
from hurlicane_mcp.store.tables import JobRow


class Folders:
    """Worktrees and diffs, as far as `Runs` has to do with them."""

    def __init__(self, worktrees: Worktrees, diffs: Diffs) -> None:
        self.worktrees = worktrees
        self.diffs = diffs

    async def run(self) -> None:
        """Make up for what the last server did not get to; then remove worktrees, for ever."""
        await self.diffs.catch_up()
        await self.worktrees.run()

    async def ready(self, launch: Launch) -> Launch:
        """*launch* with its job's worktree made, if it has one, and its commit noted.

        Raises:
            NotWritable, GitBusy: not now; the same call may work later.
            GitFailed: the worktree cannot be made.
        """
        launch = replace(launch, job=await self.worktrees.ready(launch.job))
        await self.diffs.begin(launch.attempt_id, Path(launch.job.work_dir))
        return launch

    async def left(self, attempt_id: str) -> None:
        """Note what the attempt, which has ended, changed. Never fails."""
        await self.diffs.note(attempt_id)


def top_of(job: JobRow) -> Path | None:
    """The top of the worktree of ours that *job* works somewhere below; None for any other."""
    if job.worktree_id is None:
        return None
    folder = Path(job.work_dir)
    top = repository.top_level(folder)
    return None if top == folder else top
