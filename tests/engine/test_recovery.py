"""What a starting server makes of the attempts that its predecessor left."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain import agents
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.recovery import Recovered, Recovery
from hurlicane_mcp.engine.runs import RunLimits, Runs
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.store import attempts, events, jobs, locks, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.supervision.host import Exit, ProcessIdentity
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import booking, claim, running
from tests.fakes import BEGINNING, FakeClock, FakeHandle, FakeHost

pytestmark = pytest.mark.anyio


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def runs(db: Database, clock: FakeClock, host: FakeHost) -> AsyncGenerator[Runs]:
    async with Watcher() as watcher:
        yield Runs(
            db,
            clock,
            host,
            Providers({"scripted": ScriptedProvider()}),
            Prompts.load(None),
            watcher,
            Presences(clock, Attendance(db, clock), agents.Limits()),
            booking(),
            "http://127.0.0.1:1/mcp",
            RunLimits(wait=timedelta(minutes=30)),
        )


@pytest.fixture
def recovery(db: Database, clock: FakeClock, host: FakeHost, runs: Runs) -> Recovery:
    return Recovery(db, clock, host, runs)


async def left_behind(db: Database, folder: Path, *, started: bool = True) -> AttemptRow:
    """An attempt that was running when its server died."""

    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        attempts.write(session, attempt.id, run_dir=str(folder))
        if started:
            attempts.start(
                session, attempt.id, BEGINNING, pid=4000, start_time="1000", boot_id="before"
            )
        return attempts.get(session, attempt.id)

    return await db.write(change)


async def job_of(db: Database, attempt: AttemptRow) -> JobRow:
    return await db.read(lambda session: jobs.get(session, attempt.job_id))


async def test_what_was_never_started_is_queued_again_with_a_new_attempt(
    db: Database, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path, started=False)
    assert await recovery.recover() == Recovered([], [])
    assert (await job_of(db, attempt)).status == "queued"
    old = await db.read(lambda session: attempts.get(session, attempt.id))
    assert (old.outcome, old.ended_at is not None) == ("interrupted", True)
    assert (await db.write(lambda session: claim(session, attempt.job_id))).number == 2


async def test_what_is_left_of_a_lost_run_directory_is_cleared_before_the_next_attempt(
    db: Database, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    await recovery.recover()
    assert host.cleared == [(ProcessIdentity(4000, "1000", "before"), attempt.id)]


async def test_an_attempt_that_cannot_be_judged_stops_no_other_and_is_tried_again(
    db: Database, clock: FakeClock, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    good = await left_behind(db, tmp_path / "good")
    bad = await left_behind(db, tmp_path / "bad")
    host.found |= {tmp_path / "good": Exit(code=3), tmp_path / "bad": Exit(code=4)}
    await db.write(lambda session: attempts.write(session, bad.id, provider="of another version"))
    (unclear,) = (await recovery.recover()).unclear
    assert unclear.id == bad.id
    assert (await job_of(db, good)).status == "queued"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recovery.try_again, unclear)
        await clock.advance(timedelta(minutes=5))
        assert (await job_of(db, bad)).status == "running"
        await db.write(lambda session: attempts.write(session, bad.id, provider="scripted"))
        await clock.advance(timedelta(seconds=61))
    assert (await job_of(db, bad)).status == "queued"


async def test_a_start_that_was_not_noted_any_more_is_noted_when_it_is_followed(
    db: Database, host: FakeHost, runs: Runs, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path, started=False)
    handle = FakeHandle(4711)
    host.found[tmp_path] = handle
    (adopted,) = (await recovery.recover()).adopted
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runs.follow, adopted.attempt_id, adopted.run_dir, adopted.handle)
        while (await db.read(lambda s: attempts.get(s, attempt.id))).started_at is None:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert (adopted.attempt_id, adopted.run_dir) == (attempt.id, tmp_path)
    row = await db.read(lambda session: attempts.get(session, attempt.id))
    assert (row.pid, row.start_time, row.ended_at) == (4711, "1000", None)
    told = await db.read(lambda s: events.after(s, 0, limit=99, kinds=["attempt.adopted"]))
    assert [event.job_id for event in told] == [attempt.job_id]


async def test_an_agent_that_lived_on_without_a_server_has_its_locks_leased_anew(
    db: Database, clock: FakeClock, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    asked = {"job_id": attempt.job_id, "attempt_id": attempt.id, "ttl_s": 600, "reason": ""}

    def change(session: Session) -> None:
        locks.take(
            session, locks.queue(session, {**asked, "paths": ["/r/a"]}, BEGINNING), BEGINNING
        )

    await db.write(change)
    host.found[tmp_path] = FakeHandle(4711)
    clock.move(timedelta(hours=1))
    await recovery.recover()
    (row,) = await db.read(locks.held)
    assert row.renewed_at == clock.now()


async def test_an_adopted_agent_is_followed_to_its_end(
    db: Database, host: FakeHost, runs: Runs, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    handle = FakeHandle(4000)
    host.found[tmp_path] = handle
    (adopted,) = (await recovery.recover()).adopted
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runs.follow, adopted.attempt_id, adopted.run_dir, adopted.handle)
        await anyio.wait_all_tasks_blocked()
        handle.end(Exit(code=3))
    job = await job_of(db, attempt)
    assert (job.status, job.not_before) == ("queued", None)  # the first restart comes at once
    row = await db.read(lambda session: attempts.get(session, attempt.id))
    assert (row.outcome, row.failure_reason) == ("crashed", "The agent exited with code 3.")


async def test_an_agent_that_a_reboot_killed_is_begun_again_and_not_blamed(
    db: Database, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    host.found[tmp_path] = Exit()
    assert await recovery.recover() == Recovered([], [])
    job = await job_of(db, attempt)
    assert (job.status, job.failure_kind) == ("queued", None)


async def test_output_written_while_no_server_ran_is_read_before_the_judgement(
    db: Database, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    words = b'{"event": "message", "text": "My last words."}'  # no newline: it died in the middle
    await anyio.Path(tmp_path / "stdout").write_bytes(words)
    host.found[tmp_path] = Exit(code=9)
    await recovery.recover()
    row = await db.read(lambda session: attempts.get(session, attempt.id))
    assert (row.last_message, row.offset) == ("My last words.", len(words))


async def test_waits_that_the_crash_cut_hold_no_slot_open(
    db: Database, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    host.found[tmp_path] = FakeHandle(4000)
    await db.write(lambda session: waits.open_wait(session, attempt, "jobs", ["x"], BEGINNING))
    await recovery.recover()
    assert await db.read(waits.open_waits) == []


async def test_two_recoveries_in_a_row_change_nothing_twice(
    db: Database, host: FakeHost, recovery: Recovery, tmp_path: Path
) -> None:
    attempt = await left_behind(db, tmp_path)
    host.found[tmp_path] = Exit(code=1)
    await recovery.recover()
    before = await db.read(lambda s: len(events.after(s, 0, limit=99, job_ids=[attempt.job_id])))
    await recovery.recover()
    after = await db.read(lambda s: len(events.after(s, 0, limit=99, job_ids=[attempt.job_id])))
    assert before == after
