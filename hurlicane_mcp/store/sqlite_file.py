"""The file of an open SQLite database, which somebody may delete or replace under the server.

SQLite notices neither: it goes on with the file that it has open, and at its end all that was
stored meanwhile is gone.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TypeAlias, cast

from sqlalchemy import Connection, Engine

from hurlicane_mcp.errors import OwnershipLost

_Identity: TypeAlias = tuple[int, int]

_BESIDE = ("-wal", "-shm")  #: endings of the files that belong to the open one


class Opener:
    """Opens connections to one file, and to no other that has taken its place.

    By itself SQLite would make a new, empty file where one was deleted.
    """

    def __init__(self, path: Path, busy_s: float) -> None:
        """A connection waits *busy_s* for another process that holds the file."""
        self._path = path
        self._busy_s = busy_s
        self._identity: _Identity | None = None

    def __call__(self) -> sqlite3.Connection:
        if self._identity is None:
            sqlite3.connect(self._path).close()  # makes the file
            self._identity = _identity(self._path)
        elif _identity(self._path) != self._identity:
            raise sqlite3.OperationalError(f"{self._path} was deleted or replaced")
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_s,
            check_same_thread=False,
        )


class SqliteFile:
    """Looks whether the file is still in its place, and saves what it holds if it is not."""

    def __init__(self, path: Path, gate: sqlite3.Connection, source: sqlite3.Connection) -> None:
        """*gate* and *source* are connections that nobody else uses."""
        self._path = path
        self._gate = gate
        self._source = source
        for connection in (gate, source):  # it opens what is beside the file only now, by name
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        self._identity = _identity(path)
        self._beside: dict[Path, _Identity | None] = {}
        self.check()

    def check(self) -> None:
        """Return if the file is the one that was opened.

        Raises:
            OwnershipLost: it is not. Its content has been put back or laid beside it, and nobody
                can write to it any more.
        """
        found = _identity(self._path)
        if found == self._identity:
            beside = [self._path.with_name(self._path.name + ending) for ending in _BESIDE]
            self._beside = {path: _identity(path) for path in beside}
            return
        self._gate.execute("BEGIN IMMEDIATE")  # never ended: no commit may follow the copy
        copy = self._copy()
        for path, known in self._beside.items():
            if _identity(path) == known:  # they would be taken for parts of the new file
                path.unlink(missing_ok=True)
        if found is not None:
            raise OwnershipLost(
                f"The file {self._path} was replaced while the server ran. What it held is in "
                f"{copy}; the server goes on with the new one."
            )
        copy.replace(self._path)
        raise OwnershipLost(
            f"The file {self._path} was deleted while the server ran. All that it held is there "
            "again, and the server goes on with it."
        )

    def _copy(self) -> Path:
        names = (f"{self._path.name}.rescued{number or ''}" for number in count())
        path = next(one for name in names if not (one := self._path.with_name(name)).exists())
        with closing(sqlite3.connect(path)) as target:
            self._source.backup(target)
        path.chmod(0o600)
        return path


@contextmanager
def watched(engine: Engine) -> Generator[SqliteFile]:
    """The file of *engine*'s database, as long as the context lasts.

    Raises:
        SQLAlchemyError: it cannot be opened.
    """
    path = Path(engine.url.database or "")
    with engine.connect() as gate, engine.connect() as source:
        yield SqliteFile(path, _driver(gate), _driver(source))


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
