"""The ledger of limits as a call of the server's own sees it, on behalf of a job."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.cooldowns import Go, Key, Park, choose, probing
from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.ids import attempt_id
from hurlicane_mcp.store import cooldowns, queue
from hurlicane_mcp.store.database import Database

#: What is asked for a job before its first attempt counts as its attempt 0.
BEFORE_THE_FIRST = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to a model, as the ledger takes it down."""

    provider: str
    model: str
    job_id: str
    model_used: str | None = None
    number: int = BEFORE_THE_FIRST


@dataclass(frozen=True, slots=True)
class CallLedger:
    """The ledger for calls on behalf of *job_id*, which are made one after the other."""

    db: Database
    clock: Clock
    ledger: Ledger
    job_id: str

    @property
    def holder(self) -> str:
        """Under which name probes are held."""
        return attempt_id(self.job_id, BEFORE_THE_FIRST)

    async def choose(self, chain: Sequence[Key]) -> Go | Park:
        """The first step of *chain* that can be used now, its probes held; else until when not."""
        now = self.clock.now()

        def change(session: Session) -> Go | Park:
            self.release(session)
            entries = cooldowns.ledger(session)
            choice = choose(chain, entries, now)
            if isinstance(choice, Go):
                for key in choice.probes:
                    entry = probing(entries[key], self.holder, now)
                    cooldowns.hold_probe(session, key, entry, now)
            return choice

        return await self.db.write(change)

    async def mark(self, key: Key, refusal: Refusal) -> None:
        """Note that the model refused."""
        now, call = self.clock.now(), _Call(key.provider, key.model, self.job_id)
        await self.db.write(lambda session: self.ledger.mark(session, call, refusal, now))

    async def clear(self, key: Key) -> None:
        """Drop an entry that was probed, and let the jobs that are parked look again."""
        now = self.clock.now()

        def change(session: Session) -> None:
            cooldowns.remove(session, key, now, f"It answered a question about {self.job_id}.")
            queue.unpark(session)

        await self.db.write(change)

    def release(self, session: Session) -> None:
        """Let others probe what is still held, in the caller's transaction."""
        if cooldowns.release_probes(session, self.holder):
            queue.unpark(session)
