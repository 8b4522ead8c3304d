"""Workflows and their phases. Each function does one thing in the caller's transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import exists, or_, update
from sqlmodel import Session, col, func, select

from hurlicane_mcp.domain.jobs import JOB, JobStatus
from hurlicane_mcp.domain.workflows import Phase, Position, WorkflowState
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.store import events, jobs
from hurlicane_mcp.store.tables import AttemptRow, JobRow, insert_rows
from hurlicane_mcp.store.workflow_tables import OPEN_WORKFLOW, PhaseRow, WorkflowRow

_STATES: Mapping[str, WorkflowState] = MappingProxyType(
    {
        JobStatus.DONE: WorkflowState.COMPLETE,
        JobStatus.FAILED: WorkflowState.INCOMPLETE,
        JobStatus.CANCELLED: WorkflowState.CANCELLED,
    }
)


def add(session: Session, values: Mapping[str, Any], now: datetime) -> None:
    """Store a new workflow, given as column values; its job is stored already."""
    insert_rows(session, WorkflowRow, values)
    told = {name: values[name] for name in ("implementer", "reviewer", "max_cycles")}
    events.record(session, now, "workflow.created", values["id"], **told)


def get(session: Session, workflow_id: str) -> WorkflowRow:
    """The workflow.

    Raises:
        NotFound: there is none with this id.
    """
    row = find(session, workflow_id)
    if row is None:
        raise NotFound("workflow", workflow_id)
    return row


def find(session: Session, workflow_id: str) -> WorkflowRow | None:
    """The workflow with this id, if there is one."""
    query = select(WorkflowRow).where(col(WorkflowRow.id) == workflow_id)
    return session.exec(query.execution_options(populate_existing=True)).one_or_none()


def many(session: Session, workflow_ids: Sequence[str]) -> dict[str, WorkflowRow]:
    """Those of *workflow_ids* that are workflows, by id."""
    query = select(WorkflowRow).where(col(WorkflowRow.id).in_(workflow_ids))
    found = session.exec(query.execution_options(populate_existing=True)).all()
    return {row.id: row for row in found}


def listing(
    session: Session,
    *,
    states: Sequence[str] = (),
    under: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[WorkflowRow]:
    """Workflows, newest first.

    *under* keeps those below that job; *before* is the `seq` where a page ended.
    """
    query = select(WorkflowRow).order_by(col(WorkflowRow.seq).desc()).limit(limit)
    if states:
        query = query.where(col(WorkflowRow.state).in_(states))
    if under is not None:
        query = query.where(col(WorkflowRow.id).in_(jobs.ids_below(under)))
    if before is not None:
        query = query.where(col(WorkflowRow.seq) < before)
    return session.exec(query).all()


def change(
    session: Session, workflow: WorkflowRow, kind: str, now: datetime, **values: Any
) -> None:
    """Write *values* and tell of it by an event `workflow.KIND`."""
    statement = update(WorkflowRow).where(col(WorkflowRow.id) == workflow.id).values(values)
    session.exec(statement.execution_options(synchronize_session=False))
    for name, value in values.items():
        setattr(workflow, name, value)
    told: dict[str, Any] = {
        "state": workflow.state,
        "cycle": workflow.cycle,
        "phase": workflow.phase,
        "try": workflow.try_number,
        "milestones": f"{workflow.milestones_done} of {workflow.milestones}",
    }
    if workflow.state == WorkflowState.BLOCKED:
        told |= {"blocked": workflow.blocked_kind, "reason": workflow.blocked_reason}
    events.record(session, now, f"workflow.{kind}", workflow.id, **told)


def end(session: Session, job: JobRow, now: datetime) -> None:
    """Have the workflow of *job*, which has become final, say so too."""
    workflow = get(session, job.id)
    values: dict[str, Any] = {"state": _STATES[job.status], "heals_at": None}
    change(session, workflow, _STATES[job.status], now, **values)


def begin(session: Session, workflow: WorkflowRow, values: Mapping[str, Any]) -> None:
    """Store that a try at a phase has begun.

    Raises:
        IntegrityError: it had begun before.
    """
    insert_rows(session, PhaseRow, {"workflow_id": workflow.id, **values})


def phases(session: Session, workflow_id: str) -> Sequence[PhaseRow]:
    """All tries at all phases, in the order in which they began."""
    query = select(PhaseRow).where(col(PhaseRow.workflow_id) == workflow_id)
    return session.exec(
        query.join(JobRow, col(JobRow.id) == PhaseRow.job_id).order_by(col(JobRow.seq))
    ).all()


def phase_of(session: Session, workflow: WorkflowRow) -> PhaseRow | None:
    """The try that the workflow is at; None while it publishes."""
    key = (workflow.id, workflow.cycle, workflow.phase, workflow.try_number)
    return session.get(PhaseRow, key, populate_existing=True)


def implementation_of(session: Session, workflow: WorkflowRow, cycle: int) -> PhaseRow | None:
    """The first try at the implementation of *cycle*, if there was one."""
    return session.get(PhaseRow, (workflow.id, cycle, Phase.IMPLEMENT.value, 1))


def next_try(session: Session, workflow: WorkflowRow, cycle: int, phase: Phase) -> Position:
    """The next try at *phase* in *cycle*: 1 if it has not begun there yet."""
    query = select(func.max(PhaseRow.try_number)).where(
        col(PhaseRow.workflow_id) == workflow.id,
        col(PhaseRow.cycle) == cycle,
        col(PhaseRow.phase) == phase,
    )
    return Position(cycle, phase, (session.exec(query).one() or 0) + 1)


def due(session: Session, now: datetime, workflow_id: str | None = None) -> Sequence[str]:
    """The workflows that have something to do, oldest first; with *workflow_id* at most that one.

    That is: their phase has ended and its processes are gone, they publish, or their block is to be
    tried again.
    """
    live = exists().where(col(AttemptRow.job_id) == JobRow.id, col(AttemptRow.ended_at).is_(None))
    over = (
        exists()
        .where(
            col(PhaseRow.workflow_id) == WorkflowRow.id,
            col(PhaseRow.cycle) == WorkflowRow.cycle,
            col(PhaseRow.phase) == WorkflowRow.phase,
            col(PhaseRow.try_number) == WorkflowRow.try_number,
            col(JobRow.id) == PhaseRow.job_id,
            col(JobRow.status).in_(JOB.final),
            ~live.correlate(JobRow),
        )
        .correlate(WorkflowRow)
    )
    goes_on = (col(WorkflowRow.state) == WorkflowState.RUNNING) & or_(
        col(WorkflowRow.phase) == Phase.PUBLISH, over
    )
    heals = (col(WorkflowRow.state) == WorkflowState.BLOCKED) & (col(WorkflowRow.heals_at) <= now)
    query = select(WorkflowRow.id).where(OPEN_WORKFLOW, or_(goes_on, heals))
    if workflow_id is not None:
        query = query.where(col(WorkflowRow.id) == workflow_id)
    return session.exec(query.order_by(col(WorkflowRow.seq))).all()


def next_heal(session: Session, now: datetime) -> datetime | None:
    """When the next block later than *now* is tried again by itself."""
    query = select(func.min(WorkflowRow.heals_at)).where(OPEN_WORKFLOW)
    return session.exec(query.where(col(WorkflowRow.heals_at) > now)).one()


def overdue(session: Session, before: datetime) -> Sequence[str]:
    """The workflows whose phase ended *before*, its processes included, and that did not go on."""
    ended = [one for one in due(session, before) if _ended_before(session, one, before)]
    return tuple(ended)


def _ended_before(session: Session, workflow_id: str, before: datetime) -> bool:
    phase = phase_of(session, get(session, workflow_id))
    if phase is None:
        return False
    gone = select(func.max(AttemptRow.ended_at)).where(col(AttemptRow.job_id) == phase.job_id)
    finished = select(JobRow.finished_at).where(col(JobRow.id) == phase.job_id)
    moments = (session.exec(gone).one(), session.exec(finished).one())
    return all(moment is None or moment < before for moment in moments)
