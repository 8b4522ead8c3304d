"""What merging a job's branch into its base would do, for people who are about to."""

from functools import partial
from pathlib import Path

import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.engine.access import Caller, check_visible
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.git import history, remotes
from hurlicane_mcp.git.history import MergePreview
from hurlicane_mcp.store import jobs, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.workflow_tables import WorktreeRow


class MergeView(View):
    """What a merge would do. Without `unknown` and `conflicts` it would go through."""

    job_id: str
    branch: str
    base: str  #: a branch, here or of a remote, or else the commit that the work began from
    ahead: int  #: commits of the branch that the base lacks
    behind: int  #: commits of the base that the branch lacks
    conflicts: list[str] | None = None  #: paths
    unknown: str | None = None  #: why it could not be tried


class Merges:
    """Previews merges; nothing is merged here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def preview(self, caller: Caller, job_id: str) -> MergeView:
        """What merging the branch of the job's worktree into its base would do, as that is here.

        Raises:
            NotFound: unknown, or outside the caller's subtree.
            Invalid: it has no worktree of its own, so neither branch nor base.
            GitFailed: the branch is gone.
        """
        tree = await self._db.read(partial(_tree_of, caller=caller, job_id=job_id))
        base, found = await anyio.to_thread.run_sync(_tried, tree, abandon_on_cancel=True)
        return MergeView(
            job_id=job_id,
            branch=tree.branch,
            base=base,
            ahead=found.ahead,
            behind=found.behind,
            conflicts=list(found.conflicts) or None,
            unknown=found.unknown or None,
        )


def _tried(tree: WorktreeRow) -> tuple[str, MergePreview]:
    """The base as it is named here, and what a merge into it would do."""
    repo = Path(tree.repo)  # the worktree may have been removed: its branch is kept
    wishes: tuple[str, ...] = ()
    if (base := tree.base_branch) is not None:
        wishes = (base, *(f"{remote}/{base}" for remote in remotes.names_of(repo)))
    known = (one for one in wishes if history.commit_of(repo, one) is not None)
    chosen = next(known, tree.base_sha)
    return chosen, history.merge_preview(repo, tree.branch, chosen)


def _tree_of(session: Session, caller: Caller, job_id: str) -> WorktreeRow:
    check_visible(session, caller, job_id, own=True)
    job = jobs.get(session, job_id)
    if job.worktree_id is None:
        raise Invalid(
            f"Job {job_id} has no worktree of its own, so there is nothing to merge: it works in "
            f"{job.work_dir} as it is."
        )
    return worktrees.get(session, job.worktree_id)
