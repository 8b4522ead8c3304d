"""The tools about jobs. Their docstrings are for the model, and short: each costs context."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.domain.checks import DEFAULT_TRIES, parse_checks
from hurlicane_mcp.domain.jobs import Completion, JobSpec, RetryPolicy
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.engine.finishing import Finishing
from hurlicane_mcp.engine.intake import Intake
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.waiting import Waiting
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, beat_of, caller_of, once_over

Needed: TypeAlias = Annotated[
    list[str] | None, Field(description="Start after these jobs are done")
]
Ending: TypeAlias = Annotated[
    Literal["finish_job", "exit"], Field(description="exit: exit code 0 ends it")
]
Key: TypeAlias = Annotated[str | None, Field(description="The same key returns the first job")]
RetryWord: TypeAlias = Annotated[
    Literal["none", "same", "analyze"],
    Field(description="After a failure: none, again, or again with a diagnosis"),
]
OnTerminal: TypeAlias = Annotated[
    bool, Field(description="On a terminal that people can attach to")
]
Fallback: TypeAlias = Annotated[
    list[str] | None,
    Field(description="Models to go on with when one is limited, or provider:model"),
]
StopWord: TypeAlias = Annotated[
    Literal["completion", "turns", "budget", "time"],
    Field(
        description="Stop it (done) at stop_value turns, US dollars (its children's too), minutes"
    ),
]
StopValue: TypeAlias = float | None
OwnTree: TypeAlias = Annotated[bool, Field(description="In a git worktree on a branch of its own")]
CheckList: TypeAlias = Annotated[
    list[str | dict[str, Any]] | None,
    Field(
        description="finish_job wants these: clean_tree, diff_not_empty, no_error_in_output, "
        '{"command": argv or shell string, "time_limit_s": 600}'
    ),
]
Enforced: TypeAlias = Annotated[
    bool, Field(description="Refuse edits of files not locked with lock_files (Claude Code only)")
]


class JobTools:
    """What both roles may do with jobs. An agent sees only what grew out of its own job."""

    def __init__(self, intake: Intake, jobs: Jobs, waiting: Waiting, why: Why) -> None:
        self._intake = intake
        self._jobs = jobs
        self._waiting = waiting
        self._why = why

    @answers
    async def create_job(
        self,
        ctx: Ctx,
        description: Annotated[str, Field(description="All that the agent needs to know")],
        title: str | None = None,
        priority: Annotated[int, Field(description="-10 to 10; higher first")] = 0,
        work_dir: Annotated[str | None, Field(description="Absolute; default: inherited")] = None,
        provider: Annotated[str | None, Field(description="claude, codex or scripted")] = None,
        model: str | None = None,
        depends_on: Needed = None,
        context: dict[str, str] | None = None,
        completion: Ending = "finish_job",
        retry_policy: RetryWord = "none",
        max_retries: int = 2,
        interactive: OnTerminal = False,
        fallback: Fallback = None,
        stop_mode: StopWord = "completion",
        stop_value: StopValue = None,
        checks: CheckList = None,
        check_tries: int = DEFAULT_TRIES,
        enforce_locks: Enforced = False,
        use_worktree: OwnTree = False,
        base_branch: str | None = None,
        idempotency_key: Key = None,
        project: str | None = None,
    ) -> CallToolResult:
        """Queue a job; an agent of its own will do it. Returns job_id at once.

        Create all jobs that can run side by side, then call wait_for_jobs with their ids.
        """
        spec = JobSpec(
            *(description, title, priority, work_dir, project, provider, model),
            depends_on=tuple(depends_on or ()),
            context=tuple(sorted((context or {}).items())),
            completion=Completion(completion),
            retry_policy=RetryPolicy(retry_policy),
            max_retries=max_retries,
            interactive=interactive,
            fallback=None if fallback is None else tuple(fallback),
            stop_mode=StopMode(stop_mode),
            stop_value=None if stop_value is None else Decimal(str(stop_value)),
            checks=parse_checks(checks),
            check_tries=check_tries,
            enforce_locks=enforce_locks,
            use_worktree=use_worktree,
            base_branch=base_branch,
            idempotency_key=idempotency_key,
        )
        return await self._created(ctx, spec)

    async def _created(self, ctx: Ctx, spec: JobSpec) -> CallToolResult:
        caller = caller_of(ctx)
        made = await self._intake.create(caller, spec)
        if caller.is_agent:
            once_over(ctx, lambda heard: self._intake.creations.answered(made.job_id, heard))
        told = {"job_id": made.job_id, "title": made.title, "status": made.status}
        return answer({**told, **({"note": made.note} if made.note else {})})

    @answers
    async def get_job(
        self,
        ctx: Ctx,
        job_id: str,
        offset: Annotated[int, Field(ge=0, description="Where to go on in a long result")] = 0,
    ) -> CallToolResult:
        """Everything about one job: status, result, failure, cost, children."""
        return answer(await self._jobs.get(caller_of(ctx), job_id, offset))

    @answers
    async def list_jobs(
        self,
        ctx: Ctx,
        status: Annotated[
            list[str] | None,
            Field(description="blocked, queued, running, done, failed, cancelled"),
        ] = None,
        parent_id: str | None = None,
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
        before: Annotated[str | None, Field(description="Last job_id of the page before")] = None,
    ) -> CallToolResult:
        """Your jobs, newest first."""
        lines = await self._jobs.listing(
            caller_of(ctx), statuses=status or (), parent_id=parent_id, limit=limit, before=before
        )
        return answer({"jobs": [line.model_dump(mode="json", exclude_none=True) for line in lines]})

    @answers
    async def wait_for_jobs(
        self,
        ctx: Ctx,
        job_ids: list[str],
        timeout_s: Annotated[
            float | None,
            Field(ge=0, le=86400, description="Seconds; default: as long as possible"),
        ] = None,
        any: Annotated[bool, Field(description="Return at the first finished job")] = False,
    ) -> CallToolResult:
        """Block until the jobs are finished; returns their results.

        If `pending` is not empty, call again with those ids. Always safe to repeat.
        """
        timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
        return answer(
            await self._waiting.until_final(
                caller_of(ctx), job_ids, beat_of(ctx), timeout=timeout, any_=any
            )
        )

    @answers
    async def why(self, ctx: Ctx, job_id: str) -> CallToolResult:
        """Why a job is where it is, what it waits for, and what happens next and when."""
        return answer(await self._why.of(caller_of(ctx), job_id))

    @answers
    async def list_agents(self, ctx: Ctx) -> CallToolResult:
        """The agents that may be alive, and what each is doing: its `presence`."""
        found = await self._jobs.agents(caller_of(ctx))
        return answer({"agents": [one.model_dump(mode="json", exclude_none=True) for one in found]})

    @answers
    async def cancel_job(self, ctx: Ctx, job_id: str, reason: str = "") -> CallToolResult:
        """Stop a job and all jobs below it. A finished job stays as it is."""
        status = await self._jobs.cancel(caller_of(ctx), job_id, reason)
        return answer({"job_id": job_id, "status": status})


class AttemptTools:
    """What only an agent can do: speak about its own job."""

    def __init__(self, jobs: Jobs, finishing: Finishing) -> None:
        self._jobs = jobs
        self._finishing = finishing

    @answers
    async def report_status(self, ctx: Ctx, text: str) -> CallToolResult:
        """Tell in a sentence what you are doing."""
        await self._jobs.report(caller_of(ctx), text)
        return answer({"ok": True})

    @answers
    async def finish_job(
        self,
        ctx: Ctx,
        result: Annotated[str, Field(description="What whoever asked for the job gets to read")],
        outcome: Literal["done", "failed"] = "done",
        detach: Annotated[bool, Field(description="Leave open children running")] = False,
    ) -> CallToolResult:
        """End your job with its result. Then end your turn."""
        finished = await self._finishing.finish(
            caller_of(ctx), result, beat_of(ctx), failed=outcome == "failed", detach=detach
        )
        note = finished.hint or "Your job is over: end your turn."
        if not finished.fresh and finished.hint is None:
            note = f"The job was {finished.status} already; nothing changed. {note}"
        return answer({"job_id": finished.job_id, "status": finished.status, "note": note})
