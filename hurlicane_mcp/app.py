"""The composition root: the database is opened and held, and a worker built on it."""

import logging
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import anyio
import anyio.to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from hurlicane_mcp import logs
from hurlicane_mcp.application import Application, Links
from hurlicane_mcp.errors import Invalid, OwnershipLost, ServerUnreachable, plain_cause
from hurlicane_mcp.ids import token_hash
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store.credentials import operator_token
from hurlicane_mcp.store.database import Database, open_engine
from hurlicane_mcp.store.migrations import migrate
from hurlicane_mcp.store.ownership import data_dir_held, database_held
from hurlicane_mcp.store.trouble import unavailable
from hurlicane_mcp.supervision.transcript import Watcher

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the database is still ours.
CHECK_S = 2


def serve(settings: Settings, links: Links) -> None:
    """Serve on the socket of *links* until SIGTERM, or until its `life` is readable.

    Raises:
        AlreadyServing: another server holds the data folder or the database.
        Invalid: a setting, prompt or catalog cannot be used.
    """
    logs.configure(settings.log_level)
    if not settings.work_dir.is_dir():
        raise Invalid(f"work_dir: {settings.work_dir} is no folder. Create it or name another.")
    with data_dir_held(settings.data_dir), _database(settings) as (engine, check_held):
        options = {"use_uvloop": True}
        try:
            anyio.run(_work, settings, links, engine, check_held, backend_options=options)
        except BaseExceptionGroup as group:
            if (plain := plain_cause(group)) is not None:
                raise plain from group
            raise


@contextmanager
def _database(settings: Settings) -> Generator[tuple[Engine, Callable[[], None]]]:
    """The database with its current schema, held; and how to see that it still is.

    Raises:
        Invalid: the URL or the file is not one of a database.
        ServerUnreachable: the database does not answer now.
    """
    try:
        engine = open_engine(settings.url_of_database, synchronous=settings.synchronous)
    except (ArgumentError, ImportError) as error:
        raise Invalid(
            f"database_url cannot be used ({error}). Set HURLICANE_DATABASE_URL."
        ) from None
    shown = engine.url.render_as_string()
    with ExitStack() as stack:
        try:
            folder_id = token_hash(operator_token(settings.data_dir))[:16]
            check_held = stack.enter_context(database_held(engine, folder_id))
            migrate(engine)
        except OperationalError as error:
            said = unavailable(error) or "It does not answer."
            raise ServerUnreachable(
                f"The database {shown} cannot be opened: {error.orig}. {said}"
            ) from None
        except DatabaseError as error:
            raise Invalid(
                f"The database {shown} cannot be used: {error.orig}. Choose another --data-dir or "
                "HURLICANE_DATABASE_URL."
            ) from None
        yield engine, check_held


async def _work(
    settings: Settings, links: Links, engine: Engine, check_held: Callable[[], None]
) -> None:
    """Recover, then serve until told to stop, then let everybody who waits know."""
    db = Database(engine)
    try:
        async with Watcher() as watcher, anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_checking, check_held)
            await Application(settings, links, db, watcher).run()
            tasks.cancel_scope.cancel()
    finally:
        await db.close()


async def _keep_checking(check_held: Callable[[], None]) -> None:
    """End the process when the database is lost; the next worker has to get it first."""
    while True:
        await anyio.sleep(CHECK_S)
        try:
            await anyio.to_thread.run_sync(check_held, abandon_on_cancel=True)
        except OwnershipLost as error:
            log.error("%s", error)
            # At once: what was open would be closed by asking a database that never answers.
            os._exit(1)
