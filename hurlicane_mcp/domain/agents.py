"""What an agent is doing, judged from facts: connected, waiting, busy, silent or lost.

Nothing here is known for sure; a process that has ended is another matter and is never inferred.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: An agent that called us this recently needs no other sign of life.
RECENT = timedelta(minutes=1)
#: How many agents there must be before many verdicts at once are doubted.
DOUBT_FROM = 5


class PresenceState(StrEnum):
    """What an agent seems to be doing."""

    STARTING = "starting"  #: no process is known yet
    CONNECTED = "connected"  #: called us within the last minute, or is in a call
    WAITING = "waiting"  #: inside a blocking call
    BUSY = "busy"  #: works without us: prints, runs a tool, uses the processor
    SILENT = "silent"  #: no sign of life of any kind
    LOST = "lost"  #: cannot reach us
    LEAVING = "leaving"  #: its outcome is decided


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each state may last before something is done about it."""

    lost_grace: timedelta = timedelta(minutes=2)
    silent_after: timedelta = timedelta(minutes=20)
    tool_stalled_after: timedelta = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """All that is known of an agent. None means never, or not now."""

    claimed_at: datetime
    watched_since: datetime  #: what happened before counts as of then; see `Watch`
    started_at: datetime | None = None
    is_settled: bool = False
    request_at: datetime | None = None  #: its last request of any kind
    open_requests: int = 0
    wait_kind: str | None = None  #: of its open blocking call
    wait_since: datetime | None = None
    broken_wait_since: datetime | None = None  #: its last blocking call broke off
    output_at: datetime | None = None
    heartbeat_at: datetime | None = None  #: a hook of its CLI
    work_at: datetime | None = None  #: its processes used the processor or a disk
    tool_since: datetime | None = None  #: since when it has been inside tool calls
    frozen_since: datetime | None = None  #: its process is stopped by a signal
    lost_since: datetime | None = None  #: its transcript says that it cannot reach us
    lost_why: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """A verdict, since when it holds, and why: a clause for people."""

    state: PresenceState
    since: datetime
    why: str


class FindingKind(StrEnum):
    """What has to be done about an agent that still runs."""

    DISCONNECTED = "disconnected"
    SILENT = "silent"
    TOOL_STALLED = "tool_stalled"


@dataclass(frozen=True, slots=True)
class Finding:
    """An agent that has to be stopped and resumed."""

    kind: FindingKind
    reason: str


def last_activity(facts: AgentFacts, now: datetime) -> datetime:
    """The newest sign of life. Those in the future, from a clock set back, do not count."""
    signs = (
        facts.started_at,
        facts.request_at,
        facts.output_at,
        facts.heartbeat_at,
        facts.work_at,
    )
    past = [sign for sign in signs if sign is not None and sign <= now]
    return max((facts.watched_since, *past))


def presence(facts: AgentFacts, now: datetime, limits: Limits) -> Presence:
    """What the agent is doing: the first judge with an answer decides."""
    verdicts = (verdict for judge in _JUDGES if (verdict := judge(facts, now, limits)) is not None)
    return next(verdicts)


def diagnose(facts: AgentFacts, now: datetime, limits: Limits) -> Finding | None:
    """What has to be done about the agent now, if anything."""
    verdict = presence(facts, now, limits)
    lasted = _lasted(verdict.since, facts, now)
    if verdict.state is PresenceState.LOST and lasted >= limits.lost_grace:
        reason = f"It could not reach the server for {_words(lasted)}: {verdict.why}."
        return Finding(FindingKind.DISCONNECTED, reason)
    if verdict.state is PresenceState.SILENT:
        return Finding(FindingKind.SILENT, f"It {verdict.why} for {_words(lasted)}.")
    if verdict.state is PresenceState.BUSY and facts.tool_since is not None:
        inside = _lasted(facts.tool_since, facts, now)
        if inside >= limits.tool_stalled_after:
            return Finding(
                FindingKind.TOOL_STALLED, f"A tool call has not ended for {_words(inside)}."
            )
    return None


def _lasted(since: datetime, facts: AgentFacts, now: datetime) -> timedelta:
    """How long something has lasted while somebody watched.

    What a clock that was set back puts into the future began at the latest when that was noticed.
    """
    return now - (facts.watched_since if since > now else max(since, facts.watched_since))


def confirmed(found: Iterable[str], total: int, doubted: frozenset[str]) -> frozenset[str]:
    """Which of the agents *found* wanting are to be acted upon.

    If they are half or more of at least five, the fault is more likely ours (a suspended machine, a
    full disk, a network that is away): then only those that a second look finds again.
    """
    names = frozenset(found)
    if total >= DOUBT_FROM and 2 * len(names) >= total:
        return names & doubted
    return names


def _leaving(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    if not facts.is_settled:
        return None
    return Presence(PresenceState.LEAVING, last_activity(facts, now), "its outcome is decided")


def _starting(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    if facts.started_at is not None:
        return None
    return Presence(PresenceState.STARTING, facts.claimed_at, "its process is being started")


def _lost(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    if facts.lost_since is not None and facts.open_requests == 0:
        return Presence(PresenceState.LOST, facts.lost_since, facts.lost_why or "no connection")
    return None


def _waiting(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    if facts.wait_since is None:
        return None
    what = {
        "question": "for a person's answer",
        "notes": "for a note",
        "checks": "for its checks",
        "locks": "for file locks",
    }
    return Presence(
        PresenceState.WAITING,
        facts.wait_since,
        f"waits {what.get(facts.wait_kind or '', 'for other jobs')}",
    )


def _connected(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    request = facts.request_at
    if request is not None and (facts.open_requests or timedelta(0) <= now - request < RECENT):
        return Presence(PresenceState.CONNECTED, request, "has called")
    return None


def _broken_off(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    """Inside a call that our end has lost, Claude Code may wait for minutes (measured)."""
    broken = facts.broken_wait_since
    if broken is None or facts.tool_since is None or last_activity(facts, now) > broken:
        return None
    return Presence(PresenceState.LOST, broken, "its blocking call broke off")


def _frozen(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    frozen = facts.frozen_since
    if frozen is None or _lasted(frozen, facts, now) < limits.lost_grace:
        return None
    return Presence(PresenceState.SILENT, frozen, "was stopped by a signal")


def _silent(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    since = last_activity(facts, now)
    if facts.tool_since is not None or now - since < limits.silent_after:
        return None
    return Presence(PresenceState.SILENT, since, "gave no sign of life")


def _busy(facts: AgentFacts, now: datetime, limits: Limits) -> Presence | None:
    if facts.tool_since is not None:
        return Presence(PresenceState.BUSY, facts.tool_since, "is inside a tool call")
    return Presence(PresenceState.BUSY, last_activity(facts, now), "works without calling")


_JUDGES: tuple[Callable[[AgentFacts, datetime, Limits], Presence | None], ...] = (
    _leaving,
    _starting,
    _lost,
    _waiting,
    _connected,
    _broken_off,
    _frozen,
    _silent,
    _busy,
)


def _words(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
