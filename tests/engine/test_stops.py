"""Stop modes and caps at work: who is warned, who is stopped, and that nothing is lost by it."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.domain.stops import TURN_CAP, StopMode
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.budgets import Caps
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.stops import Stops, Timekeeper
from hurlicane_mcp.providers.base import (
    MessageSeen,
    Reading,
    Refused,
    RequestUsage,
    SessionUsage,
    Tokens,
    TurnSeen,
)
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.store import attempts, events, jobs, messages, usage
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from tests.factories import add_job
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

LIMITED = Refusal(FailureKind.RATE_LIMIT, "429")
#: A scripted agent's token costs a millionth of a dollar.
A_DOLLAR = Tokens(output=1_000_000)


class Site:
    """Jobs whose agents exist as transcripts only."""

    def __init__(self, db: Database, clock: FakeClock, folder: Path, caps: Caps) -> None:
        providers = Providers({"scripted": ScriptedProvider()})
        self.db = db
        self.clock = clock
        self.booking = Booking(providers, Ledger(Chains(providers), luck=lambda: 0.0), Stops(caps))
        ours = self.booking
        self.launched: list[str] = []
        self.dispatcher = Dispatcher(db, clock, 9, folder, ours.ledger, ours.stops, self._launch)

    async def _launch(self, launch: Launch) -> None:
        self.launched.append(launch.job.id)

    async def job(self, parent: JobRow | None = None, **values: Any) -> JobRow:
        """A job that runs; with a budget it pays for itself."""

        def change(session: Session) -> JobRow:
            made = add_job(session, parent=parent, chain=["scripted:"], **values)
            has_budget = values.get("stop_mode") == StopMode.BUDGET
            payer = made.id if has_budget else (parent.payer_id if parent else None)
            jobs.set_values(session, made.id, payer_id=payer)
            return made

        made = await self.db.write(change)
        await self.dispatcher.fill()
        started = self.clock.now()
        name = f"{made.id}.1"
        if made.id in self.launched:
            await self.db.write(
                lambda s: attempts.start(s, name, started, pid=1, start_time="", boot_id="")
            )
        return await self.of(made.id)

    async def prints(self, job: JobRow, *readings: Reading) -> AttemptRow:
        name = f"{job.id}.1"

        def change(session: Session) -> AttemptRow:
            self.booking.book(session, name, readings, 1, self.clock.now())
            return attempts.get(session, name)

        return await self.db.write(change)

    async def of(self, job_id: str) -> JobRow:
        return await self.db.read(lambda session: jobs.get(session, job_id))

    async def told(self, job: JobRow) -> Sequence[str]:
        rows = await self.db.read(lambda s: messages.of_job(s, job.id, 9))
        return [row.text for row in rows]


@pytest.fixture
def site(db: Database, clock: FakeClock, tmp_path: Path) -> Site:
    return Site(db, clock, tmp_path, Caps())


def turns(first: int, last: int) -> list[Reading]:
    return [TurnSeen(f"r{number}") for number in range(first, last + 1)]


async def test_at_80_percent_of_its_turns_the_agent_is_told_once_and_at_100_it_is_done(
    site: Site,
) -> None:
    job = await site.job(stop_mode=StopMode.TURNS, stop_value=Decimal(10))
    await site.prints(job, *turns(1, 7))
    assert await site.told(job) == []
    await site.prints(job, *turns(8, 8))
    await site.prints(job, *turns(9, 9), MessageSeen("Half of it is written."))
    (text,) = await site.told(job)
    assert "8 of 10 turns" in text
    row = await site.prints(job, *turns(10, 10))
    assert (row.outcome, row.stopped) == (OutcomeKind.DONE, StopMode.TURNS)
    ended = await site.of(job.id)
    assert (ended.status, ended.stopped_by) == (JobStatus.DONE, StopMode.TURNS)
    assert (ended.result, ended.failure_kind) == ("Half of it is written.", None)


async def test_a_job_without_a_bound_is_stopped_at_the_safety_cap(site: Site) -> None:
    job = await site.job()
    await site.prints(job, *turns(1, TURN_CAP - 1))
    assert (await site.of(job.id)).status == JobStatus.RUNNING
    await site.prints(job, *turns(TURN_CAP, TURN_CAP))
    assert (await site.of(job.id)).stopped_by == StopMode.TURNS


async def test_at_80_percent_of_its_time_a_silent_agent_is_told_once(site: Site) -> None:
    job = await site.job(stop_mode=StopMode.TIME, stop_value=Decimal(10))
    watch = Timekeeper(site.db, site.clock, site.booking.stops)
    site.clock.move(timedelta(minutes=7.9))
    await watch.look()
    assert await site.told(job) == []
    site.clock.move(timedelta(minutes=0.1))
    await watch.look()
    await watch.look()
    (text,) = await site.told(job)
    assert "8.0 of 10 minutes" in text


async def test_live_usage_stops_at_the_budget_before_the_cli_has_told_a_figure(
    site: Site,
) -> None:
    job = await site.job(stop_mode=StopMode.BUDGET, stop_value=Decimal(10))
    for number in range(1, 8):
        await site.prints(job, RequestUsage(f"r{number}", "", A_DOLLAR))
    assert await site.told(job) == []
    await site.prints(job, RequestUsage("r8", "", A_DOLLAR))
    (text,) = await site.told(job)
    assert "$8.00 of $10.00" in text
    await site.prints(job, RequestUsage("r9", "", A_DOLLAR))
    row = await site.prints(job, RequestUsage("r10", "", A_DOLLAR))
    assert (row.outcome, row.stopped, row.is_estimated) == (
        OutcomeKind.DONE,
        StopMode.BUDGET,
        True,
    )
    ended = await site.of(job.id)
    assert (ended.stopped_by, ended.cost_usd) == (StopMode.BUDGET, Decimal(10))


async def test_a_spent_budget_stops_everybody_who_draws_from_it(site: Site) -> None:
    lead = await site.job(stop_mode=StopMode.BUDGET, stop_value=Decimal(3))
    child = await site.job(lead)
    grandchild = await site.job(child)
    waiting = await site.db.write(
        lambda s: add_job(s, parent=lead, depends_on=(child.id,), chain=["scripted:"])
    )
    await site.db.write(lambda s: jobs.set_values(s, waiting.id, payer_id=lead.id))
    stranger = await site.job()
    await site.prints(child, RequestUsage("a", "", A_DOLLAR))
    await site.prints(grandchild, RequestUsage("b", "", A_DOLLAR))
    await site.prints(lead, RequestUsage("c", "", A_DOLLAR))
    ends = [(await site.of(one.id)).status for one in (lead, child, grandchild, waiting)]
    assert ends == [JobStatus.DONE, JobStatus.DONE, JobStatus.DONE, JobStatus.FAILED]
    stopped = [(await site.of(one.id)).stopped_by for one in (lead, child, grandchild)]
    assert stopped == [StopMode.BUDGET] * 3
    assert (await site.of(waiting.id)).failure_kind == FailureKind.BUDGET
    assert (await site.of(stranger.id)).status == JobStatus.RUNNING


async def test_the_clis_own_figure_replaces_the_estimate_in_the_job_and_in_the_days_usage(
    site: Site,
) -> None:
    job = await site.job()
    await site.prints(job, RequestUsage("a", "m", A_DOLLAR))
    await site.prints(job, RequestUsage("a", "m", Tokens(output=1_500_000)))
    await site.prints(job, RequestUsage("b", "m", Tokens(input=500_000)))
    assert (await site.of(job.id)).cost_usd == Decimal("2")
    final = SessionUsage(Tokens(input=400_000, output=1_400_000), Decimal("1.75"))
    row = await site.prints(job, final)
    assert (row.is_estimated, row.live, row.cost_usd) == (False, {}, Decimal("1.75"))
    assert (await site.of(job.id)).cost_usd == Decimal("1.75")
    day = site.clock.now().date().isoformat()
    assert await site.db.read(lambda s: usage.cost_of_day(s, day, None)) == Decimal("1.75")


async def test_at_a_daily_cap_everybody_is_parked_until_midnight_and_goes_on(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    site = Site(db, clock, tmp_path, Caps(daily=Decimal(2)))
    one, two = await site.job(), await site.job()
    await site.prints(one, RequestUsage("a", "", A_DOLLAR))
    await site.prints(two, RequestUsage("b", "", A_DOLLAR))
    rows = [await site.prints(job) for job in (one, two)]
    assert [row.outcome for row in rows] == [OutcomeKind.LIMITED] * 2
    for job in (one, two):
        await db.write(lambda s, name=f"{job.id}.1": attempts.end(s, name, clock.now()))
    site.launched.clear()
    await site.dispatcher.fill()
    parked = await site.of(one.id)
    assert (site.launched, parked.limited_by) == ([], "daily_budget")
    assert parked.not_before is not None
    clock.move(parked.not_before - clock.now())
    await site.dispatcher.fill()
    assert sorted(site.launched) == sorted([one.id, two.id])
    kinds = await db.read(lambda s: events.after(s, 0, limit=999, kinds=["job.failed"]))
    assert kinds == []


async def test_a_projects_cap_leaves_other_projects_alone(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    site = Site(db, clock, tmp_path, Caps(project=Decimal(1)))
    dear, other = await site.job(project="/dear"), await site.job(project="/other")
    await site.prints(dear, RequestUsage("a", "", A_DOLLAR))
    assert (await site.of(dear.id)).status == JobStatus.QUEUED
    assert (await site.of(other.id)).status == JobStatus.RUNNING


async def test_a_job_that_waits_to_go_on_when_the_budget_is_spent_is_done_with_its_words(
    site: Site,
) -> None:
    lead = await site.job(stop_mode=StopMode.BUDGET, stop_value=Decimal(2))
    child = await site.job(lead)
    await site.prints(child, MessageSeen("Half of it."), Refused(LIMITED))
    assert (await site.of(child.id)).status == JobStatus.QUEUED
    for name in ("a", "b"):
        await site.prints(lead, RequestUsage(name, "", A_DOLLAR))
    ended = await site.of(child.id)
    assert (ended.status, ended.stopped_by, ended.result) == (
        JobStatus.DONE,
        StopMode.BUDGET,
        "Half of it.",
    )


async def test_the_last_turn_counts_more_than_a_refusal_in_the_same_breath(site: Site) -> None:
    job = await site.job(stop_mode=StopMode.TURNS, stop_value=Decimal(3))
    await site.prints(job, *turns(1, 3), Refused(LIMITED))
    assert (await site.of(job.id)).stopped_by == StopMode.TURNS


async def test_every_account_that_is_spent_stops_and_every_one_that_nearly_is_warns(
    site: Site,
) -> None:
    lead = await site.job(stop_mode=StopMode.BUDGET, stop_value=Decimal(10))
    child = await site.job(lead, stop_mode=StopMode.BUDGET, stop_value=Decimal(4))
    await site.prints(lead, RequestUsage("a", "", Tokens(output=6_000_000)))
    await site.prints(child, RequestUsage("b", "", Tokens(output=3_500_000)))
    assert [len(await site.told(job)) for job in (lead, child)] == [1, 1]
    await site.prints(child, RequestUsage("c", "", Tokens(output=500_000)))
    ends = [(await site.of(one.id)).stopped_by for one in (lead, child)]
    assert ends == [StopMode.BUDGET] * 2


async def test_a_correction_after_midnight_gives_the_new_day_nothing_to_spend(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    site = Site(db, clock, tmp_path, Caps(daily=Decimal(2)))
    job, other = await site.job(), await site.job()
    clock.move(timedelta(hours=11, minutes=59))
    await site.prints(job, RequestUsage("a", "", Tokens(output=1_900_000)))
    clock.move(timedelta(minutes=2))
    await site.prints(job, SessionUsage(None, Decimal("0.5")))
    await site.prints(job, SessionUsage(None, Decimal("1.5")))
    await site.prints(other, RequestUsage("b", "", Tokens(output=999_000)))
    assert (await site.of(other.id)).status == JobStatus.RUNNING
    await site.prints(other, RequestUsage("c", "", Tokens(output=1_000)))
    assert (await site.of(other.id)).status == JobStatus.QUEUED
