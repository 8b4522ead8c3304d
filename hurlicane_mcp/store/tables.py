"""The tables. Long texts stand last in a row, so that SQLite reads them only when asked.

Ids are names (`job_…`); `seq` is the order of creation. Which states exist and what leads where is
`domain`'s business; rows hold the words.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, cast

from sqlalchemy import BigInteger, Column, Index, Table, TextClause, insert, text
from sqlmodel import Field, Session, SQLModel

from hurlicane_mcp.store.columns import (
    count_column,
    json_column,
    money_column,
    optional_json_column,
    seq_column,
    text_column,
    time_column,
    usd_column,
)

# Conditions of the partial indexes. Queries use them as they stand: SQLite takes a partial index
# only for a condition that it can read, which a bound parameter is not.
OPEN_ATTEMPT = text("ended_at IS NULL")
UNSETTLED_ATTEMPT = text("state <> 'settled'")
OPEN_WAIT = text("closed_at IS NULL")
OPEN_QUESTION = text("closed_at IS NULL")
LIVE_JOB = text("status IN ('blocked', 'queued', 'running')")
ACCOUNT = text("payer_id = id")
DRAWS = text("payer_id IS NOT NULL")


def _partial(name: str, columns: str, condition: TextClause) -> Index:
    return Index(name, *columns.split(), sqlite_where=condition, postgresql_where=condition)


class JobRow(SQLModel, table=True):
    """A piece of work that somebody asked for."""

    __tablename__: ClassVar[Any] = "job"
    __table_args__ = (
        Index("ix_job_queue", "status", text("priority DESC"), "seq"),
        _partial("ix_job_tree", "root_id", LIVE_JOB),
        _partial("ix_job_account", "root_id", ACCOUNT),
        # With all that a budget is made of, so that each booking below one reads the index alone.
        _partial("ix_job_payer", "payer_id status cost_usd", DRAWS),
    )

    seq: int = seq_column()
    id: str = Field(unique=True)
    status: str
    attempt: int = 0  #: number of the current, or last, attempt
    priority: int = 0
    parent_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    root_id: str
    depth: int = 0  #: 0 for a job without a parent
    project: str
    work_dir: str
    provider: str
    model: str | None = None  #: as asked for; None for the provider's default
    completion: str
    detached: bool = False  #: outlives its parent: the parent finished with `detach`
    interactive: bool = False  #: runs in a terminal that people can attach to
    retry_policy: str = "none"
    max_retries: int = 0
    retries: int = 0  #: how many of them are used
    analysis_id: str | None = None  #: the job whose result says why the last attempt failed
    fingerprint: str | None = Field(default=None, index=True)  #: of an unanswered creation
    created_at: datetime = time_column(nullable=False)
    not_before: datetime | None = time_column()
    started_at: datetime | None = time_column()
    finished_at: datetime | None = time_column()
    failure_kind: str | None = None
    cost_usd: Decimal = money_column()
    branch: str | None = None
    # The models that it may run on, the first one first, each as `provider:model`; nothing after
    # the colon is the CLI's own default.
    chain: list[str] = json_column(list)
    is_unclassified: bool = False  #: its model is still to be chosen, by how hard the job looks
    limited_by: str | None = None  #: what it is parked for: a limit of models, or a cap
    stop_mode: str = "completion"
    stop_value: Decimal | None = usd_column()  #: turns, US dollars or minutes
    payer_id: str | None = None  #: whose budget it draws from
    warned_at: datetime | None = time_column()  #: when 80 % of `stop_value` were reached
    stopped_by: str | None = None  #: the mode of the limit that ended it
    kind: str = "agent"  #: or `workflow`: no agent of its own, its children do the work
    worktree_id: str | None = Field(default=None, index=True)  #: the one of ours that it works in
    checks: list[Any] = json_column(list)  #: what has to hold before it may be done
    check_tries: int = 3  #: how often they may fail before the job does
    checks_failed: int = 0
    enforce_locks: bool = False  #: its agent may edit only what it holds the lock of
    title: str
    failure_reason: str | None = text_column(default=None)
    context: dict[str, str] = json_column(dict)
    description: str = text_column()
    result: str = text_column()


class DependencyRow(SQLModel, table=True):
    """`job_id` may start only after `depends_on` is done."""

    __tablename__: ClassVar[Any] = "dependency"

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    depends_on: str = Field(primary_key=True, foreign_key="job.id", index=True)


class WakeRow(SQLModel, table=True):
    """`job_id`, which is queued, starts only after `awaits` is final, however that ended.

    So a stopped agent that was inside `wait_for_jobs` goes on when there is something to tell it.
    """

    __tablename__: ClassVar[Any] = "wake"

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    awaits: str = Field(primary_key=True, foreign_key="job.id", index=True)


class CreationKeyRow(SQLModel, table=True):
    """What an idempotency key stands for, within the scope of who used it."""

    __tablename__: ClassVar[Any] = "creation_key"

    scope: str = Field(primary_key=True)  #: the creating job's id, or `operator`
    key: str = Field(primary_key=True)
    fingerprint: str
    job_id: str = Field(foreign_key="job.id")


class AttemptRow(SQLModel, table=True):
    """One run of an agent for a job."""

    __tablename__: ClassVar[Any] = "attempt"
    __table_args__ = (
        Index(
            "ix_attempt_unsettled",
            "id",
            sqlite_where=UNSETTLED_ATTEMPT,
            postgresql_where=UNSETTLED_ATTEMPT,
        ),
        Index(
            "ix_attempt_open", "job_id", sqlite_where=OPEN_ATTEMPT, postgresql_where=OPEN_ATTEMPT
        ),
    )

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    number: int
    state: str
    token_hash: str = Field(unique=True)
    provider: str
    model: str | None = None  #: as asked for
    model_used: str | None = None  #: as the CLI reports it
    run_dir: str
    session_id: str | None = None
    resumes: str | None = None  #: the CLI's session that this attempt went on with
    pid: int | None = None
    start_time: str | None = None
    boot_id: str | None = None
    claimed_at: datetime = time_column(nullable=False)
    started_at: datetime | None = time_column()
    settled_at: datetime | None = time_column()
    ended_at: datetime | None = time_column()
    last_seen_at: datetime | None = time_column()  #: its last request, noted at most twice a minute
    called_at: datetime | None = time_column()  #: its last call of a tool of ours that succeeded
    output_at: datetime | None = time_column()  #: when its transcript was last seen to grow
    heartbeat_at: datetime | None = time_column()  #: the last hook of its CLI
    tool_since: datetime | None = time_column()  #: since when it has been inside tool calls
    open_tools: int = 0  #: tool calls that have begun and not ended, by its transcript
    lost_since: datetime | None = time_column()  #: its transcript says that our tools are gone
    refused_at: datetime | None = time_column()  #: its model refuses since then, and the CLI waits
    tool_failures: int = 0  #: tool calls in a row that failed
    denials: int = 0  #: tool calls that its permissions did not allow
    outcome: str | None = None
    failure_kind: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    turns: int = 0
    last_request: str | None = None  #: id of the model request counted last
    input_tokens: int = count_column()
    output_tokens: int = count_column()
    cache_read_tokens: int = count_column()
    cache_write_tokens: int = count_column()
    cost_usd: Decimal = money_column()
    offset: int = Field(default=0, sa_column=Column(BigInteger(), nullable=False, default=0))
    session_base: dict[str, Any] = json_column(
        dict
    )  #: the session's cumulative figures before this attempt
    session_seen: dict[str, Any] = json_column(dict)  #: the same, as reported last
    # What its requests used, as far as the CLI has told yet: the last ones, and those before them.
    live: dict[str, Any] = json_column(dict)
    is_estimated: bool = False  #: tokens and cost are made of `live`, not of the CLI's own figure
    stopped: str | None = None  #: the limit that its CLI says to have stopped at: turns or budget
    refusal: dict[str, Any] | None = optional_json_column()  #: the refusal of `refused_at`
    base_sha: str | None = None  #: the commit that its work folder was at when it began
    progress: str = text_column()  #: what the agent reported with report_status
    lost_why: str = text_column()  #: its last words about us, if they say that it cannot reach us
    provider_error: str | None = text_column(default=None)
    failure_reason: str | None = text_column(default=None)
    last_message: str = text_column()


class WaitRow(SQLModel, table=True):
    """An agent's blocking call. While it is open, the agent's slot is free."""

    __tablename__: ClassVar[Any] = "wait"
    __table_args__ = (
        _partial("ix_wait_open", "attempt_id", OPEN_WAIT),
        Index("ix_wait_attempt", "attempt_id", "seq"),
    )

    seq: int = seq_column()
    attempt_id: str = Field(foreign_key="attempt.id")
    kind: str
    targets: list[str] = json_column(list)
    opened_at: datetime = time_column(nullable=False)
    closed_at: datetime | None = time_column()
    ended_by: str | None = None  #: answered | gone | settled | restart


class MessageRow(SQLModel, table=True):
    """Something said to a running agent. It is told again until the agent is known to have it."""

    __tablename__: ClassVar[Any] = "message"

    seq: int = seq_column()
    job_id: str = Field(foreign_key="job.id", index=True)
    sender: str  #: the sending job's id, or `operator`
    sent_at: datetime = time_column(nullable=False)
    attempt: int | None = None  #: the attempt that it was last delivered to
    delivered_at: datetime | None = time_column()
    acknowledged_at: datetime | None = time_column()  #: the agent has called again since
    text: str = text_column()


class QuestionRow(SQLModel, table=True):
    """What an agent asks the people. It stays open until it is answered or its time is up."""

    __tablename__: ClassVar[Any] = "question"
    __table_args__ = (_partial("ix_question_open", "deadline", OPEN_QUESTION),)

    seq: int = seq_column()
    id: str = Field(unique=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    choices: list[str] = json_column(list)
    asked_at: datetime = time_column(nullable=False)
    deadline: datetime = time_column(nullable=False)
    closed_at: datetime | None = time_column()
    closed_by: str | None = None  #: answered | deadline | settled
    told_at: datetime | None = time_column()  #: when the agent was told how it ended
    answer: str | None = text_column(default=None)
    text: str = text_column()


class NoteRow(SQLModel, table=True):
    """A text that the jobs of a project share."""

    __tablename__: ClassVar[Any] = "note"

    project: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    version: int = 1
    author: str
    updated_at: datetime = time_column(nullable=False)
    value: str = text_column()


class EventRow(SQLModel, table=True):
    """The outbox: one row for each change, written in the change's own transaction."""

    __tablename__: ClassVar[Any] = "event"
    __table_args__ = (Index("ix_event_job", "job_id", "seq"),)

    seq: int = seq_column()
    at: datetime = time_column(nullable=False)
    kind: str
    job_id: str | None = None
    attempt: int | None = None
    data: dict[str, Any] = json_column(dict)


class MetaRow(SQLModel, table=True):
    """Facts about the database itself."""

    __tablename__: ClassVar[Any] = "meta"

    key: str = Field(primary_key=True)
    value: str


def insert_rows(session: Session, table: type[SQLModel], *rows: Mapping[str, Any]) -> None:
    """Insert *rows* into *table* as plain values.

    Building and flushing objects costs about 1 ms a row, this about 0.1 ms (measured), and the
    outbox gets a row for every change.
    """
    target: Table = cast("Any", table).__table__
    session.connection().execute(insert(target), list(rows))
