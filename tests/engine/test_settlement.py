"""The one door out: what falls with a job, what waits for its process, and that twice is safe."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, SQLModel, col, select

from hurlicane_mcp.domain.attempts import AttemptState, Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.store import attempts, jobs, waits
from hurlicane_mcp.store.database import Database, open_engine
from hurlicane_mcp.store.tables import AttemptRow, EventRow, JobRow
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, claim, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

DONE = Outcome(OutcomeKind.DONE, "the result")
FAILED = Outcome.failed(FailureKind.AGENT, "it rains")


async def test_finishing_settles_job_and_attempt_with_the_result(db: Database) -> None:
    job, attempt = await db.write(running)
    assert await db.write(lambda s: settlement.settle(s, attempt.id, DONE, BEGINNING))
    row = await db.read(lambda s: jobs.get(s, job.id))
    assert (row.status, row.result) == (JobStatus.DONE, "the result")
    assert (await db.read(lambda s: attempts.get(s, attempt.id))).state == AttemptState.SETTLED


async def test_a_second_settlement_changes_nothing(db: Database) -> None:
    job, attempt = await db.write(running)
    await db.write(lambda s: settlement.settle(s, attempt.id, DONE, BEGINNING))
    assert not await db.write(lambda s: settlement.settle(s, attempt.id, FAILED, BEGINNING))
    assert (await db.read(lambda s: jobs.get(s, job.id))).status == JobStatus.DONE
    assert await _terminal_events(db, job.id) == ["job.done"]


async def test_dependants_start_only_when_the_process_is_gone(db: Database) -> None:
    def change(session: Session) -> tuple[JobRow, AttemptRow, JobRow]:
        job, attempt = running(session)
        return job, attempt, add_job(session, depends_on=(job.id,))

    _, attempt, dependant = await db.write(change)
    await db.write(lambda s: settlement.settle(s, attempt.id, DONE, BEGINNING))
    assert await _status(db, dependant.id) == JobStatus.BLOCKED
    await db.write(lambda s: settlement.mark_ended(s, attempt.id, Exit(code=0), BEGINNING))
    assert await _status(db, dependant.id) == JobStatus.QUEUED


async def test_a_dependant_waits_for_all_that_it_depends_on(db: Database) -> None:
    def change(session: Session) -> tuple[AttemptRow, AttemptRow, JobRow]:
        (first, one), (second, two) = running(session), running(session)
        return one, two, add_job(session, depends_on=(first.id, second.id))

    one, two, dependant = await db.write(change)
    for attempt, expected in ((one, JobStatus.BLOCKED), (two, JobStatus.QUEUED)):
        await db.write(lambda s, a=attempt: settlement.settle(s, a.id, DONE, BEGINNING))
        await db.write(lambda s, a=attempt: settlement.mark_ended(s, a.id, Exit(code=0), BEGINNING))
        assert await _status(db, dependant.id) == expected


async def test_settling_closes_what_the_attempt_was_waiting_in(db: Database) -> None:
    job, attempt = await db.write(running)
    await db.write(lambda s: waits.open_wait(s, attempt, "jobs", ["x"], BEGINNING))
    await db.write(lambda s: settlement.cancel(s, job.id, "enough", BEGINNING))
    assert await db.read(waits.open_waits) == []


async def test_children_of_a_job_that_ended_by_its_exit_go_on_by_themselves(db: Database) -> None:
    def change(session: Session) -> tuple[JobRow, AttemptRow, JobRow]:
        parent, attempt = running(session, completion="exit")
        return parent, attempt, add_job(session, parent=parent)

    parent, attempt, child = await db.write(change)
    await db.write(lambda s: settlement.settle(s, attempt.id, DONE, BEGINNING))
    assert (await db.read(lambda s: jobs.get(s, child.id))).detached
    await db.write(lambda s: settlement.cancel(s, parent.id, "too late", BEGINNING))
    assert await _status(db, child.id) == JobStatus.QUEUED


async def test_a_failure_fails_the_whole_chain_of_dependants_with_the_reason(db: Database) -> None:
    def change(session: Session) -> tuple[AttemptRow, JobRow]:
        job, attempt = running(session)
        last = job
        for _ in range(300):
            last = add_job(session, depends_on=(last.id,))
        return attempt, last

    attempt, last = await db.write(change)
    await db.write(lambda s: settlement.settle(s, attempt.id, FAILED, BEGINNING))
    row = await db.read(lambda s: jobs.get(s, last.id))
    assert (row.status, row.failure_kind) == (JobStatus.FAILED, FailureKind.DEPENDENCY)
    assert row.failure_reason is not None
    assert row.failure_reason.startswith("It needed job")
    assert row.failure_reason.endswith("The cause: it rains")
    assert len(row.failure_reason) < 200  # not every link of the chain


async def test_a_failure_cancels_what_the_job_created_but_not_what_was_detached(
    db: Database,
) -> None:
    def change(session: Session) -> tuple[AttemptRow, dict[str, str]]:
        parent, attempt = running(session)
        child, grandchild_attempt = running(session, parent=parent)
        grandchild = add_job(session, parent=child)
        free = add_job(session, parent=parent, detached=True)
        del grandchild_attempt
        return attempt, {"child": child.id, "grandchild": grandchild.id, "free": free.id}

    attempt, names = await db.write(change)
    await db.write(lambda s: settlement.settle(s, attempt.id, FAILED, BEGINNING))
    statuses = {name: await _status(db, job_id) for name, job_id in names.items()}
    assert statuses == {
        "child": JobStatus.CANCELLED,
        "grandchild": JobStatus.CANCELLED,
        "free": JobStatus.QUEUED,
    }


async def test_cancelling_a_running_job_settles_its_attempt(db: Database) -> None:
    job, attempt = await db.write(running)
    status = await db.write(lambda s: settlement.cancel(s, job.id, "No longer needed.", BEGINNING))
    assert status is JobStatus.CANCELLED
    row = await db.read(lambda s: attempts.get(s, attempt.id))
    assert (row.state, row.outcome) == (AttemptState.SETTLED, OutcomeKind.CANCELLED)


async def test_cancelling_a_finished_job_leaves_it_as_it_is(db: Database) -> None:
    job, attempt = await db.write(running)
    await db.write(lambda s: settlement.settle(s, attempt.id, DONE, BEGINNING))
    assert await db.write(lambda s: settlement.cancel(s, job.id, "", BEGINNING)) is JobStatus.DONE


async def test_an_unfinished_attempt_leads_to_another_one(db: Database) -> None:
    job, attempt = await db.write(running)
    unfinished = Outcome(OutcomeKind.UNFINISHED, "I think I am done.")

    def end(session: Session) -> AttemptRow:
        settlement.settle(session, attempt.id, unfinished, BEGINNING)
        settlement.mark_ended(session, attempt.id, Exit(code=0), BEGINNING)
        return claim(session, job.id)

    assert (await db.write(end)).number == 2


async def test_a_late_end_of_an_old_attempt_does_not_touch_the_job(db: Database) -> None:
    job, first = await db.write(running)

    def succeed(session: Session) -> None:
        interrupted = Outcome(OutcomeKind.INTERRUPTED)
        settlement.settle(session, first.id, interrupted, BEGINNING)
        settlement.mark_ended(session, first.id, Exit(), BEGINNING)
        claim(session, job.id)
        settlement.settle(session, first.id, FAILED, BEGINNING)
        settlement.mark_ended(session, first.id, Exit(code=1), BEGINNING)

    await db.write(succeed)
    assert await _status(db, job.id) == JobStatus.RUNNING


OUTCOMES = st.sampled_from(
    [DONE, FAILED, Outcome(OutcomeKind.CANCELLED), Outcome(OutcomeKind.UNFINISHED)]
)
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("sec"), OUTCOMES), max_size=12)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_any_order_of_ends_gives_each_job_at_most_one_terminal_event(
    steps: list[tuple[int, str, Outcome]],
) -> None:
    """Four jobs: 1 depends on 0, 2 is a child of 0, 3 depends on 1."""
    engine = open_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        first, _ = running(session)
        second = add_job(session, depends_on=(first.id,))
        third, _ = running(session, parent=first)
        fourth = add_job(session, depends_on=(second.id,))
        names = [first.id, second.id, third.id, fourth.id]
        for number, step, outcome in steps:
            _take(session, names[number], step, outcome)
        for name in names:
            kinds = session.exec(select(EventRow.kind).where(EventRow.job_id == name)).all()
            ends = [kind for kind in kinds if kind in ("job.done", "job.failed", "job.cancelled")]
            assert ends == ([f"job.{jobs.get(session, name).status}"] if ends else [])
        _check_tree(session, names)
    engine.dispose()


def _take(session: Session, job_id: str, step: str, outcome: Outcome) -> None:
    job = jobs.get(session, job_id)
    if step == "c":
        settlement.cancel(session, job_id, "", BEGINNING)
    elif job.attempt:
        name = f"{job_id}.{job.attempt}"
        if step == "s":
            settlement.settle(session, name, outcome, BEGINNING)
        else:
            settlement.settle(session, name, outcome, BEGINNING)
            settlement.mark_ended(session, name, Exit(code=0), BEGINNING)


def _check_tree(session: Session, names: list[str]) -> None:
    lost = {JobStatus.FAILED, JobStatus.CANCELLED}
    first, second, third, fourth = (jobs.get(session, name) for name in names)
    if first.status in lost:
        assert second.status in lost
        assert JobStatus(third.status).is_final
    if second.status in lost:
        assert fourth.status in lost
    unsettled = session.exec(
        select(AttemptRow).where(col(AttemptRow.state) != AttemptState.SETTLED)
    ).all()
    assert all(jobs.get(session, one.job_id).status == JobStatus.RUNNING for one in unsettled)


async def _status(db: Database, job_id: str) -> str:
    return (await db.read(lambda s: jobs.get(s, job_id))).status


async def _terminal_events(db: Database, job_id: str) -> list[str]:
    query = select(EventRow.kind).where(
        EventRow.job_id == job_id,
        col(EventRow.kind).in_(("job.done", "job.failed", "job.cancelled")),
    )
    return list(await db.read(lambda s: s.exec(query).all()))
