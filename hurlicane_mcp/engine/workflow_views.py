"""What callers get to read of workflows, the same on every edge."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from sqlmodel import Session

from hurlicane_mcp.domain.milestones import Milestone, parse
from hurlicane_mcp.domain.workflows import End
from hurlicane_mcp.engine.blocks import BlockView
from hurlicane_mcp.engine.views import FailureView, View
from hurlicane_mcp.engine.workflow_facts import plan_of, worktree_of
from hurlicane_mcp.store import jobs, usage, worktrees
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.usage import Grouping
from hurlicane_mcp.store.workflow_tables import PhaseRow, WorkflowRow, WorktreeRow

#: Characters of a phase's result in a view; get_job has the rest.
RESULT_SHOWN = 500


class PublishedView(View):
    """How far the branch came."""

    pushed: bool
    remote: str | None = None
    url: str | None = None  #: of the pull request
    conflicts: list[str] | None = None  #: paths that contradict the base
    note: str


class MilestoneView(View):
    """One checkbox of the plan."""

    text: str
    done: bool
    depth: int | None = None  #: how many boxes it stands below

    @staticmethod
    def of(milestone: Milestone) -> "MilestoneView":
        depth = milestone.depth or None
        return MilestoneView(text=milestone.text, done=milestone.done, depth=depth)


class PhaseView(View):
    """One try at one phase."""

    cycle: int
    phase: str
    try_number: int
    job_id: str
    status: str
    provider: str
    model: str | None = None
    result: str | None = None  #: its beginning
    failure: FailureView | None = None
    stopped_by: str | None = None
    cost_usd: Decimal | None = None  #: with that of its children
    started_at: datetime | None = None
    finished_at: datetime | None = None


class WorkflowLine(View):
    """A workflow in a list."""

    workflow_id: str
    title: str
    state: str
    cycle: int
    max_cycles: int
    phase: str
    try_number: int | None = None
    milestones: int
    milestones_done: int
    blocked: BlockView | None = None
    branch: str | None = None
    work_dir: str
    cost_usd: Decimal | None = None
    created_at: datetime
    finished_at: datetime | None = None
    parent_id: str | None = None  #: the job that created it


class WorkflowView(WorkflowLine):
    """Everything that `get_workflow` tells."""

    task: str
    implementer: str  #: `provider:model`; the provider alone for its CLI's default
    reviewer: str
    reviewer_why: str
    verify: bool
    publish: str
    base_branch: str | None = None
    published: PublishedView | None = None
    plan: list[MilestoneView]
    phases: list[PhaseView]
    models_used: list[str] | None = None
    result: str | None = None
    failure: FailureView | None = None
    budget_usd: Decimal | None = None
    worktree_id: str | None = None
    project: str  #: whose notes they are
    notes: str  #: what the keys of its notes begin with


def lines_of(session: Session, workflows: Sequence[WorkflowRow]) -> list[WorkflowLine]:
    """Workflows for a list. It takes three queries, however many there are."""
    ids = [one.id for one in workflows]
    known, costs = jobs.many(session, ids), usage.costs(session, ids)
    trees = worktrees.many(session, [one.worktree_id for one in workflows if one.worktree_id])
    return [
        _line(one, known[one.id], trees.get(one.worktree_id or ""), costs.get(one.id))
        for one in workflows
    ]


def _line(
    workflow: WorkflowRow, job: JobRow, worktree: WorktreeRow | None, cost: Decimal | None
) -> WorkflowLine:
    return WorkflowLine(
        workflow_id=workflow.id,
        title=job.title,
        state=workflow.state,
        cycle=workflow.cycle,
        max_cycles=workflow.max_cycles,
        phase=workflow.phase,
        try_number=workflow.try_number if workflow.try_number > 1 else None,
        milestones=workflow.milestones,
        milestones_done=workflow.milestones_done,
        blocked=BlockView.of(workflow),
        branch=worktree.branch if worktree else None,
        work_dir=job.work_dir,
        cost_usd=cost or None,
        created_at=job.created_at,
        finished_at=job.finished_at,
        parent_id=job.parent_id,
    )


def view_of(session: Session, workflow: WorkflowRow) -> WorkflowView:
    """All of a workflow, with its plan as it is now."""
    job = jobs.get(session, workflow.id)
    plan = parse(plan_of(session, workflow.id, job.project))
    line = lines_of(session, [workflow])[0].model_dump()
    if plan.total:  # agents check milestones while their phase goes on
        line |= {"milestones": plan.total, "milestones_done": plan.done}
    published = workflow.published
    return WorkflowView(
        **line,
        task=job.description,
        implementer=workflow.implementer.rstrip(":"),
        reviewer=workflow.reviewer.rstrip(":"),
        reviewer_why=workflow.reviewer_why,
        verify=workflow.verify,
        publish=workflow.publish,
        base_branch=workflow.base_branch,
        published=PublishedView(**published) if published else None,
        plan=[MilestoneView.of(one) for one in plan.milestones],
        phases=list(_phases(session, workflow.id)),
        models_used=models_used(session, workflow.id) or None,
        result=job.result or None,
        failure=_failure(job),
        budget_usd=job.stop_value,
        worktree_id=workflow.worktree_id,
        project=job.project,
        notes=f"workflow/{workflow.id}/",
    )


def summary_of(session: Session, workflow: WorkflowRow, decision: End) -> str:
    """What whoever waits for the workflow gets to read, in a few lines."""
    worktree = worktree_of(session, workflow)
    lines = [f"The workflow is {decision.state}. {decision.reason}"]
    if worktree is not None:
        lines.append(f"Branch: {worktree.branch} (from {worktree.base_branch or 'a commit'}).")
    if workflow.published is not None:
        lines.append(str(workflow.published["note"]))
    unpriced = ", ".join(unpriced_models(session, workflow.id))
    without = f" without {unpriced}, whose price is not known" if unpriced else ""
    lines.append(f"Cost: ${cost_of(session, workflow.id):.2f}{without}.")
    return "\n".join(lines)


def cost_of(session: Session, job_id: str) -> Decimal:
    """US dollars that the job and all below it have cost so far."""
    return usage.costs(session, [job_id]).get(job_id, Decimal(0))


def models_used(session: Session, workflow_id: str) -> list[str]:
    """The models that have worked for it, each as `provider:model`, by name."""
    used = usage.sums(session, Grouping.MODEL, under=workflow_id)
    return sorted({f"{one.provider}:{one.model}" for one in used if one.model})


def unpriced_models(session: Session, workflow_id: str) -> list[str]:
    """Those of them, and CLIs whose model is not known, that no cost is booked for."""
    used = usage.sums(session, Grouping.MODEL, under=workflow_id)
    priced = {(one.provider, one.model) for one in used if one.has_cost}
    others = {(one.provider, one.model) for one in used if one.input_tokens + one.output_tokens}
    return sorted(f"{provider}:{model}".rstrip(":") for provider, model in others - priced)


def _phases(session: Session, workflow_id: str) -> Iterator[PhaseView]:
    rows = store.phases(session, workflow_id)
    ids = [row.job_id for row in rows]
    found, costs = jobs.many(session, ids), usage.costs(session, ids)
    for row in rows:
        yield _phase(row, found[row.job_id], costs.get(row.job_id))


def _phase(row: PhaseRow, job: JobRow, cost: Decimal | None) -> PhaseView:
    return PhaseView(
        cycle=row.cycle,
        phase=row.phase,
        try_number=row.try_number,
        job_id=job.id,
        status=job.status,
        provider=job.provider,
        model=job.model,
        result=job.result[:RESULT_SHOWN] or None,
        failure=_failure(job),
        stopped_by=job.stopped_by,
        cost_usd=cost or None,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _failure(job: JobRow) -> FailureView | None:
    if job.failure_kind is None:
        return None
    return FailureView(kind=job.failure_kind, reason=job.failure_reason or "")
