"""Looks at all agents every two seconds, and stops those that are lost or silent.

That an agent has died is not looked for here: it is heard at once (see `Runs`).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.agents import (
    AgentFacts,
    Finding,
    FindingKind,
    PresenceState,
    confirmed,
    diagnose,
    last_activity,
    presence,
)
from hurlicane_mcp.domain.attempts import AttemptState, Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.store import attempts, cooldowns, events, locks, queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.activity import usage_of
from hurlicane_mcp.supervision.host import ProcessIdentity

log = logging.getLogger(__name__)

LOOK = timedelta(seconds=2)
#: Between a look that was doubted and the one that confirms it.
SECOND_LOOK = timedelta(seconds=10)
#: What processes use is looked at this often, of agents that are quiet otherwise.
SAMPLE = timedelta(seconds=30)
#: A wall clock that moves against the monotonic one by more was set by somebody.
JUMP = timedelta(seconds=5)

_OUTCOMES: Mapping[FindingKind, tuple[OutcomeKind, FailureKind]] = MappingProxyType(
    {
        FindingKind.DISCONNECTED: (OutcomeKind.DISCONNECTED, FailureKind.DISCONNECTED),
        FindingKind.SILENT: (OutcomeKind.SILENT, FailureKind.SILENT),
        FindingKind.TOOL_STALLED: (OutcomeKind.SILENT, FailureKind.TOOL_STALLED),
    }
)
_WORTH_TELLING = frozenset({PresenceState.LOST, PresenceState.SILENT})

_NUDGE = (
    "You have been silent for a long time. If the job is done, call finish_job of the hurlicane "
    "server; otherwise go on. Without a sign of life you will be stopped."
)

#: Something else to be done at every look.
Chore = Callable[[], Awaitable[object]]
#: Types a text into the terminal of the agent in this run directory; whether it has one.
Typist = Callable[[Path, str], Awaitable[bool]]


class Watchdog:
    """Infers from facts which agents cannot go on, and settles their attempts."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        presences: Presences,
        chores: Sequence[Chore] = (),
        typist: Typist | None = None,
        chores_at_work: Sequence[Chore] = (),
    ) -> None:
        """*chores* are done at every look, *chores_at_work* only while there are agents; *typist*
        reaches those that have a terminal."""
        self._db = db
        self._clock = clock
        self._presences = presences
        self._chores = chores
        self._chores_at_work = chores_at_work
        self._is_anyone_there = True
        self._typist = typist
        self._nudged: dict[str, datetime] = {}
        self._offset = self._clock_offset()
        self._suspended = clock.suspended()
        self._sampled = clock.monotonic()
        self._doubted: frozenset[str] = frozenset()
        self._doubted_at = 0.0
        self._told: dict[str, PresenceState] = {}

    async def run(self) -> None:
        """Look, for ever. A fault is logged, and the next look comes all the same."""
        while True:
            await self._clock.sleep(LOOK)
            await self._do(self.look, *self._chores)
            if self._is_anyone_there:
                await self._do(*self._chores_at_work)

    async def _do(self, *chores: Chore) -> None:
        for chore in chores:
            try:
                await chore()
            except Exception:  # top-level handler: nobody else looks
                log.exception("a look of the watchdog failed")

    async def look(self) -> None:
        """Judge every agent once, and act on what is found."""
        await self._notice_jumps()
        rows, facts = await self._db.read(self._see)
        self._is_anyone_there = len(rows) > 0
        await self._sample(rows, facts)
        found = self._findings(facts)
        to_act = confirmed(found, len(rows), self._second_look(frozenset(found)))
        if len(to_act) < len(found):
            await self._doubt(found, len(rows))
        for row in rows:
            if row.id in to_act and not await self._nudge(row, found[row.id]):
                await self._db.write(lambda session, one=row.id: self._settle(session, one))
        await self._tell(facts)

    def _see(self, session: Session) -> tuple[Sequence[AttemptRow], Mapping[str, AgentFacts]]:
        rows = attempts.unsettled(session)
        return rows, self._presences.facts_of(session, rows)

    async def _notice_jumps(self) -> None:
        """After a suspension, or when the clock was set, everything only seems to last long."""
        offset, suspended = self._clock_offset(), self._clock.suspended()
        moved, slept = offset - self._offset, suspended - self._suspended
        self._offset, self._suspended = offset, suspended
        if abs(moved) < JUMP.total_seconds() and slept < JUMP.total_seconds():
            return
        self._presences.begin_anew()
        was_set = slept < JUMP.total_seconds()
        why = "the clock was set" if was_set else "the machine was suspended"
        log.warning("%s (%.0f s): silent and lost agents get their grace anew", why, moved)
        now, seconds = self._clock.now(), round(max(abs(moved), slept))

        def change(session: Session) -> None:
            if was_set:  # a delay stays as long as it was meant to be
                queue.shift_parked(session, timedelta(seconds=moved))
                cooldowns.shift(session, timedelta(seconds=moved))
                locks.shift_places(session, timedelta(seconds=moved))
            locks.renew(session, now)
            events.record(session, now, "watchdog.paused", why=why, seconds=seconds)

        await self._db.write(change)

    def _clock_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    async def _sample(self, rows: Sequence[AttemptRow], facts: Mapping[str, AgentFacts]) -> None:
        """Look at what the processes of quiet agents use."""
        if self._clock.monotonic() - self._sampled < SAMPLE.total_seconds():
            return
        self._sampled = self._clock.monotonic()
        quiet = [row for row in rows if self._presences.is_quiet(facts[row.id], SAMPLE)]

        def look() -> None:
            for row in quiet:
                if row.pid is None or row.start_time is None or row.boot_id is None:
                    continue
                usage = usage_of(ProcessIdentity(row.pid, row.start_time, row.boot_id))
                if usage is not None:
                    self._presences.note_usage(row.id, usage)

        await anyio.to_thread.run_sync(look)

    def _findings(self, facts: Mapping[str, AgentFacts]) -> Mapping[str, Finding]:
        now = self._clock.now()
        findings = {name: diagnose(one, now, self._presences.limits) for name, one in facts.items()}
        return {name: found for name, found in findings.items() if found is not None}

    async def _nudge(self, row: AttemptRow, finding: Finding) -> bool:
        """Speak to a silent agent that has a terminal; False if that is not possible, or was
        done already and brought no sign of life."""
        if self._typist is None or finding.kind is not FindingKind.SILENT:
            return False
        now = self._clock.now()
        facts = await self._db.read(lambda session: self._presences.facts_of(session, [row]))
        nudged = self._nudged.get(row.id)
        if nudged is not None and last_activity(facts[row.id], now) <= nudged:
            return False
        if not await self._typist(Path(row.run_dir), _NUDGE):
            return False
        self._nudged[row.id] = now
        self._presences.excuse(row.id)
        await self._db.write(
            lambda session: events.record(session, now, "attempt.nudged", row.job_id, row.number)
        )
        return True

    def _second_look(self, found: frozenset[str]) -> frozenset[str]:
        """Those doubted before, if that is long enough ago."""
        if not found:
            self._doubted = frozenset()
        waited = self._clock.monotonic() - self._doubted_at
        return self._doubted if waited >= SECOND_LOOK.total_seconds() else frozenset()

    async def _doubt(self, found: Mapping[str, Finding], total: int) -> None:
        if self._doubted and self._doubted <= frozenset(found):
            return  # the same doubt as at the last look
        self._doubted, self._doubted_at = frozenset(found), self._clock.monotonic()
        log.warning("%d of %d agents look lost or silent at once: looking again", len(found), total)
        now, names = self._clock.now(), sorted(found)
        await self._db.write(
            lambda session: events.record(
                session, now, "watchdog.doubt", agents=names[:100], of=total
            )
        )

    def _settle(self, session: Session, attempt_id: str) -> None:
        """Settle the attempt if it is still found wanting: it may have called just now."""
        row = attempts.get(session, attempt_id)
        if row.state != AttemptState.RUNNING:
            return
        finding = self._findings(self._presences.facts_of(session, [row])).get(attempt_id)
        if finding is None:
            return
        log.warning("%s is stopped: %s", attempt_id, finding.reason)
        kind, failure = _OUTCOMES[finding.kind]
        outcome = Outcome(kind, row.last_message, Failure(failure, finding.reason))
        settlement.settle(session, attempt_id, outcome, self._clock.now())

    async def _tell(self, facts: Mapping[str, AgentFacts]) -> None:
        """An event for each agent that has become lost or silent, or has come back."""
        now = self._clock.now()
        verdicts = {name: presence(one, now, self._presences.limits) for name, one in facts.items()}
        news = {
            name: verdict
            for name, verdict in verdicts.items()
            if (verdict.state in _WORTH_TELLING or name in self._told)
            and verdict.state is not self._told.get(name)
        }
        if news:

            def change(session: Session) -> None:
                for name, verdict in news.items():
                    job_id, _, number = name.rpartition(".")
                    told = {"since": verdict.since.isoformat(), "why": verdict.why}
                    kind = verdict.state if verdict.state in _WORTH_TELLING else "returned"
                    events.record(session, now, f"attempt.{kind}", job_id, int(number), **told)

            await self._db.write(change)
        self._nudged = {name: at for name, at in self._nudged.items() if name in verdicts}
        self._told = {
            name: verdict.state
            for name, verdict in verdicts.items()
            if verdict.state in _WORTH_TELLING
        }
