"""What a job is, which states it has, and what may be asked for at its creation."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum

from hurlicane_mcp.domain.checks import DEFAULT_TRIES, MAX_CHECKS, TRIES, Check
from hurlicane_mcp.domain.machine import Machine
from hurlicane_mcp.domain.stops import StopMode, check_stop
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.errors import Invalid

MAX_DESCRIPTION_BYTES = 256 * 1024
MAX_CONTEXT_BYTES = 64 * 1024
MAX_TITLE = 200
MAX_RESULT_BYTES = 1024 * 1024
MAX_KEY = 200
MAX_DEPENDENCIES = 200
MAX_RETRIES = 10
MAX_FALLBACK = 10
PRIORITIES = range(-10, 11)


class JobStatus(StrEnum):
    """Where a job is in its life."""

    BLOCKED = "blocked"  #: waits for other jobs
    QUEUED = "queued"  #: ready, or parked until `not_before`; waits for a free slot
    RUNNING = "running"  #: one attempt holds it
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in JOB.final


class JobEvent(StrEnum):
    """What can happen to a job. The words complete "a job that is done cannot …"."""

    UNBLOCK = "unblock"
    CLAIM = "be claimed"
    SUCCEED = "succeed"
    FAIL = "fail"
    REQUEUE = "be queued again"
    CANCEL = "be cancelled"


_S, _E = JobStatus, JobEvent

JOB: Machine[JobStatus, JobEvent] = Machine(
    "job",
    {
        _S.BLOCKED: {_E.UNBLOCK: _S.QUEUED, _E.FAIL: _S.FAILED, _E.CANCEL: _S.CANCELLED},
        _S.QUEUED: {
            _E.CLAIM: _S.RUNNING,
            _E.SUCCEED: _S.DONE,  # has used what it may before its next attempt began
            _E.FAIL: _S.FAILED,
            _E.CANCEL: _S.CANCELLED,
        },
        _S.RUNNING: {
            _E.SUCCEED: _S.DONE,
            _E.FAIL: _S.FAILED,
            _E.REQUEUE: _S.QUEUED,
            _E.CANCEL: _S.CANCELLED,
        },
        # Final is final: an automatic retry is a new attempt before this, a rerun is a new job.
        _S.DONE: {},
        _S.FAILED: {},
        _S.CANCELLED: {},
    },
)

OPEN = tuple(status for status in JobStatus if status not in JOB.final)


class JobKind(StrEnum):
    """Who does a job."""

    AGENT = "agent"
    WORKFLOW = "workflow"  #: its children, one after the other: it has no attempts of its own


class Completion(StrEnum):
    """What ends a job well."""

    FINISH_JOB = "finish_job"  #: the agent calls finish_job
    EXIT = "exit"  #: the agent's process exits with 0


class RetryPolicy(StrEnum):
    """What happens when an attempt fails, within the job's `max_retries`."""

    NONE = "none"  #: the job fails
    SAME = "same"  #: another attempt is told how this one failed
    ANALYZE = "analyze"  #: the same, with the diagnosis of a cheap model


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it is asked for, before anything is inherited or checked.

    `None` means "not given": a child then takes its parent's value, a job of an operator the
    server's default.
    """

    description: str
    title: str | None = None
    priority: int = 0
    work_dir: str | None = None
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    depends_on: tuple[str, ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    completion: Completion = Completion.FINISH_JOB
    retry_policy: RetryPolicy = RetryPolicy.NONE
    max_retries: int = 2  #: attempts after a failure; without a policy there are none
    interactive: bool = False  #: in a terminal that people can attach to
    #: Models to go on with when one is limited, each `model` or `provider:model`. None: those that
    #: come after the job's model in the chains of the settings; empty: none.
    fallback: tuple[str, ...] | None = None
    stop_mode: StopMode = StopMode.COMPLETION
    stop_value: Decimal | None = None  #: turns, US dollars or minutes
    use_worktree: bool = False  #: in a worktree and on a branch of its own
    base_branch: str | None = None  #: what that branch begins from; None for what is checked out
    enforce_locks: bool = False  #: edits without a file lock are refused, where the CLI has hooks
    checks: tuple[Check, ...] = ()  #: what has to hold before it may be done
    check_tries: int = DEFAULT_TRIES  #: how often they may fail before the job does
    idempotency_key: str | None = None


def check_spec(spec: JobSpec) -> None:
    """Refuse a spec that no server would take, whatever else exists.

    Raises:
        Invalid: the message names the field, the limit and what was given.
    """
    for name, text in _texts_of(spec):
        check_text(name, text)
    if not spec.description.strip():
        raise Invalid("`description` is empty: say what the agent has to do.")
    size = len(spec.description.encode())
    if size > MAX_DESCRIPTION_BYTES:
        raise Invalid(
            f"`description` has {size:,} bytes, {MAX_DESCRIPTION_BYTES:,} are allowed: "
            "put the long part into a file and name its path."
        )
    if spec.title is not None and not 0 < len(spec.title.strip()) <= MAX_TITLE:
        raise Invalid(f"`title` must have 1 to {MAX_TITLE} characters.")
    if spec.priority not in PRIORITIES:
        raise Invalid(f"`priority` must be from -10 to 10, not {spec.priority}.")
    if sum(len(key) + len(value) for key, value in spec.context) > MAX_CONTEXT_BYTES:
        raise Invalid(f"`context` is larger than {MAX_CONTEXT_BYTES:,} characters.")
    if not 1 <= spec.max_retries <= MAX_RETRIES:
        raise Invalid(f"`max_retries` must be from 1 to {MAX_RETRIES}, not {spec.max_retries}.")
    if len(spec.fallback or ()) > MAX_FALLBACK:
        raise Invalid(f"`fallback` names more than {MAX_FALLBACK} models.")
    check_stop(spec.stop_mode, spec.stop_value)
    if len(spec.checks) > MAX_CHECKS:
        raise Invalid(f"`checks` has {len(spec.checks)} entries, {MAX_CHECKS} are allowed.")
    if spec.check_tries not in TRIES:
        raise Invalid(
            f"`check_tries` must be from {TRIES.start} to {TRIES.stop - 1}, not {spec.check_tries}."
        )
    if spec.base_branch is not None and not spec.use_worktree:
        raise Invalid("`base_branch` is where a worktree begins: it needs `use_worktree`.")
    if len(spec.depends_on) > MAX_DEPENDENCIES:
        raise Invalid(f"`depends_on` names more than {MAX_DEPENDENCIES} jobs.")
    if spec.idempotency_key is not None and not 0 < len(spec.idempotency_key) <= MAX_KEY:
        raise Invalid(f"`idempotency_key` must have 1 to {MAX_KEY} characters.")


def _texts_of(spec: JobSpec) -> Iterator[tuple[str, str]]:
    for field in fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, str):
            yield field.name, value
    for one in (*spec.depends_on, *(text for pair in spec.context for text in pair)):
        yield "context or depends_on", one
    for one in spec.fallback or ():
        yield "fallback", one


def title_of(spec: JobSpec) -> str:
    """The title given, or the start of the description's first line (at most 80 characters)."""
    if spec.title is not None:
        return spec.title.strip()
    first = next(line.strip() for line in spec.description.splitlines() if line.strip())
    return first if len(first) <= 80 else first[:79].rstrip() + "…"
