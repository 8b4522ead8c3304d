"""The endpoint with a database and no agents."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from hurlicane_mcp.domain import agents
from hurlicane_mcp.engine.access import Role
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.checks import Checks
from hurlicane_mcp.engine.finishing import Finishing
from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.engine.intake import Defaults, Intake
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.engine.workflow_prompts import WorkflowPrompts
from hurlicane_mcp.engine.worktrees import Worktrees
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
from hurlicane_mcp.parts import workflows_of
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.one_shot import OneShots
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import models
from tests.fakes import FakeClock


@pytest.fixture
async def watcher() -> AsyncGenerator[Watcher]:
    async with Watcher() as opened:
        yield opened


def workflow_tools(db: Database, clock: FakeClock, folder: Path, checks: Checks) -> WorkflowTools:
    """The tools of a service whose phases nobody moves on."""
    values = {"data_dir": folder / "data", "work_dir": folder, "provider": "scripted"}
    settings = Settings.model_validate(values)
    chains = Chains(Providers({"scripted": ScriptedProvider()}))
    worktrees = Worktrees(db, clock, timedelta(hours=24))
    service, _ = workflows_of(settings, db, clock, Prompts.load(), chains, worktrees, checks)
    return WorkflowTools(service)


@pytest.fixture
async def endpoint(
    db: Database, clock: FakeClock, tmp_path: Path, watcher: Watcher
) -> AsyncGenerator[McpEndpoint]:
    messages = Messages(db, clock)
    waiting = Waiting(db, clock, WaitLimits(timedelta(minutes=30)), messages)
    providers = Providers({"scripted": ScriptedProvider()})
    defaults = Defaults(tmp_path, str(tmp_path), "scripted")
    attendance = Attendance(db, clock)
    presences = Presences(clock, attendance, agents.Limits())
    services = Jobs(db, clock, presences)
    one_shots = OneShots(ShimHost(), watcher, tmp_path / "checks")
    checks = Checks(db, clock, one_shots)
    finishing = Finishing(db, clock, services, waiting, checks)
    why = Why(db, clock, presences, 8)
    locks, flows = LockTools(Locks(db, clock, waiting)), workflow_tools(db, clock, tmp_path, checks)
    tools = (
        JobTools(Intake(db, clock, Chains(providers), defaults, Limits()), services, waiting, why),
        NoteTools(Notes(db, clock, waiting, str(tmp_path))),
        AttemptTools(services, finishing),
        TalkTools(Questions(db, clock, waiting), messages),
        (
            WarningTools(Health(db, clock)).dismiss_warning,
            *ModelTools(models(db, clock)).tools,
            locks.check_file_locks,
            *flows.tools,
        ),
        (*locks.for_agents, *flows.tools),
        WorkPrompts(WorkflowPrompts(Prompts.load())).prompts,
    )
    built = McpEndpoint({role: build_server(role, *tools) for role in Role}, attendance, db.bell)
    async with built.running():
        yield built
