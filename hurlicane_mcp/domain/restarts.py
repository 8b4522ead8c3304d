"""What follows the end of an attempt: the job's end, or another attempt, and when.

The figures are those of other supervisors: Kubernetes doubles from 10 s to 300 s and starts anew
after ten healthy minutes; Erlang and systemd give up after a few crashes in a short time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from types import MappingProxyType

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import RetryPolicy

CRASH_LIMIT = 3  #: crashes within `CRASH_WINDOW`, the last included, that fail the job
CRASH_WINDOW = timedelta(minutes=10)
#: An attempt that ran this long was healthy: its crash counts as the first one again.
HEALTHY = timedelta(minutes=10)
#: Resumed attempts in a row that were lost again without one call of a tool of ours.
RESUME_LIMIT = 3
#: Attempts in a row that the server or the machine interrupted before their first call.
INTERRUPTION_LIMIT = 10
#: Changes of the model in a row without one answer, after which they are delayed as restarts are.
MOVE_LIMIT = 5


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier attempt of the job, as far as it matters here."""

    outcome: OutcomeKind
    began: datetime | None  #: None: its process never ran
    settled: datetime
    has_called: bool  #: a tool of ours, with success
    was_resumed: bool  #: it went on with a session
    has_answered: bool = True  #: its model, at least once


@dataclass(frozen=True, slots=True)
class Policy:
    """What the job wants after a failure."""

    retry: RetryPolicy = RetryPolicy.NONE
    max_retries: int = 0
    retries: int = 0  #: used so far


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt of the same job.

    `step` chooses the delay: the first restart in a row comes at once, later ones wait longer.
    """

    outcome: Outcome
    step: int = 1
    is_retry: bool = False  #: uses up one of the job's retries, and begins a session of its own


@dataclass(frozen=True, slots=True)
class Over:
    """The job ends."""

    outcome: Outcome


Step = Again | Over


def following(outcome: Outcome, this: Past, before: Sequence[Past], policy: Policy) -> Step:
    """What follows *this* attempt, which ended with *outcome*, after those *before* it.

    A failure that a retry preceded is forgotten: each retry begins to count anew.
    """
    since_retry = tuple(
        takewhile(lambda one: one.outcome is not OutcomeKind.FAILED, reversed(before))
    )
    rule = RULES.get(outcome.kind)
    step = rule(outcome, this, since_retry) if rule is not None else Over(outcome)
    if isinstance(step, Over) and _is_retried(step.outcome, policy):
        return Again(step.outcome, policy.retries + 1, is_retry=True)
    return step


def _is_retried(outcome: Outcome, policy: Policy) -> bool:
    return (
        outcome.kind is OutcomeKind.FAILED
        and outcome.failure is not None
        and outcome.failure.kind.is_retried
        and policy.retry is not RetryPolicy.NONE
        and policy.retries < policy.max_retries
    )


# Each rule gets the attempts before, the newest first, back to the last retry.


def _crashed(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    crashes = [one.settled for one in before if one.outcome is OutcomeKind.CRASHED]
    recent = 1 + sum(this.settled - moment < CRASH_WINDOW for moment in crashes)
    if recent >= CRASH_LIMIT:
        minutes = int(CRASH_WINDOW.total_seconds() // 60)
        why = f"It crashed {recent} times within {minutes} minutes. The last time: "
        return Over(_failed(outcome, FailureKind.CRASH_LOOP, why))
    in_a_row = 0
    for one in (this, *before):
        if one.outcome is not OutcomeKind.CRASHED:
            continue  # moves that we caused count neither as a crash nor as health
        in_a_row += 1
        if one.began is not None and one.settled - one.began >= HEALTHY:
            break
    return Again(outcome, in_a_row)


def _unfinished(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    if all(one.outcome is not OutcomeKind.UNFINISHED for one in before):
        return Again(outcome)
    why = "The agent ended without calling finish_job, was reminded once, and ended again."
    return Over(Outcome.failed(FailureKind.UNFINISHED, why, outcome.result))


def _disconnected(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    mute = takewhile(
        lambda one: (
            one.outcome is OutcomeKind.DISCONNECTED and one.was_resumed and not one.has_called
        ),
        (this, *before),
    )
    if sum(1 for _ in mute) < RESUME_LIMIT:
        return Again(outcome)
    why = f"It was resumed {RESUME_LIMIT} times and could not reach the server once. "
    return Over(_failed(outcome, FailureKind.DISCONNECTED, why))


def _silent(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    if not before or before[0].outcome is not OutcomeKind.SILENT:
        return Again(outcome)
    why = "It was resumed once and fell silent again. "
    kind = outcome.failure.kind if outcome.failure else FailureKind.SILENT
    return Over(_failed(outcome, kind, why))


def _interrupted(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    idle = takewhile(
        lambda one: one.outcome is OutcomeKind.INTERRUPTED and not one.has_called, (this, *before)
    )
    if sum(one.began is not None for one in idle) < INTERRUPTION_LIMIT:
        return Again(outcome)
    why = f"The machine or the server interrupted it {INTERRUPTION_LIMIT} times in a row. "
    return Over(_failed(outcome, FailureKind.INTERRUPTED, why))


def _limited(outcome: Outcome, this: Past, before: Sequence[Past]) -> Step:
    """Neither a crash nor a retry. The ledger of limits says when and with which model it goes on;
    should that be wrong again and again, time passes in between."""
    mute = takewhile(
        lambda one: one.outcome is OutcomeKind.LIMITED and not one.has_answered, (this, *before)
    )
    return Again(outcome, max(1, sum(1 for _ in mute) - MOVE_LIMIT + 1))


def _failed(outcome: Outcome, kind: FailureKind, why: str) -> Outcome:
    reason = outcome.failure.reason if outcome.failure else ""
    return Outcome.failed(kind, (why + reason).strip(), outcome.result)


RULES: Mapping[OutcomeKind, Callable[[Outcome, Past, Sequence[Past]], Step]] = MappingProxyType(
    {
        OutcomeKind.CRASHED: _crashed,
        OutcomeKind.UNFINISHED: _unfinished,
        OutcomeKind.DISCONNECTED: _disconnected,
        OutcomeKind.SILENT: _silent,
        OutcomeKind.INTERRUPTED: _interrupted,
        OutcomeKind.LIMITED: _limited,
    }
)
