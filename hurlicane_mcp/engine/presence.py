"""What is known of each agent at this moment: its rows, its calls, and what its processes use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.agents import AgentFacts, Limits, Presence, presence
from hurlicane_mcp.domain.attempts import AttemptState
from hurlicane_mcp.engine.attendance import Attendance
from hurlicane_mcp.store import waits
from hurlicane_mcp.store.tables import AttemptRow, WaitRow
from hurlicane_mcp.supervision.activity import Usage

_BROKEN = frozenset({"gone", "restart"})


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a tree had used at one look, and when it was last seen at work."""

    usage: Usage
    taken: float  #: monotonic seconds
    work_at: datetime | None
    frozen_since: datetime | None


class Presences:
    """Judges agents by all that is known. What it remembers itself can be found out again."""

    def __init__(self, clock: Clock, attendance: Attendance, limits: Limits) -> None:
        self._clock = clock
        self._attendance = attendance
        self.limits = limits
        self._samples: dict[str, _Sample] = {}
        self._excused: dict[str, datetime] = {}
        self._watched_since = clock.now()

    def begin_anew(self) -> None:
        """Forget how long anything has lasted: nobody was watching, or the clock was moved."""
        self._watched_since = self._clock.now()

    def of(self, session: Session, rows: Sequence[AttemptRow]) -> Mapping[str, Presence]:
        """The verdict on each of *rows* whose process may be alive, by attempt."""
        now = self._clock.now()
        facts = self.facts_of(session, [row for row in rows if row.ended_at is None])
        return {name: presence(one, now, self.limits) for name, one in facts.items()}

    def facts_of(self, session: Session, rows: Sequence[AttemptRow]) -> Mapping[str, AgentFacts]:
        """The facts about each of *rows*, by attempt."""
        last_waits = waits.last_of(session, [row.id for row in rows])
        return {row.id: self._facts(row, last_waits.get(row.id)) for row in rows}

    def is_quiet(self, facts: AgentFacts, for_: timedelta) -> bool:
        """Whether nothing but the use of its processes could show that the agent is at work."""
        now = self._clock.now()
        signs = (facts.request_at, facts.output_at, facts.heartbeat_at, facts.started_at)
        return facts.wait_since is None and all(
            sign is None or now - sign >= for_ for sign in signs
        )

    def note_usage(self, attempt_id: str, usage: Usage) -> None:
        """Compare what the attempt's processes have used with the last look."""
        taken, before = self._clock.monotonic(), self._samples.get(attempt_id)
        work_at = before.work_at if before else None
        if before and usage.is_work_since(before.usage, taken - before.taken):
            work_at = self._clock.now()
        frozen_since = before.frozen_since if before else None
        frozen_since = (frozen_since or self._clock.now()) if usage.is_frozen else None
        self._samples[attempt_id] = _Sample(usage, taken, work_at, frozen_since)

    def is_calling(self, attempt_id: str) -> bool:
        """Whether the agent is calling us now or was a moment ago."""
        return self._attendance.has_called_lately(attempt_id)

    def expect_return(self, attempt_id: str) -> None:
        """The agent seems lost: its next request is to be noted at once."""
        self._attendance.expect_return(attempt_id)

    def excuse(self, attempt_id: str) -> None:
        """Something was said to the silent agent: its silence begins anew."""
        self._excused[attempt_id] = self._clock.now()

    def forget(self, attempt_id: str) -> None:
        """The attempt's process has gone."""
        self._samples.pop(attempt_id, None)
        self._excused.pop(attempt_id, None)
        self._attendance.forget(attempt_id)

    def _facts(self, row: AttemptRow, wait: WaitRow | None) -> AgentFacts:
        seen, sample = self._attendance.of(row.id), self._samples.get(row.id)
        is_open = wait is not None and wait.closed_at is None
        is_broken = wait is not None and wait.ended_by in _BROKEN
        return AgentFacts(
            claimed_at=row.claimed_at,
            watched_since=self._watched_since,
            started_at=row.started_at,
            is_settled=row.state == AttemptState.SETTLED,
            request_at=_newest(row.last_seen_at, seen.request_at if seen else None),
            open_requests=seen.open_requests if seen else 0,
            wait_kind=wait.kind if wait and is_open else None,
            wait_since=wait.opened_at if wait and is_open else None,
            broken_wait_since=wait.closed_at if wait and is_broken else None,
            output_at=row.output_at,
            heartbeat_at=row.heartbeat_at,
            work_at=_newest(sample.work_at if sample else None, self._excused.get(row.id)),
            tool_since=row.tool_since,
            frozen_since=sample.frozen_since if sample else None,
            lost_since=row.lost_since,
            lost_why=row.lost_why,
        )


def _newest(*moments: datetime | None) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)
