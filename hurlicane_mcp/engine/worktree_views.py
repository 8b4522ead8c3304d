"""What callers get to read of worktrees."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from hurlicane_mcp.store.workflow_tables import WorktreeRow


class WorktreeBrief(BaseModel):
    """The worktree that a job works in."""

    worktree_id: str
    path: str
    branch: str
    base_branch: str | None = None  #: None: it began at a commit that no branch was asked for
    state: str  #: planned, ready or removed
    salvaged: list[str] | None = None  #: refs that keep what was not committed

    @staticmethod
    def of(row: WorktreeRow) -> "WorktreeBrief":
        same = row.model_dump(include={"path", "branch", "base_branch", "state"})
        return WorktreeBrief(worktree_id=row.id, salvaged=row.salvaged or None, **same)


class WorktreeView(WorktreeBrief):
    """A worktree in the list of all."""

    job_id: str  #: the job or workflow that it was made for
    repo: str
    base_sha: str
    trouble: str | None = None  #: why it could not be made or removed at the last try
    created_at: datetime
    ready_at: datetime | None = None
    removed_at: datetime | None = None

    @staticmethod
    def whole(row: WorktreeRow) -> "WorktreeView":
        same = row.model_dump(include={"repo", "base_sha", "created_at", "ready_at", "removed_at"})
        brief = WorktreeBrief.of(row).model_dump()
        return WorktreeView(job_id=row.owner_id, trouble=row.trouble or None, **brief, **same)


class WorktreeViews(BaseModel):
    """Worktrees, newest first."""

    worktrees: Sequence[WorktreeView]
