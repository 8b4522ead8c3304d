"""What callers do with workflows: create, read, resume and cancel them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.jobs import Completion, JobKind, JobStatus
from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec, check_workflow
from hurlicane_mcp.domain.workflows import (
    Evidence,
    Phase,
    Start,
    WorkflowState,
    first_position,
)
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.access import Caller, check_reader, check_visible
from hurlicane_mcp.engine.admission import (
    Created,
    Creations,
    Limits,
    Request,
    check_tree,
    fingerprint_of,
)
from hurlicane_mcp.engine.chains import Step
from hurlicane_mcp.engine.crews import Crew, Crews
from hurlicane_mcp.engine.intake import Defaults, project_of, work_folder
from hurlicane_mcp.engine.jobs import cancel_tree
from hurlicane_mcp.engine.phases import Phases
from hurlicane_mcp.engine.reactor import Reactor, restart_of
from hurlicane_mcp.engine.workflow_facts import Known, WorkflowFacts
from hurlicane_mcp.engine.workflow_views import WorkflowLine, WorkflowView, lines_of, view_of
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.errors import Conflict, Invalid
from hurlicane_mcp.git import history, repository
from hurlicane_mcp.git.worktrees import Base, base_of
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.workflow_tables import WorkflowRow

#: Phases that a person can go back to.
RESUMED = (Phase.ASSESS, Phase.REVIEW, Phase.IMPLEMENT, Phase.VERIFY)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a new workflow works; looked at before its transaction."""

    work_dir: str
    project: str | None  #: that its folder implies, for an operator
    base: Base | None  #: with a worktree
    head: str | None  #: without one, if the folder is in a repository


class Workflows:
    """Creates, shows, resumes and cancels workflows on behalf of a caller."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        crews: Crews,
        worktrees: Worktrees,
        phases: Phases,
        facts: WorkflowFacts,
        reactor: Reactor,
        defaults: Defaults,
        limits: Limits,
    ) -> None:
        self._db = db
        self._clock = clock
        self._crews = crews
        self._worktrees = worktrees
        self._phases = phases
        self._facts = facts
        self._reactor = reactor
        self._defaults = defaults
        self._limits = limits
        self.creations = Creations(db)

    async def create(self, caller: Caller, spec: WorkflowSpec) -> Created:
        """Store the workflow that *spec* asks for, its first phase queued; or the one it asked for
        before.

        Raises:
            Invalid, NotFound, LimitReached, Conflict, StaleAttempt, JobFinished: why not.
        """
        check_workflow(spec)
        place = await self._place(caller, spec)
        workflow_id, now = new_id("wf"), self._clock.now()
        fields = {**asdict(spec), "idempotency_key": None, "kind": "workflow"}
        fingerprint = fingerprint_of(fields)

        def create(session: Session, answering: Sequence[str]) -> Created:
            request = Request(caller, spec.idempotency_key, fingerprint, answering)
            return self._create(session, request, spec, place, workflow_id, now)

        return await self.creations.make(caller, workflow_id, create)

    async def get(self, caller: Caller, workflow_id: str) -> WorkflowView:
        """All about a workflow.

        Raises:
            NotFound: unknown, or outside the caller's subtree.
        """

        def query(session: Session) -> WorkflowView:
            check_reader(session, caller)
            return view_of(session, _seen(session, caller, workflow_id))

        return await self._db.read(query)

    async def listing(
        self,
        caller: Caller,
        *,
        states: Sequence[str] = (),
        limit: int = 50,
        before: str | None = None,
    ) -> list[WorkflowLine]:
        """The caller's workflows, newest first; *before* is the last one of the page before.

        Raises:
            Invalid: an unknown state.
        """
        unknown = sorted(set(states) - set(WorkflowState))
        if unknown:
            known = ", ".join(WorkflowState)
            raise Invalid(f"Unknown state {unknown[0]!r}. Known: {known}.")

        def query(session: Session) -> list[WorkflowLine]:
            check_reader(session, caller)
            seq = _seen(session, caller, before).seq if before else None
            under = caller.job_id or None
            rows = store.listing(session, states=states, under=under, before=seq, limit=limit)
            return lines_of(session, rows)

        return await self._db.read(query)

    async def resume(
        self, caller: Caller, workflow_id: str, from_phase: str | None = None
    ) -> WorkflowView:
        """Let a blocked workflow go on; with *from_phase* that phase begins anew in its cycle.

        Raises:
            NotFound: unknown, or outside the caller's subtree.
            Conflict: it is not blocked.
            Invalid: there is no such phase.
            GitFailed: its worktree cannot be looked at.
        """
        if from_phase is not None and from_phase not in RESUMED:
            raise Invalid(f"`from_phase` must be one of {', '.join(RESUMED)}, not {from_phase!r}.")
        await self._db.read(lambda session: _blocked(session, caller, workflow_id))
        known = await self._facts.look(workflow_id)
        now = self._clock.now()

        def change(session: Session) -> None:
            if caller.is_agent:
                attempts.fence(session, caller.attempt_id, now)
            workflow = _blocked(session, caller, workflow_id)
            start = restart_of(session, workflow, Phase(from_phase) if from_phase else None)
            draft = self._phases.draft(session, workflow, start, known) if start else None
            self._reactor.unblock(session, workflow, known, draft, heals=0)

        await self._db.write(change)
        return await self.get(caller, workflow_id)

    async def cancel(self, caller: Caller, workflow_id: str, reason: str = "") -> JobStatus:
        """Stop its agents and end it; the status that it has then. A final one stays as it is.

        Its branch and its worktree stay.

        Raises:
            NotFound: unknown, or outside the caller's subtree.
        """
        await self._db.read(lambda session: _seen(session, caller, workflow_id))
        return await cancel_tree(self._db, self._clock.now(), caller, workflow_id, reason)

    async def _place(self, caller: Caller, spec: WorkflowSpec) -> _Place:
        work_dir = spec.work_dir
        if work_dir is None:
            work_dir = str(self._defaults.work_dir)
            if caller.is_agent:
                job = await self._db.read(lambda session: jobs.get(session, caller.job_id))
                work_dir = job.work_dir
        return await anyio.to_thread.run_sync(_look, work_dir, spec, caller)

    def _create(
        self,
        session: Session,
        request: Request,
        spec: WorkflowSpec,
        place: _Place,
        workflow_id: str,
        now: datetime,
    ) -> Created:
        caller = request.caller
        if caller.is_agent:
            attempts.fence(session, caller.attempt_id, now)
        earlier = request.earlier(session)
        if earlier is not None:
            return Created(earlier.id, earlier.title, earlier.status, fresh=False)
        parent = jobs.get(session, caller.job_id) if caller.is_agent else None
        if parent is not None:
            check_tree(session, parent, self._limits)
        mode = StopMode.COMPLETION if spec.budget_usd is None else StopMode.BUDGET
        stop = Stop(mode, spec.budget_usd)
        payer_id = budgets.payer_of_new(session, parent, stop, workflow_id)
        bounds = (payer_id, *(one.budget_usd for one in spec.stops.values()))
        has_budget = any(one is not None for one in bounds)
        crew = self._crews.of(spec.implementer, spec.reviewer, has_budget=has_budget)
        values = self._job(spec, place, parent, crew.implementer, workflow_id)
        values |= {"created_at": now, "started_at": now, "payer_id": payer_id}
        values |= {"stop_mode": stop.mode, "stop_value": stop.value}
        values["fingerprint"] = request.fingerprint if caller.is_agent else None
        jobs.add(session, values, (), now)
        request.remember(session, workflow_id)
        head = place.head
        if place.base is not None:
            row = self._worktrees.plan(session, place.base, workflow_id, values["title"], now)
            head = row.base_sha
            spec = replace(spec, base_branch=row.base_branch)
        self._begin(session, spec, crew, workflow_id, head, now)
        return Created(workflow_id, values["title"], JobStatus.RUNNING, fresh=True)

    def _begin(
        self,
        session: Session,
        spec: WorkflowSpec,
        crew: Crew,
        workflow_id: str,
        head: str | None,
        now: datetime,
    ) -> None:
        """Store the workflow of a job that is stored, and its first phase."""
        at = first_position()
        values: dict[str, Any] = {
            "id": workflow_id,
            "state": WorkflowState.RUNNING,
            "implementer": str(crew.implementer),
            "reviewer": str(crew.reviewer),
            "reviewer_why": crew.why,
            "max_cycles": spec.max_cycles,
            "stops": {name: _stored(stop) for name, stop in spec.stops.items()},
            "checks": [check.stored() for check in spec.checks],
            "verify": spec.verify,
            "publish": spec.publish,
            "base_branch": spec.base_branch,
            "worktree_id": jobs.get(session, workflow_id).worktree_id,
            "start_sha": head,
            "cycle": at.cycle,
            "phase": at.phase,
        }
        store.add(session, values, now)
        workflow = store.get(session, workflow_id)
        known = Known(Evidence(is_repository=head is not None, head=head))
        draft = self._phases.draft(session, workflow, Start(at), known)
        self._phases.begin(session, workflow, draft, known, now)

    def _job(
        self,
        spec: WorkflowSpec,
        place: _Place,
        parent: JobRow | None,
        implementer: Step,
        workflow_id: str,
    ) -> dict[str, Any]:
        """The columns of the job that stands for the workflow."""
        project = spec.project or place.project or (parent.project if parent else None)
        return {
            "id": workflow_id,
            "kind": JobKind.WORKFLOW,
            "status": JobStatus.RUNNING,
            "title": _title(spec),
            "description": spec.task,
            "context": {},
            "priority": spec.priority,
            "work_dir": place.work_dir,
            "project": project or self._defaults.project,
            "provider": implementer.provider,
            "model": implementer.model,
            "completion": Completion.FINISH_JOB,
            "parent_id": parent.id if parent else None,
            "root_id": parent.root_id if parent else workflow_id,
            "depth": parent.depth + 1 if parent else 0,
        }


def _look(work_dir: str, spec: WorkflowSpec, caller: Caller) -> _Place:
    """What the folder of a new workflow is like.

    Raises:
        Invalid: it is no folder, has no repository for a worktree, or without one has changes
            that are not committed.
    """
    folder = work_folder(work_dir)
    project = None if caller.is_agent else project_of(folder)
    if spec.use_worktree:
        return _Place(str(folder), project, base_of(folder, spec.base_branch), None)
    if repository.top_level(folder) is None:
        return _Place(str(folder), project, None, None)
    state = history.state_of(folder)
    if state.dirty:
        # Its agents would be told to commit them, or to remove them.
        raise Invalid(
            f"{folder} has changes that are not committed, such as {state.dirty[0]}: commit or "
            "stash them first, or let the workflow have a worktree of its own (use_worktree)."
        )
    return _Place(str(folder), project, None, state.head or None)


def _seen(session: Session, caller: Caller, workflow_id: str) -> WorkflowRow:
    check_visible(session, caller, workflow_id)
    return store.get(session, workflow_id)


def _blocked(session: Session, caller: Caller, workflow_id: str) -> WorkflowRow:
    workflow = _seen(session, caller, workflow_id)
    if workflow.state == WorkflowState.BLOCKED:
        return workflow
    if workflow.state == WorkflowState.RUNNING:
        where = f"{workflow.phase}, cycle {workflow.cycle}"
        raise Conflict(f"The workflow {workflow_id} is running ({where}): nothing to resume.")
    raise Conflict(
        f"The workflow {workflow_id} is {workflow.state}, which is final. To go on from its work, "
        "create a new one with its branch as base_branch."
    )


def _stored(stop: Stop) -> dict[str, str | None]:
    return {"mode": stop.mode, "value": None if stop.value is None else str(stop.value)}


def _title(spec: WorkflowSpec) -> str:
    if spec.title is not None:
        return spec.title.strip()
    first = next(line.strip() for line in spec.task.splitlines() if line.strip())
    first = first.lstrip("# ")
    return first if len(first) <= 80 else first[:79].rstrip() + "…"
