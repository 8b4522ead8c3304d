"""Warnings in the store, on each kind of database."""

from datetime import timedelta

import pytest
from sqlmodel import Session, col, select

from hurlicane_mcp.store import attempts, jobs, vitals, warnings
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow
from tests.factories import add_job, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

LATER = BEGINNING + timedelta(hours=1)


def told(session: Session) -> list[tuple[str, str]]:
    """The events about warnings: what has become of which."""
    query = select(EventRow).where(col(EventRow.kind).startswith("job.warn"))
    rows = session.exec(query.order_by(col(EventRow.seq))).all()
    return [(row.kind.removeprefix("job."), row.data["warning"]) for row in rows]


def shown(session: Session, *job_ids: str) -> dict[str, list[str]]:
    found = warnings.of_jobs(session, job_ids)
    return {job_id: [row.kind for row in rows] for job_id, rows in found.items()}


async def test_a_warning_is_raised_once_until_it_is_cleared(store: Database) -> None:
    def change(session: Session) -> list[object]:
        job = add_job(session)
        seen: list[object] = [
            warnings.warn(session, job.id, "turns", BEGINNING, text, BEGINNING)
            for text in ("first", "again")
        ]
        seen.append([row.text for row in warnings.listing(session)])
        warnings.clear(session, job.id, ["turns", "budget"], LATER)
        warnings.clear(session, job.id, ["turns"], LATER)
        seen.append([shown(session, job.id), warnings.holding(session)])
        seen.append(warnings.warn(session, job.id, "turns", LATER, "anew", LATER))
        seen.append([(row.text, row.since) for row in warnings.listing(session)])
        return [*seen, told(session)]

    assert await store.write(change) == [
        *(True, False, ["first"], [{}, {}], True, [("anew", LATER)]),
        [("warned", "turns"), ("warning_cleared", "turns"), ("warned", "turns")],
    ]


async def test_a_dismissed_warning_is_not_shown_but_goes_on_to_hold(store: Database) -> None:
    def change(session: Session) -> list[object]:
        job = add_job(session)
        none = warnings.dismiss(session, job.id, "turns", BEGINNING, "operator")
        warnings.warn(session, job.id, "turns", BEGINNING, "x", BEGINNING)
        twice = [
            warnings.dismiss(session, job.id, "turns", moment, "operator")
            for moment in (BEGINNING, LATER)
        ]
        moments = [row.dismissed_at for row in twice if row is not None]
        raised = warnings.warn(session, job.id, "turns", LATER, "x", LATER)
        hidden = [
            shown(session, job.id),
            warnings.holding(session, [job.id]) == {job.id: {"turns"}},
        ]
        warnings.clear(session, job.id, ["turns"], LATER)
        warnings.warn(session, job.id, "turns", LATER, "x", LATER)
        return [none, moments, raised, hidden, shown(session, job.id) == {job.id: ["turns"]}]

    assert await store.write(change) == [None, [BEGINNING] * 2, False, [{}, True], True]
    assert await store.read(told) == [
        ("warned", "turns"),
        ("warning_dismissed", "turns"),
        ("warning_cleared", "turns"),
        ("warned", "turns"),
    ]


async def test_warnings_are_listed_by_age_and_those_of_final_jobs_are_not(store: Database) -> None:
    def change(session: Session) -> list[object]:
        first, second, over = (add_job(session) for _ in range(3))
        warnings.warn(session, first.id, "turns", LATER, "x", LATER)
        for job in (first, second, over):
            warnings.warn(session, job.id, "long_running", BEGINNING, "x", LATER)
        jobs.set_values(session, over.id, status="done")
        rows = [(row.job_id, row.kind) for row in warnings.listing(session)]
        oldest = sorted([(first.id, "long_running"), (second.id, "long_running")])
        listed = rows == [*oldest, (first.id, "turns")]
        both = shown(session, first.id, over.id) == {first.id: ["long_running", "turns"]}
        return [listed, both, set(warnings.holding(session)) == {first.id, second.id, over.id}]

    assert await store.write(change) == [True, True, True]


async def test_the_figures_of_a_job_are_those_of_all_its_attempts(store: Database) -> None:
    def change(session: Session) -> list[object]:
        payer = add_job(session)
        job, attempt = running(session, payer_id=payer.id, stop_mode="turns")
        attempts.write(session, attempt.id, turns=7, denials=1)
        work = vitals.at_work(session) == frozenset({job.id, payer.id})
        (row,) = vitals.of_jobs(session, [job.id, "job_none"])
        (run,) = vitals.attempts_of(session, [job.id, payer.id])[job.id]
        attempts.settle(session, attempt.id, LATER)
        return [work, row.stop_mode, (run.turns, run.denials), vitals.at_work(session)]

    assert await store.write(change) == [True, "turns", (7, 1), frozenset()]
