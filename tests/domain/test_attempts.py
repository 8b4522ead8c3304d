"""What the end of an agent's process means."""

from dataclasses import replace

import pytest

from hurlicane_mcp.domain.attempts import (
    AttemptState,
    EndFacts,
    Outcome,
    OutcomeKind,
    Standing,
    judge,
    signal_name,
    standing,
)
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import Completion
from hurlicane_mcp.domain.stops import StopMode

QUIET_END = EndFacts(
    completion=Completion.FINISH_JOB,
    exit_code=0,
    exit_signal=None,
    last_message="All is well.",
    last_lines="",
    provider_error=None,
    launch_error=None,
    lost=None,
    rebooted=False,
)


def test_an_end_without_finish_job_is_resumed_once() -> None:
    assert judge(QUIET_END) == Outcome(OutcomeKind.UNFINISHED, "All is well.")


def test_an_end_without_finish_job_by_an_agent_that_lost_us_is_a_disconnection() -> None:
    outcome = judge(replace(QUIET_END, lost='MCP server "hurlicane" is not connected'))
    assert outcome.kind is OutcomeKind.DISCONNECTED
    assert outcome.failure is not None
    assert "not connected" in outcome.failure.reason


def test_exit_zero_is_done_where_that_was_asked_for() -> None:
    outcome = judge(replace(QUIET_END, completion=Completion.EXIT))
    assert outcome == Outcome(OutcomeKind.DONE, "All is well.")


@pytest.mark.parametrize("completion", Completion)
@pytest.mark.parametrize(
    ("limit", "outcome", "failure"),
    [
        ("output", OutcomeKind.FAILED, FailureKind.OUTPUT_LIMIT),
        ("time", OutcomeKind.DONE, None),
        ("unattended", OutcomeKind.INTERRUPTED, None),
    ],
)
def test_an_agent_that_was_stopped_for_a_limit_has_not_crashed(
    limit: str, outcome: OutcomeKind, failure: FailureKind | None, completion: Completion
) -> None:
    facts = replace(QUIET_END, completion=completion, exit_code=None, exit_signal=15, limit=limit)
    found = judge(facts)
    assert found.kind is outcome
    assert (found.failure.kind if found.failure else None) is failure


def test_a_lack_of_memory_is_named_as_the_cause() -> None:
    found = judge(replace(QUIET_END, exit_code=None, exit_signal=9, oom=True))
    assert found.kind is OutcomeKind.CRASHED
    assert found.failure is not None
    assert "out of memory" in found.failure.reason


@pytest.mark.parametrize("completion", Completion)
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param({"exit_code": 3}, "code 3", id="exit code"),
        pytest.param({"exit_code": None, "exit_signal": 9}, "SIGKILL", id="signal"),
        pytest.param({"exit_code": None}, "no exit status", id="nothing known"),
    ],
)
def test_a_bad_end_is_a_crash_with_its_cause(
    facts: dict[str, int | None], words: str, completion: Completion
) -> None:
    outcome = judge(
        replace(QUIET_END, completion=completion, last_lines="boom", **facts)  # pyright: ignore[reportArgumentType]
    )
    is_verdict = completion is Completion.EXIT and facts.get("exit_code") is not None
    assert outcome.kind is (OutcomeKind.FAILED if is_verdict else OutcomeKind.CRASHED)
    assert outcome.failure is not None
    assert words in outcome.failure.reason
    assert "boom" in outcome.failure.reason


def test_the_error_of_the_cli_says_more_than_its_exit_code() -> None:
    outcome = judge(replace(QUIET_END, exit_code=1, provider_error="API Error: 429"))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.reason) == (
        FailureKind.PROVIDER,
        "API Error: 429",
    )


def test_what_its_cli_was_refused_for_is_the_kind_of_the_failure() -> None:
    facts = replace(QUIET_END, exit_code=1, provider_error="Prompt is too long")
    outcome = judge(replace(facts, provider_kind=FailureKind.CONTEXT_OVERFLOW))
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.CONTEXT_OVERFLOW


def test_a_cli_that_stopped_at_its_own_limit_has_done_what_it_may() -> None:
    outcome = judge(replace(QUIET_END, exit_code=1, stopped=StopMode.TURNS))
    assert outcome == Outcome(OutcomeKind.DONE, "All is well.", stopped_by=StopMode.TURNS)


def test_a_program_that_cannot_be_executed_fails_the_launch() -> None:
    outcome = judge(replace(QUIET_END, exit_code=None, launch_error="no such program"))
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.LAUNCH


def test_a_good_exit_whose_checks_fail_is_a_failure_that_keeps_the_last_words() -> None:
    told = "1 of 1 checks failed."
    ended = replace(QUIET_END, completion=Completion.EXIT, failed_checks=told)
    assert judge(ended) == Outcome.failed(FailureKind.CHECKS, told, "All is well.")
    assert FailureKind.CHECKS.is_retried


def test_a_reboot_is_nobodys_fault() -> None:
    assert judge(replace(QUIET_END, exit_code=None, rebooted=True)).kind is OutcomeKind.INTERRUPTED


@pytest.mark.parametrize(
    ("state", "number", "current", "expected"),
    [
        pytest.param(AttemptState.RUNNING, 2, 2, Standing.CURRENT, id="holds the job"),
        pytest.param(AttemptState.STARTING, 1, 1, Standing.CURRENT, id="about to start"),
        pytest.param(AttemptState.SETTLED, 2, 2, Standing.SETTLED, id="settled, no successor"),
        pytest.param(AttemptState.SETTLED, 1, 2, Standing.STALE, id="succeeded by another"),
        pytest.param(AttemptState.RUNNING, 1, 2, Standing.STALE, id="a zombie"),
    ],
)
def test_what_a_token_is_worth(
    state: AttemptState, number: int, current: int, expected: Standing
) -> None:
    assert standing(state=state, number=number, current=current) is expected


def test_a_signal_without_a_name_has_its_number() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(99) == "signal 99"
