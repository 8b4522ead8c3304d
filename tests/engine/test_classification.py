"""Jobs without a model get one by what a judge says of them: real processes, scripted judges."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session, col, select

from hurlicane_mcp.domain.cooldowns import ACCOUNT, Cooldown, Key
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Patience
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.budgets import Caps
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.classification import SIDE_BY_SIDE, Classifier, verdict_on
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.model_calls import ModelCalls
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.store import cooldowns, jobs, usage
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import ANY
from hurlicane_mcp.store.limit_tables import UsageRow
from hurlicane_mcp.store.tables import EventRow, JobRow
from hurlicane_mcp.supervision.one_shot import OneShots
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import add_job
from tests.fakes import BEGINNING, FakeClock
from tests.stories.server import RunningServer
from tests.supervision.agents import until

pytestmark = pytest.mark.anyio

HAIKU = Key("scripted", "haiku")
PATIENCE_S = 50  #: for processes on a busy machine
CHAINS = ("scripted:opus > scripted:sonnet > scripted:haiku",)


@dataclass(frozen=True, slots=True)
class Stage:
    """A classifier's surroundings."""

    db: Database
    clock: FakeClock
    calls_dir: Path

    @asynccontextmanager
    async def classifying(
        self, *, caps: Caps | None = None, is_on: bool = True
    ) -> AsyncGenerator[None]:
        """A classifier is at work inside."""
        claude = ClaudeProvider(program="/no/such/claude")
        providers = Providers({"scripted": ScriptedProvider(), "claude": claude})
        ledger = Ledger(Chains.load(CHAINS, providers), luck=lambda: 0.0)
        async with Watcher() as watcher, anyio.create_task_group() as tasks:
            one_shots = OneShots(ShimHost(), watcher, self.calls_dir)
            calls = ModelCalls(self.clock, providers, one_shots, Patience())
            prompts, stops = Prompts.load(), Stops(caps or Caps())
            classifier = Classifier(self.db, self.clock, prompts, ledger, stops, calls, is_on=is_on)
            tasks.start_soon(classifier.run)
            yield
            tasks.cancel_scope.cancel()

    async def add(self, *lines: str, **values: Any) -> str:
        """The id of a new job without a model; its description says what the judges do."""
        given: dict[str, Any] = {"description": "\n".join(("A job.", *lines)), **values}
        job = await self.db.write(lambda session: add_job(session, is_unclassified=True, **given))
        return job.id

    async def job(self, job_id: str) -> JobRow:
        return await self.db.read(lambda session: jobs.get(session, job_id))

    async def classified(self, *job_ids: str) -> list[str | None]:
        """The jobs' models, once they have been chosen."""
        with anyio.fail_after(PATIENCE_S), self.db.bell.listen([ANY]) as ear:
            for job_id in job_ids:
                while (await self.job(job_id)).is_unclassified:
                    await ear.heard()
        return [(await self.job(job_id)).model for job_id in job_ids]

    async def events(self, *kinds: str) -> list[tuple[str | None, dict[str, Any]]]:
        def query(session: Session) -> Sequence[EventRow]:
            found = select(EventRow).where(col(EventRow.kind).in_(kinds))
            return session.exec(found.order_by(col(EventRow.seq))).all()

        return [(event.job_id, event.data) for event in await self.db.read(query)]

    async def because(self, job_id: str) -> str:
        """Why the job got its model."""
        (data,) = [data for one, data in await self.events("job.classified") if one == job_id]
        return data["because"]


@pytest.fixture
def stage(db: Database, clock: FakeClock, tmp_path: Path) -> Stage:
    return Stage(db, clock, tmp_path / "calls")


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        ("simple", "haiku"),
        ("medium", "sonnet"),
        ("complex", "opus"),
        ("  **Complex.**\n", "opus"),
        ("It is simple: a simple rename.", "haiku"),
        ("simple or complex", "sonnet"),
        ("simplest", "sonnet"),
        ("I will do it.", "sonnet"),
        ("", "sonnet"),
    ],
)
def test_an_answer_is_one_of_three_words_or_counts_as_none(answer: str, model: str) -> None:
    assert verdict_on(answer, "haiku").model == model


async def test_a_job_gets_the_model_and_the_chain_that_suit_it(stage: Stage) -> None:
    easy = await stage.add("? say simple", chain=["scripted:"])
    normal = await stage.add("? say medium", chain=["scripted:"])
    hard = await stage.add("? say complex", chain=["scripted:", "scripted:opus"], priority=5)
    async with stage.classifying():
        assert await stage.classified(easy, normal, hard) == ["haiku", "sonnet", "opus"]
    assert (await stage.job(easy)).chain == ["scripted:haiku"]
    assert await stage.because(hard) == "haiku finds it complex."
    assert not list(stage.calls_dir.glob("*"))


async def test_the_usual_chain_of_the_model_follows_unless_another_was_asked_for(
    stage: Stage,
) -> None:
    usual = ["scripted:", "scripted:opus", "scripted:sonnet", "scripted:haiku"]
    one = await stage.add("? say complex", chain=usual)
    other = await stage.add("? say complex", chain=["scripted:", "scripted:mine"])
    async with stage.classifying():
        await stage.classified(one, other)
    assert (await stage.job(one)).chain == usual[1:]
    assert (await stage.job(other)).chain == ["scripted:opus", "scripted:mine"]


@pytest.mark.parametrize(
    ("steps", "because"),
    [
        (("? say Quite hard.",), "haiku did not say how hard it is, but: Quite hard."),
        ((), "Nobody could say how hard it is: The CLI has ended without an answer."),
        (("? run false",), "Nobody could say how hard it is: "),
        (
            ("? exit 3",),
            "Nobody could say how hard it is: The CLI has failed: it ended with exit code 3.",
        ),
        (
            ("? say simple", "? crash"),
            "Nobody could say how hard it is: The CLI has failed: it ended with signal 9.",
        ),
        (("? no_such_step",), "Nobody could say how hard it is: The CLI has failed: "),
    ],
)
async def test_without_an_answer_it_is_sonnet_and_the_event_says_why(
    stage: Stage, steps: tuple[str, ...], because: str
) -> None:
    job = await stage.add(*steps)
    async with stage.classifying():
        assert await stage.classified(job) == ["sonnet"]
    assert (await stage.because(job)).startswith(because)


async def test_a_cli_that_is_missing_leaves_sonnet(stage: Stage) -> None:
    job = await stage.add(provider="claude")
    async with stage.classifying():
        assert await stage.classified(job) == ["sonnet"]
    assert "Install Claude Code" in await stage.because(job)


async def test_when_haiku_is_limited_sonnet_is_asked_and_the_limit_is_noted(
    stage: Stage,
) -> None:
    job = await stage.add("?haiku refuse rate_limit", "?sonnet say complex")
    async with stage.classifying():
        assert await stage.classified(job) == ["opus"]
        assert await stage.because(job) == "sonnet finds it complex."
        ((told, data),) = await stage.events("call.limited")
        assert (told, data["wait_s"], data["tries"]) == (job, 0, 1)
        entry = (await stage.db.read(cooldowns.ledger))[HAIKU]
        assert (entry.kind, entry.until) == (
            FailureKind.RATE_LIMIT,
            BEGINNING + timedelta(seconds=30),
        )
        # The next one does not try haiku again.
        second = await stage.add("?haiku say simple", "?sonnet say complex")
        assert await stage.classified(second) == ["opus"]


async def test_when_nobody_can_be_asked_for_long_it_is_sonnet_at_once(stage: Stage) -> None:
    until = BEGINNING + timedelta(hours=1)

    def limit(session: Session) -> None:
        for name in ("haiku", "sonnet"):
            entry = Cooldown(FailureKind.USAGE_LIMIT, BEGINNING, until)
            cooldowns.put(session, replace(HAIKU, model=name), entry, BEGINNING, evidence="used up")

    await stage.db.write(limit)
    job = await stage.add("? say simple")
    async with stage.classifying():
        assert await stage.classified(job) == ["sonnet"]
    assert "Every model of the chain is limited" in await stage.because(job)


async def test_the_first_answer_after_a_limit_clears_it(stage: Stage) -> None:
    entry = Cooldown(FailureKind.RATE_LIMIT, BEGINNING - timedelta(minutes=2), BEGINNING)
    await stage.db.write(
        lambda session: cooldowns.put(session, HAIKU, entry, BEGINNING, evidence="429")
    )
    job = await stage.add("?haiku say simple")
    async with stage.classifying():
        assert await stage.classified(job) == ["haiku"]
    assert await stage.db.read(cooldowns.ledger) == {}
    assert [data["model"] for _, data in await stage.events("model.available")] == ["haiku"]


async def test_a_probe_that_found_nothing_out_is_left_to_others(stage: Stage) -> None:
    entry = Cooldown(FailureKind.RATE_LIMIT, BEGINNING - timedelta(minutes=2), BEGINNING)
    await stage.db.write(
        lambda session: cooldowns.put(session, HAIKU, entry, BEGINNING, evidence="429")
    )
    job = await stage.add("? exit 3")
    async with stage.classifying():
        assert await stage.classified(job) == ["sonnet"]
    assert (await stage.db.read(cooldowns.ledger))[HAIKU].probe is None


async def test_a_probe_that_is_refused_does_not_keep_its_own_call_from_the_account(
    stage: Stage,
) -> None:
    entry = Cooldown(FailureKind.USAGE_LIMIT, BEGINNING - timedelta(minutes=2), BEGINNING)

    def limit(session: Session) -> None:
        for key in (HAIKU, replace(HAIKU, model=ACCOUNT)):
            cooldowns.put(session, key, entry, BEGINNING, evidence="used up")

    await stage.db.write(limit)
    job = await stage.add("?haiku refuse rate_limit", "?sonnet say complex")
    async with stage.classifying():
        assert await stage.classified(job) == ["opus"]
    assert set(await stage.db.read(cooldowns.ledger)) == {HAIKU}


async def test_a_blocked_job_is_judged_while_it_waits(stage: Stage) -> None:
    other = (await stage.db.write(add_job)).id
    job = await stage.add("? say simple", depends_on=(other,))
    async with stage.classifying():
        assert await stage.classified(job) == ["haiku"]
    assert (await stage.job(job)).status == "blocked"


async def test_a_cancelled_job_is_not_asked_about(stage: Stage, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    job = await stage.add(f'? edit {asked} "yes"', "? say simple")
    await stage.db.write(lambda session: settlement.cancel(session, job, "", BEGINNING))
    later = await stage.add("? say complex")
    async with stage.classifying():
        await stage.classified(later)
    assert not asked.exists()


async def test_a_job_that_is_cancelled_while_it_is_judged_stays_as_it_is(
    stage: Stage, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    wait = f"? run sh -c 'until [ -e {go} ]; do sleep 0.05; done'"
    spend = '? usage {"input": 100, "output": 5, "cost_usd": "0.01"}'
    job = await stage.add(spend, wait, "? say simple")
    async with stage.classifying():
        await until(lambda: any(stage.calls_dir.glob("*/stdout")), PATIENCE_S)
        await stage.db.write(lambda session: settlement.cancel(session, job, "", BEGINNING))
        go.touch()
        with anyio.fail_after(PATIENCE_S):
            while not (await stage.job(job)).cost_usd:  # noqa: ASYNC110  (no event tells)
                await anyio.sleep(0.02)
    found = await stage.job(job)
    assert (found.status, found.model, found.cost_usd) == ("cancelled", None, Decimal("0.01"))
    assert await stage.events("job.classified") == []


async def test_four_are_judged_side_by_side_the_oldest_first(stage: Stage, tmp_path: Path) -> None:
    marks = [tmp_path / f"judged-{number}" for number in range(SIDE_BY_SIDE + 2)]
    for mark in marks:
        await stage.add(f'? edit {mark} "yes"', "? hang")
    async with stage.classifying():
        await until(lambda: all(mark.exists() for mark in marks[:SIDE_BY_SIDE]), PATIENCE_S)
        assert [mark for mark in marks if mark.exists()] == marks[:SIDE_BY_SIDE]
    assert not list(stage.calls_dir.glob("*"))  # their processes are gone


async def test_more_jobs_than_that_are_all_judged(stage: Stage) -> None:
    waiting = [await stage.add("? say complex") for _ in range(SIDE_BY_SIDE + 2)]
    async with stage.classifying():
        assert await stage.classified(*waiting) == ["opus"] * len(waiting)


async def test_what_was_waiting_when_the_server_ended_is_judged_by_the_next(
    stage: Stage, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    job = await stage.add(f'? edit {asked} "yes"', "? hang")
    async with stage.classifying():
        await until(asked.exists, PATIENCE_S)
    assert (await stage.job(job)).is_unclassified
    await stage.db.write(lambda session: jobs.set_values(session, job, description="? say complex"))
    async with stage.classifying():
        assert await stage.classified(job) == ["opus"]


async def test_what_a_judge_has_cost_is_booked_to_the_job(stage: Stage) -> None:
    spend = '? usage {"input": 1000, "output": 50, "cost_usd": "0.012"}'
    job = await stage.add(spend, "? say simple")
    async with stage.classifying():
        await stage.classified(job)

    def query(session: Session) -> tuple[Sequence[UsageRow], Decimal]:
        rows = session.exec(select(UsageRow)).all()
        return rows, usage.cost_of_day(session, BEGINNING.date().isoformat())

    (row,), spent = await stage.db.read(query)
    assert (row.job_id, row.provider, row.model) == (job, "scripted", "haiku")
    assert (row.input_tokens, row.output_tokens, row.cost_usd) == (1000, 50, Decimal("0.012"))
    assert spent == (await stage.job(job)).cost_usd == Decimal("0.012")


async def test_nobody_is_asked_when_nothing_may_be_spent(stage: Stage) -> None:
    job = await stage.add("? say complex")
    day = BEGINNING.date().isoformat()
    await stage.db.write(
        lambda session: usage.add(session, day, job, "scripted", "opus", cost_usd=Decimal(5))
    )
    async with stage.classifying(caps=Caps(daily=Decimal(5))):
        assert await stage.classified(job) == ["sonnet"]
    assert (await stage.because(job)).startswith("Nobody was asked how hard it is: ")


async def test_with_the_setting_off_jobs_that_waited_get_sonnet(stage: Stage) -> None:
    waiting = [await stage.add("? say complex") for _ in range(SIDE_BY_SIDE + 2)]
    async with stage.classifying(is_on=False):
        assert await stage.classified(*waiting) == ["sonnet"] * len(waiting)
    assert await stage.because(waiting[0]) == "The setting `classify` is off now."


async def test_the_question_holds_the_title_and_a_bounded_part_of_the_description(
    db: Database,
) -> None:
    text = "é\n! finish nothing of this line is a step\n" + "x" * 20_000
    job = await db.write(
        lambda session: add_job(session, description=text, title="Ti", context={"key": "value"})
    )
    prompt = Prompts.load().for_classification(job)
    assert "> Ti\n" in prompt
    assert "> ! finish nothing" in prompt
    assert 8000 < prompt.count("x") < 8 * 1024
    assert "value" not in prompt


async def test_a_job_starts_with_the_model_that_was_chosen_for_it(
    start: Callable[..., RunningServer],
) -> None:
    server = start(classify="true")
    async with server.operator() as operator:
        steps = ("finish Done.\n? say complex",)
        chosen = await operator.create(*steps)
        named = await operator.create(*steps, model="mine")
        other = await operator.create("finish Done.")
        done = await operator.outcome(chosen, named, other)
        assert [job["status"] for job in done] == ["done"] * 3
    with server.rest() as rest:
        attempts = [
            rest.get(f"/api/jobs/{one}/attempts").json()["attempts"]
            for one in (chosen, named, other)
        ]
        params = {"job": chosen, "after": 0}
        events = [one["kind"] for one in rest.get("/api/events", params=params).json()["events"]]
    assert [rows[0]["model"] for rows in attempts] == ["opus", "mine", "sonnet"]
    assert events.index("job.classified") < events.index("job.running")
