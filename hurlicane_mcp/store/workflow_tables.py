"""The tables about work on git: worktrees, what attempts changed, and workflows with their phases.

A workflow is a job without agents of its own: its row here has the job's id, its phases are the
job's children. So budgets, waits, dependencies and cancelling are those of jobs.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from hurlicane_mcp.store.columns import (
    json_column,
    optional_json_column,
    seq_column,
    text_column,
    time_column,
)

LIVE_WORKTREE = text("removed_at IS NULL")
OPEN_WORKFLOW = text("state IN ('running', 'blocked')")


class WorktreeRow(SQLModel, table=True):
    """A work tree of our own beside somebody's repository. Nothing else is ever removed."""

    __tablename__: ClassVar[Any] = "worktree"
    __table_args__ = (
        Index("ix_worktree_live", "id", sqlite_where=LIVE_WORKTREE, postgresql_where=LIVE_WORKTREE),
    )

    seq: int = seq_column()
    id: str = Field(unique=True)
    owner_id: str = Field(foreign_key="job.id", index=True)  #: the job or workflow it was made for
    repo: str  #: top level of the main work tree
    path: str = Field(unique=True)
    branch: str  #: its own, made with it
    base_branch: str | None = None  #: None: the base was on no branch
    base_sha: str
    state: str = "planned"  #: planned | ready | removed
    created_at: datetime = time_column(nullable=False)
    ready_at: datetime | None = time_column()
    removed_at: datetime | None = time_column()
    salvaged: list[str] = json_column(list)  #: refs that keep what was not committed
    trouble: str = text_column()  #: why it could not be made or removed at the last try


class AttemptDiffRow(SQLModel, table=True):
    """What an attempt changed in its repository, from its start to its end."""

    __tablename__: ClassVar[Any] = "attempt_diff"

    attempt_id: str = Field(primary_key=True, foreign_key="attempt.id")
    base_sha: str
    head_sha: str
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    commits: int = 0
    is_cut: bool = False  #: `patch` is only its beginning
    at: datetime = time_column(nullable=False)
    stat: str = text_column()  #: one line a file
    patch: str = text_column()  #: what was not committed included


class WorkflowRow(SQLModel, table=True):
    """assess → review → implement → … on one task. Its task, title and result are its job's."""

    __tablename__: ClassVar[Any] = "workflow"
    __table_args__ = (
        Index("ix_workflow_open", "id", sqlite_where=OPEN_WORKFLOW, postgresql_where=OPEN_WORKFLOW),
    )

    seq: int = seq_column()
    id: str = Field(unique=True, foreign_key="job.id")
    state: str  #: running | blocked | complete | incomplete | cancelled
    implementer: str  #: `provider:model`
    reviewer: str
    reviewer_why: str  #: how that reviewer came to be chosen
    max_cycles: int
    stops: dict[str, Any] = json_column(dict)  #: phase → {mode, value}
    checks: list[Any] = json_column(list)  #: what has to hold after each implementation
    verify: bool = False
    publish: str
    base_branch: str | None = None
    worktree_id: str | None = None
    start_sha: str | None = None  #: the commit that its work begins from
    cycle: int = 0  #: of the current phase, as the following two
    phase: str
    try_number: int = 1
    idle_cycles: int = 0  #: implementations in a row without progress
    verifications: int = 0  #: how often verification has failed
    heals: int = 0  #: blocks in a row that were tried again by themselves
    milestones: int = 0
    milestones_done: int = 0
    blocked_kind: str | None = None
    blocked_at: datetime | None = time_column()
    heals_at: datetime | None = time_column()  #: when the blocked phase is tried again by itself
    published: dict[str, Any] | None = optional_json_column()
    blocked_reason: str = text_column()
    blocked_advice: str = text_column()


class PhaseRow(SQLModel, table=True):
    """One try at one phase. The key makes it impossible to start a phase twice."""

    __tablename__: ClassVar[Any] = "workflow_phase"

    workflow_id: str = Field(primary_key=True, foreign_key="workflow.id")
    cycle: int = Field(primary_key=True)
    phase: str = Field(primary_key=True)
    try_number: int = Field(primary_key=True)
    job_id: str = Field(unique=True, foreign_key="job.id")
    started_at: datetime = time_column(nullable=False)
    base_sha: str | None = None  #: where the branch was when it began
    milestones_done: int = 0  #: how many were checked then
