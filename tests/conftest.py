"""Fixtures that every test may use."""

import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from hurlicane_mcp.store.database import Database, open_engine
from hurlicane_mcp.store.migrations import migrate
from tests.fakes import FakeClock
from tests.machine import missing
from tests.stories.server import RunningServer, running_server

# How long an example takes says something about the machine only.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

POSTGRES = "postgresql+psycopg://root@127.0.0.1:5432/test"


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> None:
    """Nothing of the person or the shell that runs the tests may reach them."""
    for name in [name for name in os.environ if name.startswith("HURLICANE_")]:
        del os.environ[name]
    # A shell ignores these in its background jobs, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of all asynchronous tests: the one that the server runs on."""
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@contextmanager
def postgres_schema() -> Generator[str]:
    """The URL of an empty schema of its own on the local PostgreSQL."""
    name = f"test_{uuid4().hex}"
    engine = create_engine(POSTGRES)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
    except OperationalError as error:
        engine.dispose()
        missing(f"PostgreSQL does not answer at 127.0.0.1:5432: {error}")
    try:
        yield f"{POSTGRES}?options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    with postgres_schema() as url:
        yield url


@pytest.fixture
async def store(database_url: str) -> AsyncGenerator[Database]:
    """An open store with the current schema, on each kind of database in turn."""
    engine = open_engine(database_url)
    migrate(engine)
    database = Database(engine)
    yield database
    await database.close()


@pytest.fixture
async def db(tmp_path: Path) -> AsyncGenerator[Database]:
    """An open store on SQLite, for tests that are not about the store."""
    engine = open_engine(f"sqlite:///{tmp_path / 'hurlicane.db'}")
    migrate(engine)
    database = Database(engine)
    yield database
    await database.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts a server on a data folder of the test's own; all are stopped afterwards."""
    servers: list[RunningServer] = []

    def starter(**settings: str) -> RunningServer:
        server = running_server(tmp_path / "data", tmp_path, settings)
        servers.append(server)
        return server

    yield starter
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Callable[..., RunningServer]) -> RunningServer:
    """A server with the default settings and scripted agents."""
    return start()


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """The protocol era that the client speaks: 2026-07-28, or the handshake before it."""
    return request.param
