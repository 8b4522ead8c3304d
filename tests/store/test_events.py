"""The outbox as its readers see it."""

import pytest
from sqlmodel import Session

from hurlicane_mcp.store import events
from hurlicane_mcp.store.database import Database
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio


@pytest.fixture
async def told(store: Database) -> Database:
    def change(session: Session) -> None:
        for kind, job in (("job.created", "a"), ("job.created", "b"), ("attempt.started", "a")):
            events.record(session, BEGINNING, kind, job)
        events.record(session, BEGINNING, "note.written", project="p", key="k")

    await store.write(change)
    return store


@pytest.mark.parametrize(
    ("jobs", "kinds", "expected"),
    [
        pytest.param([], [], [1, 2, 3, 4], id="everything"),
        pytest.param(["a"], [], [1, 3], id="one job"),
        pytest.param([], ["job.*"], [1, 2], id="a family of kinds"),
        pytest.param([], ["job.created", "note.*"], [1, 2, 4], id="several kinds"),
        pytest.param(["b"], ["attempt.*"], [], id="nothing"),
        pytest.param([], ["%"], [], id="no wildcard of SQL"),
    ],
)
async def test_filters(
    told: Database, jobs: list[str], kinds: list[str], expected: list[int]
) -> None:
    rows = await told.read(
        lambda session: events.after(session, 0, limit=10, job_ids=jobs, kinds=kinds)
    )
    assert [row.seq for row in rows] == expected


async def test_a_reader_goes_on_where_it_stopped(told: Database) -> None:
    first = await told.read(lambda session: events.after(session, 0, limit=2))
    rest = await told.read(lambda session: events.after(session, first[-1].seq, limit=10))
    assert [row.seq for row in (*first, *rest)] == [1, 2, 3, 4]
    assert await told.read(events.last_seq) == 4


async def test_a_moment_comes_back_as_it_was_stored(told: Database) -> None:
    row = (await told.read(lambda session: events.after(session, 0, limit=1)))[0]
    assert row.at == BEGINNING
    assert row.at.tzinfo is not None
