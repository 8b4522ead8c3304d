"""What a starting server does with what the last one left: adopt the living, settle the dead."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.exits import ExitChecks
from hurlicane_mcp.engine.persistence import persist
from hurlicane_mcp.engine.runs import Runs
from hurlicane_mcp.logs import about
from hurlicane_mcp.store import attempts, events, locks, queue, waits
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.host import Exit, Handle, Host, ProcessIdentity
from hurlicane_mcp.supervision.identity import boot_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """An agent that lived on without a server."""

    attempt_id: str
    run_dir: Path
    handle: Handle


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of the attempts that had not ended: those not named here are settled now."""

    adopted: Sequence[Adopted]  #: for `Runs.follow`
    #: For `Recovery.try_again`: looking at them failed, or takes too long for a server that starts.
    unclear: Sequence[AttemptRow]


class Recovery:
    """Runs once, before the port is served. No agent is restarted because of it."""

    def __init__(
        self, db: Database, clock: Clock, host: Host, runs: Runs, exits: ExitChecks | None = None
    ) -> None:
        self._db = db
        self._clock = clock
        self._host = host
        self._runs = runs
        self._exits = exits

    async def recover(self) -> Recovered:
        """Look at every attempt that had not ended. One that cannot be judged stops no other."""
        now = self._clock.now()
        await self._db.write(lambda session: waits.close_all(session, now, "restart"))
        await self._db.write(lambda session: locks.leave_all(session, now))
        await self._db.write(queue.unpark_all)
        adopted: list[Adopted] = []
        unclear: list[AttemptRow] = []

        async def look(attempt: AttemptRow) -> None:
            with about(attempt.id):
                try:
                    if self._exits is not None and await self._exits.concern(attempt.id):
                        unclear.append(attempt)
                        return
                    found = await self._recover(attempt)
                except Exception:  # top-level handler: the server must start for all the others
                    log.exception("the attempt could not be recovered; it is tried again")
                    unclear.append(attempt)
                    return
            if found is not None:
                adopted.append(found)

        left = await self._db.read(lambda session: list(attempts.not_ended(session)))
        async with anyio.create_task_group() as tasks:
            for attempt in left:
                tasks.start_soon(look, attempt)
        if left:
            ended = len(left) - len(adopted) - len(unclear)
            log.info("recovered: %d agents live on, %d had ended", len(adopted), ended)
        return Recovered(adopted, unclear)

    async def try_again(self, attempt: AttemptRow) -> None:
        """Recover one attempt, however often that fails, and stay with its agent if it lives."""
        with about(attempt.id):
            found = await persist(self._clock, "recovery", lambda: self._recover(attempt))
        if found is not None:
            await self._runs.follow(found.attempt_id, found.run_dir, found.handle)

    async def _recover(self, attempt: AttemptRow) -> Adopted | None:
        run_dir = Path(attempt.run_dir)
        found = await self._host.adopt(run_dir)
        if found is None:
            await self._host.clear(_identity_of(attempt), attempt.id)
            await self._never_started(attempt)
            return None
        if isinstance(found, Exit):
            rebooted = attempt.boot_id is not None and attempt.boot_id != boot_id()
            await self._runs.conclude(attempt.id, run_dir, found, rebooted=rebooted)
            return None
        now = self._clock.now()

        def change(session: Session) -> None:
            locks.renew(session, now, attempt.job_id)  # nobody noted its signs of life meanwhile
            events.record(session, now, "attempt.adopted", attempt.job_id, attempt.number)

        await self._db.write(change)
        return Adopted(attempt.id, run_dir, found)

    async def _never_started(self, attempt: AttemptRow) -> None:
        now = self._clock.now()

        def change(session: Session) -> None:
            settlement.settle(session, attempt.id, Outcome(OutcomeKind.INTERRUPTED), now)
            settlement.mark_ended(session, attempt.id, Exit(), now)

        await self._db.write(change)


def _identity_of(attempt: AttemptRow) -> ProcessIdentity | None:
    """The shim that the last server noted, if it came to that."""
    if attempt.pid is None or attempt.start_time is None or attempt.boot_id is None:
        return None
    return ProcessIdentity(attempt.pid, attempt.start_time, attempt.boot_id)
