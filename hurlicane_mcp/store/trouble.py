"""What a database that fails means, in words that a caller can act on."""

from collections.abc import Generator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from sqlalchemy.exc import DBAPIError

from hurlicane_mcp.errors import StoreUnavailable

_FULL: Final = "The disk of the database is full"
_LOCKED: Final = "Another process keeps the database locked"
_READ_ONLY: Final = "The database may not be written to"
_FAILING: Final = "The database cannot be read or written, its disk may be full or fail"
_GONE: Final = "The database file cannot be opened"
_DAMAGED: Final = "The database file is damaged"
_AWAY: Final = "The database does not answer"

#: SQLite's primary result codes: https://sqlite.org/rescode.html
_SQLITE: Final = MappingProxyType(
    {
        5: _LOCKED,  # SQLITE_BUSY
        6: _LOCKED,  # SQLITE_LOCKED
        8: _READ_ONLY,  # SQLITE_READONLY
        10: _FAILING,  # SQLITE_IOERR
        11: _DAMAGED,  # SQLITE_CORRUPT
        13: _FULL,  # SQLITE_FULL
        14: _GONE,  # SQLITE_CANTOPEN
        26: _DAMAGED,  # SQLITE_NOTADB
    }
)
#: Classes and codes of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES: Final = MappingProxyType(
    {
        "53100": _FULL,  # disk_full
        "25006": _READ_ONLY,  # read_only_sql_transaction: a standby, say
        "55P03": _LOCKED,  # lock_not_available
        "58": _FAILING,  # system error, an I/O error for instance
        "08": _AWAY,  # connection exception
        "57P": _AWAY,  # operator intervention: it shuts down, or has just started
        "53": _AWAY,  # insufficient resources: too many connections, out of memory
    }
)


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """What a caller is told of *error*; None if it says nothing about the database's health."""
    found: BaseException | None = error
    while isinstance(found, DBAPIError):
        cause = _cause(found)
        if cause is not None:
            return StoreUnavailable(f"{cause}: nothing was written or read. {_ADVICE[cause]}")
        # When SQLite is full it drops the whole transaction, so taking back a part of it fails too.
        found = _before(found)
    return None


def _before(error: DBAPIError) -> BaseException | None:
    """The database error during whose handling *error* came up."""
    driver = error.__cause__
    seen = (error.__context__, driver.__context__ if driver else None)
    return next((one for one in seen if isinstance(one, DBAPIError)), None)


_ADVICE: Final = MappingProxyType(
    {
        _FULL: "Free some space, then call again with the same arguments.",
        _LOCKED: "Call again with the same arguments in a few seconds.",
        _READ_ONLY: "Give the server the right to write there, then call again.",
        _FAILING: "Call again with the same arguments; the server's log has the cause.",
        _GONE: "Call again with the same arguments; the server's log has the cause.",
        _DAMAGED: "An operator has to restore it from a copy.",
        _AWAY: "Call again with the same arguments in a few seconds.",
    }
)


def in_doubt() -> StoreUnavailable:
    """What a caller is told whose change may or may not be stored."""
    return StoreUnavailable(
        "The database went away while it stored this, which may have worked. Look first whether "
        "it did, then call again."
    )


@contextmanager
def told_plainly() -> Generator[None]:
    """Raise what `unavailable` says of a database error, with that as its cause."""
    try:
        yield
    except DBAPIError as error:
        plain = unavailable(error)
        if plain is None:
            raise
        raise plain from error


def _cause(error: DBAPIError) -> str | None:
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF)
    if error.connection_invalidated:
        return _AWAY
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # psycopg has lost the server, or never reached it
        return _AWAY if type(error.orig).__name__ in ("OperationalError", "AdminShutdown") else None
    return next((_POSTGRES[key] for key in (state, state[:3], state[:2]) if key in _POSTGRES), None)
