"""A database that is locked, taken away or silent: who calls is told, and nothing is lost."""

import socket
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from tests.conftest import POSTGRES
from tests.faults.asking import (
    UNTIL_GO,
    create,
    created,
    events,
    eventually,
    get,
    outcome,
    readiness,
)
from tests.faults.conftest import Serve
from tests.machine import missing
from tests.stories.server import RunningServer


def a_working_agent(server: RunningServer) -> str:
    """The id of a job whose agent works until the file `go` appears."""
    job_id = created(server, UNTIL_GO, "finish lived through it")
    eventually(lambda: [one for one in events(server, job_id) if "session" in one["kind"]])
    return job_id


def check_that_it_went_on(server: RunningServer, job_id: str, folder: Path) -> None:
    (folder / "go").touch()
    answer = outcome(server, job_id)
    assert (answer["result"], answer["attempt"]) == ("lived through it", 1)


def test_while_another_process_locks_the_database_callers_are_told_and_agents_live(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data")
    working = a_working_agent(server)
    ending = created(server, UNTIL_GO, "exit 0", completion="exit")
    eventually(lambda: [one for one in events(server, ending) if "session" in one["kind"]])
    worker = server.worker_pid
    with closing(sqlite3.connect(server.data_dir / "hurlicane.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        refused = create(server, "finish")
        took = time.monotonic() - began
        assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
        assert "locked" in refused.json()["message"]
        assert 4 < took < 16  # it may come after another that waited as long
        assert get(server, f"/api/jobs/{working}")["status"] == "running"  # reading goes on
        monitor = readiness(server)
        assert (monitor.status_code, monitor.json()["error"]) == (503, "not_ready")
        (tmp_path / "go").touch()  # both agents end while nothing can be noted
        time.sleep(1)
    assert outcome(server, ending)["status"] == "done"
    eventually(lambda: readiness(server).is_success)
    assert server.worker_pid == worker
    answer = outcome(server, working)
    assert answer["status"] == "done"
    assert outcome(server, created(server, "finish"))["status"] == "done"


def test_a_deleted_database_is_put_back_and_the_agents_go_on(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "data")
    done = created(server, "finish known")
    outcome(server, done)
    working, worker = a_working_agent(server), server.worker_pid
    for ending in ("", "-wal", "-shm"):
        (server.data_dir / f"hurlicane.db{ending}").unlink()
    eventually(lambda: server.worker_pid != worker)
    check_that_it_went_on(server, working, tmp_path)
    assert outcome(server, done)["result"] == "known"


def test_a_replaced_database_is_taken_up_and_the_other_one_kept(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data")
    before = created(server, "finish of the copy")
    outcome(server, before)
    path, copy = server.data_dir / "hurlicane.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    after = created(server, "finish")
    outcome(server, after)
    worker = server.worker_pid
    copy.replace(path)
    eventually(lambda: server.worker_pid != worker)
    known = [one["job_id"] for one in get(server, "/api/jobs")["jobs"]]
    assert known == [before]
    with closing(sqlite3.connect(server.data_dir / "hurlicane.db.rescued")) as rescued:
        found = {job_id for (job_id,) in rescued.execute("SELECT id FROM job")}
    assert found == {before, after}


# ---- PostgreSQL ----


class Proxy:
    """Passes bytes between the server and PostgreSQL, until it falls silent."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passing = threading.Event()
        self._passing.set()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Nothing comes through any more, and no connection breaks."""
        self._passing.clear()

    def go_on(self) -> None:
        """Pass everything again, what was held back included."""
        self._passing.set()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(self._target)
                for source, target in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._passing.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def database() -> Generator[str]:
    """The name of an empty database, whose advisory locks are its own."""
    name = f"test_{uuid4().hex}"
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError as error:
        missing(f"PostgreSQL does not answer at 127.0.0.1:5432: {error}")
    try:
        yield name
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture
def name() -> Iterator[str]:
    with database() as name:
        yield name


@pytest.mark.postgres
def test_when_postgresql_ends_all_sessions_the_server_has_it_again_at_once(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    url = make_url(POSTGRES).set(database=name).render_as_string()
    server = serve(tmp_path / "data", database_url=url)
    working, worker = a_working_agent(server), server.worker_pid
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(statement), {"name": name})
    engine.dispose()
    eventually(lambda: server.worker_pid != worker)
    check_that_it_went_on(server, working, tmp_path)


@pytest.mark.postgres
@pytest.mark.timeout(120)
def test_when_postgresql_falls_silent_the_server_goes_on_as_soon_as_it_answers(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    """The session that held the database lives on beyond the broken network."""
    target = make_url(POSTGRES)
    proxy = Proxy(target.host or "", target.port or 5432)
    url = target.set(database=name, host="127.0.0.1", port=proxy.port).render_as_string()
    server = serve(tmp_path / "data", database_url=url)
    working, worker = a_working_agent(server), server.worker_pid
    proxy.fall_silent()
    eventually(lambda: not Path(f"/proc/{worker}").exists(), timeout_s=30)
    proxy.go_on()
    eventually(lambda: server.worker_pid != worker, timeout_s=40)
    assert server.process.poll() is None
    check_that_it_went_on(server, working, tmp_path)
    proxy.close()
