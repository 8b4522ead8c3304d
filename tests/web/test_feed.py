"""The feed tells each event once, in order, from any point on."""

import random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.feed import PAGE
from hurlicane_mcp.store import attempts, events, jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, claim
from tests.fakes import BEGINNING, FakeClock
from tests.web.site import Site, Stream, Told, running_site, streamed

Change = Callable[[Session], None]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(store: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[Site]:
    """The web edge on each kind of database in turn."""
    async with running_site(store, clock, tmp_path) as site:
        yield site


def tell(kind: str, job_id: str | None = None, count: int = 1) -> Change:
    """A change of which nothing but *count* events is to be seen."""

    def change(session: Session) -> None:
        for number in range(count):
            events.record(session, BEGINNING, kind, job_id, None, number=number)

    return change


async def take(stream: Stream, count: int) -> list[Told]:
    """The next *count* events."""
    found: list[Told] = []
    while len(found) < count and (told := await stream.next()) is not None:
        found.append(told)
    return found


async def test_an_event_is_told_with_everything_about_it(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    async with streamed(operator, "/events") as stream:
        await site.db.write(
            lambda s: events.record(s, BEGINNING, "attempt.progress", "job_x", 2, text="ä", by=None)
        )
        told = await stream.next()
    assert told == Told(
        id=1,
        event="attempt.progress",
        data={
            "seq": 1,
            "at": "2026-01-01T12:00:00Z",
            "kind": "attempt.progress",
            "job_id": "job_x",
            "attempt": 2,
            "data": {"text": "ä", "by": None},
        },
    )


async def test_who_names_no_point_hears_only_what_comes(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    await site.db.write(tell("old"))
    async with streamed(operator, "/events") as stream:
        await site.db.write(tell("new"))
        told = await stream.next()
    assert told is not None
    assert (told.id, told.event) == (2, "new")


async def test_a_point_is_named_by_the_header_or_else_by_the_url(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    await site.db.write(tell("past", count=5))
    async with streamed(operator, "/events?after=0") as stream:
        assert [told.id for told in await take(stream, 5)] == [1, 2, 3, 4, 5]
    async with streamed(operator, "/events?after=0", last_event_id="3") as stream:
        assert [told.id for told in await take(stream, 2)] == [4, 5]


async def test_a_long_past_comes_whole_and_the_present_after_it(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    count = 2 * PAGE
    await site.db.write(tell("past", count=count))
    async with streamed(operator, "/events?after=0") as stream:
        past = await take(stream, count)
        await site.db.write(tell("present"))
        present = await stream.next()
    assert [told.id for told in past] == list(range(1, count + 1))
    assert present is not None
    assert present.id == count + 1


async def test_a_reader_that_is_cut_off_again_and_again_hears_each_event_once(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    writers, each = 6, 40
    chance = random.Random(7)
    seen: list[int] = []

    async def write() -> None:
        for _ in range(each):
            await site.db.write(tell("note"))

    async with anyio.create_task_group() as tasks:
        for _ in range(writers):
            tasks.start_soon(write)
        last = "0"
        while len(seen) < writers * each:
            wanted = min(chance.randint(1, 30), writers * each - len(seen))
            async with streamed(operator, "/events", last_event_id=last) as stream:
                seen += [told.id for told in await take(stream, wanted)]
            last = str(seen[-1])
    assert seen == list(range(1, writers * each + 1))


@pytest.mark.parametrize(
    ("query", "heard"),
    [
        ("kind=job.done", ["job.done"]),
        ("kind=job.*", ["job.created", "job.done"]),
        ("kind=job.done&kind=attempt.*", ["job.done", "attempt.ended"]),
        ("job={a}", ["job.created", "attempt.ended"]),
        ("job={a}&job={b}", ["job.created", "job.done", "attempt.ended"]),
        ("job={a}&kind=job.*", ["job.created"]),
    ],
)
async def test_a_feed_is_filtered_by_job_and_kind(
    site: Site, operator: httpx2.AsyncClient, query: str, heard: list[str]
) -> None:
    for kind, job in [
        ("job.created", "job_a"),
        ("job.done", "job_b"),
        ("attempt.ended", "job_a"),
        ("jobs", "job_c"),
    ]:
        await site.db.write(tell(kind, job))
    asked = query.format(a="job_a", b="job_b")
    async with streamed(operator, f"/events?after=0&{asked}") as stream:
        assert [told.event for told in await take(stream, len(heard))] == heard
    page = (await operator.get(f"/api/events?{asked}")).json()
    assert [event["kind"] for event in page["events"]] == heard


async def test_a_filtered_page_goes_on_after_all_that_it_has_looked_at(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    await site.db.write(tell("wanted", count=3))
    await site.db.write(tell("other", count=4))
    first = (await operator.get("/api/events?kind=wanted&limit=2")).json()
    assert [event["seq"] for event in first["events"]] == [1, 2]
    assert first["next"] == 2
    second = (await operator.get("/api/events?kind=wanted&limit=2&after=2")).json()
    assert ([event["seq"] for event in second["events"]], second["next"]) == ([3], 7)
    assert (await operator.get("/api/events?after=99")).json() == {"events": [], "next": 99}


async def test_a_point_that_is_none_is_refused(operator: httpx2.AsyncClient) -> None:
    for given in ("x", "-1", "1.5", "", "9" * 19, "9" * 5000, "²"):
        header = [(b"Last-Event-ID", given.encode("latin-1"))]
        answer = await operator.get("/events", headers=header)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
        assert "Last-Event-ID" in answer.json()["message"]
        answer = await operator.get("/events", params={"after": given})
        assert answer.status_code == 422


async def test_the_feed_ends_when_the_server_stops(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    async with streamed(operator, "/events") as stream:
        site.db.bell.close()
        assert await stream.next() is None
    async with streamed(operator, "/events") as late:
        assert await late.next() is None


async def test_a_reader_that_goes_leaves_nothing_behind(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    listening = site.db.bell._ears  # pyright: ignore[reportPrivateUsage]  (nothing else tells)
    async with site.client() as other, streamed(other, "/events") as stream:
        await site.db.write(tell("first"))
        await stream.next()
        assert listening
    with anyio.fail_after(10):
        while listening:  # noqa: ASYNC110  (the server notices when the socket closes)
            await anyio.sleep(0.01)


async def live(site: Site, chance: random.Random) -> None:
    """A job's life, with one of the possible ends."""
    db = site.db
    done = Outcome(OutcomeKind.DONE, "done")

    def begin(session: Session) -> str:
        starts = chance.random() < 0.5
        job = add_job(session, priority=int(starts))
        if starts:
            claim(session, job.id)
        return job.id

    job_id = await db.write(begin)
    end = chance.random()
    if end < 0.4:
        await db.write(lambda s: settlement.cancel(s, job_id, "no longer needed", BEGINNING))
    elif end < 0.8:

        def finish(session: Session) -> None:
            for attempt in attempts.of_job(session, job_id):
                settlement.settle(session, attempt.id, done, BEGINNING)
                settlement.mark_ended(session, attempt.id, Exit(code=0), BEGINNING)

        await db.write(finish)


async def test_a_snapshot_and_the_feed_after_it_come_to_the_present_state(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    chance = random.Random(11)
    snapshots: list[dict[str, Any]] = []

    async def lives() -> None:
        for _ in range(10):
            await live(site, chance)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(lives)
        snapshots += [(await operator.get("/api/snapshot")).json() for _ in range(5)]
    now = (await operator.get("/api/snapshot")).json()
    truth = {job.id: job.status for job in await site.db.read(jobs.listing)}
    assert states(now) == truth
    assert sum(now["counts"].values()) == len(truth)
    for snapshot in snapshots:
        state = states(snapshot)
        page = await operator.get("/api/events", params={"after": snapshot["as_of"]})
        for event in page.json()["events"]:
            if event["kind"].startswith("job."):
                state[event["job_id"]] = event["data"]["status"]
        assert state == truth


def states(snapshot: dict[str, Any]) -> dict[str, str]:
    """The status of each job of a snapshot."""
    return {job["job_id"]: job["status"] for job in snapshot["jobs"]}


async def test_a_snapshot_tells_of_slots_and_living_agents(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, attempt = await site.running_job()
    snapshot = (await operator.get("/api/snapshot")).json()
    assert snapshot["slots"] == {"max": 4, "busy": 1}
    assert snapshot["counts"] == {"running": 1}
    assert [one["job_id"] for one in snapshot["jobs"]] == [job.id]
    (agent,) = snapshot["agents"]
    assert (agent["attempt_id"], agent["waiting"]) == (attempt.id, False)
