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
        threads = self._threads()
        counts: dict[str, int] | None = None
        cost = None
        if tokens is not None:
            told = _counts(tokens)
            counts = {name: _difference(told[name], int(base.get(name, 0))) for name in COUNTS}
            cost = self._cost_of(Tokens(**counts))
            seen.update(told)
        if counts is not None and threads:
            counts, cost = _with_threads(threads, counts, cost)
        if cost_usd is not None:
            cost = _difference(cost_usd, Decimal(base.get("cost_usd", "0")))
            seen["cost_usd"] = str(cost_usd)
        self._values["session_seen"] = seen
        self._set(counts, cost, is_estimated=False)
        if threads:
            self._values["live"] = {"threads": threads}

    def thread(self, name: str, model: str, tokens: Tokens) -> bool:
        """What a thread of the session, or the session itself (""), has used in all its processes.

        What it had used before, in this attempt or in earlier ones, is not counted again. Whether
        it was any more than that.
        """
        told, seen = _counts(tokens), dict(self._now("session_seen"))
        base: dict[str, Any] = self._now("session_base")
        before = _last_of(name, seen) or _last_of(name, base) or _counts(Tokens())
        more = {key: told[key] - before[key] for key in COUNTS}
        if min(more.values()) < 0 or not any(more.values()):
            return False
        seen |= told if name == "" else {"threads": {**_others(base), **_others(seen), name: told}}
        self._values["session_seen"] = seen
        # It is what one request has used, unless some lines of the file were lost.
        usd = self._price(model or self._model(), Tokens(**more)) or Decimal(0)
        threads = self._threads() or self._so_far()
        part: dict[str, Any] = threads.get(name) or {"counts": _counts(Tokens()), "usd": "0"}
        counts = _sum(part["counts"], more)
        threads[name] = {"counts": counts, "usd": str(Decimal(part["usd"]) + usd)}
        cost = sum((Decimal(one["usd"]) for one in threads.values()), Decimal(0))
        self._set(_sum(*(one["counts"] for one in threads.values())), cost, is_estimated=True)
        self._values["live"] = {"threads": threads}
        return True

    def _threads(self) -> dict[str, Any]:
        """What this attempt has used of each thread, as far as its CLI tells that."""
        return dict(self._now("live").get("threads", {}))

    def _so_far(self) -> dict[str, Any]:
        """What was told in another way is the session's own thread's."""
        return {"": {"counts": self._counts_now(), "usd": str(self._now("cost_usd"))}}

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


def _last_of(name: str, figures: dict[str, Any]) -> dict[str, int] | None:
    """The figures of a thread among those of a session."""
    found = figures if name == "" else _others(figures).get(name, {})
    return {key: int(found.get(key, 0)) for key in COUNTS} if "output" in found else None


def _others(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of the threads beside the session's own."""
    return figures.get("threads", {})


def _with_threads(
    threads: dict[str, Any], counts: dict[str, int], cost: Decimal | None
) -> tuple[dict[str, int], Decimal | None]:
    """Replace what is known of the session's own thread; the sum with all the others.

    If that was the same, its cost stays: it was made request by request.
    """
    own = threads.pop("", None)
    if own is not None and (own["counts"] == counts or cost is None):
        cost = Decimal(own["usd"])
    threads[""] = {"counts": counts, "usd": str(cost or 0)}
    costs = sum((Decimal(one["usd"]) for one in threads.values()), Decimal(0))
    return _sum(*(one["counts"] for one in threads.values())), costs


def _largest(tokens: Tokens, before: dict[str, int]) -> Tokens:
    return Tokens(**{name: max(getattr(tokens, name), before[name]) for name in COUNTS})


def _difference(total: Any, before: Any) -> Any:
    """What came on top of *before*; the whole of a *total* that has gone down.

    A CLI forgets what a run has used that was killed, so its total may be lower than one that we
    saw.
    """
    return total - before if total >= before else total
