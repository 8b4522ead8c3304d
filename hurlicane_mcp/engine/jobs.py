"""What callers do with jobs that exist: read, list, cancel, report and finish."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import MAX_RESULT_BYTES, JobStatus
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.engine import budgets, settlement
from hurlicane_mcp.engine.access import Caller, check_reader, check_visible
from hurlicane_mcp.engine.listings import attempt_views, job_lines, open_questions
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.views import AttemptView, BudgetView, JobLine, JobView
from hurlicane_mcp.engine.warnings import open_warnings
from hurlicane_mcp.engine.worktree_views import WorktreeBrief
from hurlicane_mcp.errors import Forbidden, Invalid, JobFinished, OpenChildren
from hurlicane_mcp.store import attempts, events, jobs, usage, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import CHECKS_FAILED
from hurlicane_mcp.store.tables import JobRow

MAX_PROGRESS = 2000
MAX_REASON = 1000


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to `finish_job`; `fresh` is False when the job was final already."""

    job_id: str
    status: str
    fresh: bool
    hint: str | None = None  #: what to do if it is not over yet


class Jobs:
    """Reads and changes jobs on behalf of a caller."""

    def __init__(self, db: Database, clock: Clock, presences: Presences) -> None:
        self._db = db
        self._clock = clock
        self._presences = presences

    async def get(self, caller: Caller, job_id: str, offset: int = 0) -> JobView:
        """The whole job, its result from character *offset* on (16 KiB an answer).

        Raises:
            NotFound: unknown, or outside the caller's subtree.
        """

        def query(session: Session) -> JobView:
            check_reader(session, caller)
            check_visible(session, caller, job_id, own=True)
            job = jobs.get(session, job_id)
            attempt = attempts.last_of(session, [job_id]).get(job_id)
            depends_on = jobs.dependencies(session, job_id)
            children = jobs.children(session, job_id)
            verdicts = self._presences.of(session, [attempt] if attempt else [])
            verdict = verdicts.get(attempt.id) if attempt else None
            view = JobView.whole(job, attempt, depends_on, children, offset, verdict)
            view.question = open_questions(session, [job_id]).get(job_id)
            if job.checks and (failed := events.last_of_kind(session, job_id, CHECKS_FAILED)):
                view.checks_told = failed.data["told"]
            if job.worktree_id is not None:
                view.worktree = WorktreeBrief.of(worktrees.get(session, job.worktree_id))
            view.warnings = open_warnings(session, [job_id]).get(job_id)
            view.models_used = list(usage.models_used(session, job_id)) or None
            if job.payer_id == job_id:
                view.budget = BudgetView.of(budgets.room(session, job_id))
            return view

        return await self._db.read(query)

    async def listing(
        self,
        caller: Caller,
        *,
        statuses: Sequence[str] = (),
        parent_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[JobLine]:
        """The caller's jobs, newest first; *before* is the last job of the page before.

        Raises:
            Invalid: an unknown status.
        """
        unknown = sorted(set(statuses) - set(JobStatus))
        if unknown:
            raise Invalid(f"Unknown status {unknown[0]!r}. Known: {', '.join(JobStatus)}.")

        def query(session: Session) -> list[JobLine]:
            check_reader(session, caller)
            rows = jobs.listing(
                session,
                statuses=statuses,
                parent_id=parent_id,
                under=caller.job_id or None,
                before=jobs.get(session, before).seq if before else None,
                limit=limit,
            )
            return job_lines(session, self._presences, rows)

        return await self._db.read(query)

    async def attempts(self, caller: Caller, job_id: str) -> list[AttemptView]:
        """Every attempt of a job, first to last."""

        def query(session: Session) -> list[AttemptView]:
            check_visible(session, caller, job_id, own=True)
            rows = attempts.of_job(session, job_id)
            return attempt_views(session, self._presences, rows)

        return await self._db.read(query)

    async def agents(self, caller: Caller) -> list[AttemptView]:
        """The attempts whose processes may be alive, oldest first. For operators."""
        if caller.is_agent:
            raise Forbidden("Only an operator may list the agents.")

        def query(session: Session) -> list[AttemptView]:
            return attempt_views(session, self._presences, attempts.not_ended(session))

        return await self._db.read(query)

    async def cancel(self, caller: Caller, job_id: str, reason: str = "") -> JobStatus:
        """Cancel a job and all below it; the status it has then. A final job stays as it is.

        At most 1,000 characters of *reason* are kept.

        Raises:
            NotFound: unknown, or not below the caller's own job.
        """
        return await cancel_tree(self._db, self._clock.now(), caller, job_id, reason)

    async def report(self, caller: Caller, text: str) -> None:
        """Note what the caller's agent is doing; at most 2,000 characters are kept."""
        check_text("text", text)
        now = self._clock.now()
        shown = text[:MAX_PROGRESS]

        def change(session: Session) -> None:
            attempts.report(session, caller.attempt_id, shown, now)

        await self._db.write(change)

    async def check_finish(self, caller: Caller, result: str, *, detach: bool) -> None:
        """Refuse at once what `finish` would refuse after the checks of the job.

        Raises:
            OpenChildren, Invalid: as `finish`.
        """
        _check_result(result)
        live = await self._db.read(
            lambda session: jobs.children(session, caller.job_id, live_only=True)
        )
        if not detach:
            _refuse_open(live)

    async def finish(
        self, caller: Caller, result: str, *, failed: bool = False, detach: bool = False
    ) -> Finished:
        """End the caller's job with *result*. A second call changes nothing.

        Raises:
            OpenChildren: jobs that it created are open and *detach* is not set.
            StaleAttempt: another attempt holds the job.
            Invalid: the result is longer than 1 MiB.
        """
        _check_result(result)
        now = self._clock.now()
        outcome = (
            Outcome.failed(FailureKind.AGENT, _first_line(result), result)
            if failed
            else Outcome(OutcomeKind.DONE, result)
        )

        def change(session: Session) -> Finished:
            try:
                attempts.fence(session, caller.attempt_id, now)
            except JobFinished:
                return Finished(caller.job_id, _status(session, caller.job_id), fresh=False)
            release_children(session, caller.job_id, detach=detach)
            settlement.settle(session, caller.attempt_id, outcome, now)
            return Finished(caller.job_id, _status(session, caller.job_id), fresh=True)

        return await self._db.write(change)


async def cancel_tree(
    db: Database, now: datetime, caller: Caller, job_id: str, reason: str
) -> JobStatus:
    """Cancel a job, which may be a workflow, and all below it; the status it has then.

    Raises:
        Invalid: no database could keep *reason*.
        NotFound: unknown, or not below the caller's own job.
    """
    check_text("reason", reason)
    by = "an operator" if not caller.is_agent else f"job {caller.job_id}"
    told = f"Cancelled by {by}" + (f": {reason[:MAX_REASON]}" if reason else ".")

    def change(session: Session) -> JobStatus:
        if caller.is_agent:
            attempts.fence(session, caller.attempt_id, now)
        check_visible(session, caller, job_id)
        return settlement.cancel(session, job_id, told, now)

    return await db.write(change)


def release_children(session: Session, job_id: str, *, detach: bool) -> None:
    """Let the open children of a job that is about to end go on without it.

    Raises:
        OpenChildren: there are some, and *detach* does not say that they may.
    """
    live = jobs.children(session, job_id, live_only=True)
    if not detach:
        _refuse_open(live)
    for job in live:
        jobs.set_values(session, job.id, detached=True)


def _refuse_open(live: Sequence[JobRow]) -> None:
    if live:
        names = ", ".join(f"{job.id} ({job.status})" for job in live[:20])
        raise OpenChildren(
            f"{len(live)} jobs that you created are not finished: {names}. Wait for them with "
            "wait_for_jobs, cancel them with cancel_job, or call finish_job with detach=true to "
            "let them go on without you."
        )


def _check_result(result: str) -> None:
    check_text("result", result)
    if len(result.encode()) > MAX_RESULT_BYTES:
        raise Invalid(
            f"`result` is longer than {MAX_RESULT_BYTES:,} bytes. Write the long part into a "
            "file and name its path."
        )


def _status(session: Session, job_id: str) -> str:
    job: JobRow = jobs.many(session, [job_id])[job_id]
    return job.status


def _first_line(text: str) -> str:
    stripped = text.strip()
    return stripped.splitlines()[0][:500] if stripped else "The agent gave no reason."
