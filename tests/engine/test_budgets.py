"""Budgets over trees of jobs, refusals with their figures, and caps of a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, SQLModel

from hurlicane_mcp.domain.jobs import JobSpec
from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.budgets import Caps
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.intake import Defaults, Intake
from hurlicane_mcp.errors import Conflict, Invalid, LimitReached
from hurlicane_mcp.parts import providers_of
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import events, jobs, usage
from hurlicane_mcp.store.database import Database, open_engine
from hurlicane_mcp.store.tables import JobRow
from tests.factories import add_job, claim
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

USD = Decimal
DAY = BEGINNING.date().isoformat()


@dataclass
class Desk:
    """An intake with all providers, and agents that ask it for jobs."""

    db: Database
    intake: Intake

    async def create(self, caller: Caller = OPERATOR, **wishes: Any) -> JobRow:
        """The job that *caller* asks for; *budget* stands for the mode and its value."""
        if (budget := wishes.pop("budget", None)) is not None:
            wishes |= {"stop_mode": StopMode.BUDGET, "stop_value": USD(budget)}
        made = await self.intake.create(caller, JobSpec("Do something.", **wishes))
        return await self.db.read(lambda session: jobs.get(session, made.job_id))

    async def agent(self, caller: Caller = OPERATOR, **wishes: Any) -> Caller:
        """The agent of a new job, at work."""
        job = await self.create(caller, priority=9, **wishes)
        attempt = await self.db.write(lambda session: claim(session, job.id))
        return Caller(Role.AGENT, job.id, attempt.id)

    async def spent(self, agent: Caller, cost: str) -> None:
        """The agent's job has cost so much in all."""
        await self.db.write(lambda s: jobs.set_values(s, agent.job_id, cost_usd=USD(cost)))

    async def refusal(self, caller: Caller, **wishes: Any) -> str:
        before = await self.db.read(jobs.counts)
        with pytest.raises(LimitReached) as refused:
            await self.create(caller, **wishes)
        assert await self.db.read(jobs.counts) == before
        return str(refused.value)


@pytest.fixture
def desk(db: Database, clock: FakeClock, tmp_path: Path) -> Desk:
    chains = Chains(providers_of(Settings.model_validate({})))
    defaults = Defaults(tmp_path, str(tmp_path), "scripted")
    return Desk(db, Intake(db, clock, chains, defaults, Limits()))


async def test_a_job_pays_from_its_own_budget_or_from_the_nearest_one_above(desk: Desk) -> None:
    free = await desk.agent()
    root = await desk.agent(free, budget=10)
    plain = await desk.agent(root)
    inner = await desk.agent(plain, budget=4)
    last = await desk.create(inner)
    rows = await desk.db.read(
        lambda s: jobs.many(s, [free.job_id, root.job_id, plain.job_id, inner.job_id, last.id])
    )
    payers = [rows[one.job_id].payer_id for one in (free, root, plain, inner)]
    assert payers == [None, root.job_id, root.job_id, inner.job_id]
    assert last.payer_id == inner.job_id
    assert (rows[inner.job_id].stop_mode, rows[inner.job_id].stop_value) == ("budget", USD(4))


async def test_a_reservation_beyond_what_is_free_is_refused_with_the_figures(desk: Desk) -> None:
    root = await desk.agent(budget=10)
    await desk.spent(root, "3.25")
    child = await desk.agent(root, budget=5)
    await desk.spent(child, "1.5")
    told = await desk.refusal(root, budget="1.80")
    assert told == (
        f"The budget of job {root.job_id} is $10.00: $4.75 are spent, $3.50 are reserved for jobs "
        "below it and $1.75 are free. This job asks for $1.80, so it was not created. "
        "Ask for $1.75 at most, or do the work yourself."
    )
    assert (await desk.create(root, budget="1.75")).payer_id is not None
    told = await desk.refusal(root)
    assert "$0.00 are free. This job draws from it" in told
    assert "wait_for_jobs" in told


async def test_what_a_finished_child_did_not_spend_comes_back(desk: Desk) -> None:
    root = await desk.agent(budget=10)
    child = await desk.agent(root, budget=10)
    left_behind = await desk.create(child)
    await desk.spent(child, "2")
    await desk.refusal(root, budget=1)

    async def over(job_id: str) -> None:
        await desk.db.write(lambda s: jobs.set_values(s, job_id, status="done"))

    await over(child.job_id)
    await desk.refusal(root, budget=1)  # what it left behind draws from it still
    await over(left_behind.id)
    assert (await desk.create(root, budget=8)).stop_value == 8


async def test_below_an_account_that_is_spent_nothing_is_created(desk: Desk) -> None:
    root = await desk.agent(budget=10)
    child = await desk.agent(root, budget=5)
    await desk.spent(root, "10.02")
    told = await desk.refusal(child)
    assert f"The budget of job {root.job_id} is $10.00: $10.02 are spent" in told
    assert told.endswith("Nothing is left: call finish_job with what you have.")
    row = await desk.db.read(lambda s: jobs.get(s, child.job_id))
    assert await desk.db.read(lambda s: budgets.remaining_for_launch(s, row)) == USD("-0.02")
    account = await desk.db.read(lambda s: budgets.exhausted(s, row))
    assert account is not None
    assert account.id == root.job_id


async def test_the_next_process_may_cost_the_least_that_is_left_above(desk: Desk) -> None:
    unbounded = await desk.create()
    root = await desk.agent(budget=10)
    child = await desk.agent(root, budget=4)
    await desk.spent(root, "7")
    await desk.spent(child, "1")
    rows = await desk.db.read(lambda s: jobs.many(s, [unbounded.id, root.job_id, child.job_id]))
    rest = [
        await desk.db.read(lambda s, one=one: budgets.remaining_for_launch(s, rows[one]))
        for one in (unbounded.id, root.job_id, child.job_id)
    ]
    assert rest == [None, USD(2), USD(2)]
    assert await desk.db.read(lambda s: budgets.exhausted(s, rows[child.job_id])) is None
    open_ = await desk.db.read(lambda s: budgets.drawing(s, root.job_id))
    assert list(open_) == [child.job_id, root.job_id]


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        pytest.param({"provider": "codex"}, "the default model of codex", id="default"),
        pytest.param({"provider": "codex", "model": "gpt-6-sol"}, "'gpt-6-sol' of codex", id="own"),
        pytest.param(
            {"provider": "claude", "model": "opus", "fallback": ("codex:gpt-6-sol",)},
            "'gpt-6-sol' of codex",
            id="fallback",
        ),
        pytest.param({"interactive": True}, "terminal", id="terminal"),
    ],
)
async def test_a_budget_on_what_has_no_known_cost_is_refused(
    desk: Desk, wishes: dict[str, Any], named: str
) -> None:
    with pytest.raises(Invalid, match=named) as refused:
        await desk.create(budget=5, **wishes)
    assert "terminal" in named or "`models_file`" in str(refused.value)
    root = await desk.agent(budget=5)
    with pytest.raises(Invalid, match=named):  # it would draw from the budget above
        await desk.create(root, **wishes)
    assert (await desk.create(**wishes)).payer_id is None


async def test_claude_tells_its_costs_itself_also_without_prices(desk: Desk) -> None:
    job = await desk.create(budget=5, provider="claude", model="haiku")
    assert job.payer_id == job.id


async def test_prices_in_the_users_catalog_make_a_budget_possible(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    catalog = tmp_path / "models.json"
    prices = '{"as_of": "2026-11-24", "input": 1, "output": 2, "cache_write": 0, "cache_read": 0}'
    catalog.write_text(
        f'{{"models": [{{"provider": "codex", "id": "gpt-6-sol", "prices": {prices}}}]}}'
    )
    chains = Chains(providers_of(Settings.model_validate({"models_file": catalog})))
    defaults = Defaults(tmp_path, str(tmp_path), "codex")
    desk = Desk(db, Intake(db, clock, chains, defaults, Limits()))
    assert (await desk.create(budget=5, model="gpt-6-sol")).stop_value == 5


@pytest.mark.parametrize(
    ("mode", "value", "message"),
    [
        (StopMode.BUDGET, None, "needs `stop_value`: how many US dollars"),
        (StopMode.TURNS, USD("1.5"), "whole number of turns"),
        (StopMode.TIME, USD(0), "more than 0"),
        (StopMode.COMPLETION, USD(1), "no meaning with stop_mode completion"),
    ],
)
async def test_a_bound_that_cannot_be_is_refused_at_the_creation(
    desk: Desk, mode: StopMode, value: Decimal | None, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        await desk.create(stop_mode=mode, stop_value=value)


async def test_the_same_budget_written_otherwise_is_the_same_request(desk: Desk) -> None:
    first = await desk.create(budget="5.0", idempotency_key="k")
    assert (await desk.create(budget="5", idempotency_key="k")).id == first.id
    with pytest.raises(Conflict):
        await desk.create(budget="6", idempotency_key="k")


def _booked(session: Session, cost: str, day: str = DAY, project: str = "/garden") -> None:
    job = add_job(session, project=project)
    usage.add(session, day, job.id, "claude", "opus", cost_usd=USD(cost))


async def test_a_cap_counts_its_day_and_its_project_only(db: Database) -> None:
    caps = Caps(daily=USD(10), project=USD(5))

    def change(session: Session) -> list[str | None]:
        _booked(session, "100", day="2025-12-31")
        _booked(session, "5.5", project="/garden")
        _booked(session, "3", project="/house")
        seen = [budgets.cap_reached(session, caps, one, BEGINNING) for one in ("/garden", "/house")]
        _booked(session, "1.5", project="/house")
        seen.append(budgets.cap_reached(session, caps, "/house", BEGINNING))
        tomorrow = BEGINNING + timedelta(days=1)
        seen.append(budgets.cap_reached(session, caps, "/garden", tomorrow))
        seen.append(budgets.cap_reached(session, Caps(), "/garden", BEGINNING))
        assert seen[0] is not None
        assert seen[0].resets_at == datetime(2026, 1, 2, tzinfo=UTC)
        return [cap.why if cap else None for cap in seen]

    assert await db.write(change) == [
        "The jobs of /garden have cost $5.50 today, and project_budget allows $5.00 a day (UTC).",
        None,
        "All jobs together have cost $10.00 today, and daily_budget allows $10.00 a day (UTC).",
        None,
        None,
    ]


async def test_a_cap_that_is_nearly_reached_is_told_once_a_day(db: Database) -> None:
    caps = Caps(daily=USD(10), project=USD(100))

    def change(session: Session) -> list[Any]:
        for hours in (0, 1, 24, 25):
            now = BEGINNING + timedelta(hours=hours)
            _booked(session, "4.5" if hours % 24 else "4", now.date().isoformat())
            budgets.warn_of_caps(session, budgets.caps_now(session, caps, "/garden", now), now)
        told = events.after(session, 0, limit=50, kinds=["cap.nearly_reached"])
        return [(event.at.day, event.data["cap"], event.data["project"]) for event in told]

    assert await db.write(change) == [(1, "daily_budget", None), (2, "daily_budget", None)]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["create", "create", "spend", "spend", "end"]),
        st.sampled_from([None, USD(1), USD("2.5"), USD(6)]),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_is_created_spent_and_ended_no_account_promises_more_than_it_has(
    steps: Sequence[tuple[int, str, Decimal | None]],
) -> None:
    engine = open_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        names = [_created(session, None, USD(10))]
        for pick, step, figure in steps:
            job = jobs.get(session, names[pick % len(names)])
            if step == "spend":
                jobs.set_values(session, job.id, cost_usd=job.cost_usd + (figure or USD("0.3")))
            elif step == "end":
                jobs.set_values(session, job.id, status="done")
            elif job.status == "queued":
                _create(session, names, job, figure)
    engine.dispose()


def _create(session: Session, names: list[str], parent: JobRow, budget: Decimal | None) -> None:
    assert parent.payer_id is not None
    before = budgets.room(session, parent.payer_id)
    try:
        names.append(_created(session, parent, budget))
    except LimitReached:
        is_spent = budgets.exhausted(session, parent) is not None
        assert is_spent or not before.has_room_for(budget)
        return
    after = budgets.room(session, parent.payer_id)
    assert (after.free, after.spent) == (before.free - (budget or 0), before.spent)
    assert after.free >= 0
    assert budgets.exhausted(session, parent) is None


def _created(session: Session, parent: JobRow | None, budget: Decimal | None) -> str:
    stop = Stop() if budget is None else Stop(StopMode.BUDGET, budget)
    job = add_job(session, parent=parent, stop_mode=stop.mode, stop_value=stop.value)
    try:
        payer_id = budgets.payer_of_new(session, parent, stop, job.id)
    except LimitReached:
        jobs.set_values(session, job.id, status="failed", payer_id=None, stop_mode="completion")
        raise
    jobs.set_values(session, job.id, payer_id=payer_id)
    return job.id
