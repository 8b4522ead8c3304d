"""What decides a workflow's way: its rows, its plan, and what git and its checks say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.domain import milestones
from hurlicane_mcp.domain.advance import asks_for_checks
from hurlicane_mcp.domain.checks import Check, parse_checks
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.workflows import (
    Ended,
    Evidence,
    Phase,
    Position,
    Publish,
    WorkflowView,
)
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.checks import CheckResult, Checks, Place
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.git import history, repository
from hurlicane_mcp.store import jobs, notes, worktrees
from hurlicane_mcp.store import workflows as store
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import final_topic
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.store.workflow_tables import WorkflowRow, WorktreeRow

#: Bytes of a diff that a reviewer is shown.
MAX_DIFF = 24 * 1024
#: Worklogs that a phase is shown, the newest ones.
MAX_WORKLOGS = 10


@dataclass(frozen=True, slots=True)
class Notes:
    """What the agents of a workflow have written down."""

    plan_text: str = ""
    plan_version: int = 0
    plan: milestones.Plan = field(default_factory=lambda: milestones.Plan(()))
    contract: str = ""
    worklogs: tuple[tuple[str, str], ...] = ()  #: key and text, the newest first

    @property
    def is_done(self) -> bool:
        """Whether the plan says that nothing is left."""
        return 0 < self.plan.total <= self.plan.done


@dataclass(frozen=True, slots=True)
class Known:
    """What was read before the transaction that decides: it takes too long to be read in there."""

    evidence: Evidence
    notes: Notes = field(default_factory=Notes)
    commits: tuple[str, ...] = ()  #: id and subject, newest first, since the workflow began
    recent: int = 0  #: how many of them the diff is about
    diff: str = ""  #: what the last implementation changed, or all once the plan is done


class WorkflowFacts:
    """Reads what surrounds workflows."""

    def __init__(self, db: Database, worktrees: Worktrees, checks: Checks) -> None:
        self._db = db
        self._worktrees = worktrees
        self._checks = checks

    async def look(self, workflow_id: str) -> Known:
        """What git says of the workflow's folder; nothing of its checks.

        Raises:
            GitFailed, NotWritable: its folder cannot be looked at.
        """
        workflow, job, written, base = await self._db.read(lambda s: _rows(s, workflow_id))
        job = await self._worktrees.ready(job)
        known = await anyio.to_thread.run_sync(_look, Path(job.work_dir), workflow, base)
        return replace(known, notes=written)

    async def judge(self, workflow_id: str, known: Known) -> Known:
        """*known* with what the checks say, which run only if they decide what comes next.

        Raises:
            LaunchFailed: a check cannot be run now.
        """

        def query(session: Session) -> tuple[Place, Sequence[Check]]:
            workflow, job = store.get(session, workflow_id), jobs.get(session, workflow_id)
            checks = parse_checks(workflow.checks)
            decide = bool(checks) and asks_for_checks(view_of(session, workflow, job, known))
            return Place(Path(job.work_dir), workflow.start_sha), checks if decide else ()

        place, checks = await self._db.read(query)
        results = await self._while_open(workflow_id, place, checks) if checks else ()
        failed = tuple(f"{one.check.name}: {one.told}" for one in results if not one.passed)
        return replace(known, evidence=replace(known.evidence, failed_checks=failed))

    async def _while_open(
        self, workflow_id: str, place: Place, checks: Sequence[Check]
    ) -> Sequence[CheckResult]:
        """What the checks bring. The end of the workflow ends them: nobody asks any more then."""
        results: Sequence[CheckResult] = ()
        failure: Exception | None = None
        # The ear comes first: what changes after the reading rings it.
        with self._db.bell.listen([final_topic(workflow_id)]) as ear:
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while not self._db.bell.closed:
                        known = await self._db.read(lambda s: jobs.statuses(s, [workflow_id]))
                        if JobStatus(known[workflow_id]).is_final:
                            break
                        await ear.heard()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                try:
                    results = await self._checks.run(place, checks, _silent)
                except Exception as error:  # out of a task group it would come inside another one
                    failure = error
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return results


def view_of(session: Session, workflow: WorkflowRow, job: JobRow, known: Known) -> WorkflowView:
    """All that `advance` asks for, as it is in the caller's transaction."""
    plan = known.notes.plan
    phase = store.phase_of(session, workflow)
    worktree = worktree_of(session, workflow)
    return WorkflowView(
        at=Position(workflow.cycle, Phase(workflow.phase), workflow.try_number),
        ended=_ended(session, phase.job_id) if phase else Ended(JobStatus.DONE),
        max_cycles=workflow.max_cycles,
        milestones=plan.total,
        done=plan.done,
        done_before=phase.milestones_done if phase else plan.done,
        head_before=phase.base_sha if phase else None,
        evidence=known.evidence,
        branch=worktree.branch if worktree else None,
        verify=workflow.verify,
        publish=Publish(workflow.publish),
        idle_cycles=workflow.idle_cycles,
        verifications=workflow.verifications,
        heals=workflow.heals,
        is_budget_spent=budgets.exhausted(session, job) is not None,
    )


def worktree_of(session: Session, workflow: WorkflowRow) -> WorktreeRow | None:
    """The worktree that all phases share, if they have one."""
    return worktrees.get(session, workflow.worktree_id) if workflow.worktree_id else None


def is_current(session: Session, workflow: WorkflowRow, job: JobRow, known: Known) -> bool:
    """Whether the plan is still as it was when it was looked at."""
    note = notes.get(session, job.project, plan_key(workflow.id))
    return (note.version if note else 0) == known.notes.plan_version


def plan_key(workflow_id: str) -> str:
    """The key of the note with a workflow's plan."""
    return f"workflow/{workflow_id}/plan"


def contract_key(workflow_id: str) -> str:
    """The key of the note with a workflow's contract."""
    return f"workflow/{workflow_id}/contract"


def worklog_prefix(workflow_id: str) -> str:
    """What the keys of a workflow's worklogs begin with; the number of the cycle follows."""
    return f"workflow/{workflow_id}/worklog/cycle-"


def plan_of(session: Session, workflow_id: str, project: str) -> str:
    """The plan as it is written; empty if there is none yet."""
    note = notes.get(session, project, plan_key(workflow_id))
    return note.value if note else ""


def _rows(session: Session, workflow_id: str) -> tuple[WorkflowRow, JobRow, Notes, str | None]:
    workflow, job = store.get(session, workflow_id), jobs.get(session, workflow_id)
    # A review that is tried again is about the cycle before it.
    reviewed = workflow.cycle - (workflow.phase == Phase.REVIEW)
    implementation = store.implementation_of(session, workflow, reviewed)
    base = implementation.base_sha if implementation else None
    written = _notes(session, workflow_id, job.project)
    return workflow, job, written, None if written.is_done else base


def _notes(session: Session, workflow_id: str, project: str) -> Notes:
    plan = notes.get(session, project, plan_key(workflow_id))
    contract = notes.get(session, project, contract_key(workflow_id))
    rows = notes.listing(session, project, worklog_prefix(workflow_id))
    newest = sorted(rows, key=lambda note: note.updated_at, reverse=True)[:MAX_WORKLOGS]
    text = plan.value if plan else ""
    return Notes(
        plan_text=text,
        plan_version=plan.version if plan else 0,
        plan=milestones.parse(text),
        contract=contract.value if contract else "",
        worklogs=tuple((note.key, note.value) for note in newest),
    )


def _look(folder: Path, workflow: WorkflowRow, base: str | None) -> Known:
    if repository.top_level(folder) is None:
        return Known(Evidence(is_repository=False))
    state = history.state_of(folder)
    if not state.head:  # before the first commit
        return Known(Evidence(True, state.branch, None, state.dirty))
    # Without a start there was no repository, or nothing in it: all of it is the workflow's work.
    found = history.commits(folder, workflow.start_sha, state.head)
    start = workflow.start_sha or history.empty_tree(state.head)
    evidence = Evidence(True, state.branch, state.head, state.dirty, len(found))
    since = base or start
    diff = history.diff_summary(folder, since, state.head, MAX_DIFF)
    recent = len(history.commits(folder, since, state.head)) if base else len(found)
    commits = tuple(f"{one.sha} {one.subject}" for one in found)
    return Known(evidence, commits=commits, recent=recent, diff=diff)


def _ended(session: Session, job_id: str) -> Ended:
    job = jobs.get(session, job_id)
    failure = None
    if job.failure_kind is not None:
        failure = Failure(FailureKind(job.failure_kind), job.failure_reason or "")
    return Ended(JobStatus(job.status), failure, job.result, job.stopped_by)


async def _silent(seconds: float, what: str) -> None:
    """Nobody waits for these checks."""
