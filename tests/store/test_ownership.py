"""One server per database: the second is refused, and who loses the database notices."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from hurlicane_mcp.errors import AlreadyServing, OwnershipLost
from hurlicane_mcp.store.database import open_engine
from hurlicane_mcp.store.ownership import data_dir_held, database_held


def test_a_data_folder_is_held_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with (
        data_dir_held(folder),
        pytest.raises(AlreadyServing, match="hurlicane stop"),
        data_dir_held(folder),
    ):
        pass
    with data_dir_held(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_refusal_says_where_the_other_server_is(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:1", "pid": 42}')
    with (
        data_dir_held(tmp_path),
        pytest.raises(AlreadyServing, match=r"at http://127.0.0.1:1 \(pid 42\)"),
        data_dir_held(tmp_path),
    ):
        pass


def test_a_database_is_held_by_one_and_free_again_afterwards(database_url: str) -> None:
    engine, other = open_engine(database_url), open_engine(database_url)
    with database_held(engine) as check:
        check()
        if engine.dialect.name == "sqlite":  # the data folder's lock is the database's
            return
        with pytest.raises(AlreadyServing, match="Another server"), database_held(other):
            pass
    engine.dispose()
    with database_held(other):
        pass
    other.dispose()


def test_a_lost_connection_is_noticed(database_url: str) -> None:
    engine, other = open_engine(database_url), open_engine(database_url)
    with database_held(engine) as check:
        if engine.dialect.name == "sqlite":
            return
        with other.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks "
                    "WHERE locktype = 'advisory' AND granted"
                )
            )
        with pytest.raises(OwnershipLost, match="another server may have taken it"):
            check()
    engine.dispose()
    other.dispose()


def open_with(path: Path, *values: str) -> Engine:
    """A database at *path* that holds *values*, open, and in use just now."""
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE thing (value TEXT)"))
        for value in values:
            connection.execute(text("INSERT INTO thing VALUES (:value)"), {"value": value})
    return engine


def values_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [value for (value,) in connection.execute("SELECT value FROM thing")]


def test_a_database_file_that_is_deleted_is_put_back_with_all_that_was_stored(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hurlicane.db"
    engine = open_with(path, "before")
    with database_held(engine) as check:
        check()
        with engine.connect() as connection:
            path.unlink()
            connection.execute(text("INSERT INTO thing VALUES ('after')"))  # nobody has noticed yet
            connection.commit()
            with pytest.raises(OperationalError, match="deleted or replaced"):
                engine.connect()  # and not an empty file in its place
        with pytest.raises(OwnershipLost, match="was deleted"):
            check()
        assert values_in(path) == ["before", "after"]
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 50")
            with pytest.raises(OperationalError, match="locked"):  # else it would be lost
                connection.execute(text("INSERT INTO thing VALUES ('lost')"))
    engine.dispose()
    assert values_in(path) == ["before", "after"]


def test_a_database_file_that_is_replaced_stays_and_the_old_content_is_beside_it(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "hurlicane.db", tmp_path / "copy.db"
    open_with(other, "restored").dispose()
    engine = open_with(path, "old")
    with database_held(engine) as check:
        check()
        other.replace(path)
        with pytest.raises(OwnershipLost, match="was replaced") as lost:
            check()
        assert values_in(path) == ["restored"]
        assert values_in(tmp_path / "hurlicane.db.rescued") == ["old"]
        assert "hurlicane.db.rescued" in str(lost.value)
    engine.dispose()


def test_a_session_of_the_same_folders_dead_server_is_ended(database_url: str) -> None:
    """Behind a broken network PostgreSQL keeps it for hours."""
    engine, other = open_engine(database_url), open_engine(database_url)
    if engine.dialect.name == "sqlite":
        return
    with database_held(engine, "folder") as check:
        with pytest.raises(AlreadyServing), database_held(other, "another folder"):
            pass
        with database_held(other, "folder"), pytest.raises(OwnershipLost):
            check()
    engine.dispose()
    other.dispose()
