"""The tables about limits: what models may not be used now, what was used, and what looks wrong."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from hurlicane_mcp.store.columns import count_column, money_column, text_column, time_column

OPEN_WARNING = text("cleared_at IS NULL")


class CooldownRow(SQLModel, table=True):
    """A model that is not to be used for a while: the ledger of limits."""

    __tablename__: ClassVar[Any] = "cooldown"

    provider: str = Field(primary_key=True)
    account: str = Field(primary_key=True)  #: of the user at the provider; `default` for now
    model: str = Field(primary_key=True)  #: its resolved id; `*` for all of the account
    since: datetime = time_column(nullable=False)
    until: datetime | None = time_column()  #: None: until somebody clears it
    strikes: int = 1  #: refusals in a row, which lengthen it
    kind: str  #: of failure
    is_manual: bool = False  #: set by a person
    job_id: str | None = None  #: whose refusal it was
    attempt: int | None = None
    probe: str | None = None  #: the attempt that tries whether the model answers again
    probe_until: datetime | None = time_column()
    evidence: str = text_column()  #: the CLI's own words


class UsageRow(SQLModel, table=True):
    """What a job used of a model on one day."""

    __tablename__: ClassVar[Any] = "usage"

    day: str = Field(primary_key=True)  #: ISO date, UTC
    job_id: str = Field(primary_key=True, foreign_key="job.id", index=True)
    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)  #: resolved id; empty when the CLI did not tell
    turns: int = 0
    input_tokens: int = count_column()
    output_tokens: int = count_column()
    cache_read_tokens: int = count_column()
    cache_write_tokens: int = count_column()
    cost_usd: Decimal = money_column()


class WarningRow(SQLModel, table=True):
    """Something about a job that a person may want to look at."""

    __tablename__: ClassVar[Any] = "warning"
    __table_args__ = (
        Index(
            "ix_warning_open", "job_id", sqlite_where=OPEN_WARNING, postgresql_where=OPEN_WARNING
        ),
    )

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    kind: str = Field(primary_key=True)
    since: datetime = time_column(nullable=False)
    cleared_at: datetime | None = time_column()  #: it holds no longer
    dismissed_at: datetime | None = time_column()  #: a person has seen it
    text: str = text_column()
