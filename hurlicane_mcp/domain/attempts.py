"""An attempt is one run of an agent for a job; how it ended is judged here, purely."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import Completion, JobEvent
from hurlicane_mcp.domain.machine import Machine
from hurlicane_mcp.domain.stops import StopMode


class AttemptState(StrEnum):
    """Where an attempt is. Apart from that it has `ended_at`: when its process tree was gone."""

    STARTING = "starting"  #: claimed; no process is known yet
    RUNNING = "running"  #: its process is known
    SETTLED = "settled"  #: its outcome is decided; the process may still be leaving


class AttemptEvent(StrEnum):
    """What can happen to an attempt."""

    START = "start"
    SETTLE = "settle"


ATTEMPT: Machine[AttemptState, AttemptEvent] = Machine(
    "attempt",
    {
        AttemptState.STARTING: {
            AttemptEvent.START: AttemptState.RUNNING,
            AttemptEvent.SETTLE: AttemptState.SETTLED,
        },
        AttemptState.RUNNING: {AttemptEvent.SETTLE: AttemptState.SETTLED},
        AttemptState.SETTLED: {},
    },
)


class OutcomeKind(StrEnum):
    """How an attempt ended, and by that what becomes of its job."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNFINISHED = "unfinished"  #: ended without finish_job; the session is resumed with a reminder
    INTERRUPTED = "interrupted"  #: the server or the machine failed, not the agent
    CRASHED = "crashed"  #: its process ended with an error or was killed
    DISCONNECTED = "disconnected"  #: it could not reach the server any more
    SILENT = "silent"  #: it gave no sign of life
    LIMITED = "limited"  #: its model refused, or a cap is reached; it goes on elsewhere, or later

    @property
    def goes_on(self) -> bool:
        """Whether the next attempt goes on with the session of this one."""
        return self.ending is None

    @property
    def ending(self) -> JobEvent | None:
        """How it ends the attempt's job; None if more has to be known (see `restarts`)."""
        match self:
            case OutcomeKind.DONE:
                return JobEvent.SUCCEED
            case OutcomeKind.FAILED:
                return JobEvent.FAIL
            case OutcomeKind.CANCELLED:
                return JobEvent.CANCEL
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decided end of an attempt."""

    kind: OutcomeKind
    result: str = ""
    failure: Failure | None = None
    stopped_by: StopMode | None = None  #: the limit that ended it, with the work that there is

    @staticmethod
    def failed(kind: FailureKind, reason: str, result: str = "") -> "Outcome":
        """An outcome that fails the job, with its cause."""
        return Outcome(OutcomeKind.FAILED, result, Failure(kind, reason))

    @staticmethod
    def stopped(by: StopMode, result: str) -> "Outcome":
        """An outcome that ends the job with the work that there is: it has used what it may."""
        return Outcome(OutcomeKind.DONE, result, stopped_by=by)


class Standing(StrEnum):
    """What an attempt's token is worth when it is used."""

    CURRENT = "current"  #: may read and write
    SETTLED = "settled"  #: may read; its job is final or about to get a new attempt
    STALE = "stale"  #: another attempt holds the job: may do nothing


def standing(*, state: AttemptState, number: int, current: int) -> Standing:
    """What the token of attempt *number* is worth while the job is at attempt *current*."""
    if number != current:
        return Standing.STALE
    return Standing.SETTLED if state is AttemptState.SETTLED else Standing.CURRENT


@dataclass(frozen=True, slots=True)
class EndFacts:
    """All that is known when an attempt's process tree is gone and it is not yet settled."""

    completion: Completion
    exit_code: int | None  #: None when a signal ended it, or nothing is known
    exit_signal: int | None
    last_message: str  #: the agent's last words, from its transcript
    last_lines: str  #: the end of its standard error
    provider_error: str | None  #: the CLI's own final error, from structured output
    launch_error: str | None  #: why the program could not be executed
    lost: str | None  #: the last words about us in its transcript say that it cannot reach us
    rebooted: bool  #: the machine has started again since
    #: The limit that its shim stopped it for: `time`, `unattended` or `output`.
    limit: str | None = None
    provider_kind: FailureKind = FailureKind.PROVIDER  #: what kind of error `provider_error` is
    stopped: StopMode | None = None  #: the limit that its CLI says to have stopped at
    oom: bool = False  #: it was killed at a moment when memory ran out
    failed_checks: str | None = None  #: what of the job's checks did not hold after a good exit


def _was_rebooted(facts: EndFacts) -> Outcome | None:
    if not facts.rebooted:
        return None
    return Outcome(OutcomeKind.INTERRUPTED)


def _limited(facts: EndFacts) -> Outcome | None:
    match facts.limit:
        case "output":
            why = "It printed more than output_limit allows, so it was stopped."
            return Outcome.failed(FailureKind.OUTPUT_LIMIT, why, facts.last_message)
        case "time":
            return Outcome.stopped(StopMode.TIME, facts.last_message)
        case "unattended":  # no server ran, which is not the agent's fault
            return Outcome(OutcomeKind.INTERRUPTED, facts.last_message)
        case _:
            return None


def _not_launched(facts: EndFacts) -> Outcome | None:
    if facts.launch_error is None:
        return None
    return Outcome.failed(FailureKind.LAUNCH, facts.launch_error)


def _stopped_itself(facts: EndFacts) -> Outcome | None:
    """A CLI that counts by itself ends with an error code when it has used what it may."""
    if facts.stopped is None:
        return None
    return Outcome.stopped(facts.stopped, facts.last_message)


def _gave_up(facts: EndFacts) -> Outcome | None:
    if facts.provider_error is None:
        return None
    return Outcome.failed(facts.provider_kind, facts.provider_error, facts.last_message)


def _crashed(facts: EndFacts) -> Outcome | None:
    if facts.exit_code == 0:
        return None
    if facts.exit_signal is not None:
        cause = f"The agent was ended by {signal_name(facts.exit_signal)}."
        if facts.oom:
            cause = "The machine ran out of memory, and the agent was killed for it."
    elif facts.exit_code is not None:
        cause = f"The agent exited with code {facts.exit_code}."
    else:
        cause = "The agent is gone and left no exit status."
    tail = f" Its last lines: {facts.last_lines}" if facts.last_lines else ""
    # Where the exit code is the job's result, it says that the work has failed.
    is_verdict = facts.completion is Completion.EXIT and facts.exit_code is not None
    kind = OutcomeKind.FAILED if is_verdict else OutcomeKind.CRASHED
    return Outcome(kind, facts.last_message, Failure(FailureKind.CRASHED, cause + tail))


def _exited_well(facts: EndFacts) -> Outcome | None:
    if facts.completion is not Completion.EXIT:
        return None
    if facts.failed_checks is not None:
        return Outcome.failed(FailureKind.CHECKS, facts.failed_checks, facts.last_message)
    return Outcome(OutcomeKind.DONE, facts.last_message)


def _gave_us_up(facts: EndFacts) -> Outcome | None:
    """Both CLIs exit with 0 when they lose our tools (measured 2026-11-23)."""
    if facts.lost is None:
        return None
    reason = f"It lost the connection to the server and ended: {facts.lost}"
    failure = Failure(FailureKind.DISCONNECTED, reason)
    return Outcome(OutcomeKind.DISCONNECTED, facts.last_message, failure)


def _unfinished(facts: EndFacts) -> Outcome | None:
    return Outcome(OutcomeKind.UNFINISHED, facts.last_message)


#: The first judge with an answer decides.
JUDGES: tuple[Callable[[EndFacts], Outcome | None], ...] = (
    _was_rebooted,
    _limited,
    _not_launched,
    _stopped_itself,
    _gave_up,
    _crashed,
    _exited_well,
    _gave_us_up,
    _unfinished,
)


def judge(facts: EndFacts) -> Outcome:
    """What the end of an attempt means that nobody settled before."""
    return next(outcome for check in JUDGES if (outcome := check(facts)) is not None)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 99` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
