"""Worktrees, what attempts changed, workflows, and what a job has to pass before it is done."""

import sqlalchemy as sa
from alembic import op

from hurlicane_mcp.store.columns import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE_WORKTREE = sa.text("removed_at IS NULL")
OPEN_WORKFLOW = sa.text("state IN ('running', 'blocked')")
OF_JOB = ("kind", "worktree_id", "checks", "check_tries", "checks_failed", "enforce_locks")


def upgrade() -> None:
    """Add what work on git needs."""
    _job()
    _worktree()
    _workflow()


def downgrade() -> None:
    """Drop all of it; the branches and worktrees themselves stay."""
    for table in ("workflow_phase", "workflow", "attempt_diff", "worktree"):
        op.drop_table(table)
    op.drop_column("attempt", "base_sha")
    op.drop_index("ix_job_worktree_id", "job")
    for name in OF_JOB:
        op.drop_column("job", name)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _word(name: str, *more: sa.ForeignKey, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), *more, nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def _job() -> None:
    columns = (
        sa.Column("kind", sa.String(), nullable=False, server_default="agent"),
        _word("worktree_id", nullable=True),
        sa.Column("checks", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("check_tries", sa.Integer(), nullable=False, server_default="3"),
        sa.Column("checks_failed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("enforce_locks", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for column in columns:
        op.add_column("job", column)
    op.create_index("ix_job_worktree_id", "job", ["worktree_id"])
    op.add_column("attempt", _word("base_sha", nullable=True))


def _worktree() -> None:
    op.create_table(
        "worktree",
        sa.Column("seq", WIDE, autoincrement=True, nullable=False),
        _word("id"),
        _word("owner_id", sa.ForeignKey("job.id")),
        *(_word(name) for name in ("repo", "path", "branch")),
        _word("base_branch", nullable=True),
        *(_word(name) for name in ("base_sha", "state")),
        _time("created_at", nullable=False),
        _time("ready_at"),
        _time("removed_at"),
        sa.Column("salvaged", sa.JSON(), nullable=False),
        _text("trouble"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("path"),
    )
    op.create_index("ix_worktree_owner_id", "worktree", ["owner_id"])
    op.create_index(
        "ix_worktree_live",
        "worktree",
        ["id"],
        sqlite_where=LIVE_WORKTREE,
        postgresql_where=LIVE_WORKTREE,
    )
    op.create_table(
        "attempt_diff",
        _word("attempt_id", sa.ForeignKey("attempt.id")),
        *(_word(name) for name in ("base_sha", "head_sha")),
        *(_count(name) for name in ("files", "insertions", "deletions", "commits")),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        _time("at", nullable=False),
        *(_text(name) for name in ("stat", "patch")),
        sa.PrimaryKeyConstraint("attempt_id"),
    )


def _workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("seq", WIDE, autoincrement=True, nullable=False),
        _word("id", sa.ForeignKey("job.id")),
        *(_word(name) for name in ("state", "implementer", "reviewer", "reviewer_why")),
        _count("max_cycles"),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("stops", "checks")),
        sa.Column("verify", sa.Boolean(), nullable=False),
        _word("publish"),
        *(_word(name, nullable=True) for name in ("base_branch", "worktree_id", "start_sha")),
        _count("cycle"),
        _word("phase"),
        *(_count(name) for name in ("try_number", "idle_cycles", "verifications", "heals")),
        *(_count(name) for name in ("milestones", "milestones_done")),
        _word("blocked_kind", nullable=True),
        _time("blocked_at"),
        _time("heals_at"),
        sa.Column("published", sa.JSON(), nullable=True),
        *(_text(name) for name in ("blocked_reason", "blocked_advice")),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "ix_workflow_open",
        "workflow",
        ["id"],
        sqlite_where=OPEN_WORKFLOW,
        postgresql_where=OPEN_WORKFLOW,
    )
    op.create_table(
        "workflow_phase",
        _word("workflow_id", sa.ForeignKey("workflow.id")),
        _count("cycle"),
        _word("phase"),
        _count("try_number"),
        _word("job_id", sa.ForeignKey("job.id")),
        _time("started_at", nullable=False),
        _word("base_sha", nullable=True),
        _count("milestones_done"),
        sa.PrimaryKeyConstraint("workflow_id", "cycle", "phase", "try_number"),
        sa.UniqueConstraint("job_id"),
    )
