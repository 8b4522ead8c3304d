"""A model's refusal to answer, as its CLI tells it, and how long it is to be believed."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hurlicane_mcp.domain.failures import FailureKind

LONG_WAIT = timedelta(seconds=20)


class Scope(StrEnum):
    """What a refusal is about."""

    MODEL = "model"  #: this model; others of the same account may answer
    ACCOUNT = "account"  #: every model of the account, such as a five-hour or a weekly limit


@dataclass(frozen=True, slots=True)
class WallTime:
    """A moment as people are told it: `1:30am (Asia/Dhaka)`, or `Nov 28, 1pm (Asia/Dhaka)`."""

    at: time  #: without a zone
    zone: str  #: IANA name; empty or unknown means UTC
    month: int | None = None
    day: int | None = None

    def after(self, now: datetime) -> datetime:
        """The next such moment later than *now*, in UTC."""
        zone = _zone(self.zone)
        here = now.astimezone(zone)
        if self.month is None or self.day is None:
            moment = datetime.combine(here.date(), self.at, zone)
            if moment <= here:
                moment = datetime.combine(here.date() + timedelta(days=1), self.at, zone)
            return moment.astimezone(UTC)
        years = (here.year, here.year + 1, here.year + 2, here.year + 3, here.year + 4)
        for year in years:  # a leap day may be four years away
            try:
                moment = datetime.combine(date(year, self.month, self.day), self.at, zone)
            except ValueError:
                continue
            if moment > here:
                return moment.astimezone(UTC)
        return now


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal, from a structured event or a final error, never from what an agent says."""

    kind: FailureKind
    text: str  #: the CLI's own words, in one line
    scope: Scope = Scope.MODEL
    retry_after: timedelta | None = None  #: from now, as the provider announced it
    resets_at: datetime | WallTime | None = None  #: when it ends, as the provider announced it
    is_final: bool = True  #: the CLI has given up; otherwise it is about to try again by itself
    cli_waits: timedelta | None = None  #: until it does so; None if it does not say

    def ends_at(self, now: datetime) -> datetime | None:
        """When it is announced to end; None if nothing was said, or the past."""
        moment = self.resets_at
        if isinstance(moment, WallTime):
            moment = moment.after(now)
        announced = self.retry_after
        if announced is None and self.cli_waits is not None and self.cli_waits > LONG_WAIT:
            announced = self.cli_waits  # no CLI waits that long of its own accord at first
        if moment is None and announced is not None:
            moment = now + announced
        return moment if moment is not None and moment > now else None


@dataclass(frozen=True, slots=True)
class Patience:
    """How much waiting is left to a CLI, instead of going on with another model."""

    least: timedelta = timedelta(seconds=1)  #: shorter waits are the CLI's own, nobody asked for
    longest: timedelta = timedelta(seconds=20)  #: one wait; also how long an unknown one may last
    in_all: timedelta = timedelta(seconds=30)  #: from the first refusal in a row

    def covers(self, refusal: Refusal, since: datetime, now: datetime) -> bool:
        """Whether the CLI is left alone with *refusal*, the newest of a row that began at *since*.

        One that the CLI does not say the length of is left to it for a while; whoever watches has
        to ask again.
        """
        if refusal.is_final:
            return False
        if refusal.cli_waits is None:
            return now - since < self.longest
        is_announced = self.least <= refusal.cli_waits <= self.longest
        return is_announced and now + refusal.cli_waits - since <= self.in_all


def _zone(name: str) -> tzinfo:
    """The zone of this name, or UTC (also on machines without a database of zones)."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
