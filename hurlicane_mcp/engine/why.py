"""The chain of causes behind a job: why it is where it is, down to what everything waits for."""

from collections import deque
from datetime import datetime
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.causes import JobFacts, cause
from hurlicane_mcp.domain.cooldowns import Key
from hurlicane_mcp.domain.jobs import JobKind, JobStatus
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.access import Caller, check_reader, check_visible
from hurlicane_mcp.engine.blocks import BlockView
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.store import attempts, cooldowns, jobs, questions, queue, waits, wakes, workflows
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow

#: Links of one chain. What is beyond has its own `why`.
MAX_LINKS = 20


class LinkView(View):
    """Why one job is where it is."""

    job_id: str
    title: str
    status: str
    because: str
    next: str  #: what happens next
    since: datetime | None = None
    until: datetime | None = None
    waits_for: list[str] | None = None  #: jobs, further down in the chain if there is room


class WhyView(View):
    """The chain: first the job asked for, then what it waits for, and so on."""

    job_id: str
    chain: list[LinkView]


class Why:
    """Explains jobs."""

    def __init__(self, db: Database, clock: Clock, presences: Presences, slots: int) -> None:
        self._db = db
        self._clock = clock
        self._presences = presences
        self._slots = slots

    async def of(self, caller: Caller, job_id: str) -> WhyView:
        """Why the job is where it is, and what happens next and when.

        Raises:
            NotFound: unknown, or outside the caller's subtree.
        """

        def query(session: Session) -> WhyView:
            check_reader(session, caller)
            check_visible(session, caller, job_id, own=True)
            chain = self._chain(session, job_id)
            if caller.is_agent:  # locks may lead to jobs that are none of its business
                others = jobs.outside(session, caller.job_id, [link.job_id for link in chain])
                hidden = frozenset(others) - {caller.job_id}
                chain = [link for link in chain if link.job_id not in hidden]
            return WhyView(job_id=job_id, chain=chain)

        return await self._db.read(query)

    def _chain(self, session: Session, first: str) -> list[LinkView]:
        chain: list[LinkView] = []
        left, known = deque([first]), {first}
        while left and len(chain) < MAX_LINKS:
            job = jobs.many(session, [left[0]])[left.popleft()]
            found = cause(self._facts(session, job), self._presences.limits)
            chain.append(
                LinkView(
                    job_id=job.id,
                    title=job.title,
                    status=job.status,
                    because=found.because,
                    next=found.next,
                    since=found.since,
                    until=found.until,
                    waits_for=list(found.jobs) or None,
                )
            )
            left.extend(one for one in found.jobs if one not in known)
            known.update(found.jobs)
        return chain

    def _facts(self, session: Session, job: JobRow) -> JobFacts:
        status = JobStatus(job.status)
        facts: dict[str, Any] = {
            "status": status,
            "now": self._clock.now(),
            "created_at": job.created_at,
            "finished_at": job.finished_at,
            "failure": f"{job.failure_kind}: {job.failure_reason}" if job.failure_kind else None,
        }
        last = attempts.last_of(session, [job.id]).get(job.id)
        if status is JobStatus.BLOCKED:
            facts |= _of_blocked(session, job)
        elif status is JobStatus.QUEUED:
            facts |= self._of_queued(session, job, last)
        elif status is JobStatus.RUNNING and job.kind == JobKind.WORKFLOW:
            facts |= _of_workflow(session, job)
        elif status is JobStatus.RUNNING and last is not None:
            facts |= self._of_running(session, job, last)
        return JobFacts(**facts)

    def _of_queued(self, session: Session, job: JobRow, last: AttemptRow | None) -> dict[str, Any]:
        return {
            "leaving": (job.id,) if attempts.has_open(session, job.id) else (),
            "awaits": wakes.awaited_by(session, job.id),
            "last_end": (last.failure_reason or last.outcome) if last else None,
            "not_before": job.not_before,
            "is_unclassified": job.is_unclassified,
            "limited_by": job.limited_by,
            "limit": _limit(session, job),
            "slots": self._slots,
            "free_slots": self._slots - attempts.count_busy(session),
            "ahead": queue.count_ahead(session, job, self._clock.now()),
        }

    def _of_running(self, session: Session, job: JobRow, last: AttemptRow) -> dict[str, Any]:
        wait = waits.last_of(session, [last.id]).get(last.id)
        is_open = wait is not None and wait.closed_at is None
        question = questions.open_of(session, [job.id]).get(job.id)
        targets = wait.targets if wait and is_open and wait.kind == "jobs" else []
        statuses = jobs.statuses(session, targets)
        is_checked = wait is not None and is_open and wait.kind == waits.CHECKS
        wait_on = [one for one in targets if not JobStatus(statuses[one]).is_final]
        kept_out = lock_table.kept_out(session, job.id, self._clock.now())
        return {
            "presence": self._presences.of(session, [last]).get(last.id),
            "wait_on": list(dict.fromkeys([*wait_on, *(one.job_id for one in kept_out)])),
            "files": list(dict.fromkeys(one.wanted for one in kept_out)),
            "checks": wait.targets if wait and is_checked else (),
            "checks_since": wait.opened_at if wait and is_checked else None,
            "question": question.text if question else None,
            "question_id": question.id if question else None,
            "question_until": question.deadline if question else None,
            "progress": last.progress,
            "refused": last.refusal["text"] if last.refused_at and last.refusal else None,
            "refused_since": last.refused_at,
        }


def _limit(session: Session, job: JobRow) -> str | None:
    """What the ledger says of the limit that *job* is parked for."""
    if job.limited_by is None:
        return None
    for row in cooldowns.rows(session):
        if str(Key(row.provider, row.model)) == job.limited_by:
            set_by = "set by a person" if row.is_manual else f"told to {row.job_id}"
            strikes = f", {row.strikes} times in a row" if row.strikes > 1 else ""
            return f"{row.kind} ({row.evidence}; {set_by}{strikes})"
    return f"the cap {job.limited_by} is reached"


def _of_workflow(session: Session, job: JobRow) -> dict[str, Any]:
    workflow = workflows.get(session, job.id)
    phase = workflows.phase_of(session, workflow)
    block = BlockView.of(workflow)
    return {
        "workflow": f"{workflow.phase}, cycle {workflow.cycle} of at most {workflow.max_cycles}",
        "phase_job": phase.job_id if phase else None,
        "blocked": block.reason if block else None,
        "blocked_advice": block.advice if block else "",
        "blocked_since": block.since if block else None,
        "heals_at": block.heals_at if block else None,
    }


def _of_blocked(session: Session, job: JobRow) -> dict[str, Any]:
    needed = jobs.many(session, jobs.dependencies(session, job.id))
    open_ = [one.id for one in needed.values() if one.status != JobStatus.DONE]
    leaving = [name for name in needed if attempts.has_open(session, name)]
    return {"needs": open_, "leaving": leaving}
