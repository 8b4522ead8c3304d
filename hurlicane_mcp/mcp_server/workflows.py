"""The tools about workflows. Their docstrings are for the model, and short: each costs context."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec, parse_stops
from hurlicane_mcp.domain.workflows import Publish
from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.engine.admission import Created
from hurlicane_mcp.engine.workflows import Workflows
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, caller_of, once_over

Tool: TypeAlias = Callable[..., Awaitable[CallToolResult]]
Bounds: TypeAlias = Annotated[
    dict[str, Any] | None,
    Field(description='By phase: {"implement": {"stop_mode": "turns", "stop_value": 50}}'),
]

#: Phases that one answer tells of, the newest ones: fifty cycles would fill an agent's context.
SHOWN: Final = 10


class WorkflowTools:
    """What both roles may do with workflows. An agent sees only those below its own job."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All of them."""
        return (
            self.create_workflow,
            self.get_workflow,
            self.list_workflows,
            self.resume_workflow,
            self.cancel_workflow,
        )

    @answers
    async def create_workflow(
        self,
        ctx: Ctx,
        task: Annotated[str, Field(description="What is to be built")],
        title: str | None = None,
        work_dir: Annotated[str | None, Field(description="In the repository; absolute")] = None,
        implementer: Annotated[str | None, Field(description="Model or provider:model")] = None,
        reviewer: str | None = None,
        max_cycles: Annotated[int, Field(description="1 to 50")] = 10,
        stops: Bounds = None,
        use_worktree: bool = True,
        base_branch: str | None = None,
        verify: Annotated[bool, Field(description="An agent runs and tests the result")] = False,
        publish: Literal["none", "branch", "pull_request"] = "branch",
        checks: Annotated[list[Any] | None, Field(description="As those of create_job")] = None,
        budget_usd: float | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        project: str | None = None,
    ) -> CallToolResult:
        """Have a task planned, reviewed and implemented in cycles, on a branch of its own.

        Returns workflow_id at once; wait_for_jobs takes it.
        """
        spec = WorkflowSpec(
            task=task,
            title=title,
            work_dir=work_dir,
            project=project,
            implementer=implementer,
            reviewer=reviewer,
            max_cycles=max_cycles,
            stops=parse_stops(stops),
            use_worktree=use_worktree,
            base_branch=base_branch,
            verify=verify,
            publish=Publish(publish),
            checks=parse_checks(checks),
            budget_usd=None if budget_usd is None else Decimal(str(budget_usd)),
            priority=priority,
            idempotency_key=idempotency_key,
        )
        caller = caller_of(ctx)
        made = await self._workflows.create(caller, spec)
        if caller.is_agent:
            once_over(ctx, lambda heard: self._workflows.creations.answered(made.job_id, heard))
        return await self._created(caller, made)

    async def _created(self, caller: Caller, made: Created) -> CallToolResult:
        view = await self._workflows.get(caller, made.job_id)
        told = {"workflow_id", "title", "state", "reviewer", "reviewer_why", "branch", "work_dir"}
        shown = view.model_dump(mode="json", exclude_none=True, include=told)
        hint = "wait_for_jobs works with this id."
        return answer({**shown, "status": made.status, "hint": hint})

    @answers
    async def get_workflow(self, ctx: Ctx, workflow_id: str) -> CallToolResult:
        """Its state, plan and phases; if it is blocked, why and what to do."""
        view = await self._workflows.get(caller_of(ctx), workflow_id)
        told = view.model_dump(mode="json", exclude_none=True)
        if left_out := max(0, len(view.phases) - SHOWN):
            told["phases"] = told["phases"][-SHOWN:]
            told["hint"] = f"list_jobs with this id as parent_id has the first {left_out} phases."
        return answer(told)

    @answers
    async def list_workflows(
        self,
        ctx: Ctx,
        state: Annotated[
            list[str] | None,
            Field(description="running, blocked, complete, incomplete, cancelled"),
        ] = None,
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
        before: Annotated[str | None, Field(description="Last workflow_id before")] = None,
    ) -> CallToolResult:
        """Your workflows, newest first."""
        lines = await self._workflows.listing(
            caller_of(ctx), states=state or (), limit=limit, before=before
        )
        shown = [line.model_dump(mode="json", exclude_none=True) for line in lines]
        return answer({"workflows": shown})

    @answers
    async def resume_workflow(
        self,
        ctx: Ctx,
        workflow_id: str,
        from_phase: Annotated[
            Literal["assess", "review", "implement", "verify"] | None,
            Field(description="Default: where it was"),
        ] = None,
    ) -> CallToolResult:
        """Let a blocked workflow go on, once its cause is mended."""
        view = await self._workflows.resume(caller_of(ctx), workflow_id, from_phase)
        told = {"workflow_id", "state", "cycle", "phase", "blocked"}
        return answer(view.model_dump(mode="json", include=told, exclude_none=True))

    @answers
    async def cancel_workflow(self, ctx: Ctx, workflow_id: str, reason: str = "") -> CallToolResult:
        """Stop its agents and end it. Its branch stays."""
        status = await self._workflows.cancel(caller_of(ctx), workflow_id, reason)
        return answer({"workflow_id": workflow_id, "status": status})
