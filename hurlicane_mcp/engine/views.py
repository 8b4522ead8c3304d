"""What callers get to read of jobs and attempts, the same on every edge."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel

from hurlicane_mcp.domain.agents import Presence
from hurlicane_mcp.domain.budgets import Room
from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.engine.blocks import BlockView
from hurlicane_mcp.engine.warnings import WarningView
from hurlicane_mcp.engine.worktree_views import WorktreeBrief
from hurlicane_mcp.store.tables import AttemptRow, JobRow, MessageRow, NoteRow, QuestionRow
from hurlicane_mcp.supervision.tmux_host import Terminal

#: A result is cut here in an answer; get_job has the rest.
RESULT_CUT = 16 * 1024
#: All results of one answer together.
ANSWER_CUT = 48 * 1024
#: A note's text is never longer: it was refused at its writing.
MAX_NOTE = 256 * 1024


class View(BaseModel):
    """Fields that are None say nothing and are left out on every edge."""


class FailureView(View):
    """Why something failed: a word for programs and a sentence for readers."""

    kind: str
    reason: str


class PresenceView(View):
    """What the agent seems to be doing: connected, waiting, busy, silent, lost, …"""

    state: str
    since: datetime
    why: str

    @staticmethod
    def of(verdict: Presence | None) -> "PresenceView | None":
        if verdict is None:
            return None
        return PresenceView(state=verdict.state, since=verdict.since, why=verdict.why)


class QuestionView(View):
    """What an agent asks the people, and how that ended."""

    question_id: str
    job_id: str
    text: str
    choices: list[str] | None = None  #: the answer is one of these; without them it is free text
    asked_at: datetime
    deadline: datetime
    closed_by: str | None = None  #: answered, deadline or settled (its job is final)
    answer: str | None = None

    @staticmethod
    def of(question: QuestionRow) -> "QuestionView":
        same = question.model_dump(
            include=set(QuestionView.model_fields) & set(QuestionRow.model_fields)
        )
        same["choices"] = question.choices or None
        return QuestionView(question_id=question.id, **same)


class MessageView(View):
    """What was said to a job's agent, and how far it has got."""

    message_id: int
    job_id: str
    sender: str  #: the sending job's id, or `operator`
    text: str
    sent_at: datetime
    attempt: int | None = None  #: the attempt that it was last delivered to
    delivered_at: datetime | None = None
    acknowledged_at: datetime | None = None  #: the agent has called again since

    @staticmethod
    def of(message: MessageRow) -> "MessageView":
        same = message.model_dump(
            include=set(MessageView.model_fields) & set(MessageRow.model_fields)
        )
        return MessageView(message_id=message.seq, **same)


class JobLine(View):
    """A job in a list."""

    job_id: str
    title: str
    status: str
    provider: str
    model: str | None = None
    attempt: int
    parent_id: str | None = None
    priority: int | None = None
    progress: str | None = None
    question: QuestionView | None = None  #: what its agent waits for people to answer
    blocked: BlockView | None = None  #: a workflow that does not go on by itself
    warnings: list[WarningView] | None = None  #: what may be worth a look
    failure: FailureView | None = None
    presence: PresenceView | None = None  #: of the agent, while the job runs
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None  #: a queued job that is parked until then
    limited_by: str | None = None  #: what it is parked for: a limit of models, or a cap
    cost_usd: Decimal | None = None

    @staticmethod
    def of(job: JobRow, attempt: AttemptRow | None, verdict: Presence | None = None) -> "JobLine":
        is_queued, is_running = job.status == JobStatus.QUEUED, job.status == JobStatus.RUNNING
        return JobLine(
            job_id=job.id,
            title=job.title,
            status=job.status,
            provider=job.provider,
            model=_model(job, attempt),
            attempt=job.attempt,
            parent_id=job.parent_id,
            priority=job.priority or None,
            progress=(attempt.progress if attempt else None) or None,
            failure=_failure(job),
            presence=PresenceView.of(verdict if is_running else None),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            not_before=job.not_before if is_queued else None,
            limited_by=job.limited_by if is_queued else None,
            cost_usd=job.cost_usd or None,
        )


class JobAnswer(View):
    """A job as `wait_for_jobs` tells it."""

    job_id: str
    title: str
    status: str
    attempt: int
    question: QuestionView | None = None  #: what its agent waits for people to answer
    result: str | None = None
    result_cut: str | None = None  #: how to read the rest
    failure: FailureView | None = None
    work_dir: str
    branch: str | None = None
    cost_usd: Decimal | None = None
    cost_provisional: bool | None = None  #: the last process has not ended: the cost may rise
    stopped_by: str | None = None  #: the limit that ended it, with the work that there is
    limited_by: str | None = None  #: a queued job that is parked for a limit of models, or a cap
    blocked: BlockView | None = None  #: a workflow that does not go on by itself

    @staticmethod
    def of(job: JobRow, attempt: AttemptRow | None, room: int) -> "JobAnswer":
        """The answer with at most *room* characters of the result."""
        final = JobStatus(job.status).is_final
        shown = job.result[: min(room, RESULT_CUT)] if final else ""
        rest = (
            f'{len(job.result)} characters; get_job("{job.id}", offset={len(shown)}) goes on'
            if len(shown) < len(job.result)
            else None
        )
        leaving = attempt is not None and attempt.ended_at is None
        return JobAnswer(
            job_id=job.id,
            title=job.title,
            status=job.status,
            attempt=job.attempt,
            result=shown or None,
            result_cut=rest,
            failure=_failure(job),
            work_dir=job.work_dir,
            branch=job.branch,
            cost_usd=job.cost_usd or None,
            cost_provisional=True if leaving and job.attempt else None,
            stopped_by=job.stopped_by,
            limited_by=job.limited_by if job.status == JobStatus.QUEUED else None,
        )


class BudgetView(View):
    """What has become of a job's budget, in US dollars."""

    spent_usd: Decimal  #: by the job and all below it
    reserved_usd: Decimal  #: for open jobs below that have a budget of their own
    free_usd: Decimal  #: for more such jobs

    @staticmethod
    def of(room: Room) -> "BudgetView":
        return BudgetView(spent_usd=room.spent, reserved_usd=room.reserved, free_usd=room.free)


class JobView(JobAnswer):
    """Everything that `get_job` tells."""

    description: str | None = None  #: with the first part of the result only, as the context
    project: str
    provider: str
    model: str | None = None
    model_used: str | None = None
    chain: list[str] | None = None  #: the models that it may run on, the first one first
    models_used: list[str] | None = None  #: those that it has run on, the first one first
    priority: int
    completion: str
    retry_policy: str | None = None  #: with `retries`; None if a failure is final
    retries: str | None = None  #: used and allowed: `1 of 2`
    checks: list[str] | None = None  #: what has to hold before it may be done
    checks_failed: str | None = None  #: how often they did not, and may: `1 of 3`
    checks_told: str | None = None  #: what did not hold the last time
    stop_mode: str | None = None  #: what bounds it: turns, budget or time
    stop_value: Decimal | None = None  #: turns, US dollars or minutes
    budget: BudgetView | None = None  #: what is left of its own budget
    interactive: bool | None = None
    worktree: WorktreeBrief | None = None  #: the one of ours that it works in
    not_before: datetime | None = None  #: a queued job that is parked until then
    presence: PresenceView | None = None  #: of the agent, while the job runs
    warnings: list[WarningView] | None = None  #: what may be worth a look
    context: dict[str, str] | None = None
    parent_id: str | None = None
    depends_on: list[str] | None = None
    children: list[str] | None = None
    progress: str | None = None
    session_id: str | None = None
    turns: int | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @staticmethod
    def whole(
        job: JobRow,
        attempt: AttemptRow | None,
        depends_on: Sequence[str],
        children: Sequence[JobRow],
        offset: int = 0,
        verdict: Presence | None = None,
    ) -> "JobView":
        """The job, its result from character *offset* on."""
        answer = JobAnswer.of(job, attempt, RESULT_CUT)
        shown = job.result[offset : offset + RESULT_CUT]
        end = offset + len(shown)
        rest = f"goes on at offset={end} of {len(job.result)}" if end < len(job.result) else None
        return JobView(
            **answer.model_dump(exclude={"result", "result_cut"}),
            # Whoever reads on has these already, and they may be long.
            description=None if offset else job.description,
            context=None if offset else (job.context or None),
            result=shown or None,
            result_cut=rest,
            project=job.project,
            provider=job.provider,
            model=job.model,
            model_used=attempt.model_used if attempt else None,
            priority=job.priority,
            completion=job.completion,
            retry_policy=job.retry_policy if job.max_retries else None,
            retries=f"{job.retries} of {job.max_retries}" if job.max_retries else None,
            chain=list(job.chain) or None,
            checks=[check.name for check in parse_checks(job.checks)] or None,
            checks_failed=f"{job.checks_failed} of {job.check_tries}" if job.checks else None,
            stop_mode=job.stop_mode if job.stop_mode != StopMode.COMPLETION else None,
            stop_value=job.stop_value,
            interactive=job.interactive or None,
            not_before=job.not_before if job.status == JobStatus.QUEUED else None,
            presence=PresenceView.of(verdict if job.status == JobStatus.RUNNING else None),
            parent_id=job.parent_id,
            depends_on=list(depends_on) or None,
            children=[child.id for child in children] or None,
            progress=(attempt.progress if attempt else None) or None,
            session_id=attempt.session_id if attempt else None,
            turns=attempt.turns if attempt else None,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class TerminalView(View):
    """Where people on the server's machine attach to an agent: `hurlicane attach` knows how."""

    socket: str  #: of the tmux that shows it; a path
    session: str

    @staticmethod
    def of(terminal: Terminal) -> "TerminalView":
        return TerminalView(socket=str(terminal.socket), session=terminal.session)


class AttemptView(View):
    """One run of an agent."""

    attempt_id: str
    job_id: str
    number: int
    state: str
    outcome: str | None = None
    failure: FailureView | None = None
    provider: str
    model: str | None = None
    session_id: str | None = None
    pid: int | None = None
    waiting: bool
    presence: PresenceView | None = None  #: while its process may be alive
    terminal: TerminalView | None = None  #: of an interactive job, while its process may be alive
    progress: str | None = None
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: Decimal
    claimed_at: datetime
    started_at: datetime | None = None
    settled_at: datetime | None = None
    ended_at: datetime | None = None
    last_seen_at: datetime | None = None
    exit_code: int | None = None
    exit_signal: int | None = None

    @staticmethod
    def of(attempt: AttemptRow, waiting: bool, verdict: Presence | None = None) -> "AttemptView":
        failure = (
            FailureView(kind=attempt.failure_kind, reason=attempt.failure_reason or "")
            if attempt.failure_kind
            else None
        )
        same = attempt.model_dump(
            include=set(AttemptView.model_fields) & set(AttemptRow.model_fields)
        )
        same |= {"model": attempt.model_used or attempt.model, "progress": attempt.progress or None}
        return AttemptView(
            attempt_id=attempt.id,
            failure=failure,
            waiting=waiting,
            presence=PresenceView.of(verdict),
            **same,
        )


class NoteView(View):
    """A note, without its text in a list."""

    key: str
    version: int
    author: str
    updated_at: datetime
    value: str | None = None
    value_cut: str | None = None  #: how to read the rest

    @staticmethod
    def of(note: NoteRow, room: int = MAX_NOTE) -> "NoteView":
        """The note with at most *room* characters of its text; with none at 0."""
        view = NoteView(
            key=note.key, version=note.version, author=note.author, updated_at=note.updated_at
        )
        if room > 0:
            view.value = note.value[:room]
            if view.value != note.value:
                view.value_cut = f"{len(note.value)} characters; read_note has all"
        return view


def _failure(job: JobRow) -> FailureView | None:
    if job.failure_kind is None:
        return None
    return FailureView(kind=job.failure_kind, reason=job.failure_reason or "")


def _model(job: JobRow, attempt: AttemptRow | None) -> str | None:
    return (attempt.model_used if attempt else None) or job.model
