"""Presence, restarts, messages and questions."""

import sqlalchemy as sa
from alembic import op

from hurlicane_mcp.store.columns import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIMES = ("called_at", "output_at", "heartbeat_at", "tool_since", "lost_since")


def upgrade() -> None:
    """Add what is known of agents beside their state, and what people and they tell each other."""
    _job()
    for name in TIMES:
        op.add_column("attempt", sa.Column(name, UtcDateTime(), nullable=True))
    op.add_column(
        "attempt", sa.Column("open_tools", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("attempt", sa.Column("lost_why", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_wait_attempt", "wait", ["attempt_id", "seq"])
    _wake()
    _message()
    _question()


def downgrade() -> None:
    """Drop all of it."""
    for table in ("question", "message", "wake"):
        op.drop_table(table)
    op.drop_index("ix_wait_attempt", "wait")
    for name in (*TIMES, "open_tools", "lost_why"):
        op.drop_column("attempt", name)
    for name in ("interactive", "retry_policy", "max_retries", "retries", "analysis_id"):
        op.drop_column("job", name)


def _job() -> None:
    op.add_column(
        "job", sa.Column("interactive", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "job", sa.Column("retry_policy", sa.String(), nullable=False, server_default="none")
    )
    op.add_column("job", sa.Column("max_retries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("job", sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("job", sa.Column("analysis_id", sa.String(), nullable=True))


def _wake() -> None:
    op.create_table(
        "wake",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("awaits", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["awaits"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "awaits"),
    )
    op.create_index("ix_wake_awaits", "wake", ["awaits"])


def _message() -> None:
    op.create_table(
        "message",
        sa.Column("seq", SEQ, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sender", sa.String(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_message_job_id", "message", ["job_id"])


def _question() -> None:
    op.create_table(
        "question",
        sa.Column("seq", SEQ, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("deadline", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.Column("told_at", UtcDateTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_question_job_id", "question", ["job_id"])
    condition = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_question_open",
        "question",
        ["deadline"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
