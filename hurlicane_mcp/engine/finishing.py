"""The last step of a job with checks: they run when its agent is done, and they decide.

A job that its limits stop (`stopped_by`) is done with the work that there is, unchecked, and one
whose agent gives up has failed without them.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import anyio
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState, Outcome
from hurlicane_mcp.domain.checks import Check, longest_run_s, parse_checks
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import Caller, check_reader
from hurlicane_mcp.engine.checks import CheckResult, Checks, Place
from hurlicane_mcp.engine.jobs import Finished, Jobs, release_children
from hurlicane_mcp.engine.waiting import RESTARTING, Beat, Waiting, beating
from hurlicane_mcp.errors import ChecksFailed, JobFinished
from hurlicane_mcp.store import attempts, events, jobs, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import CHECKS_FAILED, settled_topic
from hurlicane_mcp.store.tables import AttemptRow, JobRow

#: Characters of all that is told of failed checks: to the agent, and of the last one to everybody.
MAX_TOLD = 12 * 1024
_STILL_OPEN = f"The checks were not finished. {RESTARTING}"
_WAITS = "another finish_job of yours runs the checks"
_OVER = "No try is left: your attempt has failed. End your turn."


@dataclass(slots=True)
class _Round:
    """The calls of one attempt that want the checks run: one after the other."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0
    runs: int = 0  #: how many have found something wrong
    failure: str = ""  #: what the last one's agent was told


class Finishing:
    """Ends jobs on behalf of their agents, once what has to hold does."""

    def __init__(
        self, db: Database, clock: Clock, jobs_: Jobs, waiting: Waiting, checks: Checks
    ) -> None:
        self._db = db
        self._clock = clock
        self._jobs = jobs_
        self._waiting = waiting
        self._checks = checks
        self._rounds: dict[str, _Round] = {}

    async def finish(
        self, caller: Caller, result: str, beat: Beat, *, failed: bool = False, detach: bool = False
    ) -> Finished:
        """End the caller's job with *result*, after its checks. A second call changes nothing.

        The checks end with the call, with the attempt and with the server. Calling again runs them
        anew. Of two calls at once the second one waits, and shares what the first one brought.

        Raises:
            ChecksFailed: at least one does not hold; after the last try the attempt has failed.
            LaunchFailed: a check could not be run, which costs no try.
            OpenChildren, StaleAttempt, Invalid: as `Jobs.finish`.
        """
        if failed or not caller.is_checked:
            return await self._jobs.finish(caller, result, failed=failed, detach=detach)
        await self._jobs.check_finish(caller, result, detach=detach)
        with self._round(caller.attempt_id) as round_:
            before = round_.runs
            async with AsyncExitStack() as turn:
                async with beating(self._clock, beat, lambda: _WAITS):
                    await turn.enter_async_context(round_.lock)
                if round_.runs > before:
                    raise ChecksFailed(round_.failure)
                return await self._finish(caller, result, beat, detach, round_)

    async def _finish(
        self, caller: Caller, result: str, beat: Beat, detach: bool, round_: _Round
    ) -> Finished:
        try:
            results = await self._results(caller, beat)
        except JobFinished:
            results = None
        if results is None:
            return await self._as_it_is(caller)
        failures = [one for one in results if not one.passed]
        if not failures:
            return await self._jobs.finish(caller, result, detach=detach)
        told, now = in_words(failures, of=len(results)), self._clock.now()

        def change(session: Session) -> str | None:
            try:
                attempts.fence(session, caller.attempt_id, now)
            except JobFinished:
                return None
            job = jobs.get(session, caller.job_id)
            left = job.check_tries - job.checks_failed - 1
            note_failure(session, job, told, now)
            if left > 0:
                return f"{told}\n\n{_mend(left)}"
            release_children(session, job.id, detach=detach)
            outcome = Outcome.failed(FailureKind.CHECKS, told, result)
            settlement.settle(session, caller.attempt_id, outcome, now)
            return f"{told}\n\n{_OVER}"

        failure = await self._db.write(change)
        if failure is None:
            return await self._as_it_is(caller)
        round_.runs, round_.failure = round_.runs + 1, failure
        raise ChecksFailed(failure)

    async def _as_it_is(self, caller: Caller) -> Finished:
        """What has become of the caller's job without this call.

        Raises:
            StaleAttempt: another attempt holds it.
        """

        def query(session: Session) -> str:
            check_reader(session, caller)
            return jobs.get(session, caller.job_id).status

        status = await self._db.read(query)
        hint = _STILL_OPEN if self._db.bell.closed and status == JobStatus.RUNNING else None
        return Finished(caller.job_id, status, fresh=False, hint=hint)

    async def _results(self, caller: Caller, beat: Beat) -> Sequence[CheckResult] | None:
        """What the checks of the caller's job brought; None if they were ended before."""
        place, checks = await self._db.read(
            lambda session: facts_of(session, attempts.get(session, caller.attempt_id))
        )
        names = [check.name for check in checks]
        async with self._waiting.noted(caller, waits.CHECKS, names):
            return await while_unsettled(
                self._db, caller.attempt_id, lambda: self._checks.run(place, checks, beat)
            )

    @contextmanager
    def _round(self, attempt_id: str) -> Generator[_Round]:
        round_ = self._rounds.setdefault(attempt_id, _Round())
        round_.users += 1
        try:
            yield round_
        finally:
            round_.users -= 1
            if not round_.users:
                del self._rounds[attempt_id]


def _mend(left: int) -> str:
    tries = "1 try is" if left == 1 else f"{left} tries are"
    return f"The job is not finished. Mend this, then call finish_job again: {tries} left."


def facts_of(session: Session, attempt: AttemptRow) -> tuple[Place, tuple[Check, ...]]:
    """Where the checks of the attempt's job look, and which they are.

    The work began with the job's first attempt: later ones find commits of those before.
    """
    job = jobs.get(session, attempt.job_id)
    bases = (one.base_sha for one in attempts.of_job(session, job.id))
    base = next((sha for sha in bases if sha), None)
    place = Place(Path(job.work_dir), base, attempt.id, Path(attempt.run_dir))
    return place, parse_checks(job.checks)


def call_limit(job: JobRow, usual: timedelta) -> timedelta:
    """How long one call of an agent of *job* may last: longer than *usual* if its checks may."""
    return max(usual, timedelta(seconds=longest_run_s(parse_checks(job.checks))))


async def while_unsettled(
    db: Database, attempt_id: str, run: Callable[[], Awaitable[Sequence[CheckResult]]]
) -> Sequence[CheckResult] | None:
    """What *run* brings; None if the attempt was settled or the server stops, which end it."""
    results: Sequence[CheckResult] | None = None
    failure: Exception | None = None
    # The ear comes first: what changes after the reading rings it.
    with db.bell.listen([settled_topic(attempt_id)]) as ear:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while not db.bell.closed:
                    attempt = await db.read(lambda session: attempts.get(session, attempt_id))
                    if attempt.state == AttemptState.SETTLED:
                        break
                    await ear.heard()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                results = await run()
            except Exception as error:  # out of a task group it would come inside another one
                failure = error
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return results


def note_failure(session: Session, job: JobRow, told: str, now: datetime) -> None:
    """Count that checks of *job* failed, and tell of it."""
    tried = job.checks_failed + 1
    jobs.set_values(session, job.id, checks_failed=tried)
    what = {"failed": tried, "tries": job.check_tries, "told": told}
    events.record(session, now, CHECKS_FAILED, job.id, job.attempt, **what)


def in_words(failures: Sequence[CheckResult], of: int) -> str:
    """Which checks failed and why, within `MAX_TOLD` characters; of a long output its end."""
    room = MAX_TOLD // len(failures) - 200
    told = [f"{len(failures)} of {of} checks failed."]
    for one in failures:
        said = one.told if len(one.told) <= room else f"…{one.told[-room:]}"
        told.append(f"{one.check.name} failed: {said}")
    return "\n\n".join(told)
