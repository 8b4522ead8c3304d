"""Calls over a chain of models, with exact sequences on a clock that the test moves."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from hurlicane_mcp.domain import cooldowns
from hurlicane_mcp.domain.cooldowns import Cooldown, Go, Key, Park
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope
from hurlicane_mcp.engine.fallback import (
    LONGEST,
    MOST_TRIES,
    AllLimited,
    Fallback,
    Limited,
    Setback,
)
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

HAIKU, SONNET = Key("claude", "claude-haiku"), Key("claude", "claude-sonnet")
CHAIN = (HAIKU, SONNET)
SECOND = timedelta(seconds=1)


def refusal(after: timedelta | None = None, scope: Scope = Scope.MODEL) -> Refusal:
    return Refusal(FailureKind.RATE_LIMIT, "429", scope, retry_after=after)


@dataclass
class KeptLedger:
    """The ledger's rules over a dictionary, for one caller."""

    clock: FakeClock
    entries: dict[Key, Cooldown] = field(default_factory=dict[Key, Cooldown])
    caller: str = "job_one.0"

    async def choose(self, chain: Sequence[Key]) -> Go | Park:
        for key, entry in self.entries.items():
            if entry.probe == self.caller:
                self.entries[key] = replace(entry, probe=None, probe_until=None)
        choice = cooldowns.choose(chain, self.entries, self.clock.now())
        if isinstance(choice, Go):
            for key in choice.probes:
                entry = self.entries[key]
                self.entries[key] = cooldowns.probing(entry, self.caller, self.clock.now())
        return choice

    async def mark(self, key: Key, refusal: Refusal) -> None:
        key = cooldowns.key_of(refusal, key.provider, key.model)
        before = self.entries.get(key)
        entry = cooldowns.marked(before, refusal, self.clock.now(), 30 * SECOND)
        self.entries[key] = entry

    async def clear(self, key: Key) -> None:
        del self.entries[key]


class Models:
    """Models that answer or refuse as they are told, and what happened when."""

    def __init__(self, clock: FakeClock, ledger: KeptLedger) -> None:
        self._clock = clock
        self.ledger = ledger
        self.events: list[tuple[float, str]] = []
        self.answers: dict[Key, list[str | BaseException]] = {}
        self.fallback = Fallback(clock, ledger, self.tell, luck=lambda: 0.5)

    def note(self, what: str) -> None:
        self.events.append(((self._clock.now() - BEGINNING).total_seconds(), what))

    async def tell(self, setback: Setback) -> None:
        kind = type(setback.error).__name__
        self.note(f"{kind} {setback.tries}, wait {setback.wait.total_seconds():g}")

    async def ask(self, step: int) -> str:
        key = CHAIN[step]
        self.note(f"ask {key.model.removeprefix('claude-')}")
        answer = self.answers[key].pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def call(self) -> str:
        try:
            answer = await self.fallback.call(CHAIN, self.ask)
        except (Limited, AllLimited) as error:
            self.note(f"raised {type(error).__name__}")
            raise
        self.note(answer)
        return answer


@pytest.fixture
def models(clock: FakeClock) -> Models:
    return Models(clock, KeptLedger(clock))


async def advancing(clock: FakeClock, by: timedelta, call: Callable[[], Awaitable[object]]) -> None:
    """Make *call* while *by* goes by, which must be enough for it."""
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await call()

        tasks.start_soon(run)
        await clock.advance(by)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_a_limited_model_is_followed_by_the_next_at_once(models: Models) -> None:
    models.answers = {HAIKU: [Limited(refusal())], SONNET: ["fine"]}
    assert await models.call() == "fine"
    assert models.events == [
        (0, "ask haiku"),
        (0, "Limited 1, wait 0"),
        (0, "ask sonnet"),
        (0, "fine"),
    ]


async def test_the_next_call_does_not_ask_a_limited_model_again(models: Models) -> None:
    models.answers = {HAIKU: [Limited(refusal())], SONNET: ["fine", "again"]}
    await models.call()
    models.events.clear()
    await models.call()
    assert models.events == [(0, "ask sonnet"), (0, "again")]


async def test_when_all_are_limited_the_earliest_reset_is_waited_for_with_jitter(
    models: Models, clock: FakeClock
) -> None:
    models.answers = {
        HAIKU: [Limited(refusal(20 * SECOND)), "back"],
        SONNET: [Limited(refusal(40 * SECOND))],
    }
    await advancing(clock, 22 * SECOND, models.call)
    assert models.events == [
        (0, "ask haiku"),
        (0, "Limited 1, wait 0"),
        (0, "ask sonnet"),
        (0, "Limited 2, wait 0"),
        (0, "AllLimited 3, wait 21"),
        (21, "ask haiku"),
        (21, "back"),
    ]
    assert HAIKU not in models.ledger.entries


async def test_a_reset_that_is_far_away_is_told_and_not_waited_for(models: Models) -> None:
    models.answers = {
        HAIKU: [Limited(refusal(3600 * SECOND))],
        SONNET: [Limited(refusal(7200 * SECOND))],
    }
    with pytest.raises(AllLimited, match="claude-haiku until 2026-01-01 13:00:00 UTC") as raised:
        await models.call()
    assert raised.value.until == BEGINNING + 3600 * SECOND
    assert models.events[-2:] == [(0, "Limited 2, wait 0"), (0, "raised AllLimited")]


@pytest.mark.parametrize(("seconds", "waits"), [(60, True), (60.001, False)])
async def test_a_minute_is_waited_for_and_no_more(
    models: Models, clock: FakeClock, seconds: float, waits: bool
) -> None:
    until = BEGINNING + timedelta(seconds=seconds)
    for key in CHAIN:
        models.ledger.entries[key] = Cooldown(FailureKind.RATE_LIMIT, BEGINNING, until)
    models.answers = {HAIKU: ["back"]}
    if waits:
        await advancing(clock, LONGEST + 2 * SECOND, models.call)
        assert models.events[-1] == (61, "back")
        return
    with pytest.raises(AllLimited):
        await models.call()
    assert models.events == [(0, "raised AllLimited")]


async def test_what_somebody_has_to_clear_is_not_waited_for(models: Models) -> None:
    account = Key("claude", cooldowns.ACCOUNT)
    models.ledger.entries[account] = Cooldown(FailureKind.AUTH, BEGINNING, None)
    with pytest.raises(AllLimited, match="until somebody clears it"):
        await models.call()
    assert models.events == [(0, "raised AllLimited")]


async def test_a_limit_of_the_account_leaves_no_model_to_ask(
    models: Models, clock: FakeClock
) -> None:
    models.answers = {HAIKU: [Limited(refusal(5 * SECOND, Scope.ACCOUNT)), "back"]}
    await advancing(clock, 7 * SECOND, models.call)
    assert models.events == [
        (0, "ask haiku"),
        (0, "Limited 1, wait 0"),
        (0, "AllLimited 2, wait 6"),
        (6, "ask haiku"),
        (6, "back"),
    ]


async def test_the_first_call_after_a_reset_probes_and_the_others_stay_away(
    models: Models, clock: FakeClock
) -> None:
    entry = Cooldown(FailureKind.RATE_LIMIT, BEGINNING - 60 * SECOND, BEGINNING - SECOND)
    models.ledger.entries[HAIKU] = entry
    other = Models(clock, KeptLedger(clock, models.ledger.entries, "job_two.0"))
    hold = anyio.Event()

    async def slow(step: int) -> str:
        models.note(f"probe {CHAIN[step].model}")
        await hold.wait()
        return "back"

    other.answers = {HAIKU: ["third"], SONNET: ["second"]}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(models.fallback.call, CHAIN, slow)
        await wait_all_tasks_blocked()
        await other.call()
        hold.set()
        await wait_all_tasks_blocked()
    assert models.events == [(0, "probe claude-haiku")]
    assert other.events == [(0, "ask sonnet"), (0, "second")]
    await other.call()
    assert other.events[2:] == [(0, "ask haiku"), (0, "third")]


async def test_a_probe_that_is_refused_opens_the_circuit_for_longer(models: Models) -> None:
    before = Cooldown(FailureKind.RATE_LIMIT, BEGINNING - 60 * SECOND, BEGINNING, strikes=1)
    models.ledger.entries[HAIKU] = before
    models.answers = {HAIKU: [Limited(refusal())], SONNET: ["fine"]}
    assert await models.call() == "fine"
    after = models.ledger.entries[HAIKU]
    assert (after.strikes, after.until, after.probe) == (2, BEGINNING + 60 * SECOND, None)


async def test_a_refused_probe_of_a_model_does_not_keep_its_account_from_the_caller(
    models: Models,
) -> None:
    since, until = BEGINNING - 60 * SECOND, BEGINNING - SECOND
    for key in (HAIKU, Key("claude", cooldowns.ACCOUNT)):
        models.ledger.entries[key] = Cooldown(FailureKind.USAGE_LIMIT, since, until)
    models.answers = {HAIKU: [Limited(refusal())], SONNET: ["fine"]}
    assert await models.call() == "fine"
    assert set(models.ledger.entries) == {HAIKU}


@pytest.mark.parametrize("error", [ValueError("broken"), TimeoutError(), KeyboardInterrupt()])
async def test_an_error_that_is_no_limit_ends_the_call_as_it_is(
    models: Models, error: BaseException
) -> None:
    models.answers = {HAIKU: [error]}
    with pytest.raises(type(error)) as raised:
        await models.call()
    assert raised.value is error
    assert models.events == [(0, "ask haiku")]
    assert models.ledger.entries == {}


async def test_cancellation_passes_while_a_model_is_asked(models: Models) -> None:
    asked = anyio.Event()

    async def forever(_: int) -> str:
        asked.set()
        await anyio.sleep_forever()
        return ""

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(models.fallback.call, CHAIN, forever)
            await asked.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert models.events == []


async def test_cancellation_passes_while_a_reset_is_waited_for(
    models: Models, clock: FakeClock
) -> None:
    for key in CHAIN:
        models.ledger.entries[key] = Cooldown(
            FailureKind.RATE_LIMIT, BEGINNING, BEGINNING + 20 * SECOND
        )
    await advancing(clock, 10 * SECOND, models.call)  # cancels it after ten seconds
    assert models.events == [(0, "AllLimited 1, wait 21")]


async def test_calls_are_bounded_even_if_the_ledger_forgets(clock: FakeClock) -> None:
    class Forgetful(KeptLedger):
        """A ledger in which nothing is kept."""

        async def mark(self, key: Key, refusal: Refusal) -> None:
            pass

    models = Models(clock, Forgetful(clock))
    models.answers = {HAIKU: [Limited(refusal()) for _ in range(100)]}
    with pytest.raises(Limited):
        await models.call()
    assert [what for _, what in models.events].count("ask haiku") == MOST_TRIES


async def test_resets_that_are_put_off_again_and_again_are_not_waited_for_without_end(
    clock: FakeClock,
) -> None:
    class Receding(KeptLedger):
        """A ledger whose reset is always twenty seconds away."""

        async def choose(self, chain: Sequence[Key]) -> Go | Park:
            return Park(self.clock.now() + 20 * SECOND, chain[0])

    models, ended = Models(clock, Receding(clock)), list[datetime]()

    async def call() -> None:
        with pytest.raises(AllLimited):
            await models.call()
        ended.append(clock.now())

    await advancing(clock, timedelta(hours=1), call)
    assert ended == [BEGINNING + (MOST_TRIES - 1) * 21 * SECOND]


async def test_calls_side_by_side_do_not_disturb_each_other(
    models: Models, clock: FakeClock
) -> None:
    """Each has its own setbacks, also while the other one's are being told."""
    answers: list[str] = []

    async def call(number: int) -> None:
        other = Models(clock, KeptLedger(clock))
        other.answers = {HAIKU: [Limited(refusal())], SONNET: [f"answer {number}"]}

        async def slow(_: Setback) -> None:
            await checkpoint()

        fallback = Fallback(clock, other.ledger, slow)
        answers.append(await fallback.call(CHAIN, other.ask))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(call, number)
    assert sorted(answers) == sorted(f"answer {number}" for number in range(20))
