"""The tables of states: what is allowed, and that nothing else is."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hurlicane_mcp.domain.attempts import ATTEMPT, AttemptEvent, AttemptState, OutcomeKind
from hurlicane_mcp.domain.jobs import JOB, OPEN, JobEvent, JobStatus
from hurlicane_mcp.errors import IllegalTransition


class JobLife(RuleBasedStateMachine):
    """Any order of events keeps the promises of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.status = JobStatus.BLOCKED
        self.ends = 0

    @rule(event=st.sampled_from(JobEvent))
    def send(self, event: JobEvent) -> None:
        before = self.status
        try:
            self.status = JOB.after(before, event)
        except IllegalTransition:
            assert event not in JOB.table[before]
            assert self.status is before
        else:
            self.ends += self.status.is_final

    @invariant()
    def nothing_leaves_a_final_state(self) -> None:
        assert not self.status.is_final or not JOB.table[self.status]

    @invariant()
    def a_job_ends_at_most_once(self) -> None:
        assert self.ends <= 1


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=60, deadline=None)


def test_every_status_is_in_the_table() -> None:
    assert set(JOB.table) == set(JobStatus)
    assert set(ATTEMPT.table) == set(AttemptState)


def test_open_and_final_states_divide_all_states() -> None:
    assert set(OPEN) | JOB.final == set(JobStatus)
    assert not set(OPEN) & JOB.final


def test_every_open_job_can_be_cancelled() -> None:
    assert JOB.sources(JobEvent.CANCEL) == OPEN


@pytest.mark.parametrize("kind", OutcomeKind)
def test_every_outcome_ends_a_running_job_or_lets_it_go_on(kind: OutcomeKind) -> None:
    event = kind.ending or JobEvent.REQUEUE
    assert JOB.after(JobStatus.RUNNING, event) is not JobStatus.RUNNING
    assert kind.goes_on is (kind.ending is None)


def test_an_illegal_step_says_what_and_why() -> None:
    with pytest.raises(IllegalTransition, match="A job that is done cannot be claimed"):
        JOB.after(JobStatus.DONE, JobEvent.CLAIM)


def test_a_settled_attempt_takes_no_event() -> None:
    for event in AttemptEvent:
        with pytest.raises(IllegalTransition):
            ATTEMPT.after(AttemptState.SETTLED, event)
