"""Limits of models, stop modes, budgets, what was used, and health warnings."""

import sqlalchemy as sa
from alembic import op

from hurlicane_mcp.store.columns import Usd, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ACCOUNT = sa.text("payer_id = id")
DRAWS = sa.text("payer_id IS NOT NULL")
OF_JOB = (
    *("chain", "is_unclassified", "limited_by", "stop_mode", "stop_value", "payer_id"),
    *("warned_at", "stopped_by"),
)
OF_ATTEMPT = (
    *("refused_at", "tool_failures", "denials", "live", "is_estimated", "stopped", "refusal"),
)


def upgrade() -> None:
    """Add what is known of limits, and what may be spent and was."""
    _job()
    _attempt()
    _cooldown()
    _usage()
    _warning()


def downgrade() -> None:
    """Drop all of it. The tokens of attempts stay wide: they might not fit any more."""
    for table in ("warning", "usage", "cooldown"):
        op.drop_table(table)
    op.drop_index("ix_job_payer", "job")
    op.drop_index("ix_job_account", "job")
    for name in OF_ATTEMPT:
        op.drop_column("attempt", name)
    for name in OF_JOB:
        op.drop_column("job", name)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _json(name: str, empty: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False, server_default=empty)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def _job() -> None:
    op.add_column("job", _json("chain", "[]"))
    op.add_column("job", _flag("is_unclassified"))
    op.add_column("job", sa.Column("limited_by", sa.String(), nullable=True))
    op.add_column(
        "job", sa.Column("stop_mode", sa.String(), nullable=False, server_default="completion")
    )
    op.add_column("job", sa.Column("stop_value", Usd(), nullable=True))
    op.add_column("job", sa.Column("payer_id", sa.String(), nullable=True))
    op.add_column("job", sa.Column("warned_at", UtcDateTime(), nullable=True))
    op.add_column("job", sa.Column("stopped_by", sa.String(), nullable=True))
    op.create_index(
        "ix_job_account", "job", ["root_id"], sqlite_where=ACCOUNT, postgresql_where=ACCOUNT
    )
    op.create_index(
        "ix_job_payer",
        "job",
        ["payer_id", "status", "cost_usd"],
        sqlite_where=DRAWS,
        postgresql_where=DRAWS,
    )


def _attempt() -> None:
    op.add_column("attempt", sa.Column("refused_at", UtcDateTime(), nullable=True))
    op.add_column("attempt", _count("tool_failures"))
    op.add_column("attempt", _count("denials"))
    op.add_column("attempt", _json("live", "{}"))
    op.add_column("attempt", _flag("is_estimated"))
    op.add_column("attempt", sa.Column("stopped", sa.String(), nullable=True))
    op.add_column("attempt", sa.Column("refusal", sa.JSON(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":  # SQLite's integers have 64 bits as they are
        for name in TOKENS:
            op.alter_column("attempt", name, type_=sa.BigInteger())


def _cooldown() -> None:
    op.create_table(
        "cooldown",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("is_manual", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("probe", sa.String(), nullable=True),
        sa.Column("probe_until", UtcDateTime(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "account", "model"),
    )


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        *(sa.Column(name, WIDE, nullable=False) for name in TOKENS),
        sa.Column("cost_usd", Usd(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("day", "job_id", "provider", "model"),
    )
    op.create_index("ix_usage_job_id", "usage", ["job_id"])


def _warning() -> None:
    op.create_table(
        "warning",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("cleared_at", UtcDateTime(), nullable=True),
        sa.Column("dismissed_at", UtcDateTime(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "kind"),
    )
    condition = sa.text("cleared_at IS NULL")
    op.create_index(
        "ix_warning_open",
        "warning",
        ["job_id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
