"""One server per database: who holds it, and what the second one is told."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from hurlicane_mcp.errors import AlreadyServing, Invalid, OwnershipLost
from hurlicane_mcp.store.sqlite_file import watched

#: Any fixed number: it names our lock among the advisory locks of a PostgreSQL database.
_ADVISORY_KEY = 0x6875726C
#: Seconds that a lock may stay held: by a server that serves, which may just have been killed, and
#: by one that starts or leaves.
SERVING_S = 0.5
LEAVING_S = 10.0
#: Seconds without an answer after which PostgreSQL counts as gone.
SILENT_S = 10.0


_END_PREDECESSOR = text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objid = :key AND classid = 0 "
    "AND datname = current_database() AND application_name = :name"
)


@contextmanager
def data_dir_held(data_dir: Path) -> Generator[None]:
    """Hold the data folder as long as the context lasts.

    The kernel lets go of the lock with the process, however it ends; it is not inherited. A server
    that says in its `server.json` that it leaves is waited for.

    Raises:
        AlreadyServing: another server holds it.
        Invalid: the folder cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Invalid(
            f"The data folder {data_dir} cannot be used ({error.strerror}). Choose another "
            "--data-dir, or give this user the right to write there."
        ) from None
    try:
        began = time.monotonic()
        while not _locked(descriptor):
            other = _whereabouts(data_dir)
            if time.monotonic() - began > (SERVING_S if other else LEAVING_S):
                raise AlreadyServing(
                    f"A server{other} already uses {data_dir}. Use that one, stop it with "
                    "`hurlicane stop`, or choose another --data-dir."
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def database_held(engine: Engine, folder_id: str | None = None) -> Generator[Callable[[], None]]:
    """Hold a PostgreSQL database as long as the context lasts; SQLite's lock is the data folder's.

    Yields a function that raises `OwnershipLost` once the database is no longer held, its file no
    longer there, or nobody there to answer. Whoever loses it must stop writing: another may have
    it by now, or nobody would ever read what is written.

    *folder_id* names the data folder, which the caller holds: a session of PostgreSQL with the
    same name belongs to a server that is dead, and is ended.

    Raises:
        AlreadyServing: another server, maybe on another machine, holds it.
    """
    if engine.dialect.name != "postgresql":
        with watched(engine) as file:
            yield file.check
        return
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not _advisory_lock(connection, folder_id):
            raise AlreadyServing(
                f"Another server already uses the database {engine.url.render_as_string()}. "
                "Stop that one, or set another HURLICANE_DATABASE_URL."
            )

        def check() -> None:
            failures: list[SQLAlchemyError] = []
            # A connection over which nothing comes any more never fails by itself.
            asking = threading.Thread(target=_ask, args=(connection, failures), daemon=True)
            asking.start()
            asking.join(SILENT_S)
            if asking.is_alive():
                raise OwnershipLost(
                    f"The database has not answered for {SILENT_S:.0f} s. The server goes on when "
                    "it answers again."
                )
            if failures:  # the lock belongs to the session that is gone
                raise OwnershipLost(
                    "The connection that held the database is gone, so another server may have "
                    "taken it. This one goes on when it can have the database again."
                ) from failures[0]

        yield check


def _advisory_lock(connection: Connection, folder_id: str | None) -> bool:
    """Whether this session got the lock. One that broke off may live on in PostgreSQL for hours."""
    name = f"hurlicane {folder_id or ''}".strip()
    naming = text("SELECT set_config('application_name', :name, false)")
    connection.execute(naming, {"name": name})
    deadline = time.monotonic() + LEAVING_S
    while True:
        if connection.execute(text(f"SELECT pg_try_advisory_lock({_ADVISORY_KEY})")).scalar():
            return True
        if folder_id is None or time.monotonic() > deadline:
            return False
        values = {"name": name, "key": _ADVISORY_KEY}
        if not connection.execute(_END_PREDECESSOR, values).all():
            return False  # another server's; or it has just gone, and the caller may try again
        time.sleep(0.1)


def _ask(connection: Connection, failures: list[SQLAlchemyError]) -> None:
    try:
        connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        failures.append(error)


def _whereabouts(data_dir: Path) -> str:
    try:
        known = json.loads((data_dir / "server.json").read_text(encoding="utf-8"))
        return "" if known.get("leaving") else f" at {known['url']} (pid {known['pid']})"
    except (OSError, ValueError, KeyError):
        return ""
