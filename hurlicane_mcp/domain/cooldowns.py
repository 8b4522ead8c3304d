"""The ledger of limits, decided: how long a model is left alone, and which one comes next.

A circuit breaker for each model. Closed, with no entry, it is used. Open, it is not, until the
announced reset or for a time that doubles with each strike. Half-open, one launch probes it while
the others stay away; its first answer closes it again, another refusal opens it for longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from hurlicane_mcp.domain.failures import POLICIES, FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope

ACCOUNT = "*"  #: instead of a model: everything of the account
LONGEST = timedelta(minutes=30)  #: without an announced reset
#: How long a probe may take. Then another launch may try, should the first one have vanished.
PROBE = timedelta(minutes=5)
#: Two models of an account that are overloaded within this time: so is the provider, for as long.
WIDESPREAD = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What an entry is about. Steps of a chain that resolve to the same model have one key."""

    provider: str
    model: str  #: resolved id, `ACCOUNT`, or empty for the CLI's own default

    def __str__(self) -> str:
        return f"{self.provider}/{self.model or 'default'}"


@dataclass(frozen=True, slots=True)
class Cooldown:
    """An entry of the ledger."""

    kind: FailureKind
    since: datetime
    until: datetime | None  #: None: until somebody clears it
    strikes: int = 1
    is_manual: bool = False
    probe: str | None = None  #: the attempt that probes
    probe_until: datetime | None = None

    def gate(self, now: datetime) -> "Gate":
        """Whether the model may be used at this moment."""
        if self.until is None or now < self.until:
            return Gate.OPEN
        if self.probe is not None and self.probe_until is not None and now < self.probe_until:
            return Gate.PROBED
        return Gate.HALF_OPEN

    def passable_at(self, now: datetime) -> datetime | None:
        """When to ask again, if not *now*; None if nobody can tell."""
        return self.probe_until if self.gate(now) is Gate.PROBED else self.until


class Gate(StrEnum):
    """The state of a circuit breaker that has an entry; without one it is closed."""

    OPEN = "open"  #: not to be used
    HALF_OPEN = "half_open"  #: one launch may probe
    PROBED = "probed"  #: one does


@dataclass(frozen=True, slots=True)
class Go:
    """Launch with this step of the chain, and hold the probes of these entries."""

    step: int
    probes: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Park:
    """No step can be used now. *until*: when to ask again; None: somebody has to clear *by*."""

    until: datetime | None
    by: Key


def choose(chain: Sequence[Key], ledger: Mapping[Key, Cooldown], now: datetime) -> Go | Park:
    """The first step of *chain* that can be used, else how long to wait. *chain* is not empty."""
    blocked: list[Park] = []
    for step, key in enumerate(chain):
        entries = {one: ledger[one] for one in (key, Key(key.provider, ACCOUNT)) if one in ledger}
        closed = {
            one: entry
            for one, entry in entries.items()
            if entry.gate(now) in (Gate.OPEN, Gate.PROBED)
        }
        if not closed:
            return Go(step, tuple(entries))
        blocked.append(_until_all(closed, now))
    return min(blocked, key=lambda park: (park.until is None, park.until or now))


def _until_all(entries: Mapping[Key, Cooldown], now: datetime) -> Park:
    """The park that ends when the last of *entries* can be passed."""
    moments = {one: entry.passable_at(now) for one, entry in entries.items()}
    # Of two that end together the account's is named: with that gone, the model may be free too.
    by = max(moments, key=lambda one: (moments[one] is None, moments[one] or now, _is_wide(one)))
    return Park(moments[by], by)


def _is_wide(key: Key) -> bool:
    return key.model == ACCOUNT


def marked(before: Cooldown | None, refusal: Refusal, now: datetime, length: timedelta) -> Cooldown:
    """The entry after one more *refusal*. *length* is that of a first strike with no announced end.

    A refusal that comes while the entry is open tells nothing new, unless it announces a later end:
    many agents meet a limit at once. A person's entry is only made longer.
    """
    ends_at = refusal.ends_at(now)
    if before is not None and before.gate(now) is Gate.OPEN:
        if before.until is None or ends_at is None or ends_at <= before.until:
            return before
        return replace(before, until=ends_at)
    strikes = 1 if before is None else before.strikes + 1
    if ends_at is None and not POLICIES[refusal.kind].lasts:
        ends_at = now + lengthened(length, strikes)
    return Cooldown(refusal.kind, now, ends_at, strikes)


def lengthened(length: timedelta, strikes: int) -> timedelta:
    """*length* doubled with each strike after the first, `LONGEST` at most."""
    doublings = min(strikes - 1, 30)
    return min(length * 2**doublings, max(LONGEST, length))


def key_of(refusal: Refusal, provider: str, model: str) -> Key:
    """What a *refusal* to an agent that runs on *model* is about."""
    is_wide = refusal.scope is Scope.ACCOUNT or POLICIES[refusal.kind].marks_account
    return Key(provider, ACCOUNT if is_wide else model)


def is_widespread(key: Key, ledger: Mapping[Key, Cooldown], now: datetime) -> bool:
    """Whether *key*, which is overloaded, is not the only model of its provider that just is."""
    return any(
        other != key
        and other.provider == key.provider
        and other.model != ACCOUNT
        and entry.kind is FailureKind.OVERLOADED
        and now - entry.since <= WIDESPREAD
        for other, entry in ledger.items()
    )


def probing(entry: Cooldown, attempt_id: str, now: datetime) -> Cooldown:
    """The entry while *attempt_id* probes it."""
    return replace(entry, probe=attempt_id, probe_until=now + PROBE)
