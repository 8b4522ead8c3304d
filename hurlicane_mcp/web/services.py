"""What the web edge is given."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.engine.access import Access
from hurlicane_mcp.engine.folders import Folders
from hurlicane_mcp.engine.health import Health
from hurlicane_mcp.engine.hooks import Hooks
from hurlicane_mcp.engine.intake import Intake
from hurlicane_mcp.engine.jobs import Jobs
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.engine.merges import Merges
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.models import Models
from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.questions import Questions
from hurlicane_mcp.engine.transcripts import Transcripts
from hurlicane_mcp.engine.usage import Usage
from hurlicane_mcp.engine.waiting import Waiting
from hurlicane_mcp.engine.why import Why
from hurlicane_mcp.engine.workflows import Workflows
from hurlicane_mcp.store.database import Database


class ServerFacts(BaseModel, frozen=True):
    """What the server knows of itself."""

    version: str
    pid: int
    started_at: datetime
    url: str
    data_dir: str
    database: str  #: its URL, without the password


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the routes call."""

    intake: Intake
    jobs: Jobs
    presences: Presences
    why: Why
    waiting: Waiting
    notes: Notes
    models: Models
    messages: Messages
    questions: Questions
    hooks: Hooks
    locks: Locks
    merges: Merges
    health: Health
    transcripts: Transcripts
    usage: Usage
    folders: Folders
    workflows: Workflows
    access: Access
    db: Database
    clock: Clock
    slots: int
    facts: ServerFacts
