"""The routes about jobs and the agents that work on them."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from hurlicane_mcp.domain.checks import DEFAULT_TRIES, parse_checks
from hurlicane_mcp.domain.jobs import Completion, JobSpec, RetryPolicy
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.engine.intake import Intake
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.views import AttemptView, JobLine, JobView
from hurlicane_mcp.engine.waiting import WaitAnswer, Waiting
from hurlicane_mcp.engine.why import Why, WhyView
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations, reply

#: Bytes and characters are counted in 64 bits at most, by the database and by files.
Count = Annotated[int, Field(ge=0, lt=2**63)]


class NewJob(Input):
    """A job to create. What is not given is the server's default."""

    description: str
    title: str | None = None
    priority: int = 0
    work_dir: str | None = None
    provider: str | None = None
    model: str | None = None
    depends_on: tuple[str, ...] = ()
    context: dict[str, str] = Field(default_factory=dict[str, str])
    completion: Completion = Completion.FINISH_JOB
    retry_policy: RetryPolicy = RetryPolicy.NONE
    max_retries: int = Field(2, description="Attempts after a failure, if there is a policy")
    interactive: bool = Field(False, description="On a terminal that people can attach to")
    fallback: tuple[str, ...] | None = Field(
        None,
        description="Models to go on with when one is limited, each `model` or `provider:model`; "
        "empty: none. Default: those after the model in the chains of the settings.",
    )
    stop_mode: StopMode = Field(
        StopMode.COMPLETION, description="What bounds the job; stopped by it, the job is done"
    )
    stop_value: Decimal | None = Field(
        None, description="Turns, US dollars (those of all jobs below included) or minutes"
    )
    checks: list[str | dict[str, Any]] = Field(
        default_factory=list[str | dict[str, Any]],
        description="What has to hold before it may be done, at most ten: `clean_tree`, "
        "`diff_not_empty`, `no_error_in_output`, or {command, time_limit_s}: a list of arguments "
        "or a string for /bin/sh, and 1 to 3600 seconds (default: 600)",
    )
    check_tries: int = Field(DEFAULT_TRIES, description="How often they may fail, 1 to 10")
    enforce_locks: bool = Field(
        False, description="Refuse edits of files that it has not locked (Claude Code only)"
    )
    use_worktree: bool = Field(False, description="In a git worktree, on a branch of its own")
    base_branch: str | None = Field(
        None, description="What that branch begins from. Default: what is checked out"
    )
    idempotency_key: str | None = None
    project: str | None = None

    def spec(self) -> JobSpec:
        """The same for the engine."""
        values: dict[str, Any] = {name: getattr(self, name) for name in NewJob.model_fields}
        values["context"] = tuple(sorted(self.context.items()))
        values["checks"] = parse_checks(self.checks)
        return JobSpec(**values)


class JobStatusAnswer(BaseModel):
    """A job and its status after the call."""

    job_id: str
    status: str


class CreatedJob(JobStatusAnswer):
    """The job that was created, now or by an earlier call with the same key."""

    title: str
    note: str | None = None  #: what the caller should know of it


class JobQuery(Input):
    """Which jobs to list."""

    status: tuple[str, ...] = ()
    parent_id: str | None = None
    limit: int = Field(50, ge=1, le=200)
    before: str | None = Field(None, description="Last job_id of the page before")


class JobLines(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobLine]


class ResultQuery(Input):
    """Which part of the result."""

    offset: Count = 0


class Attempts(BaseModel):
    """The attempts of a job, first to last."""

    attempts: list[AttemptView]


class Agents(BaseModel):
    """The attempts whose processes may be alive, oldest first."""

    agents: list[AttemptView]


class Cancellation(Input):
    """Why a job is cancelled."""

    reason: str = ""


class WaitQuery(Input):
    """What to wait for, and how long: 240 s at most, the default as well."""

    job_id: tuple[str, ...] = ()
    timeout_s: float | None = Field(None, ge=0, le=86400)
    any: bool = Field(False, description="Answer at the first finished job")


class JobRoutes:
    """Jobs over HTTP: the same services as the tools at /mcp."""

    def __init__(self, intake: Intake, jobs: Jobs, waiting: Waiting, why: Why) -> None:
        self._intake = intake
        self._jobs = jobs
        self._waiting = waiting
        self._why = why

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        job, none = "/api/jobs/{job_id}", Nothing
        return (
            Operation("POST", "/api/jobs", self.create, none, NewJob, CreatedJob, status=201),
            Operation("GET", "/api/jobs", self.listing, JobQuery, none, JobLines),
            Operation("GET", job, self.get, ResultQuery, none, JobView),
            Operation("GET", f"{job}/attempts", self.attempts, none, none, Attempts),
            Operation("GET", f"{job}/why", self.why, none, none, WhyView, for_agents=True),
            Operation("POST", f"{job}/cancel", self.cancel, none, Cancellation, JobStatusAnswer),
            Operation("GET", "/api/wait", self.wait, WaitQuery, none, WaitAnswer),
            Operation("GET", "/api/agents", self.agents, none, none, Agents),
        )

    async def create(self, call: Call[Nothing, NewJob]) -> Response:
        """Queue a job. 200 instead of 201 if its idempotency key was used before."""
        made = await self._intake.create(call.caller, call.body.spec())
        answer = CreatedJob(
            job_id=made.job_id, title=made.title, status=made.status, note=made.note
        )
        return reply(answer, 201 if made.fresh else 200)

    async def listing(self, call: Call[JobQuery, Nothing]) -> JobLines:
        """Jobs, newest first."""
        query = call.query
        lines = await self._jobs.listing(
            call.caller,
            statuses=query.status,
            parent_id=query.parent_id,
            limit=query.limit,
            before=query.before,
        )
        return JobLines(jobs=lines)

    async def get(self, call: Call[ResultQuery, Nothing]) -> JobView:
        """Everything about a job. A long result comes in pieces, each from its offset on."""
        return await self._jobs.get(call.caller, call.path("job_id"), call.query.offset)

    async def attempts(self, call: Call[Nothing, Nothing]) -> Attempts:
        """Every attempt of a job."""
        return Attempts(attempts=await self._jobs.attempts(call.caller, call.path("job_id")))

    async def why(self, call: Call[Nothing, Nothing]) -> WhyView:
        """Why the job is where it is, and what happens next and when."""
        return await self._why.of(call.caller, call.path("job_id"))

    async def cancel(self, call: Call[Nothing, Cancellation]) -> JobStatusAnswer:
        """Stop a job and all jobs below it. A finished job stays as it is."""
        job_id = call.path("job_id")
        status = await self._jobs.cancel(call.caller, job_id, call.body.reason)
        return JobStatusAnswer(job_id=job_id, status=status)

    async def wait(self, call: Call[WaitQuery, Nothing]) -> WaitAnswer:
        """Block until the jobs are finished. While `pending` is not empty, call again."""
        query = call.query
        timeout = None if query.timeout_s is None else timedelta(seconds=query.timeout_s)
        return await self._waiting.until_final(
            call.caller, query.job_id, _no_beat, timeout=timeout, any_=query.any
        )

    async def agents(self, call: Call[Nothing, Nothing]) -> Agents:
        """The agents that may be alive."""
        return Agents(agents=await self._jobs.agents(call.caller))


async def _no_beat(_waited_s: float, _what: str) -> None:
    """An HTTP answer has no place for progress; the feed has it."""
