"""What about a job a person may want to look at: warnings, judged from facts alone.

A warning changes nothing about the job. What bounds a job is `stops`, and agents that cannot go on
are `agents`' business.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from hurlicane_mcp.domain.budgets import dollars
from hurlicane_mcp.domain.stops import Stop, Verdict, verdict

STALLED_AFTER = timedelta(minutes=10)
LONG_AFTER = timedelta(minutes=60)
FAILURES = 5  #: tool calls in a row; fewer are an agent's everyday life
_MINUTE = timedelta(minutes=1)


class WarningKind(StrEnum):
    """What may be wrong."""

    STALLED_OUTPUT = "stalled_output"  #: the agent works and prints nothing
    TURNS = "turns"  #: 80 % of the turns are used
    BUDGET = "budget"  #: 80 % of the budget is used
    TIME = "time"  #: 80 % of the time is used
    LONG_RUNNING = "long_running"
    TOOL_FAILURES = "tool_failures"  #: one tool call after the other fails
    PERMISSION_DENIED = "permission_denied"  #: the agent was not allowed what it tried


@dataclass(frozen=True, slots=True)
class Vitals:
    """The facts about a job that is not final."""

    now: datetime
    stop: Stop = field(default_factory=Stop)
    is_running: bool = False  #: an agent is at work on it; False while it is queued or parked
    is_waiting: bool = False  #: the agent is inside a blocking call of ours
    is_in_tool: bool = False  #: the agent is inside a tool call
    output_at: datetime | None = None  #: its agent's last output; None if nobody reads that
    turns: int = 0  #: of all attempts
    spent_usd: Decimal = Decimal(0)  #: of what `stop` allows, so those below it are included
    ran: timedelta = timedelta(0)  #: all attempts together
    tool_failures: int = 0  #: tool calls of this agent in a row that failed
    denials: int = 0  #: tool calls that this agent was not allowed


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """Something that holds now. The sentence stays true as long as it does."""

    kind: WarningKind
    since: datetime  #: as far as the facts tell; else the moment of the look
    text: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be told."""

    raised: tuple[HealthWarning, ...] = ()
    cleared: tuple[str, ...] = ()  #: kinds

    def __bool__(self) -> bool:
        return bool(self.raised or self.cleared)


def warnings(vitals: Vitals) -> tuple[HealthWarning, ...]:
    """The warnings that hold, at most one of a kind."""
    found = (judge(vitals) for judge in _JUDGES)
    return tuple(one for one in found if one is not None)


def changes(told: AbstractSet[str], held: Iterable[HealthWarning]) -> Changes:
    """What is new of *held*, and what holds no longer of what was *told*."""
    now = {one.kind: one for one in held}
    return Changes(
        tuple(one for kind, one in now.items() if kind not in told),
        tuple(sorted(told - now.keys())),
    )


def _stalled_output(vitals: Vitals) -> HealthWarning | None:
    if not vitals.is_running or vitals.is_waiting or vitals.output_at is None:
        return None
    silence = vitals.now - vitals.output_at
    if silence < STALLED_AFTER:
        return None
    where = " It is inside a tool call." if vitals.is_in_tool else ""
    text = f"The agent has printed nothing for {silence // _MINUTE} minutes or more.{where}"
    return HealthWarning(WarningKind.STALLED_OUTPUT, vitals.output_at, text)


def _turns(vitals: Vitals) -> HealthWarning | None:
    limit = vitals.stop.turns
    if not _is_near(Decimal(vitals.turns), Decimal(limit)):
        return None
    text = f"At least {vitals.turns:,} of its {limit:,} turns are used."
    return HealthWarning(WarningKind.TURNS, vitals.now, text)


def _budget(vitals: Vitals) -> HealthWarning | None:
    limit = vitals.stop.budget_usd
    if limit is None or not _is_near(vitals.spent_usd, limit):
        return None
    text = f"At least {_usd(vitals.spent_usd)} of its {_usd(limit)} are used."
    return HealthWarning(WarningKind.BUDGET, vitals.now, text)


def _time(vitals: Vitals) -> HealthWarning | None:
    limit = vitals.stop.time
    if limit is None or not _is_near(_seconds(vitals.ran), _seconds(limit)):
        return None
    text = f"At least {_minutes(vitals.ran)} of its {_minutes(limit)} minutes are used."
    return HealthWarning(WarningKind.TIME, vitals.now, text)


def _long_running(vitals: Vitals) -> HealthWarning | None:
    if not vitals.is_running or vitals.ran <= LONG_AFTER:
        return None
    text = f"It has run for more than {_minutes(LONG_AFTER)} minutes."
    return HealthWarning(WarningKind.LONG_RUNNING, vitals.now - vitals.ran, text)


def _tool_failures(vitals: Vitals) -> HealthWarning | None:
    if not vitals.is_running or vitals.tool_failures < FAILURES:
        return None
    text = f"At least {vitals.tool_failures} tool calls in a row have failed."
    return HealthWarning(WarningKind.TOOL_FAILURES, vitals.now, text)


def _permission_denied(vitals: Vitals) -> HealthWarning | None:
    if not vitals.is_running or vitals.denials == 0:
        return None
    calls = "1 tool call was" if vitals.denials == 1 else f"{vitals.denials} tool calls were"
    text = f"At least {calls} not allowed by the agent's permissions."
    return HealthWarning(WarningKind.PERMISSION_DENIED, vitals.now, text)


_JUDGES: tuple[Callable[[Vitals], HealthWarning | None], ...] = (
    _stalled_output,
    _turns,
    _budget,
    _time,
    _long_running,
    _tool_failures,
    _permission_denied,
)


def _is_near(used: Decimal, limit: Decimal) -> bool:
    return verdict(used, limit) is not Verdict.FINE


def _seconds(time: timedelta) -> Decimal:
    return Decimal(time // timedelta(microseconds=1)) / 1_000_000


def _minutes(time: timedelta) -> str:
    """Whole minutes, or with one decimal of a limit that has more; never more than there were."""
    tenths = time // (_MINUTE / 10)
    return f"{tenths / 10:.1f}".removesuffix(".0")


def _usd(amount: Decimal) -> str:
    """Never more than there were."""
    return dollars(amount.quantize(Decimal("0.0001"), ROUND_DOWN))
