"""One worker: all its services, built once and wired together, from recovery to the last answer."""

import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Protocol

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from hurlicane_mcp.clock import Clock, SystemClock
from hurlicane_mcp.engine.access import Access, Role
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.engine.exits import ExitChecks
from hurlicane_mcp.engine.finishing import Finishing
from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.engine.hooks import Hooks
from hurlicane_mcp.engine.intake import Intake, project_of
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.engine.merges import Merges
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.patience import RefusalWatch
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.recovery import Recovery
from hurlicane_mcp.engine.runs import Runs
from hurlicane_mcp.engine.stops import Timekeeper
from hurlicane_mcp.engine.transcripts import Transcripts
from hurlicane_mcp.engine.usage import Usage
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.watchdog import Watchdog
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.engine.workflow_prompts import WorkflowPrompts
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.mcp_server.jobs import AttemptTools, JobTools
from hurlicane_mcp.mcp_server.locks import LockTools
from hurlicane_mcp.mcp_server.models import ModelTools
from hurlicane_mcp.mcp_server.notes import NoteTools
from hurlicane_mcp.mcp_server.prompts import WorkPrompts
from hurlicane_mcp.mcp_server.server import build_server
from hurlicane_mcp.mcp_server.talk import TalkTools
from hurlicane_mcp.mcp_server.warnings import WarningTools
from hurlicane_mcp.mcp_server.workflows import WorkflowTools
from hurlicane_mcp.parts import (
    agent_limits,
    booking_of,
    checks_of,
    classifier_of,
    defaults_of,
    edit_gate_of,
    folders_of,
    models_of,
    providers_of,
    run_limits,
    url_of,
    workflows_of,
)
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store.credentials import operator_token
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.tmux_host import LocalHost, TmuxHost
from hurlicane_mcp.supervision.transcript import Watcher
from hurlicane_mcp.web.app import ServerFacts, Services, build_web

log = logging.getLogger(__name__)

#: How long open requests get to end once they have been told that the server stops.
DRAIN_S = 2


class Links(Protocol):
    """What ties a worker to the process that started it."""

    @property
    def listener(self) -> socket.socket: ...

    @property
    def life(self) -> socket.socket: ...

    def ready(self) -> None: ...


class Application:
    """All services of one worker, wired together."""

    def __init__(self, settings: Settings, links: Links, db: Database, watcher: Watcher) -> None:
        self._settings = settings
        self._links = links
        self._db = db
        self._clock: Clock = SystemClock()
        self._url = url_of(settings, links.listener)
        self._providers = providers_of(settings)
        self._booking = booking_of(settings, self._providers)
        self._terminals = TmuxHost()
        host = LocalHost(ShimHost(), self._terminals)
        self._attendance = Attendance(db, self._clock)
        self._presences = Presences(self._clock, self._attendance, agent_limits(settings))
        prompts = Prompts.load(settings.prompts_dir)
        self._work_prompts = WorkPrompts(WorkflowPrompts(prompts))
        self._checks = checks_of(settings, db, self._clock, host, watcher)
        exits = ExitChecks(db, self._clock, self._checks)
        self._folders = folders_of(settings, db, self._clock)
        self._runs = Runs(
            db,
            self._clock,
            host,
            self._providers,
            prompts,
            watcher,
            self._presences,
            self._booking,
            f"{self._url}/mcp",
            run_limits(settings),
            f"{self._url}/hooks/claude" if settings.claude_hooks else None,
            edit_gate_of(settings, self._url),
            exits,
            self._folders,
        )
        self._classifier = classifier_of(
            settings, db, self._clock, prompts, self._booking, host, watcher
        )
        self._recovery = Recovery(db, self._clock, host, self._runs, exits)
        self._workflows, self._reactor = workflows_of(
            settings,
            db,
            self._clock,
            prompts,
            self._booking.ledger.chains,
            self._folders.worktrees,
            self._checks,
        )
        self._services = self._build_services(watcher)

    async def run(self) -> None:
        """Return once the server has been told to stop and has drained."""
        async with anyio.create_task_group() as tasks:
            await self._services.messages.load()
            await self._checks.clear()
            recovered = await self._recovery.recover()
            for found in recovered.adopted:
                tasks.start_soon(self._runs.follow, found.attempt_id, found.run_dir, found.handle)
            for attempt in recovered.unclear:
                tasks.start_soon(self._recovery.try_again, attempt)
            server: _Server = await tasks.start(self._listen)

            async def launch(launch: Launch) -> None:
                tasks.start_soon(self._runs.run, launch)

            # Only now: an agent that finds no server begins without our tools and exits with 0.
            await tasks.start(self._dispatcher(launch).run)
            tasks.start_soon(self._classifier.run)
            tasks.start_soon(self._watchdog().run)
            tasks.start_soon(self._folders.run)
            tasks.start_soon(self._reactor.run)
            await _told_to_stop(self._links.life)
            self._tell_whereabouts(leaving=True)
            self._db.bell.close()  # every open wait answers "call again", every feed ends
            server.should_exit = True
            await server.stopped.wait()
            tasks.cancel_scope.cancel()  # the agents live on; the next server adopts them

    async def _listen(
        self, *, task_status: "TaskStatus[_Server]" = anyio.TASK_STATUS_IGNORED
    ) -> None:
        endpoint = self._build_endpoint()
        app = build_web(self._services, endpoint, self._settings.allowed_hosts)
        async with endpoint.running():
            server = _Server(app)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [self._links.listener])
                await server.answering.wait()
                self._announce()
                task_status.started(server)
            server.stopped.set()

    def _announce(self) -> None:
        self._tell_whereabouts(leaving=False)
        self._links.ready()

    def _tell_whereabouts(self, *, leaving: bool) -> None:
        """Write `server.json`, for clients and for a server that finds the data folder held."""
        whereabouts = {"url": self._url, "pid": os.getpid(), "leaving": leaving}
        path = self._settings.data_dir / "server.json"
        unfinished = path.with_suffix(".new")
        try:
            unfinished.write_text(json.dumps(whereabouts), encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:  # a full disk, say: serving is worth more than being found
            log.error("%s cannot be written: %s", path, error)

    def _watchdog(self) -> Watchdog:
        refusals = RefusalWatch(self._db, self._clock, self._booking, self._terminals.shows)
        chores = (
            self._services.questions.close_overdue,
            self._services.locks.sweep,
            self._reactor.reconcile,
            self._runs.attend,
            self._services.health.look,
        )
        at_work = (Timekeeper(self._db, self._clock, self._booking.stops).look, refusals.look)
        typist = self._terminals.type
        return Watchdog(self._db, self._clock, self._presences, chores, typist, at_work)

    def _dispatcher(self, launch: Callable[[Launch], Awaitable[None]]) -> Dispatcher:
        runs_dir = self._settings.data_dir / "runs"
        slots, booking = self._settings.slots, self._booking
        return Dispatcher(
            self._db, self._clock, slots, runs_dir, booking.ledger, booking.stops, launch
        )

    def _build_services(self, watcher: Watcher) -> Services:
        settings, db, clock = self._settings, self._db, self._clock
        project = project_of(settings.work_dir)
        messages = Messages(db, clock, self._terminals.type)
        waiting = Waiting(db, clock, WaitLimits(settings.wait_limit), messages)
        return Services(
            intake=Intake(
                db,
                clock,
                self._booking.ledger.chains,
                defaults_of(settings),
                Limits(settings.max_depth, settings.max_open_jobs),
            ),
            jobs=Jobs(db, clock, self._presences),
            presences=self._presences,
            why=Why(db, clock, self._presences, settings.slots),
            waiting=waiting,
            notes=Notes(db, clock, waiting, project),
            models=models_of(settings, db, clock, self._booking.ledger.chains),
            messages=messages,
            questions=Questions(db, clock, waiting),
            hooks=Hooks(db, clock, messages),
            locks=Locks(db, clock, waiting),
            merges=Merges(db),
            health=Health(db, clock),
            transcripts=Transcripts(db, self._providers, watcher),
            usage=Usage(db, clock, self._providers),
            folders=self._folders,
            workflows=self._workflows,
            access=Access(db, clock, operator_token(settings.data_dir)),
            db=db,
            clock=clock,
            slots=settings.slots,
            facts=self._facts(clock.now()),
        )

    def _facts(self, started_at: datetime) -> ServerFacts:
        return ServerFacts(
            version=version("hurlicane-mcp"),
            pid=os.getpid(),
            started_at=started_at,
            url=self._url,
            data_dir=str(self._settings.data_dir),
            database=self._db.engine.url.render_as_string(hide_password=True),
        )

    def _build_endpoint(self) -> McpEndpoint:
        services = self._services
        jobs = JobTools(services.intake, services.jobs, services.waiting, services.why)
        finishing = Finishing(self._db, self._clock, services.jobs, services.waiting, self._checks)
        notes, attempt = NoteTools(services.notes), AttemptTools(services.jobs, finishing)
        talk = TalkTools(services.questions, services.messages)
        warnings, models = WarningTools(services.health), ModelTools(services.models)
        locks, flows = LockTools(services.locks), WorkflowTools(services.workflows)
        more = (warnings.dismiss_warning, *models.tools, locks.check_file_locks, *flows.tools)
        agents = (*locks.for_agents, *flows.tools)
        parts = (jobs, notes, attempt, talk, more, agents, self._work_prompts.prompts)
        servers = {role: build_server(role, *parts) for role in Role}
        return McpEndpoint(servers, self._attendance, self._db.bell)


class _Server(uvicorn.Server):
    """uvicorn on our socket, without its signal handlers: the application decides when to stop."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self.answering = anyio.Event()
        self.stopped = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _told_to_stop(life: socket.socket) -> None:
    """Return at SIGTERM or SIGINT, or when the process behind *life* is gone."""
    async with anyio.create_task_group() as tasks:

        async def orphaned() -> None:
            await anyio.wait_readable(life)
            log.warning("the parent process is gone: draining")
            tasks.cancel_scope.cancel()

        tasks.start_soon(orphaned)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        tasks.cancel_scope.cancel()
