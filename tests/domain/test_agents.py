"""Verdicts on agents, on exact times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.agents import (
    AgentFacts,
    Finding,
    FindingKind,
    Limits,
    PresenceState,
    confirmed,
    diagnose,
    presence,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMITS = Limits()
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

OLD = AgentFacts(claimed_at=NOW - 3 * HOUR, watched_since=NOW - 3 * HOUR, started_at=NOW - 3 * HOUR)


def state(facts: AgentFacts) -> PresenceState:
    return presence(facts, NOW, LIMITS).state


def found(facts: AgentFacts) -> FindingKind | None:
    finding: Finding | None = diagnose(facts, NOW, LIMITS)
    return None if finding is None else finding.kind


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(replace(OLD, is_settled=True), PresenceState.LEAVING, id="settled"),
        pytest.param(replace(OLD, started_at=None), PresenceState.STARTING, id="no process"),
        pytest.param(
            replace(OLD, request_at=NOW - 59 * SECOND), PresenceState.CONNECTED, id="has called"
        ),
        pytest.param(
            replace(OLD, request_at=NOW - HOUR, open_requests=1),
            PresenceState.CONNECTED,
            id="in a call",
        ),
        pytest.param(
            replace(OLD, wait_kind="jobs", wait_since=NOW - HOUR),
            PresenceState.WAITING,
            id="in a wait",
        ),
        pytest.param(
            replace(OLD, output_at=NOW - 19 * MINUTE), PresenceState.BUSY, id="has printed"
        ),
        pytest.param(
            replace(OLD, work_at=NOW - 19 * MINUTE), PresenceState.BUSY, id="uses the processor"
        ),
        pytest.param(
            replace(OLD, heartbeat_at=NOW - 19 * MINUTE), PresenceState.BUSY, id="sends hooks"
        ),
        pytest.param(
            replace(OLD, tool_since=NOW - 59 * MINUTE), PresenceState.BUSY, id="in a tool call"
        ),
        pytest.param(OLD, PresenceState.SILENT, id="nothing at all"),
        pytest.param(
            replace(OLD, lost_since=NOW - SECOND, output_at=NOW), PresenceState.LOST, id="no tools"
        ),
        pytest.param(
            replace(OLD, tool_since=NOW - HOUR, broken_wait_since=NOW - MINUTE),
            PresenceState.LOST,
            id="its wait broke off",
        ),
    ],
)
def test_what_an_agent_seems_to_be_doing(facts: AgentFacts, expected: PresenceState) -> None:
    assert state(facts) is expected


def test_an_agent_that_builds_for_a_quarter_of_an_hour_is_busy_and_left_alone() -> None:
    building = replace(OLD, request_at=NOW - 15 * MINUTE, tool_since=NOW - 15 * MINUTE)
    assert state(building) is PresenceState.BUSY
    assert found(building) is None


@pytest.mark.parametrize("lasted", [2 * MINUTE - SECOND, 2 * MINUTE])
def test_a_lost_agent_has_its_grace_to_come_back(lasted: timedelta) -> None:
    lost = replace(OLD, lost_since=NOW - lasted, lost_why="not connected", output_at=NOW)
    assert (found(lost) is FindingKind.DISCONNECTED) == (lasted >= LIMITS.lost_grace)


def test_a_request_that_is_open_shows_that_it_is_not_lost() -> None:
    assert state(replace(OLD, lost_since=NOW - HOUR, open_requests=1, request_at=NOW)) is not (
        PresenceState.LOST
    )


def test_output_after_a_wait_broke_off_shows_that_the_agent_goes_on() -> None:
    facts = replace(OLD, tool_since=NOW - 50 * MINUTE, broken_wait_since=NOW - 5 * MINUTE)
    assert found(facts) is FindingKind.DISCONNECTED
    assert found(replace(facts, output_at=NOW - 4 * MINUTE)) is None
    assert found(replace(facts, tool_since=None, output_at=NOW - 6 * MINUTE)) is None


@pytest.mark.parametrize(
    "facts",
    [
        replace(OLD, wait_kind="question", wait_since=NOW - 2 * HOUR),
        replace(OLD, wait_kind="jobs", wait_since=NOW - 2 * HOUR),
        replace(OLD, is_settled=True),
        replace(OLD, started_at=None),
    ],
)
def test_waiting_leaving_and_starting_are_never_silence(facts: AgentFacts) -> None:
    assert found(facts) is None


def test_silence_and_a_tool_call_that_does_not_end_are_found() -> None:
    assert found(replace(OLD, output_at=NOW - 20 * MINUTE)) is FindingKind.SILENT
    assert found(replace(OLD, output_at=NOW - 20 * MINUTE + SECOND)) is None
    stalled = replace(OLD, output_at=NOW - SECOND, tool_since=NOW - 60 * MINUTE)
    assert found(stalled) is FindingKind.TOOL_STALLED


def test_a_frozen_process_is_found_even_inside_a_tool_call() -> None:
    frozen = replace(OLD, tool_since=NOW - 5 * MINUTE, frozen_since=NOW - 2 * MINUTE)
    assert found(frozen) is FindingKind.SILENT
    assert found(replace(frozen, frozen_since=NOW - 2 * MINUTE + SECOND)) is None


def test_nothing_lasts_longer_than_somebody_has_watched() -> None:
    facts = replace(OLD, watched_since=NOW - MINUTE, lost_since=NOW - 2 * HOUR)
    assert found(facts) is None
    assert found(replace(facts, lost_since=None)) is None
    assert found(replace(facts, lost_since=None, tool_since=NOW - 2 * HOUR)) is None


def test_a_clock_that_was_set_back_makes_no_agent_immortal() -> None:
    facts = replace(OLD, output_at=NOW + 5 * HOUR, request_at=NOW + 5 * HOUR)
    assert found(facts) is FindingKind.SILENT


moments = st.none() | st.integers(-4 * 3600, 600).map(lambda s: NOW + timedelta(seconds=s))


@given(
    facts=st.builds(
        AgentFacts,
        claimed_at=st.just(NOW - 3 * HOUR),
        watched_since=moments.filter(lambda one: one is not None),
        started_at=moments,
        is_settled=st.booleans(),
        request_at=moments,
        open_requests=st.integers(0, 2),
        wait_kind=st.sampled_from(["jobs", "notes", "question", None]),
        wait_since=moments,
        broken_wait_since=moments,
        output_at=moments,
        heartbeat_at=moments,
        work_at=moments,
        tool_since=moments,
        frozen_since=moments,
        lost_since=moments,
    )
)
def test_there_is_always_a_verdict_and_no_agent_in_a_call_is_ever_stopped(
    facts: AgentFacts,
) -> None:
    assert presence(facts, NOW, LIMITS).why
    if facts.wait_since is not None and facts.lost_since is None:
        assert diagnose(facts, NOW, LIMITS) is None
    if facts.open_requests and facts.request_at is not None:
        assert diagnose(facts, NOW, LIMITS) is None


@pytest.mark.parametrize(
    ("found_", "total", "doubted", "act"),
    [
        pytest.param("ab", 4, "", "ab", id="too few to doubt"),
        pytest.param("ab", 5, "", "ab", id="less than half"),
        pytest.param("abc", 5, "", "", id="more than half: doubted"),
        pytest.param("abc", 6, "", "", id="half: doubted"),
        pytest.param("abcd", 5, "abc", "abc", id="found again: confirmed"),
    ],
)
def test_many_verdicts_at_once_are_doubted_first(
    found_: str, total: int, doubted: str, act: str
) -> None:
    assert confirmed(found_, total, frozenset(doubted)) == frozenset(act)
