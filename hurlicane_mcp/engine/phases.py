"""Starting the phases of workflows: each is a job, made in the transaction that decided it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.domain import milestones
from hurlicane_mcp.domain.advance import heal_delay
from hurlicane_mcp.domain.checks import Check, CheckKind, parse_checks
from hurlicane_mcp.domain.jobs import MAX_TITLE, Completion, JobKind, JobStatus
from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.domain.workflows import (
    Block,
    BlockKind,
    Phase,
    Position,
    Start,
    WorkflowState,
)
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.chains import Chains, Step
from hurlicane_mcp.engine.workflow_facts import (
    Known,
    plan_key,
    worktree_of,
)
from hurlicane_mcp.engine.workflow_prompts import PhaseFacts, WorkflowPrompts
from hurlicane_mcp.errors import LimitReached
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import jobs, notes, wakes
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.workflow_tables import WorkflowRow

_BY_REVIEWER = frozenset({Phase.REVIEW, Phase.VERIFY})
_UNBLOCKED: Mapping[str, Any] = MappingProxyType(
    {
        "state": WorkflowState.RUNNING,
        "blocked_kind": None,
        "blocked_at": None,
        "heals_at": None,
        "blocked_reason": "",
        "blocked_advice": "",
    }
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A phase that is about to begin, with what takes time to make."""

    start: Start
    plan_text: str  #: with the milestones of *start*
    plan: milestones.Plan
    prompt: str  #: empty for a phase that no agent does


class Phases:
    """Begins phases, blocks workflows and lets them go on."""

    def __init__(self, chains: Chains, prompts: WorkflowPrompts) -> None:
        self._chains = chains
        self._prompts = prompts

    def draft(self, session: Session, workflow: WorkflowRow, start: Start, known: Known) -> Draft:
        """What the phase of *start* needs; made before the transaction that begins it.

        Raises:
            Invalid: a prompt template of the user's cannot be rendered.
        """
        text, plan = known.notes.plan_text, known.notes.plan
        if start.new_milestones and plan.first_open is None:
            text = milestones.with_milestones(text, start.new_milestones)
            plan = milestones.parse(text)
        prompt = ""
        if start.position.phase.is_job:
            job = jobs.get(session, workflow.id)
            facts = _facts(workflow, job, start, known, text, plan)
            worktree = worktree_of(session, workflow)
            prompt = self._prompts.of(replace(facts, branch=worktree.branch if worktree else None))
        return Draft(start, text, plan, prompt)

    def begin(
        self,
        session: Session,
        workflow: WorkflowRow,
        draft: Draft,
        known: Known,
        now: datetime,
        **values: Any,
    ) -> None:
        """Begin the phase of *draft*, and write *values* with it.

        If its budget does not allow the phase, the workflow is blocked instead.
        """
        job, start, at = jobs.get(session, workflow.id), draft.start, draft.start.position
        if draft.plan_text != known.notes.plan_text:
            key = plan_key(workflow.id)
            notes.put(session, job.project, key, draft.plan_text, workflow.id, now)
        changed = {
            **_UNBLOCKED,
            "cycle": at.cycle,
            "phase": at.phase,
            "try_number": at.try_number,
            "idle_cycles": start.idle_cycles,
            "verifications": start.verifications,
            "milestones": draft.plan.total,
            "milestones_done": draft.plan.done,
            "published": None,  # what comes now is not
            **values,
        }
        if at.phase.is_job:
            job_id, stop = new_id("job"), _bound(session, workflow, job, at.phase)
            try:
                payer_id = budgets.payer_of_new(session, job, stop, job_id)
            except LimitReached as error:
                block(session, workflow, _no_budget(str(error), workflow), now)
                return
            child = self._job(workflow, job, at, job_id, stop) | {
                "payer_id": payer_id,
                "created_at": now,
                "description": draft.prompt,
            }
            jobs.add(session, child, (), now)
            begun = {"job_id": job_id, "started_at": now, "base_sha": known.evidence.head}
            place = {"cycle": at.cycle, "phase": at.phase, "try_number": at.try_number}
            store.begin(session, workflow, {**place, **begun, "milestones_done": draft.plan.done})
        store.change(session, workflow, "phase", now, **changed)

    def _job(
        self, workflow: WorkflowRow, job: JobRow, at: Position, job_id: str, stop: Stop
    ) -> dict[str, Any]:
        by = workflow.reviewer if at.phase in _BY_REVIEWER else workflow.implementer
        step = Step.stored(by)
        again = f", try {at.try_number}" if at.try_number > 1 else ""
        chain = self._chains.of_new(step.provider, step.model, None)
        return {
            "id": job_id,
            "kind": JobKind.AGENT,
            "status": JobStatus.QUEUED,
            "title": f"{at.phase.capitalize()}, cycle {at.cycle}{again}: {job.title}"[:MAX_TITLE],
            "context": {},
            "priority": job.priority,
            "work_dir": job.work_dir,
            "worktree_id": job.worktree_id,
            "project": job.project,
            "provider": step.provider,
            "model": step.model,
            "chain": [str(one) for one in chain],
            "completion": Completion.FINISH_JOB,
            "parent_id": job.id,
            "root_id": job.root_id,
            "depth": job.depth + 1,
            "stop_mode": stop.mode,
            "stop_value": stop.value,
            "checks": [check.stored() for check in _checks(workflow, at.phase)],
        }


def block(session: Session, workflow: WorkflowRow, found: Block, now: datetime) -> None:
    """Have the workflow wait for a person, or for the moment when it is tried again.

    An agent that sleeps until the workflow is final is woken for what only somebody else can mend.
    """
    if found.heals_after is None:
        wakes.release(session, workflow.id, now)
    heals_at = now + found.heals_after if found.heals_after is not None else None
    store.change(
        session,
        workflow,
        "blocked",
        now,
        state=WorkflowState.BLOCKED,
        blocked_kind=found.kind,
        blocked_reason=found.reason,
        blocked_advice=found.advice.replace("{id}", workflow.id),
        blocked_at=now,
        heals_at=heals_at,
        heals=workflow.heals + 1 if heals_at else workflow.heals,
        idle_cycles=found.idle_cycles,
        verifications=found.verifications,
    )


def look_again(session: Session, workflow: WorkflowRow, now: datetime, **values: Any) -> None:
    """Let a blocked workflow go on from where it was, without repeating its phase."""
    store.change(session, workflow, "resumed", now, **{**_UNBLOCKED, **values})


def _no_budget(reason: str, workflow: WorkflowRow) -> Block:
    """Nothing of the workflow changes: the end of its phase is judged anew when it goes on."""
    advice = (
        "It goes on when other jobs of the same budget have ended: wait, or cancel some; or cancel "
        "this workflow (`hurlicane workflow cancel {id}`)."
    )
    return Block(
        BlockKind.BUDGET,
        reason,
        advice,
        heal_delay(workflow.heals),
        idle_cycles=workflow.idle_cycles,
        verifications=workflow.verifications,
    )


def _bound(session: Session, workflow: WorkflowRow, job: JobRow, phase: Phase) -> Stop:
    """The bound of a phase's job, within what is free of the budget that pays for the workflow."""
    stop = _stop(workflow, phase)
    if stop.budget_usd is None or job.payer_id is None:
        return stop
    free = budgets.room(session, job.payer_id).free
    return replace(stop, value=free) if 0 < free < stop.budget_usd else stop


def _stop(workflow: WorkflowRow, phase: Phase) -> Stop:
    named = Phase.ASSESS if phase is Phase.REPAIR else phase
    stored: Mapping[str, Any] | None = workflow.stops.get(named)
    if stored is None:
        return Stop()
    value = stored["value"]
    return Stop(StopMode(stored["mode"]), None if value is None else Decimal(value))


def _checks(workflow: WorkflowRow, phase: Phase) -> tuple[Check, ...]:
    """What an agent has to see to before it may finish."""
    if phase is not Phase.IMPLEMENT:
        return ()
    committed = (Check(CheckKind.CLEAN_TREE),) if workflow.start_sha is not None else ()
    return tuple(dict.fromkeys((*committed, *parse_checks(workflow.checks))))


def _facts(
    workflow: WorkflowRow,
    job: JobRow,
    start: Start,
    known: Known,
    plan_text: str,
    plan: milestones.Plan,
) -> PhaseFacts:
    at = start.position
    is_review = at.phase is Phase.REVIEW and at.cycle > 1
    return PhaseFacts(
        workflow_id=workflow.id,
        title=job.title,
        task=job.description,
        phase=at.phase,
        cycle=at.cycle,
        max_cycles=workflow.max_cycles,
        plan=plan_text,
        contract=known.notes.contract,
        worklogs=known.notes.worklogs,
        # A review of code is about what its diff shows.
        commits=known.commits[: known.recent] if is_review else known.commits,
        diff=known.diff if is_review or at.phase is Phase.VERIFY else "",
        problems=start.problems,
        milestone=plan.first_open.text if plan.first_open else None,
        checks=tuple(check.demand for check in _checks(workflow, at.phase)),
    )
