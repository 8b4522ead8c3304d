"""What an attempt has used: live estimates, replaced by the CLI's own figures when they come."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.providers.base import Tokens
from hurlicane_mcp.providers.output import MAX_COUNT, MAX_USD
from hurlicane_mcp.store.tables import AttemptRow

COUNTS = ("input", "output", "cache_read", "cache_write")
#: Requests of an attempt whose figures may still grow.
OPEN = 64
#: US dollars for tokens of a model; None if no price is known.
Price: TypeAlias = Callable[[str, Tokens], Decimal | None]


class Meter:
    """Turns figures of a transcript into an attempt's columns, *values*.

    A killed run never tells its final figure: then the estimate stays, which is made of each
    request's tokens and the catalog's prices.
    """

    def __init__(self, attempt: AttemptRow, values: dict[str, Any], price: Price) -> None:
        self._attempt = attempt
        self._values = values
        self._price = price

    def _now(self, column: str) -> Any:
        return self._values.get(column, getattr(self._attempt, column))

    def run(self, tokens: Tokens) -> None:
        """The final figure of this process."""
        counts = _counts(tokens)
        self._set(counts, self._cost_of(tokens), is_estimated=False)

    def begin(self, tokens: Tokens, cost_usd: Decimal) -> None:
        """What the session had used before this process, killed ones included or not."""
        self._values["session_base"] = {**_counts(tokens), "cost_usd": str(cost_usd)}

    def session(self, tokens: Tokens | None, cost_usd: Decimal | None) -> None:
        """A final figure of the whole session, of which earlier attempts had their part."""
        base: dict[str, Any] = self._now("session_base")
        seen: dict[str, Any] = dict(self._now("session_seen"))
        counts: dict[str, int] | None = None
        cost = None
        if tokens is not None:
            told = _counts(tokens)
            counts = {name: _difference(told[name], int(base.get(name, 0))) for name in COUNTS}
            cost = self._cost_of(Tokens(**counts))
            seen.update(told)
        if cost_usd is not None:
            cost = _difference(cost_usd, Decimal(base.get("cost_usd", "0")))
            seen["cost_usd"] = str(cost_usd)
        self._values["session_seen"] = seen
        self._set(counts, cost, is_estimated=False)

    def request(self, request_id: str, model: str, tokens: Tokens) -> None:
        """What a request has used so far; the same id again raises it, part by part.

        The requests of subagents run side by side, so the newest `OPEN` of them stay open.
        """
        live: dict[str, Any] = dict(self._now("live")) or {
            "done": self._counts_now(),
            "done_usd": str(self._now("cost_usd")),
            "open": {},
        }
        requests: dict[str, dict[str, Any]] = dict(live["open"])
        name = storable(request_id) or next(reversed(requests), "")
        known = requests.get(name)
        if known is not None:
            tokens, model = _largest(tokens, known["counts"]), model or known["model"]
        model = model or self._model()
        usd = self._price(model, tokens) or Decimal(0)
        requests[name] = {"model": model, "counts": _counts(tokens), "usd": str(usd)}
        while len(requests) > OPEN:
            oldest = requests.pop(next(iter(requests)))
            done_usd = Decimal(live["done_usd"]) + Decimal(oldest["usd"])
            live |= {"done": _sum(live["done"], oldest["counts"]), "done_usd": str(done_usd)}
        live["open"] = requests
        counts = _sum(live["done"], *(one["counts"] for one in requests.values()))
        cost = sum((Decimal(one["usd"]) for one in requests.values()), Decimal(live["done_usd"]))
        self._set(counts, cost, is_estimated=True)
        self._values["live"] = live

    def _set(
        self, counts: dict[str, int] | None, cost: Decimal | None, *, is_estimated: bool
    ) -> None:
        if counts is not None:
            # Requests are bounded one by one where they are read, and there may be very many.
            bounded = {f"{name}_tokens": min(number, MAX_COUNT) for name, number in counts.items()}
            self._values.update(bounded)
        if cost is not None:
            self._values["cost_usd"] = min(cost, Decimal(MAX_USD))
        if self._now("is_estimated") != is_estimated:
            self._values["is_estimated"] = is_estimated
        if not is_estimated and self._now("live"):
            self._values["live"] = {}

    def _counts_now(self) -> dict[str, int]:
        return {name: self._now(f"{name}_tokens") for name in COUNTS}

    def _cost_of(self, tokens: Tokens) -> Decimal | None:
        """By the catalog, for CLIs that do not tell it. What a running estimate says of single
        requests is closer, where a price depends on their length."""
        return self._price(self._model(), tokens)

    def _model(self) -> str:
        return self._now("model_used") or self._attempt.model or ""


def _sum(*counts: dict[str, int]) -> dict[str, int]:
    return {name: sum(one[name] for one in counts) for name in COUNTS}


def _counts(tokens: Tokens) -> dict[str, int]:
    return {name: int(getattr(tokens, name)) for name in COUNTS}


def _largest(tokens: Tokens, before: dict[str, int]) -> Tokens:
    return Tokens(**{name: max(getattr(tokens, name), before[name]) for name in COUNTS})


def _difference(total: Any, before: Any) -> Any:
    """What came on top of *before*; the whole of a *total* that has gone down.

    A CLI forgets what a run has used that was killed, so its total may be lower than one that we
    saw.
    """
    return total - before if total >= before else total
