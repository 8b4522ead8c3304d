"""The tables about file locks. What is over is deleted: the events tell of it."""

from datetime import datetime
from typing import Any, ClassVar

from sqlmodel import Field, SQLModel

from hurlicane_mcp.store.columns import json_column, seq_column, text_column, time_column


class FileLockRow(SQLModel, table=True):
    """A file or folder that a job holds."""

    __tablename__: ClassVar[Any] = "file_lock"

    seq: int = seq_column()
    id: str = Field(unique=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    ttl_s: int  #: the lease: how long it is kept without a sign of life of its job
    taken_at: datetime = time_column(nullable=False)
    renewed_at: datetime = time_column(nullable=False)
    path: str = text_column()  #: real and absolute
    reason: str = text_column()


class LockRequestRow(SQLModel, table=True):
    """Paths that a job waits for. Their `seq` is the order in which they are granted."""

    __tablename__: ClassVar[Any] = "lock_request"

    seq: int = seq_column()
    id: str = Field(unique=True)  #: SQLite gives the numbers of deleted rows anew
    job_id: str = Field(foreign_key="job.id", index=True)
    attempt_id: str = Field(foreign_key="attempt.id")
    ttl_s: int
    asked_at: datetime = time_column(nullable=False)
    waits_since: datetime = time_column(nullable=False)  #: of the call that waits now
    left_at: datetime | None = time_column()  #: its call was answered without the locks
    refused: str | None = text_column(default=None)  #: the circle of waits that it would close
    paths: list[str] = json_column(list)
    reason: str = text_column()
