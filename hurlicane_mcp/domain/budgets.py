"""Budgets over a tree of jobs: what an account has committed, and what is left of it.

A job with a budget is an account. A job without one draws from the nearest account above it. An
account below another one reserves its whole budget there for as long as any job may draw from it;
after that only what was really spent counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from hurlicane_mcp.domain.stops import Verdict, verdict

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Account:
    """A job with a budget, and what the jobs that draw from it have done. US dollars."""

    id: str
    budget: Decimal
    above: str | None  #: the account that the budget is reserved from
    spent: Decimal = NOTHING  #: by the jobs that draw from it, itself included
    is_open: bool = True  #: one of these jobs is not final, so that more may be spent or created


@dataclass(frozen=True, slots=True)
class Room:
    """What has become of a budget, in US dollars."""

    budget: Decimal
    spent: Decimal  #: by everything below, accounts included
    reserved: Decimal  #: what open accounts below may spend besides

    @property
    def free(self) -> Decimal:
        """What may still be reserved; less than 0 when more was spent than is allowed."""
        return self.budget - self.spent - self.reserved

    @property
    def rest(self) -> Decimal:
        """What is not really spent yet, whoever it is reserved for; less than 0 when overspent."""
        return self.budget - self.spent

    @property
    def is_exhausted(self) -> bool:
        """Whether every agent that draws from it has to stop."""
        return self.rest <= 0

    def has_room_for(self, asked: Decimal | None) -> bool:
        """Whether a job below may be created: with a budget of *asked*, or one that draws."""
        return self.free > 0 if asked is None else self.free >= asked


class Accounts:
    """An account and all accounts below it, or any other set that is closed downwards."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = {one.id: one for one in accounts}
        self._below: dict[str, list[Account]] = {}
        for one in self._accounts.values():
            if one.above is not None:
                self._below.setdefault(one.above, []).append(one)

    def room(self, account_id: str) -> Room:
        """What has become of the budget of this account."""
        reserved = NOTHING
        for below in self._below.get(account_id, ()):
            if self.is_open(below.id):
                reserved += max(NOTHING, below.budget - self.spent(below.id))
        return Room(self._accounts[account_id].budget, self.spent(account_id), reserved)

    def spent(self, account_id: str) -> Decimal:
        """US dollars that everything below this account has cost, itself included."""
        below = self._below.get(account_id, ())
        return sum((self.spent(one.id) for one in below), self._accounts[account_id].spent)

    def is_open(self, account_id: str) -> bool:
        """Whether any job may still draw from it, or from an account below.

        A job that was left behind by its final parent keeps the account open that it draws from.
        """
        below = self._below.get(account_id, ())
        return self._accounts[account_id].is_open or any(self.is_open(one.id) for one in below)


@dataclass(frozen=True, slots=True)
class Cap:
    """What all jobs, or those of one project, may cost on one day (UTC)."""

    name: str  #: the setting that says so
    limit: Decimal  #: US dollars
    spent: Decimal  #: on this day so far
    resets_at: datetime  #: the next midnight, UTC
    project: str | None = None  #: whose jobs it bounds; None for all

    @property
    def verdict(self) -> Verdict:
        """Whether it is time to warn (80 %), or to stop."""
        return verdict(self.spent, self.limit)

    @property
    def why(self) -> str:
        """The figures in a sentence."""
        whose = "All jobs together" if self.project is None else f"The jobs of {self.project}"
        return (
            f"{whose} have cost {dollars(self.spent)} today, and {self.name} allows "
            f"{dollars(self.limit)} a day (UTC)."
        )


def next_midnight(now: datetime) -> datetime:
    """When the day of *now*, a time in UTC, is over."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def dollars(amount: Decimal) -> str:
    """*amount* of US dollars for readers: `$0.50`, `$0.00123`, `-$2.00`."""
    whole, _, fraction = f"{abs(amount):f}".partition(".")
    sign = "-" if amount < 0 else ""
    return f"{sign}${whole}.{fraction.rstrip('0').ljust(2, '0')}"
