"""One thread owns all writes: waiting units of work share a commit, each in its own savepoint.

Measured before this was written (2 cores, WAL, synchronous=FULL): a commit costs about 2 ms, so
fifty callers together get about six times the writes of fifty callers one after another.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session

from hurlicane_mcp.errors import StoreClosed, StoreUnavailable
from hurlicane_mcp.store.trouble import in_doubt, unavailable

log = logging.getLogger(__name__)

BATCH = 64
CLOSE_S = 10.0  #: for what was submitted to be stored at the end; a database may never answer

Change = Callable[[Session], Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """A function to run in a transaction, possibly more than once, and who waits for it."""

    change: Change
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a unit, once it is durable."""

    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    topics: frozenset[str] = frozenset()


class _BatchLost(Exception):
    """The database rolled the whole batch back; nothing of it is stored."""


class _NotBegun(Exception):
    """The database let nobody begin to write."""


class _InDoubt(Exception):
    """The connection broke inside the commit: nobody knows whether the batch is stored."""


class Writer:
    """Runs units of work in order. `report` is called on the event loop after each commit."""

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Sequence[Done]], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._report = report
        self._queue: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._closed = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change) -> asyncio.Future[Any]:
        """A future with the result of *change*, resolved only after the commit.

        Raises:
            StoreClosed: the writer is stopping.
        """
        if self._closed:
            raise StoreClosed("The server is stopping. Call again in a few seconds.")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(Unit(change, future))
        return future

    @property
    def is_alive(self) -> bool:
        """Whether there is still somebody who writes."""
        return self._thread.is_alive()

    @property
    def busy_for(self) -> float:
        """Seconds that the present commit has taken; 0 when there is nothing to write."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    async def close(self) -> None:
        """Finish what was submitted, then stop. Calling it twice is safe.

        A database that does not answer for `CLOSE_S` is left alone.
        """
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._thread.is_alive():
            log.error("the database has not answered for %.0f s: it is left as it is", CLOSE_S)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, stop = [first], False
            while len(batch) < BATCH and not stop:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stop = True
                else:
                    batch.append(following)
            self._busy_since = time.monotonic()
            try:
                done = self._write(batch)
            except Exception as error:  # top-level handler: without this thread nothing is stored
                log.exception("a batch of writes failed")
                done = [Done(unit.future, error=error) for unit in batch]
            self._busy_since = None
            self._tell_of_trouble(done)
            self._loop.call_soon_threadsafe(self._report, done)
            if stop:
                return

    def _tell_of_trouble(self, batch: Sequence[Done]) -> None:
        """Log the database's trouble once a batch; who called is told as well."""
        troubles = [done.error for done in batch if isinstance(done.error, StoreUnavailable)]
        if troubles:
            cause = troubles[0].__cause__
            said = cause.orig if isinstance(cause, DBAPIError) else cause
            log.error(
                "of %d writes %d failed. %s (%s)", len(batch), len(troubles), troubles[0], said
            )

    def _write(self, batch: Sequence[Unit]) -> Sequence[Done]:
        try:
            return self._commit_together(batch)
        except (_NotBegun, _InDoubt) as failed:
            return [_failed(unit, failed) for unit in batch]
        except (_BatchLost, SQLAlchemyError) as lost:
            if len(batch) == 1:
                return [_failed(batch[0], lost)]
            # Nothing was stored, and units may run again: one by one finds the one at fault.
            return [done for unit in batch for done in self._write([unit])]

    def _commit_together(self, batch: Iterable[Unit]) -> Sequence[Done]:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.connect())
                connection = connection.execution_options(hurlicane_writes=True)
                transaction = stack.enter_context(connection.begin())
            except SQLAlchemyError as error:
                # No unit is at fault, and each by itself would wait as long for a lock.
                raise _NotBegun from error
            done = [self._in_savepoint(connection, unit) for unit in batch]
            try:
                transaction.commit()
            except DBAPIError as error:
                if error.connection_invalidated:  # it may be stored, so no unit may run again
                    raise _InDoubt from error
                raise
            return done

    def _in_savepoint(self, connection: Connection, unit: Unit) -> Done:
        session = Session(
            bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False
        )
        with session:
            try:
                result = unit.change(session)
                session.commit()
            except Exception as error:
                if isinstance(error, SQLAlchemyError) and _rolled_back_all(connection):
                    raise _BatchLost from error
                session.rollback()
                return _failed(unit, error)
            return Done(unit.future, result, topics=frozenset(session.info.get("topics", ())))


def _failed(unit: Unit, error: BaseException) -> Done:
    """*error*, or the database error behind it, as the unit's caller is told of it."""
    inner = isinstance(error, _BatchLost | _NotBegun | _InDoubt)
    cause = (error.__cause__ or error) if inner else error
    plain = in_doubt() if isinstance(error, _InDoubt) else unavailable(cause)
    if plain is None:
        return Done(unit.future, error=cause)
    plain.__cause__ = cause
    return Done(unit.future, error=plain)


def _rolled_back_all(connection: Connection) -> bool:
    """Whether the whole transaction is gone: SQLite drops it when the disk is full, PostgreSQL
    when the connection breaks."""
    if connection.invalidated:
        return True
    driver = connection.connection.driver_connection
    return getattr(driver, "in_transaction", True) is False
