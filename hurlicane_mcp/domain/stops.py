"""Stop modes: what a job may use before it is stopped, and when its agent is warned."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from hurlicane_mcp.errors import Invalid

WARN_AT = Decimal("0.8")  #: of the limit
TURN_CAP = 1000  #: turns of a job whose mode is another one; nobody means to go beyond
#: What can be asked for, by mode.
LEAST, MOST = Decimal("0.0001"), 1_000_000


class StopMode(StrEnum):
    """What bounds a job. Stopped by its bound it is done, with the work that there is."""

    COMPLETION = "completion"  #: nothing but its completion
    TURNS = "turns"  #: requests to the model, those of all its attempts
    BUDGET = "budget"  #: US dollars, its descendants' included
    TIME = "time"  #: minutes, of all its attempts together


class Verdict(StrEnum):
    """What a look at a job's figures says."""

    FINE = "fine"
    WARN = "warn"  #: 80 % of the limit are used
    STOP = "stop"  #: the limit is reached


@dataclass(frozen=True, slots=True)
class Stop:
    """A bound: *value* in turns, US dollars or minutes; None for `completion`."""

    mode: StopMode = StopMode.COMPLETION
    value: Decimal | None = None

    @property
    def turns(self) -> int:
        """How many turns are allowed."""
        return int(self.value) if self.mode is StopMode.TURNS and self.value else TURN_CAP

    @property
    def budget_usd(self) -> Decimal | None:
        """The US dollars that are allowed, if they are bounded."""
        return self.value if self.mode is StopMode.BUDGET else None

    @property
    def time(self) -> timedelta | None:
        """The time that is allowed, if it is bounded."""
        if self.mode is not StopMode.TIME or self.value is None:
            return None
        return timedelta(minutes=float(self.value))


def check_stop(mode: StopMode, value: Decimal | None) -> Stop:
    """The bound that is asked for.

    Raises:
        Invalid: the message says what *value* has to be.
    """
    if mode is StopMode.COMPLETION:
        if value is not None:
            raise Invalid(
                "`stop_value` has no meaning with stop_mode completion: "
                "name turns, budget or time, or leave it out."
            )
        return Stop()
    unit = {"turns": "turns", "budget": "US dollars", "time": "minutes"}[mode]
    if value is None:
        raise Invalid(f"`stop_mode` {mode} needs `stop_value`: how many {unit}.")
    if not value.is_finite() or not 0 < value <= MOST:
        raise Invalid(f"`stop_value` must be more than 0 and at most {MOST:,} {unit}, not {value}.")
    if value < LEAST:
        raise Invalid(f"`stop_value` must be at least {LEAST} {unit}, not {value}.")
    if mode is StopMode.TURNS and value != value.to_integral_value():
        raise Invalid(f"`stop_value` must be a whole number of turns, not {value}.")
    return Stop(mode, value)


def verdict(used: Decimal, limit: Decimal) -> Verdict:
    """Whether *used* of *limit* is fine. What is used up to the last bit stops."""
    if used >= limit:
        return Verdict.STOP
    return Verdict.WARN if used >= limit * WARN_AT else Verdict.FINE
