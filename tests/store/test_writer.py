"""The writer: durable before it answers, one commit for many, nothing torn."""

import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest
from anyio import create_task_group, fail_after
from sqlalchemy import text
from sqlmodel import Session, select

from hurlicane_mcp.errors import StoreClosed
from hurlicane_mcp.store import events
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow, MetaRow
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio


def put(key: str, value: str = "x") -> "MetaRow":
    return MetaRow(key=key, value=value)


def adding(key: str) -> Callable[[Session], None]:
    return lambda session: session.add(put(key))


def keys(session: Session) -> set[str]:
    return set(session.exec(select(MetaRow.key)).all())


async def test_a_write_can_be_read_once_it_has_been_answered(store: Database) -> None:
    await store.write(lambda session: session.add(put("a")))
    assert await store.read(keys) == {"a"}


async def test_many_writers_at_once_all_get_their_own_answer(store: Database) -> None:
    answers: dict[int, str] = {}

    async def writer(number: int) -> None:
        def change(session: Session) -> str:
            session.add(put(f"key {number}"))
            return f"answer {number}"

        answers[number] = await store.write(change)

    async with create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(writer, number)
    assert answers == {number: f"answer {number}" for number in range(100)}
    assert len(await store.read(keys)) == 100


async def test_one_that_fails_takes_nobody_with_it(store: Database) -> None:
    failures: list[Exception] = []

    async def writer(number: int) -> None:
        def change(session: Session) -> None:
            session.add(put(f"key {number}"))
            session.flush()
            if number % 3 == 0:
                raise ValueError(number)

        try:
            await store.write(change)
        except ValueError as error:
            failures.append(error)

    async with create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(writer, number)
    assert len(failures) == 10
    assert await store.read(keys) == {f"key {number}" for number in range(30) if number % 3}


async def test_a_broken_constraint_is_told_to_its_caller_only(store: Database) -> None:
    await store.write(lambda session: session.add(put("a")))
    outcomes: list[str] = []

    async def writer(key: str) -> None:
        try:
            await store.write(lambda session: session.add(put(key)))
            outcomes.append(f"{key} stored")
        except Exception as error:
            outcomes.append(f"{key} {type(error).__name__}")

    async with create_task_group() as tasks:
        for key in ("a", "b", "c"):
            tasks.start_soon(writer, key)
    assert sorted(outcomes) == ["a IntegrityError", "b stored", "c stored"]


async def test_a_cancelled_caller_tears_nothing(store: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def change(session: Session) -> None:
        session.add(put("first half"))
        session.flush()
        begun.set()
        go_on.wait(5)
        session.add(put("second half"))

    async with create_task_group() as tasks:
        tasks.start_soon(store.write, change)
        await anyio.to_thread.run_sync(begun.wait, 5)
        tasks.cancel_scope.cancel()
    go_on.set()
    await store.write(lambda session: None)  # all that was submitted before is done now
    assert await store.read(keys) == {"first half", "second half"}


async def test_a_posted_write_comes_before_those_submitted_after_it(store: Database) -> None:
    store.post(lambda session: session.add(put("posted")))
    assert await store.write(keys) == {"posted"}


async def test_the_bell_rings_after_the_commit_and_not_for_a_failure(store: Database) -> None:
    def failing(session: Session) -> None:
        events.record(session, BEGINNING, "job.done", "job_a", 1)
        raise ValueError("no")

    with store.bell.listen([events.final_topic("job_a")]) as ear:
        with pytest.raises(ValueError, match="no"):
            await store.write(failing)
        with anyio.move_on_after(0.05) as waited:
            await ear.heard()
        assert waited.cancelled_caught
        await store.write(lambda session: events.record(session, BEGINNING, "job.done", "job_a", 1))
        with fail_after(5):
            await ear.heard()
    assert [row.kind for row in await store.read(lambda s: s.exec(select(EventRow)).all())] == [
        "job.done"
    ]


async def test_what_was_submitted_before_the_close_is_stored(store: Database) -> None:
    for number in range(20):
        store.post(lambda session, number=number: session.add(put(str(number))))
    await store.close()
    with Session(store.engine) as session:
        assert len(keys(session)) == 20
    with pytest.raises(StoreClosed):
        await store.write(keys)


async def test_a_connection_that_breaks_inside_a_write_takes_no_other_write_with_it(
    store: Database,
) -> None:
    if store.engine.dialect.name == "sqlite":
        return  # it has no connection that somebody else could break

    def broken(session: Session) -> None:
        session.add(put("lost"))
        session.flush()
        session.connection().execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    outcomes: list[str] = []

    async def write(name: str, change: Callable[[Session], None]) -> None:
        try:
            await store.write(change)
            outcomes.append(f"{name} stored")
        except Exception as error:
            outcomes.append(f"{name} {type(error).__name__}")

    with fail_after(20):
        async with create_task_group() as tasks:
            tasks.start_soon(write, "a", adding("a"))
            tasks.start_soon(write, "broken", broken)
            tasks.start_soon(write, "b", adding("b"))
    assert sorted(outcomes) == ["a stored", "b stored", "broken StoreUnavailable"]
    assert await store.read(keys) == {"a", "b"}
