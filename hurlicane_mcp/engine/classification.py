"""Jobs that name no model get one by how hard they look: a cheap model is asked."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from types import MappingProxyType

import anyio
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.engine import budgets
from hurlicane_mcp.engine.call_ledger import CallLedger
from hurlicane_mcp.engine.chains import Chains, Step, chain_of
from hurlicane_mcp.engine.fallback import AllLimited, Fallback, Limited, Setback
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.model_calls import Bill, ModelCalls, NoAnswer
from hurlicane_mcp.engine.persistence import persist
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.errors import HurlicaneError, Invalid
from hurlicane_mcp.logs import about
from hurlicane_mcp.providers.base import Provider
from hurlicane_mcp.store import events, jobs, unclassified, usage
from hurlicane_mcp.store.bell import Ear
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import QUEUE
from hurlicane_mcp.store.tables import JobRow

log = logging.getLogger(__name__)

MODELS: Mapping[str, str] = MappingProxyType(
    {"simple": "haiku", "medium": "sonnet", "complex": "opus"}
)
#: The model of a job that nobody could judge.
OTHERWISE = "sonnet"
#: Who is asked, the first one first.
JUDGES = ("haiku", "sonnet")
SIDE_BY_SIDE = 4
_AFTER_A_FAULT = timedelta(seconds=1)


def can_classify(provider: Provider) -> bool:
    """Whether *provider* has the models that jobs are sorted to."""
    try:
        for model in MODELS.values():
            provider.check_model(model)
    except Invalid:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model that a job gets, and why."""

    model: str
    because: str


def verdict_on(answer: str, judge: str) -> Verdict:
    """What follows from a judge's *answer*, which should be one word."""
    words = {word for word in re.findall(r"[a-z]+", answer.lower()) if word in MODELS}
    if len(words) != 1:
        said = " ".join(answer.split())[:200]
        return Verdict(OTHERWISE, f"{judge} did not say how hard it is, but: {said}")
    (word,) = words
    return Verdict(MODELS[word], f"{judge} finds it {word}.")


class Classifier:
    """Chooses models for the jobs that wait for one."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        prompts: Prompts,
        ledger: Ledger,
        stops: Stops,
        calls: ModelCalls,
        *,
        is_on: bool,
    ) -> None:
        """With *is_on* False nobody is asked: jobs that have waited until now get `OTHERWISE`."""
        self._db = db
        self._clock = clock
        self._prompts = prompts
        self._ledger = ledger
        self._stops = stops
        self._calls = calls
        self._is_on = is_on
        self._at_work: set[str] = set()

    @property
    def _chains(self) -> Chains:
        return self._ledger.chains

    async def run(self) -> None:
        """Take the jobs that wait, the oldest first, until cancelled or the server stops.

        If nobody is to be asked, return when none is left: no others come.
        """
        await self._calls.clear()
        with self._db.bell.listen([QUEUE]) as ear:
            async with anyio.create_task_group() as tasks:
                while not self._db.bell.closed:
                    try:
                        found = await self._db.read(self._next)
                    except HurlicaneError as error:
                        log.warning("no job can be classified now: %s", error)
                        await self._clock.sleep(_AFTER_A_FAULT)
                        continue
                    if not (found or self._at_work or self._is_on):
                        return
                    for job_id in found:
                        self._at_work.add(job_id)
                        tasks.start_soon(self._classify, job_id, ear)
                    await ear.heard()
                tasks.cancel_scope.cancel()

    def _next(self, session: Session) -> Sequence[str]:
        at_work = tuple(self._at_work)
        return unclassified.oldest(session, at_work, SIDE_BY_SIDE - len(at_work))

    async def _classify(self, job_id: str, ear: Ear) -> None:
        """Choose a model for one job, and look for the next one."""
        bills: list[Bill] = []
        with about(job_id):
            try:
                verdict = await self._judge(job_id, bills)
                decide = partial(self._decide, job_id=job_id, verdict=verdict, bills=bills)
                await persist(self._clock, "classifying", partial(self._db.write, decide))
            finally:
                self._at_work.discard(job_id)
                ear.ring()

    async def _judge(self, job_id: str, bills: list[Bill]) -> Verdict:
        try:
            return await self._ask(job_id, bills)
        except (AllLimited, Limited, NoAnswer, HurlicaneError) as error:
            return Verdict(OTHERWISE, f"Nobody could say how hard it is: {error}")
        except Exception as error:  # top-level handler: the job must begin all the same
            log.exception("the job could not be classified")
            return Verdict(OTHERWISE, f"The server failed to ask how hard it is: {error}")

    async def _ask(self, job_id: str, bills: list[Bill]) -> Verdict:
        if not self._is_on:
            return Verdict(OTHERWISE, "The setting `classify` is off now.")
        job, spent = await self._db.read(lambda session: self._facts(session, job_id))
        if spent is not None:
            return Verdict(OTHERWISE, f"Nobody was asked how hard it is: {spent}")
        prompt = self._prompts.for_classification(job)
        judges = tuple(Step(job.provider, name) for name in JUDGES)

        async def ask(number: int) -> Verdict:
            answer = await self._calls.ask(judges[number], prompt, bills.append)
            return verdict_on(answer, JUDGES[number])

        async def tell(setback: Setback) -> None:
            self._tell(job_id, setback)

        fallback = Fallback(self._clock, self._ledger_for(job_id), tell)
        return await fallback.call(self._chains.keys(judges), ask)

    def _facts(self, session: Session, job_id: str) -> tuple[JobRow, str | None]:
        """The job, and why nothing may be spent on it now, if that is so."""
        job = jobs.get(session, job_id)
        cap = budgets.cap_reached(session, self._stops.caps, job.project, self._clock.now())
        if cap is not None:
            return job, cap.why
        account = budgets.exhausted(session, job)
        return job, f"The budget of job {account.id} is spent." if account is not None else None

    def _ledger_for(self, job_id: str) -> CallLedger:
        return CallLedger(self._db, self._clock, self._ledger, job_id)

    def _tell(self, job_id: str, setback: Setback) -> None:
        now, why, tries = self._clock.now(), str(setback.error), setback.tries
        wait_s = round(setback.wait.total_seconds(), 1)
        self._db.post(
            lambda session: events.record(
                session, now, "call.limited", job_id, why=why, wait_s=wait_s, tries=tries
            )
        )

    def _decide(
        self, session: Session, *, job_id: str, verdict: Verdict, bills: Sequence[Bill]
    ) -> None:
        """Book what the question has cost, and give the job its model if it still needs one."""
        now = self._clock.now()
        job = jobs.get(session, job_id)
        _book(session, job, bills, now)
        self._ledger_for(job_id).release(session)
        chain = [str(step) for step in self._chain(job, verdict.model)]
        because = storable(verdict.because)
        unclassified.decide(session, job_id, verdict.model, chain, because, now)

    def _chain(self, job: JobRow, model: str) -> Sequence[Step]:
        """The chain of a job that gets *model*: what was asked for, else that of the settings."""
        stored, usual = chain_of(job), self._chains.of_new(job.provider, None, None)
        if stored[1:] == usual[1:]:
            return self._chains.of_new(job.provider, model, None)
        return tuple(dict.fromkeys((Step(job.provider, model), *stored[1:])))


def _book(session: Session, job: JobRow, bills: Sequence[Bill], now: datetime) -> None:
    total = job.cost_usd
    for bill in bills:
        cost, tokens = bill.cost_usd or Decimal(0), bill.tokens
        usage.add(
            session,
            now.date().isoformat(),
            job.id,
            bill.provider,
            bill.model,
            turns=bill.turns,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write,
            cost_usd=cost,
        )
        total += cost
    if total != job.cost_usd:
        jobs.set_values(session, job.id, cost_usd=total)
