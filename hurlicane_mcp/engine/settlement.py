"""The one door out: however an attempt or a job ends, it ends here.

Everything works in the caller's transaction and is idempotent, so the happy path, cancel, recovery
and the watchdog may all call it, at once or again.
"""

from collections import deque
from datetime import datetime

from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import MAX_RESULT_BYTES, JobEvent, JobKind, JobStatus, RetryPolicy
from hurlicane_mcp.domain.restarts import Again, Over
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.analysis import begin_analysis
from hurlicane_mcp.engine.restarts import delay_of, what_follows
from hurlicane_mcp.ids import attempt_id
from hurlicane_mcp.store import (
    attempts,
    cooldowns,
    events,
    jobs,
    questions,
    queue,
    waits,
    wakes,
    workflows,
)
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.supervision.host import Exit

_CAUSE = " The cause: "
MAX_CAUSE = 500
_LOST = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})


def settle(session: Session, attempt: str, outcome: Outcome, now: datetime) -> bool:
    """Decide *attempt*'s end and, by that, what becomes of its job: its end or another attempt.

    Returns whether this call decided it: False means that it was settled before, and nothing
    changed. The process may live on for its grace; see `mark_ended`.
    """
    job_id = attempt.rpartition(".")[0]
    job = jobs.many(session, [job_id])[job_id]
    is_current = attempt == attempt_id(job.id, job.attempt) and job.status == JobStatus.RUNNING
    is_open = is_current and outcome.kind not in (OutcomeKind.DONE, OutcomeKind.CANCELLED)
    step = what_follows(session, job, outcome, now) if is_open else Over(outcome)
    if not _settle_attempt(session, attempt, step.outcome, now):
        return False
    if isinstance(step, Again):
        _go_on(session, job, step, now)
    elif is_current:
        _end_job(session, job, step.outcome, now)
    return True


def cancel(session: Session, job_id: str, reason: str, now: datetime) -> JobStatus:
    """Cancel a job and everything below it; the status it has afterwards.

    A job that is final already stays what it is.
    """
    job = jobs.get(session, job_id)
    if not JobStatus(job.status).is_final:
        _end_job(session, job, _cancelled(FailureKind.CANCELLED, reason), now)
    return JobStatus(job.status)


def end_waiting(session: Session, job_id: str, outcome: Outcome, now: datetime) -> None:
    """End a job that no attempt holds: it is not to begin, or not to go on. Final stays final."""
    job = jobs.get(session, job_id)
    if not JobStatus(job.status).is_final and job.status != JobStatus.RUNNING:
        _end_job(session, job, outcome, now)


def end_workflow(session: Session, workflow_id: str, outcome: Outcome, now: datetime) -> None:
    """End a workflow, which no attempt holds while it runs. Final stays final."""
    job = jobs.get(session, workflow_id)
    if not JobStatus(job.status).is_final:
        _end_job(session, job, outcome, now)


def fail_if_hopeless(session: Session, job_id: str, now: datetime) -> JobStatus:
    """Fail a new job at once if one that it needs can no longer be done; its status then."""
    job = jobs.get(session, job_id)
    if job.status != JobStatus.BLOCKED:
        return JobStatus(job.status)
    needed = jobs.many(session, jobs.dependencies(session, job_id))
    lost = next((one for one in needed.values() if one.status in _LOST), None)
    if lost is not None:
        _end_job(session, job, _dependency_failed(lost), now)
    return JobStatus(job.status)


def mark_ended(session: Session, attempt: str, exit_: Exit, now: datetime) -> None:
    """Note that the attempt's process tree is gone, and start what waited for that."""
    row = attempts.end(session, attempt, now, exit_code=exit_.code, exit_signal=exit_.signal)
    if row is None:
        return
    events.record(
        session,
        now,
        "attempt.ended",
        row.job_id,
        row.number,
        exit_code=exit_.code,
        exit_signal=exit_.signal,
    )
    lock_table.free_if_over(session, row.job_id, now)
    _unblock(session, row.job_id, now)


def _unblock(session: Session, job_id: str, now: datetime) -> None:
    """Queue the jobs that waited for this one, unless they wait for something else as well."""
    for waiting in jobs.dependants(session, job_id, JobStatus.BLOCKED):
        if jobs.is_free_to_start(session, waiting.id):
            jobs.change(session, waiting, JobEvent.UNBLOCK, now)


def _settle_attempt(session: Session, attempt: str, outcome: Outcome, now: datetime) -> bool:
    failure = outcome.failure
    row = attempts.settle(
        session,
        attempt,
        now,
        outcome=outcome.kind,
        failure_kind=failure.kind if failure else None,
        failure_reason=failure.reason if failure else None,
        stopped=outcome.stopped_by,
    )
    if row is None:
        return False
    waits.close_all(session, now, "settled", attempt)
    lock_table.leave_queue(session, attempt, now)
    _end_probes(session, row, now)
    events.record(
        session,
        now,
        "attempt.settled",
        row.job_id,
        row.number,
        outcome=outcome.kind,
        failure_kind=failure.kind if failure else None,
        reason=failure.reason if failure else None,
        stopped_by=outcome.stopped_by,
    )
    return True


def _end_probes(session: Session, row: AttemptRow, now: datetime) -> None:
    """Say what the attempt found out about limited models. Whose agent has called us has a model
    that answers, even if that line of its transcript was not read yet."""
    for key in cooldowns.release_probes(session, row.id):
        if row.called_at is not None:
            cooldowns.remove(session, key, now, f"It answered {row.id}.")
        queue.unpark(session)  # whatever they are parked for: this one may come before it


def _go_on(session: Session, job: JobRow, step: Again, now: datetime) -> None:
    """Queue the job for another attempt: after its delay, and after what the agent waited for."""
    delay = delay_of(step.step)
    values: dict[str, object] = {"not_before": now + delay if delay else None}
    awaited: list[str] = []
    if step.is_retry:
        values |= {"retries": job.retries + 1, "checks_failed": 0}
        if job.retry_policy == RetryPolicy.ANALYZE:
            analysis_id = begin_analysis(session, job, step.outcome, now)
            values["analysis_id"] = analysis_id
            awaited.append(analysis_id)
    else:
        attempt = attempts.get(session, attempt_id(job.id, job.attempt))
        broken_off = waits.broken_off(session, attempt)
        if broken_off is not None and broken_off.kind == "jobs":
            awaited += broken_off.targets
    wakes.add(session, job.id, awaited)
    jobs.change(session, job, JobEvent.REQUEUE, now, **values)


def _end_job(session: Session, first: JobRow, outcome: Outcome, now: datetime) -> None:
    """Move one job, then whatever falls with it: dependants that now cannot run, and children.

    A list of what is left to do instead of recursion: chains of dependants may be long.
    """
    left = deque([(first, outcome)])
    while left:
        job, outcome = left.popleft()
        _move(session, job, outcome, now)
        if job.status not in _LOST:
            continue
        for dependant in jobs.dependants(session, job.id, JobStatus.BLOCKED):
            left.append((dependant, _dependency_failed(job)))
        for child in jobs.children(session, job.id, live_only=True):
            reason = f"Job {job.id}, which created this one, was {job.status}."
            left.append((child, _cancelled(FailureKind.PARENT, reason)))


def _move(session: Session, job: JobRow, outcome: Outcome, now: datetime) -> None:
    if JobStatus(job.status).is_final:  # reached twice, as dependant and as child
        return
    is_workflow = job.kind == JobKind.WORKFLOW
    has_run = job.status == JobStatus.RUNNING and not is_workflow
    if has_run:
        _settle_attempt(session, attempt_id(job.id, job.attempt), outcome, now)
    values: dict[str, object] = {
        "result": _cut(outcome.result),
        "stopped_by": outcome.stopped_by,
        "limited_by": None,
    }
    if outcome.failure is not None:
        values["failure_kind"] = outcome.failure.kind
        values["failure_reason"] = outcome.failure.reason
    jobs.change(session, job, outcome.kind.ending or JobEvent.FAIL, now, **values)
    if is_workflow:
        workflows.end(session, job, now)
    questions.close_of_job(session, job.id, now)
    lock_table.free_if_over(session, job.id, now)  # unless a process of it is still there
    if not has_run:  # who runs waits for nothing in this way
        wakes.drop(session, job.id)
    wakes.release(session, job.id, now)
    if job.status == JobStatus.DONE:
        if not has_run:  # else its process has to be gone first
            _unblock(session, job.id, now)
        # finish_job has asked what shall become of children. Who ends by its exit cannot be asked:
        # they go on by themselves, so that no work is lost.
        for child in jobs.children(session, job.id, live_only=True):
            jobs.set_values(session, child.id, detached=True)


def _dependency_failed(job: JobRow) -> Outcome:
    """Names the job that was needed and what began it all, not every link of a chain between."""
    reason = f"It needed job {job.id} ({job.title}), which was {job.status}."
    root = (job.failure_reason or "").rpartition(_CAUSE)[2]
    if root:
        reason += _CAUSE + root[:MAX_CAUSE]
    return Outcome.failed(FailureKind.DEPENDENCY, reason)


def _cancelled(kind: FailureKind, reason: str) -> Outcome:
    return Outcome(OutcomeKind.CANCELLED, failure=Failure(kind, reason))


def _cut(text: str) -> str:
    """At most `MAX_RESULT_BYTES` of UTF-8, cut at a whole character."""
    raw = text.encode()
    return text if len(raw) <= MAX_RESULT_BYTES else raw[:MAX_RESULT_BYTES].decode(errors="ignore")
