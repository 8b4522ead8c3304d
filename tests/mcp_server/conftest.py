"""The endpoint with a database and no agents."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from hurlicane_mcp.domain import agents
from hurlicane_mcp.engine.access import Role
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.engine.intake import Defaults, Intake, Limits
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.mcp_server.jobs import AttemptTools, JobTools
from hurlicane_mcp.mcp_server.models import ModelTools
from hurlicane_mcp.mcp_server.notes import NoteTools
from hurlicane_mcp.mcp_server.server import build_server
from hurlicane_mcp.mcp_server.talk import TalkTools
from hurlicane_mcp.mcp_server.warnings import WarningTools
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.store.database import Database
from tests.factories import models
from tests.fakes import FakeClock


@pytest.fixture
async def endpoint(db: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[McpEndpoint]:
    messages = Messages(db, clock)
    waiting = Waiting(db, clock, WaitLimits(timedelta(minutes=30)), messages)
    providers = Providers({"scripted": ScriptedProvider()})
    defaults = Defaults(tmp_path, str(tmp_path), "scripted")
    attendance = Attendance(db, clock)
    presences = Presences(clock, attendance, agents.Limits())
    services = Jobs(db, clock, presences)
    why = Why(db, clock, presences, 8)
    tools = (
        JobTools(Intake(db, clock, Chains(providers), defaults, Limits()), services, waiting, why),
        NoteTools(Notes(db, clock, waiting, str(tmp_path))),
        AttemptTools(services),
        TalkTools(Questions(db, clock, waiting), messages),
        (WarningTools(Health(db, clock)).dismiss_warning, *ModelTools(models(db, clock)).tools),
    )
    built = McpEndpoint({role: build_server(role, *tools) for role in Role}, attendance, db.bell)
    async with built.running():
        yield built
