"""Stop modes: what may be asked for, and when it is time to warn and to stop."""

from datetime import timedelta
from decimal import Decimal

import pytest

from hurlicane_mcp.domain.stops import TURN_CAP, Stop, StopMode, Verdict, check_stop, verdict
from hurlicane_mcp.errors import Invalid


@pytest.mark.parametrize(
    ("mode", "value", "words"),
    [
        (StopMode.TURNS, None, "how many turns"),
        (StopMode.BUDGET, None, "how many US dollars"),
        (StopMode.TIME, None, "how many minutes"),
        (StopMode.COMPLETION, Decimal(3), "no meaning"),
        (StopMode.TURNS, Decimal(0), "more than 0"),
        (StopMode.BUDGET, Decimal(-1), "more than 0"),
        (StopMode.TIME, Decimal("NaN"), "more than 0"),
        (StopMode.BUDGET, Decimal("Infinity"), "at most 1,000,000 US dollars"),
        (StopMode.TURNS, Decimal("1.5"), "whole number"),
    ],
)
def test_a_bound_that_means_nothing_is_refused_with_what_it_has_to_be(
    mode: StopMode, value: Decimal | None, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        check_stop(mode, value)


def test_each_mode_bounds_its_own_figure() -> None:
    assert check_stop(StopMode.TURNS, Decimal(40)).turns == 40
    assert check_stop(StopMode.BUDGET, Decimal("0.5")).budget_usd == Decimal("0.5")
    assert check_stop(StopMode.TIME, Decimal("1.5")).time == timedelta(seconds=90)
    assert check_stop(StopMode.COMPLETION, None) == Stop()


@pytest.mark.parametrize("stop", [Stop(), check_stop(StopMode.TIME, Decimal(5))])
def test_whoever_is_not_bounded_by_turns_has_the_safety_cap(stop: Stop) -> None:
    assert (stop.turns, stop.budget_usd) == (TURN_CAP, None)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ("0", Verdict.FINE),
        ("7.99", Verdict.FINE),
        ("8", Verdict.WARN),
        ("9.99", Verdict.WARN),
        ("10", Verdict.STOP),
        ("11", Verdict.STOP),
    ],
)
def test_it_warns_at_80_percent_and_stops_at_100(used: str, expected: Verdict) -> None:
    assert verdict(Decimal(used), Decimal(10)) is expected
