"""From the rows of a job's attempts to what follows the end of its last one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlmodel import Session
from tenacity import RetryCallState, wait_exponential

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.jobs import RetryPolicy
from hurlicane_mcp.domain.restarts import Past, Policy, Step, following
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.tables import AttemptRow, JobRow

_LATER = wait_exponential(multiplier=10, max=300)  #: seconds: 10, 20, 40 … 300


def delay_of(step: int) -> timedelta:
    """How long the attempt after the *step*-th end in a row waits: 0, 10, 20, 40 … 300 s."""
    if step <= 1:
        return timedelta(0)
    state = RetryCallState(cast("Any", None), None, (), {})
    state.attempt_number = step - 1
    return timedelta(seconds=_LATER(state))


def what_follows(session: Session, job: JobRow, outcome: Outcome, now: datetime) -> Step:
    """What follows the end of the current attempt of *job* with *outcome*."""
    *before, this = attempts.of_job(session, job.id)
    policy = Policy(RetryPolicy(job.retry_policy), job.max_retries, job.retries)
    return following(outcome, _past(this, outcome.kind, now), _pasts(before), policy)


def _pasts(rows: Sequence[AttemptRow]) -> Sequence[Past]:
    """Those that are settled; an earlier attempt is never anything else."""
    return [
        _past(row, OutcomeKind(row.outcome), row.settled_at)
        for row in rows
        if row.outcome is not None and row.settled_at is not None
    ]


def _past(row: AttemptRow, outcome: OutcomeKind, settled: datetime) -> Past:
    return Past(
        outcome=outcome,
        began=row.started_at,
        settled=settled,
        has_called=row.called_at is not None,
        was_resumed=row.resumes is not None,
        has_answered=row.turns > 0 or row.called_at is not None,
    )
