"""The ledger of limits: lengths, choices, and what holds for every order of events."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hurlicane_mcp.domain.cooldowns import (
    ACCOUNT,
    LONGEST,
    PROBE,
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
from hurlicane_mcp.domain.failures import POLICIES, FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope

NOW = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
FIRST = timedelta(seconds=30)
OPUS, SONNET, HAIKU = (Key("claude", name) for name in ("opus", "sonnet", "haiku"))
CHAIN = (OPUS, SONNET, HAIKU)
LIMITED = Refusal(FailureKind.RATE_LIMIT, "429")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def opened(until: datetime | None, **values: object) -> Cooldown:
    return Cooldown(FailureKind.RATE_LIMIT, NOW, until, **values)  # pyright: ignore[reportArgumentType]


def test_strikes_double_the_cooldown_up_to_30_minutes() -> None:
    entry, now, lengths = None, NOW, list[float]()
    for _ in range(9):
        entry = marked(entry, LIMITED, now, FIRST)
        assert entry.until is not None
        lengths.append((entry.until - now).total_seconds())
        now = entry.until  # the probe that comes now is refused as well
    assert lengths == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_a_setting_longer_than_30_minutes_is_kept() -> None:
    entry = marked(None, LIMITED, NOW, timedelta(hours=2))
    assert entry.until == NOW + timedelta(hours=2)


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(FailureKind.RATE_LIMIT, "", retry_after=seconds(3600)),
        Refusal(FailureKind.USAGE_LIMIT, "", resets_at=NOW + seconds(3600)),
        Refusal(FailureKind.AUTH, "", resets_at=NOW + seconds(3600)),
    ],
)
def test_an_announced_end_is_believed(refusal: Refusal) -> None:
    assert marked(None, refusal, NOW, FIRST).until == NOW + seconds(3600)


@pytest.mark.parametrize("kind", [kind for kind, policy in POLICIES.items() if policy.lasts])
def test_what_only_a_person_can_put_right_lasts_until_it_is_cleared(kind: FailureKind) -> None:
    entry = marked(None, Refusal(kind, ""), NOW, FIRST)
    assert entry.until is None
    assert entry.gate(NOW + timedelta(days=365)) is Gate.OPEN


def test_many_agents_that_meet_one_limit_are_one_strike() -> None:
    entry = marked(None, LIMITED, NOW, FIRST)
    for later in range(1, 30):
        entry = marked(entry, LIMITED, NOW + seconds(later), FIRST)
    assert (entry.strikes, entry.until) == (1, NOW + FIRST)


def test_a_later_announced_end_makes_an_open_entry_longer_and_an_earlier_one_does_not() -> None:
    entry = marked(None, LIMITED, NOW, FIRST)
    longer = marked(entry, Refusal(LIMITED.kind, "", retry_after=seconds(300)), NOW, FIRST)
    same = marked(longer, Refusal(LIMITED.kind, "", retry_after=seconds(10)), NOW, FIRST)
    assert longer.until == NOW + seconds(300)
    assert same == longer


def test_an_entry_that_lasts_is_not_shortened_by_one_that_ends() -> None:
    lasting = opened(None)
    assert marked(lasting, Refusal(LIMITED.kind, "", retry_after=FIRST), NOW, FIRST) == lasting


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (LIMITED, OPUS),  # one model's plain 429 never marks the provider
        (Refusal(FailureKind.OVERLOADED, ""), OPUS),
        (Refusal(FailureKind.SERVER_ERROR, ""), OPUS),
        (Refusal(FailureKind.UNKNOWN_MODEL, ""), OPUS),
        (Refusal(FailureKind.USAGE_LIMIT, "opus weekly"), OPUS),
        (Refusal(FailureKind.USAGE_LIMIT, "five hours", Scope.ACCOUNT), Key("claude", ACCOUNT)),
        (Refusal(FailureKind.AUTH, ""), Key("claude", ACCOUNT)),
        (Refusal(FailureKind.BILLING, ""), Key("claude", ACCOUNT)),
        (Refusal(FailureKind.SPEND_LIMIT, ""), Key("claude", ACCOUNT)),
        (Refusal(FailureKind.NETWORK, ""), Key("claude", ACCOUNT)),
    ],
)
def test_what_a_refusal_marks_comes_from_what_the_cli_says(refusal: Refusal, expected: Key) -> None:
    assert key_of(refusal, "claude", "opus") == expected


def test_each_choice_begins_at_the_top_of_the_chain() -> None:
    later = NOW + FIRST
    assert choose(CHAIN, {}, NOW) == Go(0)
    assert choose(CHAIN, {OPUS: opened(later)}, NOW) == Go(1)
    assert choose(CHAIN, {OPUS: opened(later), SONNET: opened(later)}, NOW) == Go(2)
    assert choose(CHAIN, {SONNET: opened(later)}, NOW) == Go(0)


def test_two_steps_of_one_model_are_one() -> None:
    later = NOW + FIRST
    assert choose((OPUS, OPUS, SONNET), {OPUS: opened(later)}, NOW) == Go(2)


def test_when_all_are_limited_the_earliest_end_counts() -> None:
    ledger = {
        OPUS: opened(NOW + seconds(90)),
        SONNET: opened(NOW + seconds(20)),
        HAIKU: opened(None),
    }
    assert choose(CHAIN, ledger, NOW) == Park(NOW + seconds(20), SONNET)


def test_when_nothing_ends_by_itself_somebody_has_to_clear_it() -> None:
    ledger = {key: opened(None) for key in CHAIN}
    assert choose(CHAIN, ledger, NOW) == Park(None, OPUS)


def test_a_limit_of_the_account_closes_all_of_its_models_and_no_other_providers() -> None:
    codex = Key("codex", "gpt")
    ledger = {Key("claude", ACCOUNT): opened(NOW + FIRST)}
    assert choose((*CHAIN, codex), ledger, NOW) == Go(3)
    assert choose(CHAIN, ledger, NOW) == Park(NOW + FIRST, Key("claude", ACCOUNT))


def test_of_a_model_and_its_account_that_are_both_closed_the_account_is_named() -> None:
    wide = Key("claude", ACCOUNT)
    assert choose((OPUS,), {OPUS: opened(None), wide: opened(None)}, NOW) == Park(None, wide)


def test_after_its_end_one_launch_probes_and_the_others_stay_where_they_are() -> None:
    entry = opened(NOW)
    first = choose(CHAIN, {OPUS: entry}, NOW)
    assert first == Go(0, (OPUS,))
    held = probing(entry, "job_1.1", NOW)
    assert choose(CHAIN, {OPUS: held}, NOW) == Go(1)
    assert choose((OPUS,), {OPUS: held}, NOW) == Park(NOW + PROBE, OPUS)


def test_a_probe_that_vanished_lets_another_one_try() -> None:
    held = probing(opened(NOW), "job_1.1", NOW)
    assert choose(CHAIN, {OPUS: held}, NOW + PROBE) == Go(0, (OPUS,))


def test_two_overloaded_models_within_a_minute_are_widespread() -> None:
    overloaded = Cooldown(FailureKind.OVERLOADED, NOW, NOW + FIRST)
    ledger = {OPUS: overloaded}
    assert not is_widespread(OPUS, ledger, NOW)
    assert is_widespread(SONNET, ledger, NOW + seconds(60))
    assert not is_widespread(SONNET, ledger, NOW + seconds(61))
    assert not is_widespread(SONNET, {OPUS: opened(NOW + FIRST)}, NOW)
    assert not is_widespread(Key("codex", "gpt"), ledger, NOW)


class LedgerMachine(RuleBasedStateMachine):
    """Launches, refusals, answers and vanishing probes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.ledger: dict[Key, Cooldown] = {}
        self.running: dict[str, tuple[Key, tuple[Key, ...]]] = {}
        self.number = 0

    @rule(later=st.integers(1, 2000))
    def time_passes(self, later: int) -> None:
        self.now += seconds(later)

    @rule()
    def launch(self) -> None:
        choice = choose(CHAIN, self.ledger, self.now)
        if isinstance(choice, Park):
            limited = [Key("claude", ACCOUNT) in self.ledger or key in self.ledger for key in CHAIN]
            assert all(limited), "parked though a model is free"
            assert choice.until is None or choice.until > self.now
            return
        self.number += 1
        name = f"job_{self.number}.1"
        for key in choice.probes:
            self.ledger[key] = probing(self.ledger[key], name, self.now)
        self.running[name] = (CHAIN[choice.step], choice.probes)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), kind=st.sampled_from(sorted(POLICIES)), wide=st.booleans())
    def refuse(self, data: st.DataObject, kind: FailureKind, wide: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        used, _ = self.running.pop(name)
        refusal = Refusal(kind, "", Scope.ACCOUNT if wide else Scope.MODEL)
        key = key_of(refusal, used.provider, used.model)
        before = self.ledger.get(key)
        after = self.ledger[key] = marked(before, refusal, self.now, FIRST)
        assert after.gate(self.now) is Gate.OPEN
        if before is not None:
            assert after.strikes - before.strikes in (0, 1)
        self._release(name)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        _, probes = self.running.pop(name)
        for key in probes:
            if key in self.ledger and self.ledger[key].probe == name:
                del self.ledger[key]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[name]
        self._release(name)

    @rule()
    def clear(self) -> None:
        self.ledger = {key: one for key, one in self.ledger.items() if one.until is not None}

    def _release(self, name: str) -> None:
        for key, entry in self.ledger.items():
            if entry.probe == name:
                self.ledger[key] = Cooldown(entry.kind, entry.since, entry.until, entry.strikes)

    @invariant()
    def one_probe_at_a_time(self) -> None:
        for key in self.ledger:
            probes = [name for name, (_, held) in self.running.items() if key in held]
            fresh = [name for name in probes if self.ledger[key].probe == name]
            assert len(fresh) <= 1

    @invariant()
    def no_cooldown_is_longer_than_it_may_be(self) -> None:
        for entry in self.ledger.values():
            assert entry.until is None or entry.until - entry.since <= LONGEST


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
