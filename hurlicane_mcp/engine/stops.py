"""Stopping jobs that have used what they may: turns, dollars, time, and the caps of the server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState, Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import JobKind, JobStatus
from hurlicane_mcp.domain.stops import Stop, StopMode, Verdict, verdict
from hurlicane_mcp.engine import budgets, settlement
from hurlicane_mcp.engine.budgets import Caps
from hurlicane_mcp.ids import attempt_id
from hurlicane_mcp.store import attempts, events, jobs, messages, queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow

#: Who says it when the server itself speaks to an agent.
SENDER = "hurlicane"


@dataclass(frozen=True, slots=True)
class Rest:
    """What the next process of a job may use; None where nothing bounds it.

    Of its time a tenth is always left: how long an attempt ran that ended while no server was there
    is not known, and what is resumed must not end at once for that.
    """

    turns: int
    usd: Decimal | None = None
    time: timedelta | None = None


def stop_of(job: JobRow) -> Stop:
    """The bound of *job*."""
    return Stop(StopMode(job.stop_mode), job.stop_value)


@dataclass(frozen=True, slots=True)
class Stops:
    """Compares what was used with what may be, and acts on it, in the caller's transaction."""

    caps: Caps = field(default_factory=Caps)

    def may_start(self, session: Session, job: JobRow, now: datetime) -> bool:
        """Whether *job* may have a new attempt. If not, it was parked or ended here."""
        cap = budgets.cap_reached(session, self.caps, job.project, now)
        if cap is not None:
            queue.park(session, [job.id], cap.resets_at, cap.name, cap.why, now)
            return False
        account = budgets.exhausted(session, job)
        if account is not None:
            settlement.end_waiting(session, job.id, _no_budget(session, job, account), now)
            return False
        if job.attempt == 0:
            return True
        rows = attempts.of_job(session, job.id)
        has_turns = sum(row.turns for row in rows) < stop_of(job).turns
        if not has_turns:
            outcome = Outcome.stopped(StopMode.TURNS, rows[-1].last_message)
            settlement.end_waiting(session, job.id, outcome, now)
        return has_turns

    def rest(self, session: Session, job: JobRow, now: datetime) -> Rest:
        """What is left for the next process of *job*."""
        stop, rows = stop_of(job), attempts.of_job(session, job.id)
        turns = max(1, stop.turns - sum(row.turns for row in rows))
        usd = budgets.remaining_for_launch(session, job)
        time = max(stop.time / 10, stop.time - _run_time(rows, now)) if stop.time else None
        return Rest(turns, usd, time)

    def check(self, session: Session, attempt_id: str, now: datetime) -> None:
        """Warn or stop the job of *attempt_id*, whose figures have just changed, and all others
        that its costs count for."""
        attempt = attempts.get(session, attempt_id)
        job = jobs.many(session, [attempt.job_id])[attempt.job_id]
        self._check_cap(session, job, now)
        rests = budgets.rests(session, job)
        for account, rest in rests:
            if rest <= 0:
                self._stop_account(session, account, now)
        for account, rest in rests:
            self._warn_account(session, account, rest, now)
        self._check_own(session, job, now)

    def due_by_time(self, session: Session, now: datetime) -> Sequence[str]:
        """The attempts at work whose jobs have used most of their time and were not told."""
        rows = {row.job_id: row for row in attempts.untold_of_time(session)}
        found = jobs.many(session, rows)
        return [
            rows[name].id for name, job in found.items() if self._nears_its_time(session, job, now)
        ]

    def _nears_its_time(self, session: Session, job: JobRow, now: datetime) -> bool:
        limit = stop_of(job).time
        if limit is None or job.warned_at is not None:
            return False
        used = _minutes(_run_time(attempts.of_job(session, job.id), now))
        return verdict(used, _minutes(limit)) is not Verdict.FINE

    def _check_own(self, session: Session, job: JobRow, now: datetime) -> None:
        """The turns and the time of *job*."""
        if job.status != JobStatus.RUNNING:
            return
        stop, rows = stop_of(job), attempts.of_job(session, job.id)
        turns = Decimal(sum(row.turns for row in rows))
        told = f"{turns} of {stop.turns} turns"
        self._act(session, job, StopMode.TURNS, verdict(turns, Decimal(stop.turns)), told, now)
        if stop.time is not None:
            used = _minutes(_run_time(rows, now))
            told = f"{used:.1f} of {stop.value} minutes"
            # Its shim stops it, by a clock that does not count the sleep of the machine.
            if self._nears_its_time(session, job, now):
                warn(session, job, StopMode.TIME, told, now)

    def _act(
        self,
        session: Session,
        job: JobRow,
        mode: StopMode,
        found: Verdict,
        told: str,
        now: datetime,
    ) -> None:
        if found is Verdict.STOP:
            stop(session, job, mode, now)
        elif found is Verdict.WARN and job.warned_at is None:
            warn(session, job, mode, told, now)

    def _check_cap(self, session: Session, job: JobRow, now: datetime) -> None:
        """At a cap nobody goes on before it is lifted: all that it bounds are parked."""
        found = tuple(budgets.caps_now(session, self.caps, job.project, now))
        cap = budgets.reached(found)
        if cap is None:
            budgets.warn_of_caps(session, found, now)
            return
        for row in attempts.unsettled(session):
            other = jobs.many(session, [row.job_id])[row.job_id]
            if cap.project in (None, other.project):
                failure = Failure(FailureKind.BUDGET, cap.why)
                outcome = Outcome(OutcomeKind.LIMITED, row.last_message, failure)
                settlement.settle(session, row.id, outcome, now)

    def _stop_account(self, session: Session, account: JobRow, now: datetime) -> None:
        """Stop every agent that draws from *account*, and let no other begin."""
        for job_id in budgets.drawing(session, account.id):
            job = jobs.many(session, [job_id])[job_id]
            if job.status == JobStatus.RUNNING:
                stop(session, job, StopMode.BUDGET, now)
            else:
                settlement.end_waiting(session, job_id, _no_budget(session, job, account), now)

    def _warn_account(
        self, session: Session, account: JobRow, rest: Decimal, now: datetime
    ) -> None:
        if account.warned_at is not None or account.stop_value is None:
            return
        spent = account.stop_value - rest
        if verdict(spent, account.stop_value) is Verdict.WARN:
            told = f"${spent:.2f} of ${account.stop_value:.2f}"
            warn(session, account, StopMode.BUDGET, told, now)


class Timekeeper:
    """Warns the jobs that have a limit of time."""

    def __init__(self, db: Database, clock: Clock, stops: Stops) -> None:
        self._db = db
        self._clock = clock
        self._stops = stops

    async def look(self) -> None:
        """Warn whoever is due. They are stopped by their shims, also while no server runs."""
        now = self._clock.now()
        for name in await self._db.read(lambda session: self._stops.due_by_time(session, now)):
            await self._db.write(lambda session, one=name: self._stops.check(session, one, now))


def stop(session: Session, job: JobRow, mode: StopMode, now: datetime) -> None:
    """End a running *job* that has used what it may: done, with what its agent has said last."""
    if job.kind == JobKind.WORKFLOW:
        return  # it has no agent; it ends by itself when its phase has ended
    name = attempt_id(job.id, job.attempt)
    attempt = attempts.get(session, name)
    result = attempt.last_message or attempt.progress
    if attempt.state != AttemptState.SETTLED:
        settlement.settle(session, name, Outcome.stopped(mode, result), now)


def warn(session: Session, job: JobRow, mode: StopMode, told: str, now: datetime) -> None:
    """Tell once, also the agent, that most of what *job* may use is used."""
    jobs.set_values(session, job.id, warned_at=now)
    events.record(
        session, now, "job.nearly_stopped", job.id, job.attempt or None, mode=mode, used=told
    )
    if job.status == JobStatus.RUNNING and job.kind == JobKind.AGENT:
        text = (
            f"You have used {told} that this job may use. At the limit you are stopped. Bring your "
            "work to a state that can be kept (commit it), and finish the job with what there is."
        )
        messages.add(session, job.id, SENDER, text, now)


def _no_budget(session: Session, job: JobRow, account: JobRow) -> Outcome:
    """The end of a job that no attempt holds: done with what there is, if it ever ran."""
    if job.attempt:
        last = attempts.get(session, attempt_id(job.id, job.attempt))
        return Outcome.stopped(StopMode.BUDGET, last.last_message or last.progress)
    whose = "Its budget" if account.id == job.id else f"The budget of job {account.id}"
    reason = f"{whose} of ${account.stop_value:.2f} is spent."
    return Outcome.failed(FailureKind.BUDGET, reason)


def _run_time(rows: Sequence[AttemptRow], now: datetime) -> timedelta:
    """How long the processes of these attempts ran, all together, until they were settled."""
    spans = ((row.settled_at or now) - row.started_at for row in rows if row.started_at is not None)
    return sum(spans, timedelta(0))


def _minutes(span: timedelta) -> Decimal:
    return Decimal(span.total_seconds()) / 60
