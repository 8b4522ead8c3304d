"""Budgets: what is committed, and that no order of events spends more than was allowed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hurlicane_mcp.domain.budgets import Account, Accounts, Cap, Room, dollars, next_midnight
from hurlicane_mcp.domain.stops import Verdict

USD = Decimal
ZERO = USD(0)
#: What one model request may cost at most here.
REQUEST = USD("0.40")
# Few and small figures: budgets are used up within the steps of one example.
COSTS = st.sampled_from([REQUEST, USD("0.10"), USD("0.01")])
BUDGETS = st.sampled_from([None, USD(1), USD("0.50"), USD("0.10")])
PICKS = st.integers(0, 10_000)


def test_an_open_account_reserves_its_whole_budget_and_a_closed_one_what_it_spent() -> None:
    root = Account("root", USD(10), None, spent=USD(1))
    account = Account("a", USD(4), "root", spent=USD("1.5"))
    room = Accounts([root, account]).room("root")
    assert (room.spent, room.reserved, room.free) == (USD("2.5"), USD("2.5"), USD(5))
    closed = Account("a", USD(4), "root", spent=USD("1.5"), is_open=False)
    assert Accounts([root, closed]).room("root") == Room(USD(10), USD("2.5"), ZERO)


def test_an_account_that_overspent_counts_with_what_it_spent() -> None:
    root, account = Account("root", USD(10), None), Account("a", USD(4), "root", spent=USD("4.3"))
    assert Accounts([root, account]).room("root").free == USD("5.7")


def test_an_account_stays_open_for_what_was_left_behind_below_it() -> None:
    """Its job is final, but a job with a budget from it goes on by itself."""
    middle = Account("m", USD(6), "root", spent=USD(1), is_open=False)
    left = Account("left", USD(2), "m", spent=USD(1))
    accounts = Accounts([Account("root", USD(10), None), middle, left])
    assert accounts.is_open("m")
    assert accounts.room("root") == Room(USD(10), spent=USD(2), reserved=USD(4))


@pytest.mark.parametrize(
    ("asked", "fits"), [(USD(3), True), (USD("3.01"), False), (None, True)], ids=str
)
def test_a_reservation_may_take_all_that_is_free(asked: Decimal | None, fits: bool) -> None:
    assert Room(USD(10), spent=USD(5), reserved=USD(2)).has_room_for(asked) is fits


def test_with_nothing_free_no_job_may_draw() -> None:
    assert not Room(USD(10), spent=USD(5), reserved=USD(5)).has_room_for(None)


@pytest.mark.parametrize(
    ("spent", "verdict"), [("3.99", Verdict.FINE), ("4", Verdict.WARN), ("5", Verdict.STOP)]
)
def test_a_cap_warns_at_80_percent_and_stops_at_all(spent: str, verdict: Verdict) -> None:
    midnight = datetime(2027, 1, 1, tzinfo=UTC)
    assert next_midnight(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == midnight
    assert Cap("daily_budget", USD(5), USD(spent), midnight).verdict is verdict


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("5", "$5.00"),
        ("0.5", "$0.50"),
        ("0.001230", "$0.00123"),
        ("-2", "-$2.00"),
        ("1E+2", "$100.00"),
    ],
)
def test_money_is_shown_with_two_decimals_or_as_many_as_it_takes(amount: str, shown: str) -> None:
    assert dollars(USD(amount)) == shown


@dataclass
class Job:
    """A job of the model world, and the agent that works on it, if there is one."""

    name: str
    parent: "Job | None"
    budget: Decimal | None
    payer: "Job | None" = None
    spent: Decimal = ZERO
    is_final: bool = False
    is_detached: bool = False
    is_alive: bool = False  #: its agent's process; it may outlive the job for a while


class Spending(RuleBasedStateMachine):
    """Jobs are created, started, finished and cancelled in any order, and their agents spend.

    A process that works on when its job is final, because it was told to leave, still books.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        #: What an account may have spent at most, from the moment on when it was exhausted.
        self.bounds: dict[str, Decimal] = {}

    @initialize(budget=BUDGETS, children=st.lists(st.booleans(), max_size=4))
    def begin_with_a_tree(self, budget: Decimal | None, children: list[bool]) -> None:
        """Some of the children have agents at work, the others are queued."""
        self._add(None, budget).is_alive = True
        for is_alive in children:
            self._add(self.jobs[0], None).is_alive = is_alive

    @precondition(lambda self: not self._open())
    @rule(budget=BUDGETS)
    def begin_anew(self, budget: Decimal | None) -> None:
        self._add(None, budget).is_alive = True

    @precondition(lambda self: self._working())
    @rule(pick=PICKS, budget=BUDGETS, starts=st.booleans())
    def create_child(self, pick: int, budget: Decimal | None, starts: bool) -> None:
        parent = self._one(self._working(), pick)
        if parent.payer is not None:
            chain = self._accounts_over(parent.payer)
            rooms = [self._room(one) for one in chain]
            if any(room.is_exhausted for room in rooms) or not rooms[0].has_room_for(budget):
                return
        self._add(parent, budget).is_alive = starts
        if parent.payer is not None:
            assert self._room(parent.payer).free >= 0

    @precondition(lambda self: self._startable())
    @rule(pick=PICKS)
    def start(self, pick: int) -> None:
        self._one(self._startable(), pick).is_alive = True

    @precondition(lambda self: self._alive())
    @rule(pick=PICKS, cost=COSTS)
    def spend(self, pick: int, cost: Decimal) -> None:
        job = self._one(self._alive(), pick)
        chain = self._accounts_over(job.payer)
        before = {one.name for one in chain if self._room(one).is_exhausted}
        running = {one.name: self._alive_below(one) for one in chain}
        job.spent += cost
        exhausted = [one for one in chain if self._room(one).is_exhausted]
        for account in exhausted:
            if account.name not in before:
                assert account.budget is not None
                self.bounds[account.name] = account.budget + REQUEST * running[account.name]
        if exhausted:  # this booking is the one that stops the agent
            job.is_alive = False
            self._end(job)

    @precondition(lambda self: self._working())
    @rule(pick=PICKS)
    def finish(self, pick: int) -> None:
        self._end(self._one(self._working(), pick))

    @precondition(lambda self: self._open())
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        left = [self._one(self._open(), pick)]
        while left:
            job = left.pop()
            job.is_final = True
            left += [one for one in self._open() if one.parent is job and not one.is_detached]

    @precondition(lambda self: self._alive())
    @rule(pick=PICKS)
    def leave(self, pick: int) -> None:
        """The process ends: a crash, from which its job may be started again, or a way out."""
        self._one(self._alive(), pick).is_alive = False

    @invariant()
    def nobody_overspends_by_more_than_a_request_per_running_agent(self) -> None:
        for job in self.jobs:
            if job.budget is not None:
                assert self._spent_below(job) <= self.bounds.get(job.name, job.budget)

    @invariant()
    def what_is_committed_is_what_was_drawn_and_what_is_reserved(self) -> None:
        for job in self.jobs:
            if job.budget is not None:
                assert job.budget - self._room(job).free == self._committed(job)

    def _add(self, parent: Job | None, budget: Decimal | None) -> Job:
        job = Job(f"job{len(self.jobs)}", parent, budget)
        job.payer = job if budget is not None else parent.payer if parent else None
        self.jobs.append(job)
        return job

    def _end(self, job: Job) -> None:
        job.is_final = True
        for one in self._open():
            if one.parent is job:
                one.is_detached = True

    @staticmethod
    def _one(jobs: list[Job], pick: int) -> Job:
        return jobs[pick % len(jobs)]

    def _open(self) -> list[Job]:
        return [job for job in self.jobs if not job.is_final]

    def _alive(self) -> list[Job]:
        return [job for job in self.jobs if job.is_alive]

    def _working(self) -> list[Job]:
        return [job for job in self._open() if job.is_alive]

    def _startable(self) -> list[Job]:
        return [
            job
            for job in self._open()
            if not job.is_alive
            and not any(self._room(one).is_exhausted for one in self._accounts_over(job.payer))
        ]

    def _accounts_over(self, account: Job | None) -> list[Job]:
        found: list[Job] = []
        while account is not None:
            found.append(account)
            account = account.parent.payer if account.parent else None
        return found

    def _is_below(self, job: Job, account: Job) -> bool:
        return account in self._accounts_over(job.payer)

    def _alive_below(self, account: Job) -> int:
        return sum(self._is_below(job, account) for job in self._alive())

    def _spent_below(self, account: Job) -> Decimal:
        below = (job.spent for job in self.jobs if self._is_below(job, account))
        return sum(below, ZERO)

    def _committed(self, account: Job) -> Decimal:
        """By the letter: drawn by its own, whole reservations of open accounts, else the costs."""
        total = sum((job.spent for job in self.jobs if job.payer is account), ZERO)
        for job in self.jobs:
            if job.budget is not None and job.parent and job.parent.payer is account:
                spent = self._spent_below(job)
                is_open = any(self._is_below(one, job) for one in self._open())
                total += max(job.budget, spent) if is_open else spent
        return total

    def _room(self, account: Job) -> Room:
        return Accounts(self._account(job) for job in self.jobs if job.payer is job).room(
            account.name
        )

    def _account(self, job: Job) -> Account:
        assert job.budget is not None
        drawing = [one for one in self.jobs if one.payer is job]
        above = job.parent.payer if job.parent else None
        return Account(
            job.name,
            job.budget,
            above.name if above else None,
            spent=sum((one.spent for one in drawing), ZERO),
            is_open=any(not one.is_final for one in drawing),
        )


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
