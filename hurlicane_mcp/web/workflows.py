"""The routes about workflows."""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec, parse_stops
from hurlicane_mcp.domain.workflows import Publish
from hurlicane_mcp.engine.workflow_views import WorkflowLine, WorkflowView
from hurlicane_mcp.engine.workflows import Workflows
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations, reply


class PhaseStop(Input):
    """What each job of a phase may use."""

    stop_mode: StopMode
    stop_value: Decimal | None = Field(None, description="Turns, US dollars or minutes")


class NewWorkflow(Input):
    """A workflow to create. What is not given is the server's default."""

    task: str = Field(description="What is to be built, as the agents are told")
    title: str | None = None
    work_dir: str | None = Field(None, description="A folder of the repository")
    project: str | None = None
    implementer: str | None = Field(
        None, description="`model`, `provider` or `provider:model`, as for the reviewer"
    )
    reviewer: str | None = Field(None, description="Default: Codex if installed, else another")
    max_cycles: int = 10
    stops: dict[str, PhaseStop] = Field(
        default_factory=dict[str, PhaseStop],
        description="Bounds of the jobs of assess, review, implement and verify",
    )
    use_worktree: bool = True
    base_branch: str | None = None
    verify: bool = Field(False, description="Have an agent build, run and test the result")
    publish: Publish = Publish.BRANCH
    checks: list[str | dict[str, Any]] = Field(
        default_factory=list[str | dict[str, Any]],
        description="What has to hold after each implementation, as the checks of a job",
    )
    budget_usd: Decimal | None = Field(None, description="US dollars for all of it")
    priority: int = 0
    idempotency_key: str | None = None

    def spec(self) -> WorkflowSpec:
        """The same for the engine."""
        values: dict[str, Any] = {name: getattr(self, name) for name in NewWorkflow.model_fields}
        values["checks"] = parse_checks(self.checks)
        values["stops"] = parse_stops(
            {name: stop.model_dump() for name, stop in self.stops.items()}
        )
        return WorkflowSpec(**values)


class WorkflowQuery(Input):
    """Which workflows to list."""

    state: tuple[str, ...] = ()
    limit: int = Field(50, ge=1, le=200)
    before: str | None = Field(None, description="Last workflow_id of the page before")


class WorkflowLines(BaseModel):
    """Workflows, newest first."""

    workflows: list[WorkflowLine]


class Resumption(Input):
    """Where a blocked workflow goes on."""

    from_phase: str | None = Field(
        None, description="assess, review, implement or verify; default: where it was"
    )


class WorkflowCancellation(Input):
    """Why a workflow is cancelled."""

    reason: str = ""


class WorkflowStatusAnswer(BaseModel):
    """A workflow and its status, as a job's, after the call."""

    workflow_id: str
    status: str


class WorkflowRoutes:
    """Workflows over HTTP. Each is a job as well: /api/jobs/{its id} works too."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        path, none = "/api/workflows", Nothing
        one = f"{path}/{{workflow_id}}"
        answer = WorkflowStatusAnswer
        return (
            Operation("POST", path, self.create, none, NewWorkflow, WorkflowView, status=201),
            Operation("GET", path, self.listing, WorkflowQuery, none, WorkflowLines),
            Operation("GET", one, self.get, none, none, WorkflowView),
            Operation("POST", f"{one}/resume", self.resume, none, Resumption, WorkflowView),
            Operation("POST", f"{one}/cancel", self.cancel, none, WorkflowCancellation, answer),
        )

    async def create(self, call: Call[Nothing, NewWorkflow]) -> Response:
        """Begin a workflow. 200 instead of 201 if its idempotency key was used before.

        409 (`git`) if the repository cannot be looked at; 422 if it is none or has no such branch.
        """
        made = await self._workflows.create(call.caller, call.body.spec())
        view = await self._workflows.get(call.caller, made.job_id)
        response = reply(view, 201 if made.fresh else 200)
        response.headers["Location"] = f"/api/workflows/{made.job_id}"
        return response

    async def listing(self, call: Call[WorkflowQuery, Nothing]) -> WorkflowLines:
        """Workflows, newest first."""
        query = call.query
        lines = await self._workflows.listing(
            call.caller, states=query.state, limit=query.limit, before=query.before
        )
        return WorkflowLines(workflows=lines)

    async def get(self, call: Call[Nothing, Nothing]) -> WorkflowView:
        """Everything about a workflow: its plan, its phases, and why it is blocked if it is."""
        return await self._workflows.get(call.caller, call.path("workflow_id"))

    async def resume(self, call: Call[Nothing, Resumption]) -> WorkflowView:
        """Let a blocked workflow go on. What was not mended blocks it again.

        409 if it is not blocked (`conflict`), or if its worktree cannot be looked at (`git`).
        """
        workflow_id, phase = call.path("workflow_id"), call.body.from_phase
        return await self._workflows.resume(call.caller, workflow_id, phase)

    async def cancel(self, call: Call[Nothing, WorkflowCancellation]) -> WorkflowStatusAnswer:
        """Stop its agents and end it. Its branch and its worktree stay."""
        workflow_id = call.path("workflow_id")
        status = await self._workflows.cancel(call.caller, workflow_id, call.body.reason)
        return WorkflowStatusAnswer(workflow_id=workflow_id, status=status)
