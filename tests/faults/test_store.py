"""What the writer makes of a database that takes nothing: told plainly, and over when it is."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from hurlicane_mcp.errors import StoreUnavailable
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import MetaRow
from tests.fakes import FakeClock
from tests.web.site import running_site

pytestmark = pytest.mark.anyio

HALF_A_MEGABYTE = "x" * 500_000


def pragma(db: Database, setting: str) -> None:
    """Change a setting of every connection of the pool."""
    connections = [db.engine.connect() for _ in range(6)]
    for connection in connections:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"PRAGMA {setting}")
    for connection in connections:
        connection.close()


def putting(key: str, value: str) -> Callable[[Session], None]:
    return lambda session: session.add(MetaRow(key=key, value=value))


async def keys(db: Database) -> set[str]:
    def query(session: Session) -> set[str]:
        return set(session.connection().execute(text("SELECT key FROM meta")).scalars())

    return await db.read(query)


async def test_when_the_database_is_full_small_changes_are_still_taken_and_nothing_is_half_done(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pages = await db.read(
        lambda session: session.connection().execute(text("PRAGMA page_count")).scalar_one()
    )
    pragma(db, f"max_page_count = {pages + 20}")
    outcomes: dict[str, str] = {}

    async def write(key: str, value: str) -> None:
        try:
            await db.write(putting(key, value))
            outcomes[key] = "stored"
        except StoreUnavailable as error:
            outcomes[key] = str(error)

    with caplog.at_level(logging.ERROR):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, "small", "x")
            tasks.start_soon(write, "large", HALF_A_MEGABYTE)
            tasks.start_soon(write, "small too", "x")
    assert outcomes.pop("large").startswith("The disk of the database is full: nothing was written")
    assert outcomes == {"small": "stored", "small too": "stored"}
    assert {"small", "small too"} <= await keys(db)
    assert "large" not in await keys(db)
    assert "full" in caplog.text
    pragma(db, "max_page_count = 1000000")
    await db.write(putting("large", HALF_A_MEGABYTE))


async def test_a_read_only_database_is_read_and_says_what_to_do(db: Database) -> None:
    pragma(db, "query_only = ON")
    with pytest.raises(StoreUnavailable, match=r"may not be written to.*right to write"):
        await db.write(putting("a", "x"))
    assert "a" not in await keys(db)
    pragma(db, "query_only = OFF")
    await db.write(putting("a", "x"))


async def test_a_commit_that_hangs_is_told_and_the_end_does_not_wait_for_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hurlicane_mcp.store.database.STUCK_S", 0.2)
    monkeypatch.setattr("hurlicane_mcp.store.writer.CLOSE_S", 0.5)
    assert db.writer_trouble is None
    go_on = threading.Event()
    db.post(lambda _session: go_on.wait(20))
    await anyio.sleep(0.4)
    assert "a commit has taken" in (db.writer_trouble or "")
    with anyio.fail_after(5):
        await db.close()
    go_on.set()


async def test_a_token_that_cannot_be_looked_up_now_is_not_called_wrong(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    """An agent that is told 401 would give up."""
    path = tmp_path / "hurlicane.db"
    away = path.with_suffix(".away")
    async with running_site(db, clock, tmp_path) as site:
        token = await site.agent_token()
        db.engine.dispose()  # what is open would go on with the file wherever it is
        path.rename(away)
        async with site.client(token) as agent:
            answer = await agent.get("/healthz")
            assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
            assert answer.headers["retry-after"] == "1"
            away.rename(path)
            assert (await agent.get("/healthz")).status_code == 200
