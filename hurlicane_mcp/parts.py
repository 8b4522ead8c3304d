"""What the settings make of the parts that the application is built from."""

import shutil
import socket
from datetime import timedelta

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain import agents
from hurlicane_mcp.domain.refusals import Patience
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.budgets import Caps
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.checks import Checks
from hurlicane_mcp.engine.classification import Classifier
from hurlicane_mcp.engine.crews import Crews
from hurlicane_mcp.engine.diffs import Diffs
from hurlicane_mcp.engine.folders import Folders
from hurlicane_mcp.engine.intake import Defaults, project_of
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.model_calls import ModelCalls
from hurlicane_mcp.engine.models import Models
from hurlicane_mcp.engine.phases import Phases
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.publications import Publications
from hurlicane_mcp.engine.publishing import Publisher
from hurlicane_mcp.engine.reactor import Reactor
from hurlicane_mcp.engine.runs import RunLimits
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.engine.workflow_facts import WorkflowFacts
from hurlicane_mcp.engine.workflow_prompts import WorkflowPrompts
from hurlicane_mcp.engine.workflows import Workflows
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.providers.base import EditGate
from hurlicane_mcp.providers.catalog import Catalog
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Host
from hurlicane_mcp.supervision.one_shot import OneShots
from hurlicane_mcp.supervision.transcript import Watcher

#: All waits of a row of refusals together that are left to a CLI, beside the longest single one.
MORE_PATIENCE = timedelta(seconds=10)


def booking_of(settings: Settings, providers: Providers) -> Booking:
    """The ledger of limits, the stops, and what feeds them.

    Raises:
        Invalid: a chain cannot be used.
    """
    longest = settings.cli_patience
    patience = Patience(longest=longest, in_all=longest + MORE_PATIENCE)
    ledger = Ledger(Chains.load(settings.chains, providers), settings.cooldown, patience)
    stops = Stops(Caps(settings.daily_budget, settings.project_budget))
    return Booking(providers, ledger, stops)


def models_of(settings: Settings, db: Database, clock: Clock, chains: Chains) -> Models:
    """What people are told of models, and may do about them.

    Raises:
        Invalid: the catalog cannot be used.
    """
    return Models(db, clock, chains, Catalog.load(settings.models_file))


def classifier_of(
    settings: Settings,
    db: Database,
    clock: Clock,
    prompts: Prompts,
    booking: Booking,
    host: Host,
    watcher: Watcher,
) -> Classifier:
    """Who chooses models for jobs that name none, if the settings want that."""
    one_shots = OneShots(host, watcher, settings.data_dir / "calls")
    calls = ModelCalls(clock, booking.providers, one_shots, booking.ledger.patience)
    return Classifier(
        db, clock, prompts, booking.ledger, booking.stops, calls, is_on=settings.classify
    )


def checks_of(
    settings: Settings, db: Database, clock: Clock, host: Host, watcher: Watcher
) -> Checks:
    """Who runs completion checks, each command in a run directory of its own."""
    return Checks(db, clock, OneShots(host, watcher, settings.data_dir / "checks"))


def workflows_of(
    settings: Settings,
    db: Database,
    clock: Clock,
    prompts: Prompts,
    chains: Chains,
    worktrees: Worktrees,
    checks: Checks,
) -> tuple[Workflows, Reactor]:
    """What callers do with workflows, and who moves them on."""
    words = WorkflowPrompts(prompts)
    facts, phases = WorkflowFacts(db, worktrees, checks), Phases(chains, words)
    publications = Publications(db, clock, Publisher(settings.gh_bin), words)
    reactor = Reactor(db, clock, facts, phases, publications)
    crews = Crews(chains, settings.provider, lambda name: _is_installed(settings, name))
    limits = Limits(settings.max_depth, settings.max_open_jobs)
    service = Workflows(
        db, clock, crews, worktrees, phases, facts, reactor, defaults_of(settings), limits
    )
    return service, reactor


def defaults_of(settings: Settings) -> Defaults:
    """What a job of an operator gets where nothing is named."""
    project = project_of(settings.work_dir)
    return Defaults(settings.work_dir, project, settings.provider, settings.classify)


def _is_installed(settings: Settings, provider: str) -> bool:
    """Whether the program of a CLI is on this machine; it may still not be logged in."""
    programs = {"claude": settings.claude_bin, "codex": settings.codex_bin}
    return shutil.which(programs[provider]) is not None


def folders_of(settings: Settings, db: Database, clock: Clock) -> Folders:
    """Who sees to the folders that jobs work in: worktrees and diffs."""
    return Folders(Worktrees(db, clock, settings.worktree_retention), Diffs(db, clock))


def providers_of(settings: Settings) -> Providers:
    """The CLIs that can be launched.

    Raises:
        Invalid: the catalog cannot be used, or the default provider is none.
    """
    catalog = Catalog.load(settings.models_file)
    providers = Providers(
        {
            "claude": ClaudeProvider(settings.claude_bin, settings.claude_permissions, catalog),
            "codex": CodexProvider(settings.codex_bin, settings.codex_sandbox, catalog),
            "scripted": ScriptedProvider(),
        }
    )
    providers.get(settings.provider)
    return providers


def agent_limits(settings: Settings) -> agents.Limits:
    """How long agents may be away or silent."""
    return agents.Limits(settings.lost_grace, settings.silent_after, settings.tool_stalled_after)


def run_limits(settings: Settings) -> RunLimits:
    """How long things around an agent's process may take."""
    return RunLimits(
        settings.wait_limit,
        settings.leave_grace,
        settings.kill_grace,
        settings.unattended_limit,
        settings.output_limit,
    )


def edit_gate_of(settings: Settings, url: str) -> EditGate:
    """Whom the agents of jobs that enforce file locks ask before they edit."""
    return EditGate(f"{url}/hooks/claude/edit", settings.locks_fail_open)


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where agents on this machine reach the server."""
    port = listener.getsockname()[1]
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
