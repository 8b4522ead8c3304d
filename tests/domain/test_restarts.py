"""What follows the end of an attempt, on exact times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import RetryPolicy
from hurlicane_mcp.domain.restarts import (
    CRASH_LIMIT,
    CRASH_WINDOW,
    Again,
    Over,
    Past,
    Policy,
    following,
)
from hurlicane_mcp.engine.restarts import delay_of

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NO_RETRY = Policy()

CRASH = Outcome(OutcomeKind.CRASHED, failure=Failure(FailureKind.CRASHED, "Killed by SIGKILL."))
LOST = Outcome(OutcomeKind.DISCONNECTED, failure=Failure(FailureKind.DISCONNECTED, "Gone."))
SILENT = Outcome(OutcomeKind.SILENT, failure=Failure(FailureKind.SILENT, "Not a word."))


def run(
    kind: OutcomeKind,
    settled: timedelta,
    *,
    lasted: timedelta = MINUTE,
    called: bool = True,
    resumed: bool = True,
) -> Past:
    """An attempt that was settled that long after `START`."""
    moment = START + settled
    return Past(kind, moment - lasted, moment, called, resumed)


def crashes(*settled: timedelta, lasted: timedelta = MINUTE) -> list[Past]:
    return [run(OutcomeKind.CRASHED, one, lasted=lasted) for one in settled]


def delays(pasts: list[Past]) -> list[float | FailureKind | None]:
    """What followed each crash in turn: its delay in seconds, or how the job failed."""
    answers: list[float | FailureKind | None] = []
    for n, this in enumerate(pasts):
        step = following(CRASH, this, pasts[:n], NO_RETRY)
        if isinstance(step, Again):
            answers.append(delay_of(step.step).total_seconds())
        else:
            answers.append(step.outcome.failure.kind if step.outcome.failure else None)
    return answers


def test_the_first_restart_comes_at_once_and_the_third_crash_in_ten_minutes_is_the_last() -> None:
    assert delays(crashes(MINUTE, 2 * MINUTE, 3 * MINUTE)) == [0, 10, FailureKind.CRASH_LOOP]


def test_crashes_further_apart_wait_ever_longer_but_go_on() -> None:
    every_six_minutes = [n * 6 * MINUTE for n in range(1, 9)]
    assert delays(crashes(*every_six_minutes, lasted=5 * MINUTE)) == [
        *(0, 10, 20, 40, 80, 160, 300, 300)
    ]


def test_ten_healthy_minutes_reset_the_delay() -> None:
    pasts = crashes(MINUTE, 7 * MINUTE)
    healthy = run(OutcomeKind.CRASHED, 20 * MINUTE, lasted=10 * MINUTE)
    pasts += [healthy, *crashes(26 * MINUTE)]
    assert delays(pasts) == [0, 10, 0, 10]


def test_a_crash_exactly_ten_minutes_ago_is_forgotten() -> None:
    pasts = crashes(MINUTE, 5 * MINUTE, MINUTE + CRASH_WINDOW)
    assert delays(pasts) == [0, 10, 20]
    pasts[0] = crashes(MINUTE + timedelta(seconds=1))[0]
    assert delays(pasts)[2] is FailureKind.CRASH_LOOP


def test_moves_that_we_caused_are_no_crashes() -> None:
    moved = [
        run(kind, n * MINUTE)
        for n, kind in enumerate(
            (OutcomeKind.INTERRUPTED, OutcomeKind.DISCONNECTED, OutcomeKind.UNFINISHED), 1
        )
    ]
    this = crashes(4 * MINUTE)[0]
    assert following(CRASH, this, moved, NO_RETRY) == Again(CRASH, 1)


def test_a_crash_loop_tells_the_last_cause() -> None:
    before = crashes(MINUTE, 2 * MINUTE)
    step = following(CRASH, crashes(3 * MINUTE)[0], before, NO_RETRY)
    assert isinstance(step, Over)
    assert step.outcome.failure is not None
    assert "3 times within 10 minutes" in step.outcome.failure.reason
    assert "SIGKILL" in step.outcome.failure.reason


@given(
    gaps=st.lists(st.integers(1, 3600), min_size=1, max_size=30),
    lasted=st.integers(0, 1200),
)
def test_no_job_crashes_three_times_within_ten_minutes_and_goes_on(
    gaps: list[int], lasted: int
) -> None:
    pasts: list[Past] = []
    moment = timedelta(0)
    for gap in gaps:
        moment += timedelta(seconds=gap)
        this = run(OutcomeKind.CRASHED, moment, lasted=timedelta(seconds=min(lasted, gap)))
        step = following(CRASH, this, pasts, NO_RETRY)
        pasts.append(this)
        recent = sum(this.settled - one.settled < CRASH_WINDOW for one in pasts)
        assert isinstance(step, Over) == (recent >= CRASH_LIMIT)
        if isinstance(step, Over):
            return
        assert delay_of(step.step) <= timedelta(seconds=300)


def test_an_agent_that_ends_without_finish_job_is_reminded_once_in_its_life() -> None:
    unfinished = Outcome(OutcomeKind.UNFINISHED, "All is well.")
    this = run(OutcomeKind.UNFINISHED, 5 * MINUTE)
    assert following(unfinished, this, [], NO_RETRY) == Again(unfinished)
    before = [run(OutcomeKind.UNFINISHED, MINUTE), run(OutcomeKind.INTERRUPTED, 2 * MINUTE)]
    step = following(unfinished, this, before, NO_RETRY)
    assert isinstance(step, Over)
    assert step.outcome.failure is not None
    assert step.outcome.failure.kind is FailureKind.UNFINISHED
    assert step.outcome.result == "All is well."


def test_three_resumes_in_a_row_without_a_call_fail_the_job() -> None:
    first = run(OutcomeKind.DISCONNECTED, MINUTE, resumed=False)
    mute = [run(OutcomeKind.DISCONNECTED, n * MINUTE, called=False) for n in (2, 3, 4)]
    assert isinstance(following(LOST, mute[1], [first, mute[0]], NO_RETRY), Again)
    step = following(LOST, mute[2], [first, *mute[:2]], NO_RETRY)
    assert isinstance(step, Over)
    assert step.outcome.failure is not None
    assert step.outcome.failure.kind is FailureKind.DISCONNECTED


def test_one_call_in_between_makes_three_more_resumes_possible() -> None:
    before = [
        run(OutcomeKind.DISCONNECTED, n * MINUTE, called=n == 2, resumed=True) for n in (1, 2, 3)
    ]
    this = run(OutcomeKind.DISCONNECTED, 4 * MINUTE, called=False)
    assert isinstance(following(LOST, this, before, NO_RETRY), Again)


def test_a_silent_agent_is_resumed_once_in_a_row() -> None:
    this = run(OutcomeKind.SILENT, 60 * MINUTE)
    assert following(SILENT, this, [], NO_RETRY) == Again(SILENT)
    talking = [run(OutcomeKind.SILENT, MINUTE), run(OutcomeKind.CRASHED, 30 * MINUTE)]
    assert following(SILENT, this, talking, NO_RETRY) == Again(SILENT)
    step = following(SILENT, this, [run(OutcomeKind.SILENT, 30 * MINUTE)], NO_RETRY)
    assert isinstance(step, Over)
    assert step.outcome.failure is not None
    assert step.outcome.failure.kind is FailureKind.SILENT


def test_interruptions_are_bounded_too() -> None:
    runs = [run(OutcomeKind.INTERRUPTED, n * MINUTE, called=False) for n in range(10)]
    outcome = Outcome(OutcomeKind.INTERRUPTED)
    assert isinstance(following(outcome, runs[8], runs[:8], NO_RETRY), Again)
    assert isinstance(following(outcome, runs[9], runs[:9], NO_RETRY), Over)
    never_ran = [replace(one, began=None) for one in runs]
    assert isinstance(following(outcome, never_ran[9], never_ran[:9], NO_RETRY), Again)


@pytest.mark.parametrize("retry", [RetryPolicy.SAME, RetryPolicy.ANALYZE])
def test_a_failure_is_retried_as_often_as_the_job_allows(retry: RetryPolicy) -> None:
    failed = Outcome.failed(FailureKind.AGENT, "It does not compile.")
    this = run(OutcomeKind.FAILED, MINUTE)
    for used in (0, 1):
        step = following(failed, this, [], Policy(retry, 2, used))
        assert step == Again(failed, used + 1, is_retry=True)
    assert following(failed, this, [], Policy(retry, 2, 2)) == Over(failed)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not kind.is_retried])
def test_what_another_attempt_cannot_mend_is_not_retried(kind: FailureKind) -> None:
    failed = Outcome.failed(kind, "No such program.")
    policy = Policy(RetryPolicy.SAME, 2, 0)
    assert following(failed, run(OutcomeKind.FAILED, MINUTE), [], policy) == Over(failed)


def test_a_retry_begins_to_count_anew() -> None:
    before = [*crashes(MINUTE, 2 * MINUTE), run(OutcomeKind.FAILED, 3 * MINUTE)]
    this = crashes(4 * MINUTE)[0]
    assert following(CRASH, this, before, Policy(RetryPolicy.SAME, 2, 1)) == Again(CRASH, 1)


@pytest.mark.parametrize("kind", [OutcomeKind.DONE, OutcomeKind.CANCELLED])
def test_what_was_decided_is_over_whatever_the_policy(kind: OutcomeKind) -> None:
    outcome = Outcome(kind, "The result.")
    policy = Policy(RetryPolicy.SAME, 2, 0)
    assert following(outcome, run(kind, MINUTE), [], policy) == Over(outcome)
