"""File locks, and who waits for them."""

import sqlalchemy as sa
from alembic import op

from hurlicane_mcp.store.columns import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "file_lock",
        sa.Column("seq", WIDE, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("ttl_s", sa.Integer(), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.Column("renewed_at", UtcDateTime(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_file_lock_job_id", "file_lock", ["job_id"])
    op.create_table(
        "lock_request",
        sa.Column("seq", WIDE, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("attempt_id", sa.String(), sa.ForeignKey("attempt.id"), nullable=False),
        sa.Column("ttl_s", sa.Integer(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("waits_since", UtcDateTime(), nullable=False),
        sa.Column("left_at", UtcDateTime(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.Column("paths", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_lock_request_job_id", "lock_request", ["job_id"])


def downgrade() -> None:
    """Drop them; whoever holds a lock is told nothing."""
    op.drop_table("lock_request")
    op.drop_table("file_lock")
