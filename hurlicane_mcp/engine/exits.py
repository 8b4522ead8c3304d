"""Checks of jobs that end with their agent's process: they run when that has exited with 0."""

from datetime import datetime

import anyio
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.domain.jobs import Completion
from hurlicane_mcp.engine.checks import Checks
from hurlicane_mcp.engine.finishing import facts_of, in_words, note_failure, while_unsettled
from hurlicane_mcp.store import attempts, jobs, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.host import Exit


class ExitChecks:
    """Finds out whether what has to hold after a good exit does."""

    def __init__(self, db: Database, clock: Clock, checks: Checks) -> None:
        self._db = db
        self._clock = clock
        self._checks = checks

    async def concern(self, attempt_id: str) -> bool:
        """Whether the end of this attempt may have to be checked, which may take long."""
        return await self._db.read(lambda session: _concern(session, attempt_id))

    async def failed(self, attempt_id: str, exit_: Exit) -> str | None:
        """What does not hold, in words; None if everything does, or nothing is to be checked.

        Meanwhile the attempt counts as waiting, and keeps its slot. When the server stops this does
        not return: the next one does it all again.

        Raises:
            LaunchFailed: a check could not be run now.
        """
        if exit_.code != 0 or exit_.limit is not None or not await self.concern(attempt_id):
            return None
        place, checks = await self._db.read(
            lambda session: facts_of(session, attempts.get(session, attempt_id))
        )
        now, names = self._clock.now(), [check.name for check in checks]

        def begin(session: Session) -> None:
            row = attempts.get(session, attempt_id)
            if row.state != AttemptState.SETTLED:
                waits.close_all(session, now, "again", attempt_id)  # of a try that failed
                waits.open_wait(session, row, waits.CHECKS, names, now)

        await self._db.write(begin)
        results = await while_unsettled(
            self._db, attempt_id, lambda: self._checks.run(place, checks, _no_beat)
        )
        if results is None and self._db.bell.closed:
            await anyio.sleep_forever()
        failures = [one for one in results or () if not one.passed]
        return in_words(failures, of=len(checks)) if failures else None


def note_failed_exit(session: Session, attempt: AttemptRow, told: str, now: datetime) -> None:
    """Count that the checks failed, in the transaction that settles the attempt; before that."""
    if attempt.state != AttemptState.SETTLED:
        note_failure(session, jobs.get(session, attempt.job_id), told, now)


def _concern(session: Session, attempt_id: str) -> bool:
    attempt = attempts.get(session, attempt_id)
    job = jobs.get(session, attempt.job_id)
    # What fails or stops the attempt anyway needs no check.
    is_good = attempt.provider_error is None and attempt.stopped is None
    is_open = attempt.state != AttemptState.SETTLED
    return is_good and is_open and job.completion == Completion.EXIT and bool(job.checks)


async def _no_beat(_seconds: float, _what: str) -> None:
    """Nobody waits for an answer."""
