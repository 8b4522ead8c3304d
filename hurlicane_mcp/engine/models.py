"""The models for people: which there are, which may be used now, and limits set by hand."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.cooldowns import ACCOUNT, Cooldown, Gate, Key
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.errors import Forbidden, Invalid, NotFound
from hurlicane_mcp.providers.catalog import Catalog, Prices
from hurlicane_mcp.store import cooldowns, queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.limit_tables import CooldownRow

#: How people call the model that a CLI takes if none is named.
DEFAULT: Final = "default"
#: The gate of a model without an entry.
CLOSED: Final = "closed"
MAX_LIMIT: Final = timedelta(days=366)
MAX_REASON: Final = 1000

_BY_HAND: Final = "No reason was given."
#: How far a gate keeps launches away; the farthest decides.
_RANKS: Final = (Gate.HALF_OPEN, Gate.PROBED, Gate.OPEN)
#: `claude:opus`, and `claude/opus` as the ledger has it.
_PREFIXED: Final = re.compile(r"(\w+)[:/](.*)", re.DOTALL)


class LimitView(View):
    """An entry of the ledger of limits: a model, or all of an account, that is not to be used."""

    name: str  #: `provider:model`, as it can be cleared
    provider: str
    model: str  #: full id; `*` for all of the provider, `default` for its CLI's own default
    gate: str  #: open: not used; half_open: one launch may probe; probed: one does
    kind: str  #: of failure
    since: datetime
    until: datetime | None = None  #: None: until somebody clears it
    strikes: int  #: refusals in a row
    manual: bool  #: set by a person
    evidence: str  #: the CLI's own words, or the person's
    job_id: str | None = None  #: whose refusal it was
    attempt: int | None = None
    probe: str | None = None  #: the attempt that tries whether the model answers again
    parked: int  #: jobs that wait for it


class LimitList(View):
    """All entries, by provider and model."""

    limits: list[LimitView]


class ModelView(View):
    """A model of the catalog, of a chain or of the ledger."""

    name: str  #: `provider:model`
    provider: str
    model: str  #: as in a limit
    aliases: list[str] | None = None
    context_tokens: int | None = None
    prices: Prices | None = None  #: US dollars for a million tokens, and their date
    gate: str  #: closed: it is used; otherwise as in a limit
    limit: LimitView | None = None  #: what decides the gate: its own entry, or the account's
    parked: int  #: jobs that wait for its own entry


class ModelList(View):
    """The models by provider, what is limited as a whole first, and the chains of the settings."""

    models: list[ModelView]
    chains: list[list[str]]  #: each as `provider:model`, the first choice first


class Models:
    """Tells people of models and limits, and lets them set and clear limits. For operators."""

    def __init__(self, db: Database, clock: Clock, chains: Chains, catalog: Catalog) -> None:
        self._db = db
        self._clock = clock
        self._chains = chains
        self._providers = chains.providers
        self._catalog = catalog

    async def listing(self, caller: Caller) -> ModelList:
        """Every model that is known by name, and whether it may be used now."""
        _check_operator(caller)
        now = self._clock.now()

        def query(session: Session) -> ModelList:
            limits, parked = _limits(session, now), queue.count_parked(session, now)
            models = [self._model(key, limits, parked) for key in self._keys(limits)]
            chains = [[str(step) for step in chain] for chain in self._chains.known]
            return ModelList(models=models, chains=chains)

        return await self._db.read(query)

    async def limits(self, caller: Caller) -> LimitList:
        """What is limited now, or waits for a probe."""
        _check_operator(caller)
        now = self._clock.now()
        found = await self._db.read(lambda session: _limits(session, now))
        return LimitList(limits=list(found.values()))

    async def limit(
        self,
        caller: Caller,
        model: str,
        *,
        provider: str | None = None,
        until: datetime | None = None,
        for_s: float | None = None,
        reason: str = "",
    ) -> LimitView:
        """Keep new launches from *model*; agents that run on it go on. Replaces an older limit.

        *model* is an id, an alias, `default` or `*`, and may begin with its provider
        (`claude:opus`). Without *until* and *for_s* the limit lasts until it is cleared.

        Raises:
            Invalid: no such model, or several of that name; a moment that has passed, or one more
                than 366 days away; *reason* has more than 1,000 characters.
        """
        _check_operator(caller)
        check_text("model", model)
        check_text("reason", reason)
        if len(reason) > MAX_REASON:
            raise Invalid(f"`reason` must have at most {MAX_REASON:,} characters.")
        now = self._clock.now()
        ends_at = _end(until, for_s, now)

        def change(session: Session) -> LimitView:
            ledger = cooldowns.ledger(session)
            key = self._key(provider, model, ledger)
            if key not in ledger and key.model not in ("", ACCOUNT):
                self._providers.get(key.provider).check_model(key.model)
            entry = Cooldown(FailureKind.RATE_LIMIT, now, ends_at, is_manual=True)
            cooldowns.put(session, key, entry, now, evidence=reason.strip() or _BY_HAND)
            if key in ledger:  # whoever is parked knows another end of it
                queue.unpark(session)
            return _limits(session, now)[key]

        return await self._db.write(change)

    async def clear(self, caller: Caller, model: str, *, provider: str | None = None) -> LimitView:
        """Drop the limit of *model*, named as in `limit`, and have parked jobs look again.

        Returns what the limit was.

        Raises:
            NotFound: it has no limit of its own; the message names those that there are.
            Invalid: nobody can tell which model is meant.
        """
        _check_operator(caller)
        now = self._clock.now()

        def change(session: Session) -> LimitView:
            limits = _limits(session, now)
            key = self._key(provider, model, limits, prefer=limits)
            if key not in limits:
                names = ", ".join(limit.name for limit in limits.values())
                hint = f"Limited now: {names}." if names else "Nothing is limited now."
                raise NotFound("limited model", name_of(key), hint=hint)
            cooldowns.remove(session, key, now, f"Cleared by {caller.name}.")
            queue.unpark(session)
            return limits[key]

        return await self._db.write(change)

    def _keys(self, limits: Iterable[Key]) -> list[Key]:
        """Every model that is known by name, in the order of the providers and the catalog."""
        known = (Key(model.provider, model.id) for model in self._catalog.models)
        in_chains = (key for chain in self._chains.known for key in self._chains.keys(chain))
        order = {name: place for place, name in enumerate(self._providers.names)}
        return sorted(
            dict.fromkeys((*known, *in_chains, *limits)),
            key=lambda key: (order.get(key.provider, len(order)), key.model != ACCOUNT),
        )

    def _names(self, key: Key) -> tuple[str, ...]:
        """The id of a model and its aliases."""
        known = self._catalog.resolve(key.provider, key.model)
        return (key.model, *(known.aliases if known is not None else ()))

    def _model(
        self, key: Key, limits: Mapping[Key, LimitView], parked: Mapping[str, int]
    ) -> ModelView:
        known = self._catalog.resolve(key.provider, key.model)
        limit = _deciding(limits.get(key), limits.get(Key(key.provider, ACCOUNT)))
        return ModelView(
            name=name_of(key),
            provider=key.provider,
            model=key.model or DEFAULT,
            aliases=list(self._names(key)[1:]) or None,
            context_tokens=known.context_tokens if known is not None else None,
            prices=known.prices if known is not None else None,
            gate=limit.gate if limit is not None else CLOSED,
            limit=limit,
            parked=parked.get(str(key), 0),
        )

    def _key(
        self, provider: str | None, text: str, ledger: Iterable[Key], prefer: Iterable[Key] = ()
    ) -> Key:
        """What *text* means; where that leaves several, the only one of *prefer* among them.

        Raises:
            Invalid: there is no such provider or model, or there are several.
        """
        found = _PREFIXED.fullmatch(text)
        if found is not None and found[1] in self._providers.names:
            if provider not in (None, found[1]):
                raise Invalid(f"`model` {text!r} is none of {provider}: leave `provider` out.")
            provider, text = found.groups()
        if provider is not None:
            model = "" if text == DEFAULT else text
            adapter = self._providers.get(provider)
            return Key(provider, model if model == ACCOUNT else adapter.resolve_model(model))
        if text in self._providers.names:  # no shell takes its star for a pattern
            return Key(text, ACCOUNT)
        if text in ("", DEFAULT, ACCOUNT):
            whose = ", ".join(f"{name}:{text or DEFAULT}" for name in self._providers.names)
            raise Invalid(f"`model` {text!r} is a different one for each provider: write {whose}.")
        meant = [key for key in self._keys(ledger) if text in self._names(key)]
        preferred = set(prefer).intersection(meant)
        if len(meant) > 1 and len(preferred) == 1:
            meant = list(preferred)
        if len(meant) != 1:
            raise Invalid(self._which(text, meant))
        return meant[0]

    def _which(self, text: str, meant: Iterable[Key]) -> str:
        """Why *text* does not name one model, and how to name one."""
        names = ", ".join(map(name_of, meant))
        if names:
            return f"Several providers have a model {text!r}: write one of {names}."
        known = ", ".join(name for model in self._catalog.models for name in model.aliases)
        return (
            f"There is no model {text!r} in the catalog, in a chain or among the limits. "
            f"Known are {known} and full ids; write provider:model for another one."
        )


def name_of(key: Key) -> str:
    """A model as people write it: `claude:claude-opus-5-5`, `claude:*`, `codex:default`."""
    return f"{key.provider}:{key.model or DEFAULT}"


def _limits(session: Session, now: datetime) -> dict[Key, LimitView]:
    entries, parked = cooldowns.ledger(session), queue.count_parked(session, now)
    views: dict[Key, LimitView] = {}
    for row in cooldowns.rows(session):
        key = Key(row.provider, row.model)
        views[key] = _limit(row, entries[key].gate(now), parked.get(str(key), 0))
    return views


def _limit(row: CooldownRow, gate: Gate, parked: int) -> LimitView:
    key = Key(row.provider, row.model)
    return LimitView(
        name=name_of(key),
        provider=row.provider,
        model=row.model or DEFAULT,
        gate=gate,
        kind=row.kind,
        since=row.since,
        until=row.until,
        strikes=row.strikes,
        manual=row.is_manual,
        evidence=row.evidence,
        job_id=row.job_id,
        attempt=row.attempt,
        probe=row.probe if gate is Gate.PROBED else None,
        parked=parked,
    )


def _deciding(*limits: LimitView | None) -> LimitView | None:
    """The one that keeps launches away the longest."""

    def weight(limit: LimitView) -> tuple[int, bool, float]:
        lasts = limit.until is None
        return _RANKS.index(Gate(limit.gate)), lasts, limit.until.timestamp() if limit.until else 0

    return max((limit for limit in limits if limit is not None), key=weight, default=None)


def _end(until: datetime | None, for_s: float | None, now: datetime) -> datetime | None:
    """When a limit ends that begins *now*; None if somebody has to clear it.

    Raises:
        Invalid: both are given, or neither a moment nor a length that can be.
    """
    if until is None and for_s is None:
        return None
    if until is not None and for_s is not None:
        raise Invalid("Give `until` or `for_s`, not both.")
    longest = MAX_LIMIT.total_seconds()
    if for_s is not None:
        if not 0 < for_s <= longest:
            raise Invalid(
                f"`for_s` must be more than 0 and at most {longest:,.0f} seconds; without it the "
                "limit lasts until it is cleared."
            )
        return now + timedelta(seconds=for_s)
    assert until is not None
    if until.tzinfo is None:
        raise Invalid("`until` needs a time zone, such as 2026-11-24T18:00:00Z.")
    if not timedelta(0) < until - now <= MAX_LIMIT:
        raise Invalid(
            f"`until` must be later than now, {now:%Y-%m-%dT%H:%M:%SZ}, by at most "
            f"{MAX_LIMIT.days} days; without it the limit lasts until it is cleared."
        )
    return until.astimezone(UTC)


def _check_operator(caller: Caller) -> None:
    if caller.is_agent:
        raise Forbidden("Models and their limits are for operators.")
