"""Publishing workflows: the branch of one that is complete goes where its creator wants it."""

from dataclasses import asdict
from pathlib import Path

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.workflows import Phase, Publish, WorkflowState
from hurlicane_mcp.engine.publishing import Publication, Publisher
from hurlicane_mcp.engine.workflow_facts import plan_of
from hurlicane_mcp.engine.workflow_prompts import PullRequestFacts, WorkflowPrompts
from hurlicane_mcp.engine.workflow_views import cost_of, models_used, unpriced_models
from hurlicane_mcp.store import jobs, worktrees
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.workflow_tables import WorkflowRow


class Publications:
    """Publishes the branches of workflows and notes how far they came."""

    def __init__(
        self, db: Database, clock: Clock, publisher: Publisher, prompts: WorkflowPrompts
    ) -> None:
        self._db = db
        self._clock = clock
        self._publisher = publisher
        self._prompts = prompts

    async def publish(self, workflow_id: str) -> None:
        """Publish, and store what came of it. May be repeated: what is there is looked at first.

        Does nothing for one that is not at that any more: it was cancelled, say.

        Raises:
            GitFailed: the remote or the network refused.
        """
        wanted = await self._db.read(lambda session: self._wanted(session, workflow_id))
        if wanted is None:
            return
        published = await self._publisher.publish(wanted)
        now = self._clock.now()
        told = asdict(published) | {"conflicts": list(published.conflicts) or None}

        def change(session: Session) -> None:
            workflow = store.get(session, workflow_id)
            if _is_publishing(workflow):
                store.change(session, workflow, "published", now, published=told)

        await self._db.write(change)

    def _wanted(self, session: Session, workflow_id: str) -> Publication | None:
        workflow, job = store.get(session, workflow_id), jobs.get(session, workflow_id)
        if not _is_publishing(workflow):
            return None
        assert workflow.worktree_id is not None, "without a worktree nothing is published"
        worktree = worktrees.get(session, workflow.worktree_id)
        base_branch = workflow.base_branch or worktree.base_branch
        text = self._prompts.pull_request(_facts(session, workflow, base_branch))
        return Publication(
            folder=Path(job.work_dir),
            branch=worktree.branch,
            base_branch=base_branch,
            mode=Publish(workflow.publish),
            title=text.title,
            body=text.body,
        )


def _is_publishing(workflow: WorkflowRow) -> bool:
    return workflow.phase == Phase.PUBLISH and workflow.state == WorkflowState.RUNNING


def _facts(session: Session, workflow: WorkflowRow, base_branch: str | None) -> PullRequestFacts:
    job = jobs.get(session, workflow.id)
    used = ", ".join(models_used(session, workflow.id))
    return PullRequestFacts(
        workflow_id=workflow.id,
        title=job.title,
        task=job.description,
        plan=plan_of(session, workflow.id, job.project),
        cycles=workflow.cycle,
        max_cycles=workflow.max_cycles,
        base_branch=base_branch,
        cost_usd=cost_of(session, workflow.id),
        unpriced=unpriced_models(session, workflow.id),
        models=(
            f"implemented by {workflow.implementer.rstrip(':')}",
            f"reviewed by {workflow.reviewer.rstrip(':')}",
            *((f"answered by {used}",) if used else ()),
        ),
        checks=tuple(check.name for check in parse_checks(workflow.checks)),
        verified=workflow.verify,
    )
