"""Blocking calls: who waits hears at once, gives the slot back, and is never kept too long."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.waiting import MAX_IDS, WaitAnswer, Waiting, WaitLimits
from hurlicane_mcp.errors import Invalid, NotFound, WaitCycle
from hurlicane_mcp.store import attempts, waits
from hurlicane_mcp.store.database import Database
from tests.factories import add_job, claim, running
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=1)


@pytest.fixture
def waiting(db: Database, clock: FakeClock) -> Waiting:
    return Waiting(db, clock, WaitLimits(launched=timedelta(minutes=30)))


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


def agent(job_id: str, number: int = 1) -> Caller:
    return Caller(Role.AGENT, job_id, f"{job_id}.{number}")


async def settled(db: Database, attempt_id: str, result: str) -> None:
    outcome = Outcome(OutcomeKind.DONE, result)
    await db.write(lambda session: settlement.settle(session, attempt_id, outcome, BEGINNING))


async def while_waiting(
    call: Callable[[], Awaitable[WaitAnswer]], then: Callable[[], Awaitable[None]], db: Database
) -> WaitAnswer:
    """What *call* answers when *then* happens once it waits."""
    answers: list[WaitAnswer] = []

    async def wait() -> None:
        answers.append(await call())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await then()
    return answers[0]


async def test_the_waiter_hears_the_result_when_the_last_job_is_final(
    db: Database, waiting: Waiting
) -> None:
    first, second = await db.write(lambda s: (running(s)[1], running(s)[1]))

    async def finish() -> None:
        await settled(db, first.id, "one")
        await settled(db, second.id, "two")

    ids = [first.job_id, second.job_id]
    answer = await while_waiting(lambda: waiting.until_final(OPERATOR, ids, no_beat), finish, db)
    assert ([job.result for job in answer.jobs], answer.pending) == (["one", "two"], [])


async def test_a_waiting_agent_holds_no_slot_until_it_is_answered(
    db: Database, waiting: Waiting
) -> None:
    def change(session: Session) -> tuple[str, str]:
        parent, _ = running(session)
        child, _ = running(session, parent=parent)
        return parent.id, child.id

    parent, child = await db.write(change)
    assert await db.read(attempts.count_busy) == 2

    async def look_and_finish() -> None:
        while not await db.read(waits.open_waits):
            await anyio.lowlevel.checkpoint()
        assert await db.read(attempts.count_busy) == 1
        await settled(db, f"{child}.1", "x")

    await while_waiting(
        lambda: waiting.until_final(agent(parent), [child], no_beat), look_and_finish, db
    )
    await db.write(lambda session: None)  # the wait is closed by a write that nobody waits for
    assert await db.read(waits.open_waits) == []


async def test_a_circle_of_waits_is_refused_whatever_edges_close_it(
    db: Database, waiting: Waiting
) -> None:
    """One job waits for a second that depends on the first."""

    def change(session: Session) -> tuple[str, str]:
        root, _ = running(session)
        first, _ = running(session, parent=root)
        second = add_job(session, parent=first, depends_on=(first.id,))
        return first.id, second.id

    first, second = await db.write(change)
    with pytest.raises(WaitCycle, match=second):
        await waiting.until_final(agent(first), [second], no_beat)
    assert await db.read(waits.open_waits) == []


async def test_time_is_up_with_what_is_pending_and_the_advice_to_call_again(
    db: Database, waiting: Waiting
) -> None:
    job, _ = await db.write(running)
    answer = await waiting.until_final(OPERATOR, [job.id, job.id], no_beat, timeout=SOON)
    assert answer.pending == [job.id]
    assert answer.hint is not None
    assert "call wait_for_jobs again" in answer.hint


@pytest.mark.parametrize(
    ("caller", "asked", "granted"),
    [
        (OPERATOR, None, 240),
        (OPERATOR, 3600, 240),
        (OPERATOR, 5, 5),
        (agent("job"), None, 1800),
        (agent("job"), 7200, 1800),
        (agent("job"), 900, 900),
    ],
)
def test_a_wait_lasts_as_long_as_the_callers_client_allows(
    caller: Caller, asked: float | None, granted: float
) -> None:
    limits = WaitLimits(launched=timedelta(minutes=30))
    wanted = None if asked is None else timedelta(seconds=asked)
    assert limits.of(caller, wanted) == timedelta(seconds=granted)


async def test_progress_is_sent_every_20_seconds(
    db: Database, waiting: Waiting, clock: FakeClock
) -> None:
    job, attempt = await db.write(running)
    beats: list[tuple[float, str]] = []

    async def beat(waited_s: float, what: str) -> None:
        beats.append((waited_s, what))

    async def time_passes() -> None:
        await clock.advance(timedelta(seconds=61))
        await settled(db, attempt.id, "x")

    await while_waiting(lambda: waiting.until_final(OPERATOR, [job.id], beat), time_passes, db)
    assert [waited for waited, _ in beats] == [20, 40, 60]
    assert job.id in beats[0][1]


async def test_a_client_that_cannot_take_progress_still_gets_the_answer(
    db: Database, waiting: Waiting, clock: FakeClock
) -> None:
    job, attempt = await db.write(running)

    async def broken(waited_s: float, what: str) -> None:
        raise OSError("gone")

    async def time_passes() -> None:
        await clock.advance(timedelta(seconds=61))
        await settled(db, attempt.id, "x")

    answer = await while_waiting(
        lambda: waiting.until_final(OPERATOR, [job.id], broken), time_passes, db
    )
    assert answer.jobs[0].result == "x"


async def test_a_stopping_server_answers_everybody(db: Database, waiting: Waiting) -> None:
    job, _ = await db.write(running)

    async def stop() -> None:
        db.bell.close()

    answer = await while_waiting(lambda: waiting.until_final(OPERATOR, [job.id], no_beat), stop, db)
    assert (answer.pending, answer.hint and "nothing is lost" in answer.hint) == ([job.id], True)


async def test_unknown_ids_are_named_and_too_many_refused(db: Database, waiting: Waiting) -> None:
    job, _ = await db.write(running)
    with pytest.raises(NotFound, match="'job_a', 'job_b'"):
        await waiting.until_final(OPERATOR, ["job_a", job.id, "job_b"], no_beat)
    for ids in ([], [f"job_{i}" for i in range(MAX_IDS + 1)]):
        with pytest.raises(Invalid, match="must name 1 to 200 jobs"):
            await waiting.until_final(OPERATOR, ids, no_beat)


async def test_a_cancelled_call_leaves_no_wait_behind(db: Database, waiting: Waiting) -> None:
    def change(session: Session) -> tuple[str, str]:
        parent, _ = running(session)
        child = add_job(session, parent=parent)
        claim(session, child.id)
        return parent.id, child.id

    parent, child = await db.write(change)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.until_final, agent(parent), [child], no_beat)
        while not await db.read(waits.open_waits):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await db.write(lambda session: None)
    assert await db.read(waits.open_waits) == []
