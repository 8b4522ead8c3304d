"""What the lines of a transcript add to an attempt: turns, tokens, money, session and words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.meter import COUNTS, Meter
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Reading,
    Refused,
    RequestUsage,
    RunUsage,
    SessionBase,
    SessionSeen,
    SessionUsage,
    Stopped,
    ThreadUsage,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store import attempts, events, jobs, usage
from hurlicane_mcp.store.tables import AttemptRow

MAX_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Booking:
    """Writes readings down, and lets the ledger of limits and the stops act on them."""

    providers: Providers
    ledger: Ledger
    stops: Stops

    def book(
        self,
        session: Session,
        attempt_id: str,
        readings: Iterable[Reading],
        offset: int | None,
        now: datetime,
        *,
        is_calling: bool = False,
    ) -> None:
        """Add *readings* to the attempt and move its offset, in one transaction.

        So each line counts exactly once, whenever this process dies. The lines of an agent that
        *is_calling* us right now may be old: they do not make it lost. Without an *offset* they are
        not of its output, and such as may be read again: those that say nothing new change nothing.
        """
        attempt = attempts.get(session, attempt_id)
        entry = _Entry(attempt, now, is_calling, self.providers)
        for reading in readings:
            entry.add(reading)
        values = entry.values
        if offset is None and not values:
            return
        moved = {} if offset is None else {"offset": offset}
        attempts.write(session, attempt_id, output_at=now, **moved, **values)
        for kind, data in entry.told:
            events.record(session, now, kind, attempt.job_id, attempt.number, **data)
        is_dearer = self._add_usage(session, attempt, values, now)
        if values.get("turns", 0) and attempt.turns == 0:
            self.ledger.answered(session, attempt, now)
        if is_dearer:  # first: who is done by that does not go on with another model
            self.stops.check(session, attempt_id, now)
        if entry.refusal is not None:
            row = attempts.get(session, attempt_id)
            self.ledger.refused(session, row, entry.refusal, now, entry.refused_model)

    def _add_usage(
        self, session: Session, attempt: AttemptRow, values: Mapping[str, Any], now: datetime
    ) -> bool:
        """Book what came on top of what was booked before; whether it was anything."""
        names = ("turns", "cost_usd", *(f"{name}_tokens" for name in COUNTS))
        more = {
            name: values[name] - getattr(attempt, name)
            for name in names
            if name in values and values[name] != getattr(attempt, name)
        }
        model = values.get("model_used", attempt.model_used) or attempt.model
        is_named_now = model is not None and (attempt.model_used or attempt.model) is None
        if not more and not is_named_now:
            return False
        resolve, day = self.providers.get(attempt.provider).resolve_model, now.date().isoformat()
        booked = dict(more)
        if is_named_now:
            # Until now nobody knew the model: what was booked without a name is of this one too.
            so_far = {name: figure for name in names if (figure := getattr(attempt, name))}
            nameless = {name: -figure for name, figure in so_far.items()}
            usage.add(session, day, attempt.job_id, attempt.provider, resolve(None), **nameless)
            booked = {name: more.get(name, 0) + so_far.get(name, 0) for name in more | so_far}
        usage.add(session, day, attempt.job_id, attempt.provider, resolve(model), **booked)
        if "cost_usd" in more:
            # Not the sum of its attempts: what was asked about it before the first one counts too.
            before = jobs.many(session, [attempt.job_id])[attempt.job_id].cost_usd
            jobs.set_values(session, attempt.job_id, cost_usd=before + more["cost_usd"])
        return bool(more)


class _Entry:
    """The columns that change and the events to tell, gathered over a batch of readings."""

    def __init__(
        self, attempt: AttemptRow, now: datetime, is_calling: bool, providers: Providers
    ) -> None:
        self._attempt = attempt
        self._at = now
        self._is_calling = is_calling
        self.values: dict[str, Any] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refusal: Refusal | None = None  #: the last one that still holds
        self.refused_model: str | None = None
        self._meter = Meter(attempt, self.values, providers.get(attempt.provider).cost)

    def _now(self, column: str) -> Any:
        return self.values.get(column, getattr(self._attempt, column))

    def add(self, reading: Reading) -> None:
        match reading:
            case SessionSeen() | ModelSeen() | TurnSeen() | MessageSeen():
                self._note(reading)
            case RunUsage(tokens):
                self._meter.run(tokens)
            case SessionBase(tokens, cost_usd):
                self._meter.begin(tokens, cost_usd)
            case SessionUsage(tokens, cost_usd):
                self._meter.session(tokens, cost_usd)
            case RequestUsage(request_id, model, tokens):
                self._meter.request(request_id, model, tokens)
            case ThreadUsage(thread, model, tokens):
                is_news = self._meter.thread(storable(thread), model, tokens)
                if is_news and model and thread == "":  # Codex tells its default nowhere else
                    self._note(ModelSeen(model))
            case ToolSeen() | ConnectionLost() | Denied():
                self._watch(reading)
            case WarningSeen(text):
                self.told.append(("attempt.warning", {"text": storable(text[:1000])}))
            case Refused(refusal):
                self._refuse(refusal)
            case Stopped(mode):
                self.values["stopped"] = mode
            case ErrorSeen(text):
                self.values["provider_error"] = storable(text[:4000])
            case ErrorCleared():
                if self._now("provider_error") is not None:
                    self.values["provider_error"] = None
                self._accept()

    def _note(self, reading: SessionSeen | ModelSeen | TurnSeen | MessageSeen) -> None:
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
                    self._accept()
            case MessageSeen(text):
                self.values["last_message"] = storable(text[-MAX_MESSAGE:])

    def _watch(self, reading: ToolSeen | ConnectionLost | Denied) -> None:
        match reading:
            case ToolSeen(finished=finished, is_error=is_error):
                self._count_tool(-1 if finished else 1)
                if finished:
                    failures = self._now("tool_failures")
                    self.values["tool_failures"] = failures + 1 if is_error else 0
            case ConnectionLost(text, is_lasting):
                self._lose(storable(text[:1000]), is_lasting)
            case Denied(text):
                self.values["denials"] = self._now("denials") + 1
                told = f"Permission denied: {storable(text[:1000])}"
                self.told.append(("attempt.warning", {"text": told}))

    def _refuse(self, refusal: Refusal) -> None:
        """Note a refusal: why it ends, should it end now, and since when it has been refused."""
        text = storable(refusal.text[:1000])
        if self.refusal is None or not self.refusal.is_final:
            # The first final one is structured; later ones put it in words. A final figure may name
            # another model after it, such as that of a subagent.
            self.refusal, self.refused_model = refusal, self._now("model_used")
        if self._now("refused_at") is None:
            self.values["refused_at"] = self._at
        until = self._at + refusal.cli_waits if refusal.cli_waits is not None else None
        self.values["refusal"] = {
            "kind": refusal.kind,
            "text": text,
            "is_final": refusal.is_final,
            "waits_until": until.isoformat() if until else None,
        }
        told = {"failure_kind": refusal.kind, "text": text, "final": refusal.is_final}
        self.told.append(("attempt.refused", told))

    def _accept(self) -> None:
        """The model has answered: no earlier refusal counts any more."""
        self.refusal = None
        if self._now("refused_at") is not None:
            self.values |= {"refused_at": None, "refusal": None}

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
