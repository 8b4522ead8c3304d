"""Why a job is where it is and what happens next: one answer for every job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hurlicane_mcp.domain.agents import Limits, Presence, PresenceState
from hurlicane_mcp.domain.jobs import JobStatus

#: Jobs that are named in one sentence; the others are counted.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """One link of the chain: why, since when, and what ends it."""

    because: str
    next: str
    since: datetime | None = None
    until: datetime | None = None  #: when it ends at the latest, if that is known
    jobs: tuple[str, ...] = ()  #: whom it waits for; the chain goes on with these


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What has to be known of a job to say why it is where it is."""

    status: JobStatus
    now: datetime
    created_at: datetime
    finished_at: datetime | None = None
    failure: str | None = None  #: kind and reason
    needs: Sequence[str] = ()  #: dependencies that are not done
    leaving: Sequence[str] = ()  #: jobs whose processes have to be gone first, itself included
    awaits: Sequence[str] = ()  #: a stopped agent that goes on when these are final
    last_end: str | None = None  #: why its last attempt ended
    not_before: datetime | None = None
    limited_by: str | None = None  #: what it is parked for: a limit of models, or a cap
    limit: str | None = None  #: what is known of that
    is_unclassified: bool = False  #: its model is still to be chosen
    free_slots: int = 0
    slots: int = 0
    ahead: int = 0  #: due jobs before it in the queue
    presence: Presence | None = None
    wait_on: Sequence[str] = ()  #: what the open call of its agent waits for
    workflow: str | None = None  #: where a workflow is: phase and cycle
    phase_job: str | None = None  #: the job of that phase
    blocked: str | None = None  #: why a workflow does not go on
    blocked_advice: str = ""
    blocked_since: datetime | None = None
    heals_at: datetime | None = None
    checks: Sequence[str] = ()  #: those that run now
    checks_since: datetime | None = None
    files: Sequence[str] = ()  #: what its agent waits to lock; `wait_on` are in the way
    question: str | None = None  #: what its agent has asked the people
    question_until: datetime | None = None
    question_id: str | None = None
    refused: str | None = None  #: its model refuses, and its CLI waits by itself
    refused_since: datetime | None = None
    progress: str = ""


def cause(facts: JobFacts, limits: Limits) -> Cause:
    """Why the job is where it is now."""
    match facts.status:
        case JobStatus.BLOCKED:
            return _blocked(facts)
        case JobStatus.QUEUED:
            return _queued(facts)
        case JobStatus.RUNNING:
            return _running(facts, limits)
        case _:
            return _final(facts)


def _final(facts: JobFacts) -> Cause:
    because = f"It is {facts.status}" + (f": {facts.failure}" if facts.failure else ".")
    return Cause(because, "Nothing: final is final.", since=facts.finished_at)


def _blocked(facts: JobFacts) -> Cause:
    if facts.needs:
        because = f"It depends on {_names(facts.needs)}."
        return Cause(because, "It is queued when they are done.", jobs=tuple(facts.needs))
    because = f"The processes of {_names(facts.leaving)} have not ended yet."
    return Cause(because, "It is queued in a few seconds.")


def _queued(facts: JobFacts) -> Cause:
    after = f" after its last attempt ended ({facts.last_end})" if facts.last_end else ""
    if facts.leaving:
        return Cause(
            f"The process of its last attempt is still leaving{after}.",
            "The next attempt starts when it is gone, in a few seconds.",
        )
    if facts.awaits:
        because = f"Its agent was stopped while it waited for {_names(facts.awaits)}{after}."
        told = "It goes on, with their results, when they are final."
        return Cause(because, told, jobs=tuple(facts.awaits))
    if facts.is_unclassified:
        because = "A cheap model is judging which model it needs."
        return Cause(because, "It starts when that is known, within a minute.")
    if facts.limited_by is not None:
        return _limited(facts, after)
    if facts.not_before is not None and facts.not_before > facts.now:
        because = f"It is parked{after}."
        return Cause(because, "The next attempt starts then.", until=facts.not_before)
    if facts.free_slots <= 0:
        because = f"All {facts.slots} slots are taken, and {facts.ahead} jobs are before it."
        return Cause(because, "It starts when a slot is free.", since=facts.created_at)
    return Cause(f"It is due{after}.", "It starts in a moment.")


def _limited(facts: JobFacts, after: str) -> Cause:
    because = f"It is parked for {facts.limited_by}{after}: {facts.limit or 'a limit'}"
    if facts.not_before is not None:
        told = "It goes on by itself then, with the first model that may be used."
        return Cause(because, told, until=facts.not_before)
    name = (facts.limited_by or "").removesuffix("/*").replace("/", ":", 1)
    return Cause(
        because,
        f"Put that right (log in, pay, choose a model), then run `hurlicane models clear {name}`: "
        "it goes on at once.",
    )


def _workflow(facts: JobFacts) -> Cause:
    if facts.blocked is not None:
        told = facts.blocked_advice
        if facts.heals_at is not None:
            told = f"It is tried again by itself then. {told}"
        return Cause(facts.blocked, told, since=facts.blocked_since, until=facts.heals_at)
    because = f"It is at {facts.workflow}."
    if facts.phase_job is None:
        return Cause(because, "It ends when its branch is published.")
    return Cause(because, "The next phase follows when that has ended.", jobs=(facts.phase_job,))


def _running(facts: JobFacts, limits: Limits) -> Cause:
    if facts.workflow is not None:
        return _workflow(facts)
    if facts.question is not None:
        return Cause(
            f"It waits for you: {facts.question}",
            f"Answer with `hurlicane answer {facts.question_id}`; its agent goes on without an "
            "answer when the time is up.",
            until=facts.question_until,
        )
    if facts.checks:
        because = f"Its checks run: {', '.join(facts.checks)}."
        told = "If they hold, the job is done; its agent or its next attempt mends what does not."
        return Cause(because, told, since=facts.checks_since)
    if facts.refused is not None:
        because = f"Its model refuses: {facts.refused}"
        told = "Its CLI tries again; if that takes too long, it goes on with another model."
        return Cause(because, told, since=facts.refused_since)
    presence = facts.presence
    if presence is None:
        return Cause("Its attempt is being settled.", "It goes on in a moment.")
    if presence.state is PresenceState.WAITING:
        if facts.files:
            return _kept_out(facts, presence)
        names = f" for {_names(facts.wait_on)}" if facts.wait_on else ""
        because = f"Its agent waits{names}." if names else f"Its agent {presence.why}."
        told = "It goes on when that is there."
        return Cause(because, told, since=presence.since, jobs=tuple(facts.wait_on))
    return _working(facts, presence, limits)


def _kept_out(facts: JobFacts, presence: Presence) -> Cause:
    whose = f": {_names(facts.wait_on)} locked that, or asked before" if facts.wait_on else ""
    because = f"Its agent waits to lock {_names(facts.files)}{whose}."
    told = "It goes on when all of it is free."
    return Cause(because, told, since=presence.since, jobs=tuple(facts.wait_on))


def _working(facts: JobFacts, presence: Presence, limits: Limits) -> Cause:
    match presence.state:
        case PresenceState.LOST:
            return Cause(
                f"Its agent has lost the connection: {presence.why}.",
                "If it does not come back it is stopped and resumed in its session.",
                since=presence.since,
                until=presence.since + limits.lost_grace,
            )
        case PresenceState.SILENT:
            told = "It is stopped and resumed in its session."
            return Cause(f"Its agent {presence.why}.", told, since=presence.since)
        case PresenceState.STARTING:
            return Cause("Its agent is being started.", "It works in a moment.", presence.since)
        case PresenceState.LEAVING:
            return Cause("Its agent is leaving.", "The job goes on in a moment.", presence.since)
        case _:
            said = f" It says: {facts.progress}" if facts.progress else ""
            because = f"Its agent works ({presence.why}).{said}"
            return Cause(because, "It ends with finish_job.", since=presence.since)


def _names(jobs: Sequence[str]) -> str:
    shown = ", ".join(jobs[:NAMED])
    return shown if len(jobs) <= NAMED else f"{shown} and {len(jobs) - NAMED} more"
