"""When a job is worth a person's look, at the very edge of each rule."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.health import Vitals, WarningKind, changes, warnings
from hurlicane_mcp.domain.stops import Stop, StopMode
from tests.fakes import BEGINNING

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
RUNNING = Vitals(BEGINNING, is_running=True, output_at=BEGINNING)


def budget(value: str) -> Stop:
    return Stop(StopMode.BUDGET, Decimal(value))


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param(
            {"output_at": BEGINNING - 10 * MINUTE},
            "stalled_output: The agent has printed nothing for 10 minutes or more.",
            id="silent for 10 min",
        ),
        pytest.param({"output_at": BEGINNING - 10 * MINUTE + SECOND}, None, id="just not"),
        pytest.param(
            {"output_at": BEGINNING - 14 * MINUTE, "is_in_tool": True},
            "stalled_output: The agent has printed nothing for 14 minutes or more. "
            "It is inside a tool call.",
            id="silent in a tool",
        ),
        pytest.param(
            {"output_at": BEGINNING - 60 * MINUTE, "is_waiting": True}, None, id="waits silently"
        ),
        pytest.param(
            {"output_at": BEGINNING - 60 * MINUTE, "is_running": False}, None, id="parked"
        ),
        pytest.param({"output_at": None}, None, id="nobody reads what it prints"),
        pytest.param({"output_at": BEGINNING + 60 * MINUTE}, None, id="printed in the future"),
        pytest.param(
            {"stop": Stop(StopMode.TURNS, Decimal(10)), "turns": 8},
            "turns: At least 8 of its 10 turns are used.",
            id="80 % of the turns",
        ),
        pytest.param({"stop": Stop(StopMode.TURNS, Decimal(10)), "turns": 7}, None, id="70 %"),
        pytest.param(
            {"turns": 800}, "turns: At least 800 of its 1,000 turns are used.", id="the safety cap"
        ),
        pytest.param(
            {"stop": budget("0.5"), "spent_usd": Decimal("0.40009")},
            "budget: At least $0.40 of its $0.50 are used.",
            id="80 % of the budget",
        ),
        pytest.param({"stop": budget("0.5"), "spent_usd": Decimal("0.3999")}, None, id="79.98 %"),
        pytest.param({"spent_usd": Decimal(500)}, None, id="no budget"),
        pytest.param(
            {"stop": Stop(StopMode.TIME, Decimal(2)), "ran": 96 * SECOND},
            "time: At least 1.6 of its 2 minutes are used.",
            id="80 % of the time",
        ),
        pytest.param(
            {"stop": Stop(StopMode.TIME, Decimal(2)), "ran": 95 * SECOND}, None, id="79 % of it"
        ),
        pytest.param({"ran": 60 * MINUTE}, None, id="60 minutes"),
        pytest.param(
            {"ran": 60 * MINUTE + SECOND, "is_waiting": True},
            "long_running: It has run for more than 60 minutes.",
            id="longer than 60 minutes",
        ),
        pytest.param({"ran": 90 * MINUTE, "is_running": False}, None, id="does not run now"),
        pytest.param({"tool_failures": 4}, None, id="four failures"),
        pytest.param(
            {"tool_failures": 5},
            "tool_failures: At least 5 tool calls in a row have failed.",
            id="five failures",
        ),
        pytest.param(
            {"denials": 1},
            "permission_denied: At least 1 tool call was not allowed by the agent's permissions.",
            id="one denial",
        ),
        pytest.param(
            {"denials": 3},
            "permission_denied: At least 3 tool calls were not allowed by the agent's permissions.",
            id="three denials",
        ),
        pytest.param(
            {"denials": 3, "tool_failures": 9, "is_running": False}, None, id="its agent has gone"
        ),
    ],
)
def test_each_warning_holds_from_its_limit_on(facts: dict[str, Any], text: str | None) -> None:
    held = [f"{one.kind}: {one.text}" for one in warnings(replace(RUNNING, **facts))]
    assert held == ([] if text is None else [text])


def test_since_is_when_it_began_if_the_facts_tell_that() -> None:
    facts = replace(RUNNING, output_at=BEGINNING - 12 * MINUTE, ran=61 * MINUTE, turns=900)
    assert {one.kind: one.since for one in warnings(facts)} == {
        WarningKind.STALLED_OUTPUT: BEGINNING - 12 * MINUTE,
        WarningKind.TURNS: BEGINNING,
        WarningKind.LONG_RUNNING: BEGINNING - 61 * MINUTE,
    }


SPANS = st.timedeltas(timedelta(0), timedelta(hours=3))
STOPS = st.one_of(
    st.just(Stop()),
    st.builds(
        Stop,
        st.sampled_from([StopMode.TURNS, StopMode.BUDGET, StopMode.TIME]),
        st.integers(1, 2000).map(Decimal),
    ),
)
VITALS = st.builds(
    Vitals,
    now=st.just(BEGINNING),
    stop=STOPS,
    is_running=st.booleans(),
    is_waiting=st.booleans(),
    is_in_tool=st.booleans(),
    output_at=st.none() | SPANS.map(lambda span: BEGINNING - span),
    turns=st.integers(0, 2000),
    spent_usd=st.decimals(0, 2000, places=10),
    ran=SPANS,
    tool_failures=st.integers(0, 12),
    denials=st.integers(0, 3),
)


@given(VITALS, st.sets(st.sampled_from(list(WarningKind))))
def test_warnings_follow_from_the_facts_whatever_was_told_before(
    vitals: Vitals, told: set[WarningKind]
) -> None:
    held = warnings(vitals)
    kinds = [one.kind for one in held]
    assert held == warnings(vitals)
    assert len(set(kinds)) == len(kinds)
    assert all(one.since <= vitals.now and one.text.endswith(".") for one in held)
    news = changes(told, held)
    raised = {one.kind for one in news.raised}
    assert raised.isdisjoint(news.cleared)
    assert raised.isdisjoint(told)
    assert told.issuperset(news.cleared)
    assert (told | raised) - set(news.cleared) == set(kinds)
    assert not changes(set(kinds), held)


@given(VITALS, st.integers(0, 500), st.integers(0, 500))
def test_more_of_anything_used_takes_no_warning_back(
    vitals: Vitals, turns: int, cents: int
) -> None:
    """So a sentence that says `at least` stays true for as long as its warning holds."""
    later = replace(
        vitals,
        turns=vitals.turns + turns,
        spent_usd=vitals.spent_usd + Decimal(cents) / 100,
        ran=vitals.ran + MINUTE,
        tool_failures=vitals.tool_failures + 1,
        denials=vitals.denials + 1,
    )
    assert {one.kind for one in warnings(vitals)} <= {one.kind for one in warnings(later)}
