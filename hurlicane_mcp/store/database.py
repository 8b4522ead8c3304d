"""The database: the only truth. Writes go through one thread, reads through a few."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlmodel import Session

from hurlicane_mcp.errors import StoreClosed
from hurlicane_mcp.store.bell import Bell
from hurlicane_mcp.store.sqlite_file import Opener
from hurlicane_mcp.store.trouble import told_plainly
from hurlicane_mcp.store.writer import Done, Writer

T = TypeVar("T")

log = logging.getLogger(__name__)

READERS = 4
#: Seconds that SQLite waits for a lock which another process holds: a copying tool, say.
BUSY_S = 5
#: Seconds after which a commit hangs: each try of a batch may wait for a lock.
STUCK_S = 10
#: Seconds without a word after which PostgreSQL counts as gone.
AWAY_S = 10


def open_engine(url: str, *, synchronous: str = "FULL") -> Engine:
    """An engine for *url*: `sqlite:///…` or `postgresql+psycopg://…`.

    *synchronous* is SQLite's: FULL survives a power cut, NORMAL may lose the last commits in one.
    """
    if make_url(url).get_backend_name() != "sqlite":
        patience = {"connect_timeout": AWAY_S, "tcp_user_timeout": AWAY_S * 1000}
        return create_engine(url, pool_size=READERS + 2, pool_pre_ping=True, connect_args=patience)
    file = make_url(url).database
    opener = {"creator": Opener(Path(file), BUSY_S)} if file else {}  # without one: in memory
    engine = create_engine(url, pool_size=READERS + 2, **opener)

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own implicit BEGIN comes too late and is never IMMEDIATE.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("hurlicane_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _log_failure(future: asyncio.Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("a posted write failed: %s", error)


class Database:
    """The door to the store. Built inside a running event loop, closed by its owner."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bell = Bell()
        self._writer = Writer(engine, asyncio.get_running_loop(), self._report)
        self._readers = anyio.CapacityLimiter(READERS)
        # All that one query reads is of one moment, as it is on SQLite by itself.
        self._snapshots = (
            engine
            if engine.dialect.name == "sqlite"
            else engine.execution_options(isolation_level="REPEATABLE READ")
        )

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run *change* in one transaction and return its result after the commit.

        *change* may run more than once and must touch nothing but its session. A cancelled caller
        tears nothing: the change is stored all the same. Afterwards the bell rings.

        Raises:
            StoreClosed: the server is stopping.
            StoreUnavailable: the database cannot be written now; its message says why.
        """
        return await self._writer.submit(change)

    def post(self, change: Callable[[Session], object]) -> None:
        """Have *change* written after all that was submitted before it, without waiting for it.

        For what recovery would put right as well; a failure is logged.
        """
        try:
            self._writer.submit(change).add_done_callback(_log_failure)
        except StoreClosed:
            log.debug("not written, the store is closed")

    async def read(self, query: Callable[[Session], T]) -> T:
        """What *query* returns, run in a worker thread on a snapshot of its own.

        Raises:
            StoreUnavailable: the database cannot be read now; its message says why.
        """

        def call() -> T:
            with told_plainly(), Session(self._snapshots, expire_on_commit=False) as session:
                return query(session)

        # A caller that gives up must not be kept by a database that never answers.
        return await anyio.to_thread.run_sync(call, limiter=self._readers, abandon_on_cancel=True)

    @property
    def writer_trouble(self) -> str | None:
        """Why nothing is being stored, if that is so: the writer has ended, or hangs."""
        if not self._writer.is_alive:
            return "Nothing can be written: the writer has ended. Restart the server."
        if self._writer.busy_for > STUCK_S:
            return f"Nothing is written: a commit has taken {self._writer.busy_for:.0f} s so far."
        return None

    async def close(self) -> None:
        """Store what was submitted, then let go of every connection."""
        self.bell.close()
        await self._writer.close()
        self.engine.dispose()

    def _report(self, batch: Sequence[Done]) -> None:
        for done in batch:
            if done.future.done():  # its caller was cancelled
                continue
            if done.error is None:
                done.future.set_result(done.result)
            else:
                done.future.set_exception(done.error)
        topics: set[Any] = set()
        topics.update(*(done.topics for done in batch))
        self.bell.ring(topics)
