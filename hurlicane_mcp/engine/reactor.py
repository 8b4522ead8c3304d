"""Moves workflows on: whenever a phase has ended, what comes next is decided and done.

Whatever it does can be repeated. What is decided is stored in one transaction, whose key lets no
phase begin twice, so a server that is killed anywhere goes on from its rows.
"""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta

import anyio
from anyio.abc import TaskGroup
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.advance import advance, block_of
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.domain.workflows import (
    Block,
    BlockKind,
    Decision,
    End,
    Phase,
    Start,
    WorkflowState,
)
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.phases import Draft, Phases, block, look_again
from hurlicane_mcp.engine.publications import Publications
from hurlicane_mcp.engine.workflow_facts import Known, WorkflowFacts, is_current, view_of
from hurlicane_mcp.engine.workflow_views import summary_of
from hurlicane_mcp.errors import HurlicaneError, OwnershipLost, StoreClosed, StoreUnavailable
from hurlicane_mcp.logs import about
from hurlicane_mcp.store import events, jobs
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import WORKFLOWS
from hurlicane_mcp.store.workflow_tables import WorkflowRow

log = logging.getLogger(__name__)

_AFTER_A_FAULT = timedelta(seconds=1)
#: How long a phase may be over before it is strange that nothing has followed.
OVERDUE = timedelta(seconds=30)
#: Between two looks for such.
RECONCILE = timedelta(minutes=1)
#: Errors that say nothing of a workflow: nothing can be stored now.
_AWAY = (StoreUnavailable, StoreClosed, OwnershipLost)
#: Blocks after which the phase itself is tried again; after the others its end is judged anew.
_REPEATED = frozenset({BlockKind.PHASE_FAILED, BlockKind.PHASE_CANCELLED, BlockKind.VERIFICATION})


class Reactor:
    """Looks after all workflows of a server."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        facts: WorkflowFacts,
        phases: Phases,
        publications: Publications,
    ) -> None:
        self._db = db
        self._clock = clock
        self._facts = facts
        self._phases = phases
        self._publications = publications
        self._at_work: set[str] = set()  #: workflows that somebody here moves on right now
        self._reconciled_at = clock.monotonic()

    async def run(self) -> None:
        """Move on what is due, now and after each ring, until cancelled."""
        with self._db.bell.listen([WORKFLOWS]) as ear:
            async with anyio.create_task_group() as tasks:
                while not self._db.bell.closed:
                    try:
                        pause = await self._begin_due(tasks)
                    except Exception as error:  # top-level handler: nobody else moves them on
                        _tell("workflows cannot be moved on now", error)
                        pause = _AFTER_A_FAULT.total_seconds()
                    with anyio.move_on_after(pause):
                        await ear.heard()
                tasks.cancel_scope.cancel()

    async def reconcile(self) -> None:
        """Look once a minute for workflows that were not moved on; there should be none."""
        if self._clock.monotonic() < self._reconciled_at + RECONCILE.total_seconds():
            return
        self._reconciled_at = self._clock.monotonic()
        before = self._clock.now() - OVERDUE
        found = await self._db.read(lambda session: store.overdue(session, before))
        for workflow_id in set(found) - self._at_work:
            log.error("workflow %s was not moved on when its phase ended", workflow_id)
            await self._db.write(lambda session, one=workflow_id: self._note_lost(session, one))

    async def step(self, workflow_id: str) -> bool:
        """Do what is due for one workflow; whether anything was. What keeps it from going on blocks
        it, whatever that is.

        Raises:
            StoreUnavailable, StoreClosed, OwnershipLost: the store is away.
        """
        now = self._clock.now()
        due = await self._db.read(lambda session: store.due(session, now, workflow_id))
        if not due:
            return False
        workflow = await self._db.read(lambda session: store.get(session, workflow_id))
        is_publishing = workflow.phase == Phase.PUBLISH and workflow.published is None
        kind = BlockKind.PUBLISHING if is_publishing else BlockKind.WORKTREE
        try:
            known = await self._facts.look(workflow_id)
            if workflow.state == WorkflowState.RUNNING:
                known = await self._facts.judge(workflow_id, known)
            if is_publishing and workflow.state == WorkflowState.RUNNING:
                await self._publications.publish(workflow_id)
            kind = BlockKind.PROMPT
            ready = await self._db.read(lambda session: self._prepare(session, workflow_id, known))
            kind = BlockKind.FAULT
            await self._db.write(lambda session: self._move(session, workflow, known, ready))
        except _AWAY:
            raise
        except Exception as error:  # unless it is told so, it would be tried for ever, in silence
            found = block_of(kind, _in_words(error), workflow.heals)
            await self._db.write(lambda session: self._block(session, workflow, found))
        return True

    async def _begin_due(self, tasks: TaskGroup) -> float | None:
        """Begin to move on all that is due; seconds until a block is to be tried again."""
        now = self._clock.now()
        due, heal = await self._db.read(
            lambda session: (store.due(session, now), store.next_heal(session, now))
        )
        for workflow_id in due:
            if workflow_id not in self._at_work:
                self._at_work.add(workflow_id)
                tasks.start_soon(self._move_on, workflow_id)
        return None if heal is None else max(0.0, (heal - self._clock.now()).total_seconds())

    async def _move_on(self, workflow_id: str) -> None:
        with about(workflow_id):
            try:
                while await self.step(workflow_id):
                    pass
            except Exception as error:  # top-level handler: it is tried again in a moment
                _tell("the workflow cannot be moved on now", error)
                await self._clock.sleep(_AFTER_A_FAULT)
            finally:
                self._at_work.discard(workflow_id)
        # What became due after the last look was passed over, since somebody was at work.
        self._db.bell.ring([WORKFLOWS])

    def _prepare(self, session: Session, workflow_id: str, known: Known) -> "_Ready":
        """What comes next, and the phase that this begins, if it begins one.

        Raises:
            Invalid: a prompt template of the user's cannot be rendered.
        """
        workflow, job = store.get(session, workflow_id), jobs.get(session, workflow_id)
        if workflow.state == WorkflowState.BLOCKED:
            start = restart_of(session, workflow)
            draft = self._phases.draft(session, workflow, start, known) if start else None
            return _Ready(start, draft)
        decision = advance(view_of(session, workflow, job, known))
        if isinstance(decision, Start):
            start = _placed(session, workflow, decision)
            return _Ready(decision, self._phases.draft(session, workflow, start, known))
        return _Ready(decision)

    def _move(self, session: Session, seen: WorkflowRow, known: Known, ready: "_Ready") -> None:
        """Do what was decided, unless something has changed since: then it is still due."""
        now = self._clock.now()
        workflow, job = store.get(session, seen.id), jobs.get(session, seen.id)
        is_due = bool(store.due(session, now, workflow.id))
        if not is_due or not _is_unmoved(workflow, seen):
            return
        if not is_current(session, workflow, job, known):
            return
        if workflow.state == WorkflowState.BLOCKED:
            self.unblock(session, workflow, known, ready.draft)
            return
        view = view_of(session, workflow, job, known)
        decision = advance(view)
        if decision != ready.decision:
            return
        match decision:
            case Start():
                heals = 0 if view.ended.failure is None else workflow.heals
                assert ready.draft is not None, "it was made with the decision"
                self._phases.begin(session, workflow, ready.draft, known, now, heals=heals)
            case Block():
                block(session, workflow, decision, now)
            case End():
                plan = {"milestones": view.milestones, "milestones_done": view.done}
                store.change(session, workflow, "ended", now, **plan)
                _end(session, workflow, decision, self._clock)

    def unblock(
        self,
        session: Session,
        workflow: WorkflowRow,
        known: Known,
        draft: Draft | None,
        **values: object,
    ) -> None:
        """Let a blocked workflow go on: with the phase of *draft*, else from the last one's end."""
        now = self._clock.now()
        if draft is None:
            look_again(session, workflow, now, **values)
        else:
            self._phases.begin(session, workflow, draft, known, now, **values)

    def _block(self, session: Session, seen: WorkflowRow, found: Block) -> None:
        workflow = store.get(session, seen.id)
        if _is_unmoved(workflow, seen) and not _is_final(workflow):
            kept = Block(
                found.kind,
                found.reason,
                found.advice,
                found.heals_after,
                workflow.idle_cycles,
                workflow.verifications,
            )
            block(session, workflow, kept, self._clock.now())

    def _note_lost(self, session: Session, workflow_id: str) -> None:
        events.record(session, self._clock.now(), "workflow.reconciled", workflow_id)


def restart_of(session: Session, workflow: WorkflowRow, phase: Phase | None = None) -> Start | None:
    """The phase that a blocked workflow repeats: *phase*, else the one that failed.

    None if no phase is to blame: then the end of the last one is judged anew.
    """
    if phase is None and workflow.blocked_kind not in _REPEATED:
        return None
    again = phase or Phase(workflow.phase)
    cycle = workflow.cycle if phase is None else max(1, workflow.cycle)
    if again is Phase.ASSESS:
        cycle = 0
    at = store.next_try(session, workflow, cycle, again)
    problems = (workflow.blocked_reason,)
    return Start(at, problems, (), workflow.idle_cycles, workflow.verifications)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A decision, with the phase that it begins; of a blocked workflow the restart, if any."""

    decision: Decision | None
    draft: Draft | None = None


def _placed(session: Session, workflow: WorkflowRow, start: Start) -> Start:
    """*start* at a try that has not begun yet: a person may have gone back to an earlier phase."""
    at = start.position
    return replace(start, position=max(at, store.next_try(session, workflow, at.cycle, at.phase)))


def _end(session: Session, workflow: WorkflowRow, decision: End, clock: Clock) -> None:
    result = summary_of(session, workflow, decision)
    outcome = Outcome(OutcomeKind.DONE, result)
    if decision.state is not WorkflowState.COMPLETE:
        outcome = Outcome.failed(FailureKind.INCOMPLETE, decision.reason, result)
    settlement.end_workflow(session, workflow.id, outcome, clock.now())


def _is_unmoved(workflow: WorkflowRow, seen: WorkflowRow) -> bool:
    def place(row: WorkflowRow) -> tuple[object, ...]:
        return (row.state, row.cycle, row.phase, row.try_number, row.blocked_at)

    return place(workflow) == place(seen)


def _is_final(workflow: WorkflowRow) -> bool:
    return workflow.state not in (WorkflowState.RUNNING, WorkflowState.BLOCKED)


def _in_words(error: Exception) -> str:
    """Why a workflow cannot go on. What nobody foresaw is logged as well."""
    if isinstance(error, HurlicaneError):
        return str(error)
    log.error("the workflow is blocked by an error", exc_info=error)
    return storable(f"The server met an error: {type(error).__name__}: {error}")


def _tell(what: str, error: Exception) -> None:
    if isinstance(error, _AWAY):
        log.warning("%s: %s", what, error)
    else:
        log.error("%s", what, exc_info=error)
