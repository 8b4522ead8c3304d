"""The ledger of limits at work: what a refusal changes, and which model a job may start with."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import random
from typing import Protocol

from sqlmodel import Session

from hurlicane_mcp.domain.attempts import AttemptState, Outcome, OutcomeKind
from hurlicane_mcp.domain.cooldowns import (
    ACCOUNT,
    WIDESPREAD,
    Cooldown,
    Gate,
    Go,
    Key,
    Park,
    choose,
    is_widespread,
    key_of,
    marked,
    probing,
)
from hurlicane_mcp.domain.failures import POLICIES, Failure, FailureKind
from hurlicane_mcp.domain.refusals import Patience, Refusal
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.chains import Chains, Step, chain_of
from hurlicane_mcp.store import cooldowns, jobs, queue
from hurlicane_mcp.store.tables import AttemptRow, JobRow

#: Whoever waits for a reset does not ask in the same moment as all others.
JITTER = timedelta(seconds=2)
#: A cooldown without an announced end is longer by up to this part of it.
SPREAD = 0.1


class Asker(Protocol):
    """Whom a model has refused: an attempt, or a call of the server's own on behalf of a job."""

    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def model_used(self) -> str | None: ...
    @property
    def job_id(self) -> str: ...
    @property
    def number(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that a job starts with, and what it probes by that."""

    step: Step
    probes: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Marks models as limited and chooses among the others. *cooldown*: of a first strike."""

    chains: Chains
    cooldown: timedelta = timedelta(seconds=30)
    patience: Patience = field(default_factory=Patience)
    luck: Callable[[], float] = random  #: from 0 to 1

    def choose(self, session: Session, job: JobRow, now: datetime) -> Chosen | Park:
        """With which model *job* starts, or until when it is parked, jitter included."""
        chain = chain_of(job)
        entries = cooldowns.ledger(session)
        choice = choose(self.chains.keys(chain), entries, now) if entries else Go(0)
        if isinstance(choice, Go):
            return Chosen(chain[choice.step], choice.probes)
        if choice.until is None:
            return choice
        return replace(choice, until=choice.until + JITTER * self.luck())

    def hold(self, session: Session, chosen: Chosen, attempt_id: str, now: datetime) -> None:
        """Note that *attempt_id*, which is starting, probes what it was *chosen* with."""
        if not chosen.probes:
            return
        entries = cooldowns.ledger(session)
        for key in chosen.probes:
            cooldowns.hold_probe(session, key, probing(entries[key], attempt_id, now), now)

    def refused(
        self,
        session: Session,
        attempt: AttemptRow,
        refusal: Refusal,
        now: datetime,
        model: str | None = None,
    ) -> bool:
        """Mark the model of *attempt*, and stop it to go on with another one; whether it was
        stopped. It is left alone if its CLI is to wait by itself, and if no other model would help.

        *model* is the one that refused, as the CLI calls it, if that is known.
        """
        since = attempt.refused_at or now
        if attempt.state == AttemptState.SETTLED or refusal.kind not in POLICIES:
            return False  # what a stopped agent still prints says nothing new
        if self.patience.covers(refusal, since, now):
            return False
        self.mark(session, attempt, refusal, now, model)
        kind = OutcomeKind.LIMITED
        if refusal.kind is FailureKind.UNKNOWN_MODEL and self._knows_none(session, attempt):
            kind = OutcomeKind.FAILED
        outcome = Outcome(kind, attempt.last_message, Failure(refusal.kind, refusal.text))
        return settlement.settle(session, attempt.id, outcome, now)

    def _knows_none(self, session: Session, attempt: AttemptRow) -> bool:
        """Whether the provider knows none of the models that the job may run on."""
        job = jobs.many(session, [attempt.job_id])[attempt.job_id]
        entries = cooldowns.ledger(session)
        found = (entries.get(key) for key in self.chains.keys(chain_of(job)))
        return all(one is not None and one.kind is FailureKind.UNKNOWN_MODEL for one in found)

    def mark(
        self,
        session: Session,
        attempt: Asker,
        refusal: Refusal,
        now: datetime,
        model: str | None = None,
    ) -> None:
        """Store what *refusal* says about the model of *attempt*, or about its account.

        That is the model as the chain names it, and as the CLI does: an alias may be newer than our
        catalog, and the default has no name of ours.
        """
        provider = attempt.provider
        keys = {
            key_of(refusal, provider, self.chains.key(provider, name).model)
            for name in (attempt.model, model or attempt.model_used or attempt.model)
        }
        for key in sorted(keys):
            self._mark(session, key, refusal, now, attempt)
        if refusal.kind is FailureKind.OVERLOADED:
            self._mark_provider(session, keys, refusal, now, attempt)

    def answered(self, session: Session, attempt: AttemptRow, now: datetime) -> None:
        """The model of *attempt* has answered: what it probed is available again.

        So is what the CLI calls that model, if it has another name for it than the chain.
        """
        probed = set(cooldowns.probed_by(session, attempt.id))
        if not probed:
            return
        used = self.chains.key(attempt.provider, attempt.model_used)
        entry = cooldowns.ledger(session).get(used)
        if entry is not None and entry.gate(now) is not Gate.OPEN:
            probed.add(used)
        for key in sorted(probed):
            cooldowns.remove(session, key, now, f"It answered {attempt.id}.")
        queue.unpark(session)

    def _mark(
        self, session: Session, key: Key, refusal: Refusal, now: datetime, attempt: Asker
    ) -> None:
        before = cooldowns.ledger(session).get(key)
        length = self.cooldown * (1 + SPREAD * self.luck())
        self._put(session, key, before, marked(before, refusal, now, length), refusal, now, attempt)

    def _mark_provider(
        self,
        session: Session,
        keys: set[Key],
        refusal: Refusal,
        now: datetime,
        attempt: Asker,
    ) -> None:
        """Two models are overloaded: the others of the provider are left alone for a minute."""
        entries = cooldowns.ledger(session)
        key = Key(attempt.provider, ACCOUNT)
        others = {one: entry for one, entry in entries.items() if one not in keys}
        if key in entries or not is_widespread(max(keys), others, now):
            return
        entry = Cooldown(FailureKind.OVERLOADED, now, now + WIDESPREAD)
        self._put(session, key, None, entry, refusal, now, attempt)

    def _put(
        self,
        session: Session,
        key: Key,
        before: Cooldown | None,
        entry: Cooldown,
        refusal: Refusal,
        now: datetime,
        attempt: Asker,
    ) -> None:
        if entry == before:
            return
        cooldowns.put(
            session,
            key,
            entry,
            now,
            evidence=refusal.text,
            job_id=attempt.job_id,
            attempt=attempt.number,
        )
        queue.unpark(session, str(key))  # they look for how long, now
