"""File locks as agents take them: all or none, in order, shared with those whom one waits for."""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import event
from sqlmodel import Session

from hurlicane_mcp.domain import agents
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.locks import MAX_HELD, PLACE_KEPT, collide
from hurlicane_mcp.engine import lock_table, settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.engine.lock_requests import Wanted
from hurlicane_mcp.engine.locks import LockAnswer, Locks
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.watchdog import Watchdog
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    StaleAttempt,
    WaitCycle,
)
from hurlicane_mcp.store import attempts, events, jobs, locks, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow
from hurlicane_mcp.supervision.host import Exit
from tests.factories import booking, running
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

NOT_AT_ALL = timedelta(0)


@pytest.fixture
def messages(db: Database, clock: FakeClock) -> Messages:
    return Messages(db, clock)


@pytest.fixture
def waiting(db: Database, clock: FakeClock, messages: Messages) -> Waiting:
    return Waiting(db, clock, WaitLimits(launched=timedelta(minutes=30)), messages)


@pytest.fixture
def service(db: Database, clock: FakeClock, waiting: Waiting) -> Locks:
    return Locks(db, clock, waiting)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder.resolve()


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


@pytest.fixture
def agent(db: Database, repo: Path) -> Callable[..., Awaitable[Caller]]:
    async def make(parent: Caller | None = None, **values: object) -> Caller:
        def change(session: Session) -> Caller:
            above = jobs.get(session, parent.job_id) if parent else None
            job, attempt = running(session, **{"parent": above, "work_dir": str(repo), **values})
            attempts.start(session, attempt.id, BEGINNING)
            return Caller(Role.AGENT, job.id, attempt.id)

        return await db.write(change)

    return make


Maker = Callable[..., Awaitable[Caller]]


async def take(
    service: Locks, caller: Caller, *paths: str, wait: timedelta | None = NOT_AT_ALL
) -> LockAnswer:
    return await service.lock(caller, Wanted(paths, wait=wait), no_beat)


@asynccontextmanager
async def waiters(
    db: Database, count: int, *calls: Callable[[], Awaitable[object]]
) -> AsyncGenerator[list[object]]:
    """What *calls* answer or raise; the body runs once *count* calls wait."""
    answers: list[object] = [None] * len(calls)

    async def run(place: int, call: Callable[[], Awaitable[object]]) -> None:
        try:
            answers[place] = await call()
        except WaitCycle as error:
            answers[place] = error

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for place, call in enumerate(calls):
                tasks.start_soon(run, place, call)
                await waits_open(db, min(place + 1, count))
            yield answers


async def waits_open(db: Database, count: int) -> None:
    await until(db, lambda session: len(waits.open_waits(session)) >= count)


async def until(db: Database, condition: Callable[[Session], bool]) -> None:
    with anyio.fail_after(20):
        while not await db.read(condition):  # noqa: ASYNC110  (rows: nobody notifies us)
            await anyio.sleep(0.005)


async def until_held(db: Database, caller: Caller, *names: str) -> None:
    def has(session: Session) -> bool:
        rows = locks.held(session, caller.job_id)
        return [Path(row.path).name for row in rows] == list(names)

    await until(db, has)


async def settle(db: Database, caller: Caller, clock: FakeClock) -> None:
    outcome = Outcome(OutcomeKind.DONE, "done")
    await db.write(lambda s: settlement.settle(s, caller.attempt_id, outcome, clock.now()))


async def end(db: Database, caller: Caller, clock: FakeClock) -> None:
    await db.write(lambda s: settlement.mark_ended(s, caller.attempt_id, Exit(code=0), clock.now()))


async def held(db: Database, caller: Caller) -> list[str]:
    rows = await db.read(lambda session: locks.held(session, caller.job_id))
    return [Path(row.path).name for row in rows]


async def test_who_comes_second_waits_without_a_slot_until_the_first_releases(
    db: Database, service: Locks, agent: Maker
) -> None:
    first, second = await agent(), await agent()
    assert (await take(service, first, "src")).locked
    async with waiters(db, 1, lambda: take(service, second, "src/a.py", wait=None)) as answers:
        assert await db.read(attempts.count_busy) == 1
        await service.release(first, ["src"])
    (answer,) = answers
    assert isinstance(answer, LockAnswer)
    assert [Path(path).name for path in answer.locked] == ["a.py"]


async def test_who_does_not_wait_is_told_who_is_in_the_way_and_gets_nothing(
    service: Locks, db: Database, agent: Maker
) -> None:
    first, second = await agent(title="The first"), await agent()
    await take(service, first, "a", "b")
    answer = await take(service, second, "b", "c")
    assert (answer.locked, answer.ttl_s) == ([], None)
    assert [(one.job_id, one.title) for one in answer.held_by or ()] == [
        (first.job_id, "The first")
    ]
    assert await held(db, second) == []


async def test_paths_are_real_ones_whatever_they_are_called(
    service: Locks, agent: Maker, repo: Path
) -> None:
    (repo / "src").mkdir()
    (repo / "link").symlink_to("src")
    (repo / "loop").symlink_to("loop")
    first, second = await agent(), await agent()
    answer = await take(
        service, first, "link/new.py", "./src/../src/new.py", "/elsewhere/x", "loop"
    )
    assert answer.locked == ["/elsewhere/x", str(repo / "loop"), str(repo / "src" / "new.py")]
    assert (await take(service, second, str(repo / "src" / "new.py"))).locked == []
    assert (await take(service, second, ".")).locked == []


async def test_jobs_in_different_worktrees_do_not_collide(
    service: Locks, agent: Maker, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        caller = await agent(work_dir=str(tmp_path / name))
        assert (await take(service, caller, "src/a.py")).locked


async def test_taking_again_what_one_holds_renews_it(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    caller = await agent()
    await take(service, caller, "a")
    clock.move(timedelta(minutes=5))
    assert (await take(service, caller, "a")).locked
    (row,) = await db.read(locks.held)
    assert row.renewed_at - row.taken_at == timedelta(minutes=5)


async def test_nobody_is_passed_by_whoever_comes_later(
    db: Database, service: Locks, agent: Maker
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with waiters(
        db,
        2,
        lambda: take(service, two, "a", "b", wait=None),
        lambda: take(service, three, "b", wait=None),
    ):
        assert await held(db, three) == []
        await service.release(one, None)
        await waits_open(db, 1)
        await until_held(db, two, "a", "b")
        assert await held(db, three) == []
        await service.release(two, ["b"])
    assert (await held(db, two), await held(db, three)) == (["a"], ["b"])


async def test_locks_are_freed_when_the_process_is_gone_not_when_the_job_is_over(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    first, second = await agent(), await agent()
    await take(service, first, "a")
    async with waiters(db, 1, lambda: take(service, second, "a", wait=None)) as answers:
        await settle(db, first, clock)
        clock.move(timedelta(hours=2))  # as long as a process lives that may write, no lease ends
        await service.sweep()
        assert await held(db, first) == ["a"]
        await end(db, first, clock)
    assert isinstance(answers[0], LockAnswer)
    assert await held(db, first) == []


async def test_a_job_that_is_cancelled_between_two_attempts_frees_its_locks(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    caller = await agent()
    await take(service, caller, "a")
    crashed = Outcome(OutcomeKind.CRASHED)
    await db.write(lambda s: settlement.settle(s, caller.attempt_id, crashed, clock.now()))
    await end(db, caller, clock)
    assert await held(db, caller) == ["a"]  # its next attempt goes on with them
    await db.write(lambda s: settlement.cancel(s, caller.job_id, "no more", clock.now()))
    assert await held(db, caller) == []


async def test_a_lease_lasts_as_long_as_there_are_signs_of_life(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    first, second = await agent(), await agent()
    await take(service, first, "a")
    for _ in range(3):
        clock.move(timedelta(minutes=9))
        now = clock.now()
        await db.write(lambda s, at=now: attempts.write(s, first.attempt_id, output_at=at))
        assert (await take(service, second, "a")).locked == []
    async with waiters(db, 1, lambda: take(service, second, "a", wait=None)):
        clock.move(timedelta(minutes=10))
        await service.sweep()
    assert (await held(db, first), await held(db, second)) == ([], ["a"])
    kinds = [(one.kind, one.data.get("by")) for one in await db.read(_lock_events)]
    assert ("lock.released", "expiry") in kinds


async def test_of_a_lock_that_expires_for_many_is_told_once(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    holder, two, three = await agent(), await agent(), await agent()
    await take(service, holder, "src")
    calls = [lambda one=one, at=at: take(service, one, at, wait=None)
             for one, at in ((two, "src/a"), (three, "src/b"))]  # fmt: skip
    async with waiters(db, 2, *calls):
        clock.move(timedelta(minutes=11))
        await service.sweep()
    told = [one for one in await db.read(_lock_events) if one.data.get("by") == "expiry"]
    assert len(told) == 1


async def test_a_resumed_attempt_has_the_lease_anew_before_it_gives_its_first_sign_of_life(
    db: Database, service: Locks, agent: Maker, clock: FakeClock, tmp_path: Path
) -> None:
    first, second = await agent(), await agent()
    await take(service, first, "a")
    clock.move(timedelta(minutes=20))

    def crash(session: Session) -> None:
        now = clock.now()
        attempts.write(session, first.attempt_id, output_at=now, turns=1, session_id="s")
        settlement.settle(session, first.attempt_id, Outcome(OutcomeKind.CRASHED), now)
        settlement.mark_ended(session, first.attempt_id, Exit(code=1), now)

    await db.write(crash)
    launched: list[Launch] = []

    async def launch(launch: Launch) -> None:
        launched.append(launch)

    ours = booking()
    await Dispatcher(db, clock, 9, tmp_path, ours.ledger, ours.stops, launch).fill()
    assert [(one.job.id, one.resume) for one in launched] == [(first.job_id, "s")]
    assert (await take(service, second, "a")).locked == []
    assert await held(db, first) == ["a"]


async def test_after_a_suspension_of_the_machine_all_leases_begin_anew(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    watchdog = Watchdog(db, clock, Presences(clock, Attendance(db, clock), agents.Limits()))
    first, second = await agent(), await agent()
    await take(service, first, "a")
    clock.set_by(timedelta(hours=1))
    clock.slept += timedelta(hours=1)
    await watchdog.look()
    assert (await take(service, second, "a")).locked == []


async def test_a_place_is_kept_for_two_minutes_however_the_clock_is_set(
    db: Database, service: Locks, agent: Maker, messages: Messages, clock: FakeClock
) -> None:
    watchdog = Watchdog(db, clock, Presences(clock, Attendance(db, clock), agents.Limits()))
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with waiters(db, 1, lambda: take(service, two, "a", wait=None)):
        await messages.send(OPERATOR, two.job_id, "Do something else.")
    clock.set_by(timedelta(hours=-5))
    await watchdog.look()
    await service.release(one, None)
    assert (await take(service, three, "a")).locked == []
    clock.move(PLACE_KEPT)
    assert (await take(service, three, "a")).locked


async def test_an_expired_lock_that_nobody_wants_is_still_good_for_edits(
    db: Database, service: Locks, agent: Maker, clock: FakeClock, repo: Path
) -> None:
    caller = await agent(enforce_locks=True)
    await take(service, caller, "a")
    clock.move(timedelta(hours=3))
    await service.sweep()
    assert await service.refuse_edit(caller, str(repo / "a"), "") is None
    assert await held(db, caller) == ["a"]


async def test_an_agent_inside_a_call_of_ours_keeps_its_locks_for_as_long_as_that_lasts(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock
) -> None:
    first, second = await agent(), await agent()
    child = await agent(first)
    await take(service, first, "a")
    async with waiters(db, 1, lambda: waiting.until_final(first, [child.job_id], no_beat)):
        clock.move(timedelta(hours=1))
        assert (await take(service, second, "a")).locked == []
        await settle(db, child, clock)


async def test_a_child_shares_the_locks_of_the_parent_that_waits_for_it(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock
) -> None:
    parent, stranger = await agent(), await agent()
    child, sibling = await agent(parent), await agent(parent)
    await take(service, parent, "src")
    assert (await take(service, child, "src/a")).locked == []  # the parent works on it itself
    both = [child.job_id, sibling.job_id]
    async with waiters(
        db,
        2,
        lambda: take(service, child, "src/a", wait=None),
        # Closes no circle: whom it waits for does not wait for it any more.
        lambda: waiting.until_final(parent, both, no_beat),
    ):
        await until_held(db, child, "a")
        assert (await take(service, sibling, "src/a")).locked == []
        assert (await take(service, sibling, "src/b")).locked
        assert (await take(service, stranger, "src/c")).locked == []
        for one in (child, sibling):
            await settle(db, one, clock)


async def test_a_child_shares_the_locks_of_a_parent_that_died_while_it_waited(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock, repo: Path
) -> None:
    parent = await agent()
    child = await agent(parent, enforce_locks=True)
    await take(service, parent, "src")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.until_final, parent, [child.job_id], no_beat)
        await waits_open(db, 1)
        crashed = Outcome(OutcomeKind.CRASHED)
        await db.write(lambda s: settlement.settle(s, parent.attempt_id, crashed, clock.now()))
        await end(db, parent, clock)
        tasks.cancel_scope.cancel()
    # It goes on after its child: so it waits, and works on nothing itself.
    assert await service.refuse_edit(child, str(repo / "src" / "a"), "") is None
    assert (await take(service, child, "src/a", wait=None)).locked


async def test_two_that_would_wait_for_each_other_for_ever_are_told_at_once(
    db: Database, service: Locks, agent: Maker
) -> None:
    one, two = await agent(), await agent()
    await take(service, one, "a")
    await take(service, two, "b")
    async with waiters(db, 1, lambda: take(service, one, "b", wait=None)):
        with pytest.raises(WaitCycle) as refused:
            await take(service, two, "a", wait=None)
        told = str(refused.value)
        assert f"{two.job_id} → {one.job_id} (" in told
        assert f"/a) → {two.job_id} (" in told
        assert "release_files" in told
        assert await held(db, two) == ["b"]
        await service.release(two, None)  # the way out that it was told
    assert await held(db, one) == ["a", "b"]


async def test_a_circle_of_three_is_found_by_whoever_closes_it(
    db: Database, service: Locks, agent: Maker
) -> None:
    parties = [await agent() for _ in range(3)]
    for caller, name in zip(parties, "abc", strict=True):
        await take(service, caller, name)
    one, two, three = parties
    async with waiters(
        db,
        2,
        lambda: take(service, one, "b", wait=None),
        lambda: take(service, two, "c", wait=None),
    ):
        with pytest.raises(WaitCycle) as refused:
            await take(service, three, "a", wait=None)
        order = [str(refused.value).index(f"→ {one.job_id} (") for one in (one, two, three)]
        assert order == sorted(order)
        await service.release(three, None)
        await until_held(db, two, "b", "c")
        await service.release(two, None)
    assert await held(db, one) == ["a", "b"]


async def test_waits_for_jobs_and_for_locks_are_one_graph(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock
) -> None:
    """A child waits for a lock of a stranger, who waits for one of the child's parent."""
    parent, stranger = await agent(), await agent()
    child = await agent(parent)
    await take(service, parent, "a")
    await take(service, stranger, "b")
    async with waiters(
        db,
        2,
        lambda: take(service, child, "b", wait=None),
        lambda: take(service, stranger, "a", wait=None),
    ):
        with pytest.raises(WaitCycle, match=stranger.job_id):
            await waiting.until_final(parent, [child.job_id], no_beat)
        await service.release(parent, None)
        await until_held(db, stranger, "b", "a")
        await service.release(stranger, None)
    assert await held(db, child) == ["b"]


async def test_a_lock_that_an_awaited_job_waits_for_closes_the_circle_from_the_other_side(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock
) -> None:
    parent, stranger = await agent(), await agent()
    child = await agent(parent)
    await take(service, parent, "a")
    await take(service, stranger, "b")
    async with waiters(
        db,
        2,
        lambda: waiting.until_final(parent, [child.job_id], no_beat),
        lambda: take(service, stranger, "a", wait=None),
    ) as answers:
        with pytest.raises(WaitCycle):
            await take(service, child, "b", wait=None)
        await settle(db, child, clock)
        await until(db, lambda s: len(waits.open_waits(s)) == 1)
        await service.release(parent, None)
    assert isinstance(answers[1], LockAnswer)


async def test_the_youngest_waiter_is_woken_with_the_error_if_it_is_another_one(
    db: Database, service: Locks, agent: Maker, messages: Messages, clock: FakeClock
) -> None:
    """The first has kept its place in the queue, and is older than the second's request."""
    one, two = await agent(), await agent()
    await take(service, one, "a")
    await take(service, two, "b")
    asked = await db.write(lambda s: _queued(s, one, two, clock))
    async with waiters(db, 1, lambda: take(service, two, "a", wait=None)) as answers:
        await db.write(lambda s: _back_at_its_place(s, asked))
        await service.sweep()
    assert isinstance(answers[0], WaitCycle)
    assert await held(db, two) == ["b"]


async def test_a_message_interrupts_and_the_place_is_kept_for_two_minutes(
    db: Database, service: Locks, agent: Maker, messages: Messages, clock: FakeClock
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with waiters(db, 1, lambda: take(service, two, "a", wait=None)) as answers:
        await messages.send(OPERATOR, two.job_id, "Look at this.")
    (answer,) = answers
    assert isinstance(answer, LockAnswer)
    assert (answer.locked, answer.hint and "A message" in answer.hint) == ([], True)
    await service.release(one, None)
    assert (await take(service, three, "a")).locked == []  # behind a place that is kept
    assert (await take(service, two, "a")).locked
    await service.release(two, None)
    assert (await take(service, three, "a")).locked


async def test_a_place_that_nobody_comes_back_to_is_given_up(
    db: Database, service: Locks, agent: Maker, messages: Messages, clock: FakeClock
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with waiters(db, 1, lambda: take(service, two, "a", wait=None)):
        await messages.send(OPERATOR, two.job_id, "Do something else.")
    await service.release(one, None)
    async with waiters(db, 1, lambda: take(service, three, "a", wait=None)):
        clock.move(PLACE_KEPT)
        await service.sweep()
    assert await held(db, three) == ["a"]


async def test_time_that_the_caller_named_is_up_without_a_place_in_the_queue(
    db: Database, service: Locks, agent: Maker
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    answer = await take(service, two, "a", wait=timedelta(milliseconds=1))
    assert answer.hint is not None
    assert "longer wait_s" in answer.hint
    await service.release(one, None)
    assert (await take(service, three, "a")).locked


async def test_a_client_that_hangs_up_leaves_the_queue(
    db: Database, service: Locks, agent: Maker
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: take(service, two, "a", wait=None))
        await waits_open(db, 1)
        tasks.cancel_scope.cancel()
    await service.release(one, None)
    assert (await take(service, three, "a")).locked


async def test_a_client_that_hangs_up_while_it_is_queued_leaves_the_queue(
    db: Database, waiting: Waiting, service: Locks, agent: Maker
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    with anyio.CancelScope() as scope:

        class HangingUp(FakeClock):
            """The client is gone once it is asked when its request has come."""

            def now(self) -> datetime:
                scope.cancel()
                return super().now()

        await take(Locks(db, HangingUp(), waiting), two, "a", wait=None)
    assert scope.cancelled_caught
    await service.release(one, None)
    assert (await take(service, three, "a")).locked


async def test_an_attempt_that_is_settled_leaves_the_queue(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    async with waiters(
        db,
        2,
        lambda: take(service, two, "a", "b", wait=timedelta(seconds=1)),
        lambda: take(service, three, "b", wait=None),
    ):
        await settle(db, two, clock)
    assert await held(db, three) == ["b"]


async def test_after_a_restart_of_the_server_whoever_asks_again_has_kept_its_place(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    one, two, three = await agent(), await agent(), await agent()
    await take(service, one, "a")
    values: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: take(service, two, "a", "b", wait=None))
        await waits_open(db, 1)
        (row,) = await db.read(locks.requests)
        values |= _values(row)
        tasks.cancel_scope.cancel()
    # What a killed server leaves is a row that nobody has closed.
    await db.write(lambda s: locks.queue(s, values, clock.now()))
    await db.write(lambda s: locks.leave_all(s, clock.now()))
    assert (await take(service, three, "b")).locked == []
    await service.release(one, None)
    assert (await take(service, two, "b", "a")).locked


async def test_release_of_a_folder_frees_what_is_below_and_a_part_of_one_cannot_be_freed(
    db: Database, service: Locks, agent: Maker
) -> None:
    caller = await agent()
    await take(service, caller, "src", "docs/a", "docs/b")
    with pytest.raises(Conflict, match="as a whole"):
        await service.release(caller, ["docs", "src/a.py"])
    assert len(await held(db, caller)) == 3
    answer = await service.release(caller, ["docs", "other"])
    assert [Path(one).name for one in answer.released] == ["a", "b"]
    assert [Path(one).name for one in answer.not_held or ()] == ["other"]
    assert await held(db, caller) == ["src"]


async def test_an_operator_sees_all_locks_and_frees_one(
    db: Database, service: Locks, agent: Maker, repo: Path
) -> None:
    first, second = await agent(title="First"), await agent()
    await take(service, first, "a", "b")
    async with waiters(db, 1, lambda: take(service, second, "a", wait=None)):
        a, b = await service.listing(OPERATOR)
        assert (a.path, a.title, [one.job_id for one in a.waiting or ()]) == (
            str(repo / "a"),
            "First",
            [second.job_id],
        )
        assert b.waiting is None
        await service.free(OPERATOR, a.lock_id)
    with pytest.raises(NotFound):
        await service.free(OPERATOR, a.lock_id)
    for call in (service.free(second, b.lock_id), take(service, OPERATOR, "/x")):
        with pytest.raises(Forbidden):
            await call
    with pytest.raises(Invalid, match="absolute"):
        await service.listing(OPERATOR, ["x"])


async def test_an_agent_sees_who_holds_what_it_asks_for(
    service: Locks, agent: Maker, tmp_path: Path
) -> None:
    first, second = await agent(), await agent(work_dir=str(tmp_path / "elsewhere"))
    await take(service, first, "src", "docs")
    found = await service.listing(first, ["src/a.py"])
    assert [(Path(one.path).name, one.job_id) for one in found] == [("src", first.job_id)]
    assert len(await service.listing(first)) == 2
    assert await service.listing(second) == []


async def test_why_names_the_files_and_who_holds_them(
    db: Database, service: Locks, agent: Maker, clock: FakeClock
) -> None:
    first, second = await agent(), await agent()
    await take(service, first, "a")
    why = Why(db, clock, Presences(clock, Attendance(db, clock), agents.Limits()), 8)
    async with waiters(db, 1, lambda: take(service, second, "a", wait=None)):
        link, next_ = (await why.of(OPERATOR, second.job_id)).chain
        assert link.because.startswith("Its agent waits to lock /")
        assert link.because.endswith(f"/a: {first.job_id} locked that, or asked before.")
        assert next_.job_id == first.job_id
        # What an agent does not see otherwise, it does not see here.
        assert [one.job_id for one in (await why.of(second, second.job_id)).chain] == [
            second.job_id
        ]
        await service.release(first, None)


async def test_a_stale_attempt_locks_and_releases_nothing(
    db: Database, service: Locks, agent: Maker
) -> None:
    caller = await agent()
    await take(service, caller, "a")
    await db.write(lambda s: jobs.set_values(s, caller.job_id, attempt=2))
    for call in (take(service, caller, "b"), service.release(caller, None)):
        with pytest.raises(StaleAttempt):
            await call
    assert await held(db, caller) == ["a"]


async def test_what_cannot_be_meant_is_refused(service: Locks, agent: Maker) -> None:
    caller = await agent()
    with pytest.raises(Invalid, match="whole file system"):
        await take(service, caller, "../../../../../../../../../..")
    with pytest.raises(Invalid, match="wait_s"):
        await take(service, caller, "a", wait=timedelta(seconds=-1))


async def test_a_job_may_hold_so_many_locks(db: Database, service: Locks, agent: Maker) -> None:
    caller = await agent()
    for first in range(0, MAX_HELD, 200):
        assert (await take(service, caller, *(f"f{first + i}" for i in range(200)))).locked
    with pytest.raises(LimitReached, match="2000 locks"):
        await take(service, caller, "one-more")
    assert (await take(service, caller, "f1")).locked


@pytest.mark.timeout(180)
async def test_a_look_asks_the_database_as_often_however_many_wait(
    db: Database, service: Locks, waiting: Waiting, agent: Maker, clock: FakeClock
) -> None:
    """It runs every two seconds, and may look for circles in the writer's transaction."""
    holder, parent = await agent(), await agent()
    children = [await agent(parent) for _ in range(20)]
    await take(service, holder, "a")

    def count(session: Session) -> int:
        asked: list[str] = []

        def note(*call: Any) -> None:
            asked.append(call[2])

        connection = session.connection()
        event.listen(connection, "before_cursor_execute", note)
        assert not lock_table.is_due(session, clock.now())
        event.remove(connection, "before_cursor_execute", note)
        return len(asked)

    async with waiters(db, 1, lambda: waiting.until_final(parent, [children[0].job_id], no_beat)):
        await db.write(lambda session: queue_for(session, children[:2], clock.now()))
        few = await db.read(count)
        await db.write(lambda session: queue_for(session, children[2:], clock.now()))
        assert await db.read(count) == few
        await settle(db, children[0], clock)


async def test_fifty_agents_on_two_hundred_files_never_hold_one_twice(
    db: Database, service: Locks, agent: Maker, repo: Path
) -> None:
    callers = [await agent() for _ in range(50)]
    folders = [f"d{n}" for n in range(20)]
    files = [f"{folder}/f{n}" for folder in folders for n in range(10)]
    luck, holding, granted = random.Random(5), dict[str, str](), 0

    async def work(caller: Caller, rounds: Sequence[Sequence[str]]) -> None:
        nonlocal granted
        for names in rounds:
            answer = await take(service, caller, *names, wait=None)
            assert len(answer.locked) == len(set(names))
            for path in answer.locked:
                others = [one for one in holding if collide(one, path)]
                assert not others, (caller.job_id, path, others)
            holding.update(dict.fromkeys(answer.locked, caller.job_id))
            granted += len(answer.locked)
            await anyio.sleep(luck.random() / 200)
            for path in answer.locked:
                del holding[path]
            await service.release(caller, None)

    with anyio.fail_after(170):
        async with anyio.create_task_group() as tasks:
            for caller in callers:
                rounds = [
                    luck.sample(folders, 1) if luck.random() < 0.1 else luck.sample(files, 5)
                    for _ in range(4)
                ]
                tasks.start_soon(work, caller, rounds)
    assert granted > 500
    assert await db.read(locks.held) == []
    assert await db.read(locks.requests) == []


def _lock_events(session: Session) -> Sequence[EventRow]:
    return events.after(session, 0, limit=1000, kinds=["lock.*"])


def queue_for(session: Session, callers: Sequence[Caller], now: datetime) -> None:
    for one in callers:
        asked = {"job_id": one.job_id, "attempt_id": one.attempt_id, "ttl_s": 600, "reason": ""}
        (held_row,) = locks.held(session)
        locks.queue(session, {**asked, "paths": [held_row.path]}, now)


def _values(row: object) -> dict[str, object]:
    names = ("job_id", "attempt_id", "paths", "ttl_s", "reason")
    return {name: getattr(row, name) for name in names}


def _queued(session: Session, one: Caller, two: Caller, clock: FakeClock) -> str:
    (row,) = locks.held(session, two.job_id)
    values = {
        "job_id": one.job_id,
        "attempt_id": one.attempt_id,
        "paths": [row.path],
        "ttl_s": 600,
        "reason": "",
    }
    request = locks.queue(session, values, clock.now() - timedelta(minutes=1))
    locks.leave(session, request.id, clock.now())
    return request.id


def _back_at_its_place(session: Session, request_id: str) -> None:
    row = locks.request(session, request_id)
    assert row is not None
    locks.queue(session, _values(row), row.waits_since)
