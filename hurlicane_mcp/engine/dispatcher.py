"""Gives free slots to due jobs, whenever the bell says that either may have come."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import OutcomeKind
from hurlicane_mcp.engine import lock_table
from hurlicane_mcp.engine.chains import Step
from hurlicane_mcp.engine.ledger import Chosen, Ledger
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.errors import StoreUnavailable
from hurlicane_mcp.ids import attempt_id, new_token, token_hash
from hurlicane_mcp.store import attempts, locks, queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import QUEUE
from hurlicane_mcp.store.tables import AttemptRow, JobRow

log = logging.getLogger(__name__)

_AFTER_A_FAULT = timedelta(seconds=1)
#: Due jobs that are looked at together.
_PAGE = 50


@dataclass(frozen=True, slots=True)
class Launch:
    """A claimed job whose new attempt wants a process. The token exists here and nowhere else."""

    job: JobRow
    attempt_id: str
    step: Step  #: the model that it runs on
    run_dir: Path
    token: str
    previous: AttemptRow | None  #: the attempt before, which says how to go on
    worked: AttemptRow | None  #: the last one that did anything
    resume: str | None  #: the CLI's session to go on with


class Dispatcher:
    """Claims jobs and hands them to *launch*, which must return at once.

    A job that may not start, since all its models are limited or a cap is reached, is parked.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        slots: int,
        runs_dir: Path,
        ledger: Ledger,
        stops: Stops,
        launch: Callable[[Launch], Awaitable[None]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._slots = slots
        self._runs_dir = runs_dir
        self._ledger = ledger
        self._stops = stops
        self._launch = launch

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Fill the slots now and after each ring, until cancelled."""
        with self._db.bell.listen([QUEUE]) as ear:
            task_status.started()
            while not self._db.bell.closed:
                try:
                    pause = await self._pause(await self.fill())
                except Exception as error:  # top-level handler: nobody else dispatches
                    _tell(error)
                    await self._clock.sleep(_AFTER_A_FAULT)
                    continue
                with anyio.move_on_after(pause):
                    await ear.heard()

    async def fill(self) -> datetime:
        """Start what is due and has a slot; the moment as of which it was due."""
        launches, asked_at = await self._db.write(self._claim)
        for launch in launches:
            await self._launch(launch)
        return asked_at

    async def _pause(self, asked_at: datetime) -> float | None:
        """Seconds until the next parked job is due; None when nothing but the bell can help.

        What has fallen due since *asked_at* was not claimed: it is due at once.
        """
        due = await self._db.read(lambda session: queue.next_due(session, asked_at))
        return None if due is None else max(0.0, (due - self._clock.now()).total_seconds())

    def _claim(self, session: Session) -> tuple[list[Launch], datetime]:
        now = self._clock.now()
        free = self._slots - attempts.count_busy(session)
        launches: list[Launch] = []
        while len(launches) < free:
            due = queue.due(session, now, min(_PAGE, free - len(launches)))
            if not due:
                break
            parked = set[str]()
            for job in due:  # one by one: what a launch probes, or spends, counts for the next one
                if job.id in parked:
                    continue
                choice = self._choose(session, job, now)
                if isinstance(choice, Chosen):
                    (claimed,) = queue.claim(session, [job.id], now)
                    launches.append(self._begin(session, claimed, choice, now))
                else:
                    parked.update(choice)
        return launches, now

    def _choose(self, session: Session, job: JobRow, now: datetime) -> Chosen | Sequence[str]:
        """With which model *job* starts, or which jobs were parked or ended instead: it, and all
        that may run on the same models."""
        if not self._stops.may_start(session, job, now):
            return [job.id]
        choice = self._ledger.choose(session, job, now)
        if isinstance(choice, Chosen):
            return choice
        alike = queue.alike(session, job, now)
        why = f"{choice.by} is limited, and so is every other model of its chain."
        queue.park(session, alike, choice.until, str(choice.by), why, now)
        return alike

    def _begin(self, session: Session, job: JobRow, chosen: Chosen, now: datetime) -> Launch:
        before = attempts.of_job(session, job.id) if job.attempt > 1 else ()
        step, previous = chosen.step, before[-1] if before else None
        keeps = self._ledger.chains.providers.get(step.provider).keeps_session
        resumed = _to_resume(before, step, keeps)
        resume = resumed.session_id if resumed is not None else None
        base = {**resumed.session_base, **resumed.session_seen} if resumed is not None else {}
        worked = next((row for row in reversed(before) if _has_worked(row)), None)
        name, token = attempt_id(job.id, job.attempt), new_token("agent")
        run_dir = self._runs_dir / name
        values = {
            "id": name,
            "job_id": job.id,
            "number": job.attempt,
            "token_hash": token_hash(token),
            "provider": step.provider,
            "model": step.model,
            "run_dir": str(run_dir),
            "resumes": resume,
            "session_id": resume,
            "session_base": base,
            "claimed_at": now,
        }
        attempts.add(session, values)
        if resume is None:  # its agent knows nothing of what the one before it held
            lock_table.free(session, job.id, "restart", now)
        else:  # the signs of life of the one before it count no more, and it has given none yet
            locks.renew(session, now, job.id)
        self._ledger.hold(session, chosen, name, now)
        return Launch(job, name, step, run_dir, token, previous, worked, resume)


def _tell(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        log.warning("no job can be claimed now: %s", error)
    else:
        log.error("dispatching failed", exc_info=error)


def _to_resume(
    before: Sequence[AttemptRow], step: Step, keeps: Callable[[str | None, str | None], bool]
) -> AttemptRow | None:
    """The attempt whose session goes on with *step*: the last one that did anything.

    Attempts of other providers, or with models whose sessions it cannot go on with, are passed over
    if they were refused before they did anything.
    """
    for row in reversed(before):
        if row.provider != step.provider or not keeps(row.model_used or row.model, step.model):
            if _has_worked(row):
                return None
            continue
        has_ended_well = row.outcome is None or not OutcomeKind(row.outcome).goes_on
        if row.session_id is None or has_ended_well or _cannot_be_resumed(row):
            return None
        return row
    return None


def _has_worked(row: AttemptRow) -> bool:
    return row.turns > 0 or row.called_at is not None or row.last_message != ""


def _cannot_be_resumed(previous: AttemptRow) -> bool:
    """Whether the CLI did not find its session: killed within its first 0.1 s, Claude Code has
    stored nothing and ends at the resumption without a word to the model (measured 2026-11-24)."""
    crashed = previous.outcome == OutcomeKind.CRASHED
    is_mute = previous.turns == 0 and previous.called_at is None
    return crashed and previous.resumes is not None and is_mute
