"""Jobs in the store, on SQLite and PostgreSQL alike."""

from datetime import timedelta

import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.jobs import JobEvent, JobStatus
from hurlicane_mcp.errors import IllegalTransition, NotFound
from hurlicane_mcp.store import attempts, events, jobs, queue
from hurlicane_mcp.store.database import Database
from tests.factories import add_job, claim, claim_due, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio
LATER = BEGINNING + timedelta(minutes=5)


async def test_a_claim_takes_the_most_urgent_and_then_the_oldest(store: Database) -> None:
    def change(session: Session) -> list[str]:
        for name, priority in (("old", 0), ("young", 0), ("low", -5), ("urgent", 7)):
            add_job(session, title=name, priority=priority)
        return [job.title for job in claim_due(session, BEGINNING, 3)]

    assert await store.write(change) == ["urgent", "old", "young"]


async def test_a_claimed_job_runs_its_next_attempt(store: Database) -> None:
    def change(session: Session) -> tuple[str, int]:
        job, _ = running(session)
        return job.status, job.attempt

    assert await store.write(change) == (JobStatus.RUNNING, 1)


async def test_a_parked_job_is_claimed_when_its_time_has_come(store: Database) -> None:
    def change(session: Session) -> list[int]:
        add_job(session, not_before=LATER)
        assert queue.next_due(session, BEGINNING) == LATER
        early = len(claim_due(session, BEGINNING, 5))
        return [early, len(claim_due(session, LATER, 5))]

    assert await store.write(change) == [0, 1]


async def test_a_job_is_not_claimed_while_its_old_process_may_live(store: Database) -> None:
    def change(session: Session) -> list[int]:
        job, attempt = running(session)
        attempts.settle(session, attempt.id, BEGINNING)
        jobs.change(session, job, JobEvent.REQUEUE, BEGINNING)
        before = len(claim_due(session, BEGINNING, 5))
        attempts.end(session, attempt.id, BEGINNING)
        return [before, len(claim_due(session, BEGINNING, 5))]

    assert await store.write(change) == [0, 1]


async def test_a_change_writes_its_event(store: Database) -> None:
    def change(session: Session) -> str:
        job, _ = running(session)
        jobs.change(session, job, JobEvent.SUCCEED, LATER, result="it works")
        return job.id

    job_id = await store.write(change)
    job = await store.read(lambda session: jobs.get(session, job_id))
    assert (job.status, job.result, job.finished_at) == (JobStatus.DONE, "it works", LATER)
    told = await store.read(lambda session: events.after(session, 0, limit=10))
    assert [event.kind for event in told] == ["job.created", "job.running", "job.done"]


async def test_an_illegal_change_writes_nothing(store: Database) -> None:
    job = await store.write(add_job)
    with pytest.raises(IllegalTransition):
        await store.write(lambda session: jobs.change(session, job, JobEvent.REQUEUE, LATER))
    assert (await store.read(lambda session: jobs.get(session, job.id))).status == "queued"
    assert await store.read(events.last_seq) == 1


async def test_descendants_and_ancestors_of_any_depth_are_found(store: Database) -> None:
    def change(session: Session) -> None:
        root = add_job(session, id="job_root")
        child = add_job(session, id="job_child", parent=root)
        add_job(session, id="job_grandchild", parent=child)
        add_job(session, id="job_stranger")

    await store.write(change)
    above = await store.read(lambda session: jobs.ancestors(session, "job_grandchild"))
    assert above == ("job_grandchild", "job_child", "job_root")
    below = await store.read(lambda session: jobs.listing(session, under="job_root"))
    assert [job.id for job in below] == ["job_grandchild", "job_child"]
    asked = ("job_grandchild", "job_stranger", "job_root", "job_none")
    outside = await store.read(lambda session: jobs.outside(session, "job_root", asked))
    assert outside == ("job_stranger", "job_root", "job_none")
    assert await store.read(lambda s: jobs.count_live_in_tree(s, "job_root")) == 3


async def test_lists_are_paged_newest_first(store: Database) -> None:
    def change(session: Session) -> None:
        for number in range(5):
            add_job(session, title=str(number))

    await store.write(change)
    page = await store.read(lambda session: jobs.listing(session, limit=2))
    following = await store.read(lambda s: jobs.listing(s, limit=2, before=page[-1].seq))
    assert [job.title for job in (*page, *following)] == ["4", "3", "2", "1"]


async def test_a_dependant_is_free_when_all_are_done_and_gone(store: Database) -> None:
    def change(session: Session) -> list[bool]:
        first, attempt = running(session)
        dependant = add_job(session, depends_on=(first.id,))
        seen = [jobs.is_free_to_start(session, dependant.id)]
        jobs.change(session, first, JobEvent.SUCCEED, BEGINNING)
        seen.append(jobs.is_free_to_start(session, dependant.id))
        attempts.end(session, attempt.id, BEGINNING)
        return [*seen, jobs.is_free_to_start(session, dependant.id)]

    assert await store.write(change) == [False, False, True]


async def test_an_unknown_job_is_named(store: Database) -> None:
    with pytest.raises(NotFound, match="'job_none'"):
        await store.read(lambda session: jobs.get(session, "job_none"))


async def test_a_claim_writes_the_attempt_that_holds_the_job(store: Database) -> None:
    def change(session: Session) -> str:
        job = add_job(session)
        return claim(session, job.id).id

    name = await store.write(change)
    assert await store.read(lambda session: attempts.get(session, name).number) == 1
