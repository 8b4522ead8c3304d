"""The book of usage and the sums that budgets are made of, on SQLite and PostgreSQL alike."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import Session

from hurlicane_mcp.store import attempts, jobs, usage, workflows
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.usage import Grouping
from tests.factories import add_job, claim, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

MONDAY, TUESDAY = "2026-01-05", "2026-01-06"
USD = Decimal


def account(session: Session, budget: str, parent: JobRow | None = None) -> JobRow:
    """A queued job with a budget of its own."""
    job = add_job(session, parent=parent, stop_mode="budget", stop_value=USD(budget))
    jobs.set_values(session, job.id, payer_id=job.id)
    return jobs.get(session, job.id)


def drawer(session: Session, parent: JobRow, cost: str = "0", **values: Any) -> JobRow:
    """A job that draws from its parent's account, and what it has cost."""
    return add_job(session, parent=parent, payer_id=parent.payer_id, cost_usd=USD(cost), **values)


async def test_what_is_added_comes_on_top_and_what_is_taken_back_goes(store: Database) -> None:
    def change(session: Session) -> str:
        job = add_job(session)
        for cost, tokens in (("0.25", 1000), ("0.5", 2000), ("-0.15", -500)):
            key = (MONDAY, job.id, "claude", "claude-opus-5-5")
            usage.add(session, *key, turns=1, output_tokens=tokens, cost_usd=USD(cost))
        usage.add(session, TUESDAY, job.id, "claude", "claude-opus-5-5", input_tokens=7)
        return job.id

    job_id = await store.write(change)
    found = await store.read(lambda s: usage.sums(s, Grouping.DAY, under=job_id))
    by_day = {one.group: one for one in found}
    monday, tuesday = by_day[MONDAY], by_day[TUESDAY]
    assert (monday.turns, monday.output_tokens, monday.cost_usd) == (3, 2500, USD("0.6"))
    assert (monday.has_cost, tuesday.has_cost, tuesday.input_tokens) == (True, False, 7)
    assert await store.read(lambda s: usage.cost_of_day(s, MONDAY)) == USD("0.6")
    assert await store.read(lambda s: usage.cost_of_day(s, "2026-01-07")) == 0


async def test_counts_beyond_32_bits_are_stored_and_come_back_whole(store: Database) -> None:
    def change(session: Session) -> list[int]:
        job, attempt = running(session)
        attempts.write(session, attempt.id, cache_read_tokens=2**53)
        for _ in range(2):
            usage.add(session, MONDAY, job.id, "claude", "opus", cache_read_tokens=2**53)
        (used,) = usage.sums(session, Grouping.JOB)
        assert type(used.cache_read_tokens) is int
        return [attempts.get(session, attempt.id).cache_read_tokens, used.cache_read_tokens]

    assert await store.write(change) == [2**53, 2**54]


async def test_what_is_taken_back_after_midnight_is_taken_from_the_day_before(
    store: Database,
) -> None:
    def change(session: Session) -> dict[str, tuple[int, Decimal]]:
        key = (add_job(session).id, "claude", "opus")
        usage.add(session, MONDAY, *key, output_tokens=1900, cost_usd=USD("1.9"))
        usage.add(session, TUESDAY, *key, output_tokens=100, cost_usd=USD("0.1"))
        usage.add(session, TUESDAY, *key, output_tokens=-1500, cost_usd=USD("-1.5"), turns=1)
        usage.add(session, TUESDAY, *key, cost_usd=USD("0.25"))
        found = usage.sums(session, Grouping.DAY)
        assert sum(one.turns for one in found) == 1
        return {one.group: (one.output_tokens, one.cost_usd) for one in found}

    days = {MONDAY: (500, USD("0.5")), TUESDAY: (0, USD("0.25"))}
    assert await store.write(change) == days


async def test_what_no_day_has_to_give_back_keeps_the_sums_exact_and_frees_no_cap(
    store: Database,
) -> None:
    def change(session: Session) -> Decimal:
        job, other = add_job(session), add_job(session)
        usage.add(session, MONDAY, job.id, "claude", "opus", cost_usd=USD(1))
        usage.add(session, MONDAY, job.id, "claude", "haiku", cost_usd=USD("-0.25"))
        usage.add(session, MONDAY, other.id, "claude", "opus", cost_usd=USD(2))
        costs = {one.group: one.cost_usd for one in usage.sums(session, Grouping.MODEL)}
        assert costs == {"opus": USD(3), "haiku": USD("-0.25")}
        assert usage.cost_of_day(session, MONDAY, job.project) == USD(3)
        return usage.cost_of_day(session, MONDAY)

    assert await store.write(change) == USD(3)


async def test_the_cap_of_a_project_is_not_dearer_for_the_jobs_that_it_had_before(
    db: Database,
) -> None:
    def steps(session: Session) -> int:
        """Hundreds of steps that SQLite takes to add the day up."""
        taken: list[None] = []
        connection: Any = session.connection().connection.driver_connection
        connection.set_progress_handler(lambda: taken.append(None), 100)
        assert usage.cost_of_day(session, MONDAY, "/garden") == USD(2)
        connection.set_progress_handler(None, 0)
        return len(taken)

    def change(session: Session) -> tuple[int, int]:
        job = add_job(session, project="/garden")
        usage.add(session, MONDAY, job.id, "claude", "opus", cost_usd=USD(2))
        before = steps(session)
        for _ in range(300):
            add_job(session, project="/garden")
        return before, steps(session)

    before, after = await db.write(change)
    assert after == before


async def test_nothing_added_is_no_row(store: Database) -> None:
    def change(session: Session) -> int:
        usage.add(session, MONDAY, add_job(session).id, "claude", "")
        return len(usage.sums(session, Grouping.JOB))

    assert await store.write(change) == 0


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (Grouping.DAY, {MONDAY: 6, TUESDAY: 8}),
        (Grouping.MODEL, {"opus": 6, "gpt": 8}),
        (Grouping.JOB, {"job_root": 2, "job_child": 12}),
        (Grouping.PROJECT, {"/garden": 2, "/house": 12}),
        (Grouping.TREE, {"job_root": 14}),
    ],
)
async def test_usage_is_summed_up_in_each_way(
    store: Database, by: Grouping, expected: dict[str, int]
) -> None:
    def change(session: Session) -> None:
        root = add_job(session, id="job_root", project="/garden")
        child = add_job(session, id="job_child", parent=root, project="/house")
        add_job(session, id="job_other")
        for day, job, model, cost in (
            (MONDAY, root.id, "opus", "2"),
            (MONDAY, child.id, "opus", "4"),
            (TUESDAY, child.id, "gpt", "8"),
            (MONDAY, "job_other", "opus", "100"),
        ):
            usage.add(session, day, job, "x", model, cost_usd=USD(cost))

    await store.write(change)
    costs: Counter[str] = Counter()
    for one in await store.read(lambda s: usage.sums(s, by, under="job_root")):
        costs[one.group] += int(one.cost_usd)
    assert costs == expected
    later = await store.read(lambda s: usage.sums(s, by, since=TUESDAY))
    assert [one.cost_usd for one in later] == [USD(8)]
    assert await store.read(lambda s: usage.cost_of_day(s, MONDAY, "/house")) == 4


async def test_the_cost_of_an_account_is_that_of_all_below(store: Database) -> None:
    def change(session: Session) -> None:
        free = add_job(session, cost_usd=USD(100))
        root = account(session, "10", parent=free)
        jobs.set_values(session, root.id, cost_usd=USD("0.000000001"))
        child = drawer(session, root, "1", status="done")
        drawer(session, child, "2.5")
        inner = account(session, "5", parent=child)
        drawer(session, inner, "4")
        drawer(session, account(session, "1", parent=free), "50")
        whole, part = (root.id, USD("7.500000001")), (inner.id, USD(4))
        for name, expected in ((inner.id, [part, whole]), (root.id, [whole])):
            found = usage.spent_over(session, name)
            assert [(one.id, spent) for one, spent in found] == expected

    await store.write(change)


async def test_accounts_are_found_above_and_below_with_what_was_drawn(store: Database) -> None:
    def change(session: Session) -> None:
        root = account(session, "10")
        plain = drawer(session, root, "1")
        inner = account(session, "4", parent=plain)
        drawer(session, inner, "0.5")
        closed = account(session, "2", parent=inner)
        jobs.set_values(session, closed.id, status="done", cost_usd=USD("1.5"))
        above = usage.accounts_over(session, closed.id)
        assert [one.id for one in above] == [closed.id, inner.id, root.id]
        accounts = usage.accounts_around(session, root.id)
        whole, part = accounts.room(root.id), accounts.room(inner.id)
        # The inner one reserves all of its 4 dollars, of which 2 are spent.
        assert (whole.spent, whole.reserved, whole.free) == (USD(3), USD(2), USD(5))
        assert (part.spent, part.reserved, part.free) == (USD(2), 0, USD(2))
        assert (accounts.is_open(inner.id), accounts.is_open(closed.id)) == (True, False)

    await store.write(change)


async def test_open_jobs_of_a_tree_come_deepest_first(store: Database) -> None:
    def change(session: Session) -> bool:
        root = account(session, "10")
        done = drawer(session, root, status="done")
        left = drawer(session, done)
        other = drawer(session, root)
        return list(usage.open_in_tree(session, root.id)) == [left.id, other.id, root.id]

    assert await store.write(change)


async def test_the_models_that_answered_are_named_in_order(store: Database) -> None:
    def change(session: Session) -> list[str]:
        job, first = running(session)
        attempts.write(session, first.id, model_used="opus")
        for model in ("sonnet", None, "opus"):
            number = jobs.get(session, job.id).attempt
            attempts.settle(session, f"{job.id}.{number}", BEGINNING)
            attempts.end(session, f"{job.id}.{number}", BEGINNING)
            jobs.set_values(session, job.id, status="queued")
            attempts.write(session, claim(session, job.id).id, model_used=model)
        return list(usage.models_used(session, job.id))

    assert await store.write(change) == ["scripted:opus", "scripted:sonnet"]


async def test_a_model_that_a_cli_does_not_name_is_the_one_asked_for_once_it_answered(
    store: Database,
) -> None:
    def change(session: Session) -> tuple[list[str], list[str]]:
        job, attempt = running(session)
        attempts.write(session, attempt.id, model="gpt-6-sol")
        before = list(usage.models_used(session, job.id))
        attempts.write(session, attempt.id, turns=1)
        return before, list(usage.models_used(session, job.id))

    assert await store.write(change) == ([], ["scripted:gpt-6-sol"])


def add_workflow(session: Session, parent: JobRow | None = None) -> JobRow:
    """A workflow's job, with the row that says that it is one."""
    job = add_job(session, parent=parent, kind="workflow", status="running")
    crew = {"implementer": "claude:opus", "reviewer": "codex:", "reviewer_why": "It is there."}
    state = {"id": job.id, "state": "running", "phase": "assess", "publish": "none"}
    workflows.add(session, {**crew, **state, "max_cycles": 3}, BEGINNING)
    return job


async def test_by_workflow_each_job_counts_for_the_nearest_one_above_it_and_others_do_not(
    store: Database,
) -> None:
    def change(session: Session) -> list[str]:
        lead = add_job(session)
        outer = add_workflow(session, lead)
        phase = add_job(session, parent=outer)
        inner = add_workflow(session, phase)
        below = add_job(session, parent=add_job(session, parent=inner))
        for job, cost in ((lead, "8"), (phase, "1"), (below, "0.5"), (inner, "0.25")):
            usage.add(session, MONDAY, job.id, "claude", "opus", turns=1, cost_usd=USD(cost))
        usage.add(session, TUESDAY, phase.id, "claude", "opus", turns=1, cost_usd=USD("2"))
        return [lead.id, outer.id, inner.id]

    lead, outer, inner = await store.write(change)

    async def by_workflow(**wanted: str) -> dict[str, Decimal]:
        used = await store.read(lambda s: usage.sums(s, Grouping.WORKFLOW, **wanted))
        return {one.group: one.cost_usd for one in used}

    assert await by_workflow() == {outer: USD(3), inner: USD("0.75")}
    assert await by_workflow(since=TUESDAY) == {outer: USD(2)}
    assert await by_workflow(under=inner) == {inner: USD("0.75")}
    costs = await store.read(lambda s: usage.costs(s, [lead, outer, inner, "wf_none"]))
    assert costs == {lead: USD("11.75"), outer: USD("3.75"), inner: USD("0.75")}
    assert await store.read(lambda s: usage.costs(s, [])) == {}
