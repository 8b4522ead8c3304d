"""The web edge on a real socket, with a database and no agents, and clients of it."""

import json
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import uvicorn
from sqlmodel import Session
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hurlicane_mcp.domain import agents
from hurlicane_mcp.engine.access import CALLER_KEY, Access
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.diffs import Diffs
from hurlicane_mcp.engine.folders import Folders
from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.engine.hooks import Hooks
from hurlicane_mcp.engine.intake import Defaults, Intake
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.engine.merges import Merges
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.transcripts import Transcripts
from hurlicane_mcp.engine.usage import Usage
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.parts import checks_of, workflows_of
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from hurlicane_mcp.web.app import ServerFacts, Services, build_web
from tests.factories import models, running
from tests.fakes import BEGINNING, FakeClock

TOKEN = "hco_the-operator-of-these-tests"
ALLOWED = "hurlicane.example"


@dataclass(frozen=True)
class Site:
    """A server and what it works on."""

    url: str
    app: ASGIApp
    services: Services
    runs_dir: Path

    @property
    def db(self) -> Database:
        return self.services.db

    def client(self, token: str = TOKEN) -> httpx2.AsyncClient:
        """A client that sends *token*; without one if it is empty."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    async def running_job(self) -> tuple[JobRow, AttemptRow]:
        """A job with an attempt whose output goes into a folder of its own."""

        def change(session: Session) -> tuple[JobRow, AttemptRow]:
            job, attempt = running(session)
            folder = self.runs_dir / attempt.id
            folder.mkdir(parents=True)
            attempts.write(session, attempt.id, run_dir=str(folder))
            return job, attempts.get(session, attempt.id)

        return await self.db.write(change)

    async def agent_token(self) -> str:
        """The token of an agent that works."""
        _, attempt = await self.running_job()
        return f"token of {attempt.id}"


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    id: int
    event: str
    data: dict[str, Any]


class Stream:
    """The events of an open response."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> Told | None:
        """The next event, or None when the server has ended the stream."""
        fields: dict[str, str] = {}
        with anyio.fail_after(10):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif fields:
                    return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        return None

    async def rest(self) -> list[Told]:
        """All events until the end."""
        return [told async for told in self]

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Told:
        told = await self.next()
        if told is None:
            raise StopAsyncIteration
        return told


@asynccontextmanager
async def streamed(
    client: httpx2.AsyncClient, path: str, **headers: str
) -> AsyncGenerator[Stream, None]:
    """The events of GET *path*. Underscores in names of *headers* stand for hyphens."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", path, headers=sent) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


class EndpointStub:
    """Stands where the MCP endpoint is: tells whom the guard let through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"role": scope[CALLER_KEY].role})(scope, receive, send)


@asynccontextmanager
async def running_site(db: Database, clock: FakeClock, folder: Path) -> AsyncGenerator[Site, None]:
    """A site that answers; everybody who waits is told when it ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with Watcher() as watcher:
            services = _services(db, clock, watcher, folder, url)
            app = build_web(services, EndpointStub(), [ALLOWED])
            async with _answering(app, listener):
                try:
                    yield Site(url, app, services, folder / "runs")
                finally:
                    db.bell.close()


def _services(db: Database, clock: FakeClock, watcher: Watcher, folder: Path, url: str) -> Services:
    providers = Providers({"scripted": ScriptedProvider()})
    messages = Messages(db, clock)
    waiting = Waiting(db, clock, WaitLimits(timedelta(minutes=30)), messages)
    defaults = Defaults(folder, str(folder), "scripted")
    presences = Presences(clock, Attendance(db, clock), agents.Limits())
    folders = Folders(Worktrees(db, clock, timedelta(hours=24)), Diffs(db, clock))
    settings = Settings.model_validate(
        {"data_dir": folder, "work_dir": folder, "provider": "scripted"}
    )
    checks = checks_of(settings, db, clock, ShimHost(), watcher)
    prompts, chains = Prompts.load(), Chains(providers)
    workflows, _ = workflows_of(settings, db, clock, prompts, chains, folders.worktrees, checks)
    return Services(
        intake=Intake(db, clock, Chains(providers), defaults, Limits()),
        jobs=Jobs(db, clock, presences),
        presences=presences,
        why=Why(db, clock, presences, 4),
        waiting=waiting,
        notes=Notes(db, clock, waiting, str(folder)),
        models=models(db, clock),
        messages=messages,
        questions=Questions(db, clock, waiting),
        hooks=Hooks(db, clock, messages),
        locks=Locks(db, clock, waiting),
        merges=Merges(db),
        health=Health(db, clock),
        transcripts=Transcripts(db, providers, watcher),
        usage=Usage(db, clock, providers),
        folders=folders,
        workflows=workflows,
        access=Access(db, clock, TOKEN),
        db=db,
        clock=clock,
        slots=4,
        facts=ServerFacts(
            version="1.2.3",
            pid=77,
            started_at=BEGINNING,
            url=url,
            data_dir=str(folder),
            database="sqlite:///hurlicane.db",
        ),
    )


class _Server(uvicorn.Server):
    """Says when it listens, and leaves the signals to the test runner."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def _answering(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[None, None]:
    server = _Server(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await server.listening.wait()
        try:
            yield
        finally:
            server.should_exit = True
