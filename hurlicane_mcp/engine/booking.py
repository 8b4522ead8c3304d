"""What the lines of a transcript add to an attempt: turns, tokens, money, session and words."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Reading,
    RunUsage,
    SessionSeen,
    SessionUsage,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.store import attempts, events, jobs
from hurlicane_mcp.store.tables import AttemptRow

MAX_MESSAGE = 64 * 1024
_COUNTS = ("input", "output", "cache_read", "cache_write")


def book(
    session: Session,
    attempt_id: str,
    readings: Iterable[Reading],
    offset: int,
    now: datetime,
    *,
    is_calling: bool = False,
) -> None:
    """Add *readings* to the attempt and move its offset, in one transaction.

    So each line counts exactly once, whenever this process dies. The lines of an agent that
    *is_calling* us right now may be old: they do not make it lost.
    """
    attempt = attempts.get(session, attempt_id)
    entry = _Entry(attempt, now, is_calling)
    for reading in readings:
        entry.add(reading)
    attempts.write(session, attempt_id, offset=offset, output_at=now, **entry.values)
    for kind, data in entry.told:
        events.record(session, now, kind, attempt.job_id, attempt.number, **data)
    if "cost_usd" in entry.values:
        total = sum((one.cost_usd for one in attempts.of_job(session, attempt.job_id)), Decimal(0))
        total += entry.values["cost_usd"] - attempt.cost_usd
        jobs.set_values(session, attempt.job_id, cost_usd=total)


class _Entry:
    """The columns that change and the events to tell, gathered over a batch of readings."""

    def __init__(self, attempt: AttemptRow, now: datetime, is_calling: bool) -> None:
        self._attempt = attempt
        self._at = now
        self._is_calling = is_calling
        self.values: dict[str, Any] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []

    def _now(self, column: str) -> Any:
        return self.values.get(column, getattr(self._attempt, column))

    def add(self, reading: Reading) -> None:
        match reading:
            case SessionSeen(name):
                session_id = storable(name)
                if self._now("session_id") != session_id:
                    self.values["session_id"] = session_id
                    self.told.append(("attempt.session", {"session_id": session_id}))
            case ModelSeen(name):
                model = storable(name)
                if self._now("model_used") != model:
                    self.values["model_used"] = model
                    self.told.append(("attempt.model", {"model": model}))
            case TurnSeen(name):
                request_id = storable(name)
                if self._now("last_request") != request_id:
                    self.values["last_request"] = request_id
                    self.values["turns"] = self._now("turns") + 1
            case MessageSeen(text):
                self.values["last_message"] = storable(text[-MAX_MESSAGE:])
            case RunUsage(tokens):
                self._set_tokens({name: getattr(tokens, name) for name in _COUNTS})
            case SessionUsage(tokens, cost_usd):
                self._add_session_usage(tokens, cost_usd)
            case WarningSeen(text):
                self.told.append(("attempt.warning", {"text": storable(text[:1000])}))
            case ErrorSeen(text):
                self.values["provider_error"] = storable(text[:4000])
            case ErrorCleared():
                if self._now("provider_error") is not None:
                    self.values["provider_error"] = None
            case ToolSeen(finished=finished):
                self._count_tool(-1 if finished else 1)
            case ConnectionLost(text, is_lasting):
                self._lose(storable(text[:1000]), is_lasting)

    def _count_tool(self, change: int) -> None:
        open_tools = max(0, self._now("open_tools") + change)
        self.values["open_tools"] = open_tools
        if open_tools == 0:
            self.values["tool_since"] = None
        elif self._now("tool_since") is None:
            self.values["tool_since"] = self._at

    def _lose(self, why: str, is_lasting: bool) -> None:
        self.values["lost_why"] = why  # should it end now, that is why
        if is_lasting and not self._is_calling and self._now("lost_since") is None:
            self.values["lost_since"] = self._at

    def _set_tokens(self, counts: dict[str, int]) -> None:
        self.values.update({f"{name}_tokens": number for name, number in counts.items()})

    def _add_session_usage(self, tokens: Tokens | None, cost_usd: Decimal | None) -> None:
        base: dict[str, Any] = self._attempt.session_base
        seen: dict[str, Any] = dict(self._now("session_seen"))
        if tokens is not None:
            counts = {name: int(getattr(tokens, name)) for name in _COUNTS}
            before = {name: int(base.get(name, 0)) for name in _COUNTS}
            self._set_tokens({name: _difference(counts[name], before[name]) for name in _COUNTS})
            seen.update(counts)
        if cost_usd is not None:
            self.values["cost_usd"] = _difference(cost_usd, Decimal(base.get("cost_usd", "0")))
            seen["cost_usd"] = str(cost_usd)
        self.values["session_seen"] = seen


def _difference(total: Any, before: Any) -> Any:
    """What came on top of *before*; the whole of a *total* that has gone down.

    Claude Code forgets the cost of a run that was killed, so its total may be lower than one that
    we saw (measured 2026-11-24).
    """
    return total - before if total >= before else total
