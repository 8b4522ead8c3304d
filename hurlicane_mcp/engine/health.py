"""Looks at the jobs at work, and warns about those that a person may want to look at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.health import Changes, HealthWarning, Vitals, WarningKind, changes
from hurlicane_mcp.domain.health import warnings as warnings_of
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.engine.stops import stop_of
from hurlicane_mcp.engine.warnings import WarningView
from hurlicane_mcp.engine.watchdog import JUMP
from hurlicane_mcp.errors import Forbidden, Invalid, NotFound
from hurlicane_mcp.store import jobs, vitals, waits, warnings
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow, WaitRow

#: Between two looks. Nothing here is so urgent that it would have to be known sooner.
LOOK = timedelta(seconds=10)
_NO_TIME, _NO_MONEY = timedelta(0), Decimal(0)


class JobWarning(WarningView):
    """A warning in a list of those of all jobs."""

    job_id: str
    title: str


class Health:
    """Keeps the warnings true, and lets people dismiss them. All that it tells stands in rows."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._looked: float | None = None
        self._offset = self._clock_offset()
        self._suspended = clock.suspended()
        self._jumped_at: datetime | None = None

    async def look(self) -> None:
        """Raise and clear warnings. Does nothing if the last look was a moment ago."""
        now = self._clock.monotonic()
        if self._looked is not None and now - self._looked < LOOK.total_seconds():
            return
        self._looked = now
        self._notice_jumps()
        due = await self._db.read(lambda session: tuple(self._due(session)))
        if due:
            await self._db.write(lambda session: self._tell(session, due))

    async def listing(self, caller: Caller) -> list[JobWarning]:
        """What holds and was not dismissed, of all jobs, oldest first. For operators."""
        _check_operator(caller)

        def query(session: Session) -> list[JobWarning]:
            rows = warnings.listing(session)
            titles = {
                one.id: one.title
                for one in jobs.many(session, {row.job_id for row in rows}).values()
            }
            return [
                JobWarning(
                    kind=row.kind,
                    since=row.since,
                    text=row.text,
                    job_id=row.job_id,
                    title=titles[row.job_id],
                )
                for row in rows
            ]

        return await self._db.read(query)

    async def dismiss(self, caller: Caller, job_id: str, kind: str) -> WarningView:
        """Show the warning no more while it holds; the same again once it was cleared is told anew.

        Dismissing it twice changes nothing. For operators.

        Raises:
            NotFound: no such job, or it has no such warning now.
            Invalid: there are no warnings of this *kind*.
        """
        _check_operator(caller)
        if kind not in frozenset(WarningKind):
            raise Invalid(f"Unknown warning {kind!r}. Known: {', '.join(WarningKind)}.")
        now = self._clock.now()

        def change(session: Session) -> WarningView:
            known = jobs.statuses(session, [job_id])
            if job_id not in known:
                raise NotFound("job", job_id)
            row = None
            if not JobStatus(known[job_id]).is_final:
                row = warnings.dismiss(session, job_id, kind, now, caller.name)
            if row is None:
                raise NotFound("warning", f"{kind} of {job_id}", hint="It holds no longer.")
            return WarningView.of(row)

        return await self._db.write(change)

    def _due(self, session: Session) -> Mapping[str, Changes]:
        """What has to be told, by job. Two indexed queries when no agent works."""
        told = warnings.holding(session)
        return self._changes(session, vitals.at_work(session) | told.keys(), told)

    def _tell(self, session: Session, job_ids: Collection[str]) -> None:
        """Judge *job_ids* again, now that nothing can come between, and tell what has changed."""
        told, now = warnings.holding(session, job_ids), self._clock.now()
        for job_id, change in self._changes(session, job_ids, told).items():
            warnings.clear(session, job_id, change.cleared, now)
            for one in change.raised:
                warnings.warn(session, job_id, one.kind, one.since, one.text, now)

    def _changes(
        self, session: Session, job_ids: Collection[str], told: Mapping[str, Collection[str]]
    ) -> Mapping[str, Changes]:
        held = self._held(session, job_ids)
        found = {one: changes(frozenset(told.get(one, ())), held[one]) for one in held}
        return {one: change for one, change in found.items() if change}

    def _held(
        self, session: Session, job_ids: Collection[str]
    ) -> Mapping[str, Sequence[HealthWarning]]:
        """The warnings that hold, by job; none of a job that is final."""
        if not job_ids:
            return {}
        rows, runs = vitals.of_jobs(session, job_ids), vitals.attempts_of(session, job_ids)
        current = [own[-1].id for own in runs.values()]
        last_waits = waits.last_of(session, current)
        held: dict[str, Sequence[HealthWarning]] = {}
        for job in rows:
            if JobStatus(job.status).is_final:
                held[job.id] = ()
                continue
            own = runs.get(job.id, [])
            wait = last_waits.get(own[-1].id) if own else None
            spent = _NO_MONEY
            if job.payer_id == job.id:  # it has a budget, from which those below it draw
                spent = budgets.room(session, job.id).spent
            held[job.id] = warnings_of(self._vitals(job, own, wait, spent))
        return held

    def _vitals(
        self, job: JobRow, runs: Sequence[AttemptRow], wait: WaitRow | None, spent_usd: Decimal
    ) -> Vitals:
        now = self._clock.now()
        last = runs[-1] if runs else None
        facts = Vitals(
            now=now,
            stop=stop_of(job),
            turns=sum(one.turns for one in runs),
            spent_usd=spent_usd,
            ran=sum((_ran(one, now) for one in runs), _NO_TIME),
        )
        if last is None or last.state != AttemptState.RUNNING:
            return facts
        return replace(
            facts,
            is_running=True,
            is_waiting=wait is not None and wait.closed_at is None,
            is_in_tool=last.tool_since is not None,
            # What a terminal shows is nobody's transcript.
            output_at=None if job.interactive else self._output_at(last, wait, now),
            tool_failures=last.tool_failures,
            denials=last.denials,
        )

    def _output_at(self, run: AttemptRow, wait: WaitRow | None, now: datetime) -> datetime:
        """When the agent has printed last; the end of a wait, or of a jump, begins it anew.

        Moments in the future, from a clock that was set back, do not count.
        """
        waited_until = wait.closed_at if wait else None
        signs = (run.started_at, run.output_at, waited_until, self._jumped_at)
        return max((sign for sign in signs if sign is not None and sign <= now), default=now)

    def _notice_jumps(self) -> None:
        """After a suspension, or when the clock was set, output only seems to have stopped."""
        offset, suspended = self._clock_offset(), self._clock.suspended()
        moved, slept = abs(offset - self._offset), suspended - self._suspended
        self._offset, self._suspended = offset, suspended
        if max(moved, slept) >= JUMP.total_seconds():
            self._jumped_at = self._clock.now()

    def _clock_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()


def _ran(run: AttemptRow, now: datetime) -> timedelta:
    """How long the attempt has run; what its process does after its end does not count."""
    if run.started_at is None:
        return _NO_TIME
    return max(_NO_TIME, (run.settled_at or now) - run.started_at)


def _check_operator(caller: Caller) -> None:
    if caller.is_agent:
        raise Forbidden("Warnings are for operators: they tell people where to look.")
