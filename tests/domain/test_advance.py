"""What comes after a phase: each rule by itself, and whole lives of workflows."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hurlicane_mcp.domain.advance import (
    FIRST_HEAL,
    LAST_HEAL,
    MAX_HEALS,
    MAX_REPAIRS,
    MAX_VERIFICATIONS,
    advance,
    asks_for_checks,
    block_of,
    heal_delay,
)
from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.workflows import (
    Block,
    BlockKind,
    Decision,
    End,
    Ended,
    Evidence,
    Phase,
    Position,
    Publish,
    Start,
    WorkflowState,
    WorkflowView,
    first_position,
)

DONE = Ended(JobStatus.DONE)
GOOD = Evidence(branch="work", head="b", commits=1)


def view(cycle: int, phase: Phase, try_number: int = 1, **values: object) -> WorkflowView:
    """A phase of a workflow of three cycles that ended well, one of two milestones done."""
    given_: dict[str, object] = {
        "at": Position(cycle, phase, try_number),
        "ended": DONE,
        "max_cycles": 3,
        "milestones": 2,
        "done": 1,
        "head_before": "a",
        "evidence": GOOD,
        "branch": "work",
    }
    return WorkflowView(**(given_ | values))  # pyright: ignore[reportArgumentType]


def failed(kind: FailureKind, reason: str = "It broke.") -> Ended:
    return Ended(JobStatus.FAILED, Failure(kind, reason))


def started(decision: Decision) -> Position:
    assert isinstance(decision, Start), decision
    return decision.position


def blocked(decision: Decision) -> Block:
    assert isinstance(decision, Block), decision
    return decision


def ended(decision: Decision) -> End:
    assert isinstance(decision, End), decision
    return decision


def test_a_workflow_begins_with_the_assessment_of_cycle_0() -> None:
    assert first_position() == Position(0, Phase.ASSESS, 1)


@pytest.mark.parametrize(
    ("ended_phase", "next_phase"),
    [
        (Position(0, Phase.ASSESS), Position(1, Phase.REVIEW)),
        (Position(0, Phase.REPAIR), Position(1, Phase.REVIEW)),
        (Position(1, Phase.REVIEW), Position(1, Phase.IMPLEMENT)),
        (Position(2, Phase.REPAIR), Position(2, Phase.IMPLEMENT)),
        (Position(1, Phase.IMPLEMENT), Position(2, Phase.REVIEW)),
        (Position(2, Phase.REVIEW), Position(2, Phase.IMPLEMENT)),
    ],
)
def test_while_milestones_are_open_the_phases_follow_each_other(
    ended_phase: Position, next_phase: Position
) -> None:
    assert started(advance(view(ended_phase.cycle, ended_phase.phase))) == next_phase


def test_a_plan_without_milestones_is_repaired_twice_and_then_blocks() -> None:
    first = started(advance(view(0, Phase.ASSESS, milestones=0, done=0)))
    assert first == Position(0, Phase.REPAIR, 1)
    second = started(advance(view(0, Phase.REPAIR, 1, milestones=0, done=0)))
    assert second == Position(0, Phase.REPAIR, 2)
    last = blocked(advance(view(0, Phase.REPAIR, MAX_REPAIRS, milestones=0, done=0)))
    assert last.kind is BlockKind.NO_PLAN
    assert "- [ ]" in last.advice


def test_a_review_that_leaves_no_milestones_has_the_plan_repaired() -> None:
    assert started(advance(view(2, Phase.REVIEW, milestones=0, done=0))) == Position(
        2, Phase.REPAIR, 1
    )


def test_a_plan_that_is_done_is_reviewed_once_more_before_the_end() -> None:
    assert started(advance(view(1, Phase.IMPLEMENT, done=2))) == Position(2, Phase.REVIEW)
    assert started(advance(view(2, Phase.REVIEW, done=2))) == Position(2, Phase.PUBLISH)
    over = ended(advance(view(2, Phase.PUBLISH, done=2)))
    assert over.state is WorkflowState.COMPLETE


def test_without_publishing_it_is_complete_at_once() -> None:
    over = ended(advance(view(2, Phase.REVIEW, done=2, publish=Publish.NONE)))
    assert over.state is WorkflowState.COMPLETE
    assert "2 milestones" in over.reason


def test_in_the_last_cycle_a_plan_that_is_done_is_not_reviewed_again() -> None:
    assert started(advance(view(3, Phase.IMPLEMENT, done=2))) == Position(3, Phase.PUBLISH)


def test_at_the_last_cycle_open_milestones_mean_incomplete_never_complete() -> None:
    over = ended(advance(view(3, Phase.IMPLEMENT)))
    assert over.state is WorkflowState.INCOMPLETE
    assert "1 of 2 milestones" in over.reason


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (replace(GOOD, dirty=("a.txt",)), "a.txt"),
        (replace(GOOD, commits=0), "nothing was committed"),
        (replace(GOOD, failed_checks=("`make test`: 2 failed",)), "make test"),
    ],
)
def test_a_plan_that_is_done_counts_only_if_the_evidence_agrees(
    evidence: Evidence, word: str
) -> None:
    decision = advance(view(2, Phase.REVIEW, done=2, evidence=evidence))
    assert started(decision) == Position(2, Phase.IMPLEMENT)
    assert isinstance(decision, Start)
    assert word in decision.problems[0]
    assert decision.new_milestones == (f"Fix: {decision.problems[0]}",)
    last = ended(advance(view(3, Phase.IMPLEMENT, done=2, evidence=evidence)))
    assert last.state is WorkflowState.INCOMPLETE
    assert word in last.reason


def test_outside_of_a_repository_only_the_checks_are_evidence() -> None:
    outside = Evidence(is_repository=False)
    asked = view(2, Phase.REVIEW, done=2, evidence=outside, branch=None, publish=Publish.NONE)
    assert ended(advance(asked)).state is WorkflowState.COMPLETE
    bad = replace(asked, evidence=replace(outside, failed_checks=("`make`: no",)))
    assert started(advance(bad)) == Position(2, Phase.IMPLEMENT)


def test_a_result_is_verified_before_it_is_published() -> None:
    asked = view(2, Phase.REVIEW, done=2, verify=True)
    assert started(advance(asked)) == Position(2, Phase.VERIFY)
    assert started(advance(view(2, Phase.VERIFY, done=2, verify=True))) == Position(
        2, Phase.PUBLISH
    )


def test_a_failed_verification_becomes_a_milestone() -> None:
    said = failed(FailureKind.AGENT, "The button does nothing.")
    decision = advance(view(2, Phase.VERIFY, done=2, verify=True, ended=said))
    assert isinstance(decision, Start)
    assert decision.position == Position(3, Phase.IMPLEMENT)
    assert "The button does nothing." in decision.new_milestones[0]
    assert decision.verifications == 1


def test_milestones_that_a_verification_adds_are_worked_on() -> None:
    decision = advance(view(2, Phase.VERIFY, done=1, verify=True))
    assert isinstance(decision, Start)
    assert (decision.position, decision.new_milestones) == (Position(3, Phase.IMPLEMENT), ())


def test_the_third_failed_verification_blocks() -> None:
    said = failed(FailureKind.AGENT)
    asked = view(2, Phase.VERIFY, done=2, ended=said, verifications=MAX_VERIFICATIONS - 1)
    found = blocked(advance(asked))
    assert found.kind is BlockKind.VERIFICATION
    assert found.verifications == 0, "a person who resumes gives it three more"


def test_a_verification_that_its_limit_stopped_is_no_verdict() -> None:
    stopped = Ended(JobStatus.DONE, stopped_by="turns")
    asked = view(2, Phase.VERIFY, done=2, verify=True, ended=stopped)
    block = blocked(advance(asked))
    assert (block.kind, block.verifications) == (BlockKind.VERIFICATION, 0)
    assert "its limit (turns)" in block.reason
    assert ended(advance(replace(asked, is_budget_spent=True))).state is WorkflowState.INCOMPLETE
    assert started(advance(replace(asked, done=1))) == Position(3, Phase.IMPLEMENT)


def test_checks_are_asked_for_only_when_they_decide() -> None:
    assert asks_for_checks(view(2, Phase.REVIEW, done=2))
    assert asks_for_checks(view(2, Phase.VERIFY, done=2, verify=True))
    assert asks_for_checks(view(3, Phase.IMPLEMENT, done=2)), "no review follows the last cycle"
    assert not asks_for_checks(view(2, Phase.IMPLEMENT, done=2)), "a review follows anyway"
    assert not asks_for_checks(view(2, Phase.REVIEW, done=1))
    assert not asks_for_checks(view(2, Phase.PUBLISH, done=2))


def test_two_implementations_without_progress_block() -> None:
    still = replace(GOOD, head="a")
    first = advance(view(1, Phase.IMPLEMENT, done_before=1, evidence=still))
    assert isinstance(first, Start)
    assert first.idle_cycles == 1
    second = advance(view(2, Phase.IMPLEMENT, done_before=1, evidence=still, idle_cycles=1))
    assert blocked(second).kind is BlockKind.NO_PROGRESS


@pytest.mark.parametrize("progress", [{"done_before": 0}, {"evidence": GOOD, "done_before": 1}])
def test_a_commit_or_a_checked_milestone_is_progress(progress: dict[str, Any]) -> None:
    decision = advance(view(2, Phase.IMPLEMENT, idle_cycles=1, **progress))
    assert isinstance(decision, Start)
    assert decision.idle_cycles == 0


@pytest.mark.parametrize("branch", ["other", None])
def test_a_worktree_on_another_branch_blocks(branch: str | None) -> None:
    found = blocked(advance(view(1, Phase.REVIEW, evidence=replace(GOOD, branch=branch))))
    assert found.kind is BlockKind.WRONG_BRANCH
    assert "git switch work" in found.advice


def test_a_failed_phase_blocks_and_names_what_a_person_can_do() -> None:
    found = blocked(advance(view(1, Phase.REVIEW, ended=failed(FailureKind.AUTH))))
    assert found.kind is BlockKind.PHASE_FAILED
    assert "Log the CLI in" in found.advice
    assert found.heals_after is None


def test_a_failure_of_the_surroundings_heals_by_itself_a_few_times() -> None:
    asked = view(1, Phase.REVIEW, ended=failed(FailureKind.NETWORK))
    assert blocked(advance(asked)).heals_after == FIRST_HEAL
    assert blocked(advance(replace(asked, heals=1))).heals_after == 2 * FIRST_HEAL
    assert blocked(advance(replace(asked, heals=MAX_HEALS))).heals_after is None


def test_an_implementation_that_failed_its_checks_is_reviewed() -> None:
    said = failed(FailureKind.CHECKS, "make test fails")
    decision = advance(view(1, Phase.IMPLEMENT, ended=said))
    assert isinstance(decision, Start)
    assert decision.position == Position(2, Phase.REVIEW)
    assert "make test fails" in decision.problems[0]


def test_a_phase_that_somebody_cancelled_blocks() -> None:
    found = blocked(advance(view(1, Phase.REVIEW, ended=Ended(JobStatus.CANCELLED))))
    assert found.kind is BlockKind.PHASE_CANCELLED


def test_a_spent_budget_ends_it_unless_nothing_is_left_to_pay() -> None:
    over = ended(advance(view(1, Phase.REVIEW, is_budget_spent=True)))
    assert over.state is WorkflowState.INCOMPLETE
    assert "budget" in over.reason
    broke = failed(FailureKind.BUDGET, "The budget of $1.00 is spent.")
    over = ended(advance(view(1, Phase.REVIEW, is_budget_spent=True, ended=broke)))
    assert "$1.00" in over.reason
    free = advance(view(2, Phase.REVIEW, done=2, is_budget_spent=True))
    assert started(free).phase is Phase.PUBLISH


def test_a_block_of_the_surroundings_is_tried_again_later_and_later() -> None:
    assert block_of(BlockKind.WORKTREE, "gone", 0).heals_after == timedelta(minutes=1)
    assert block_of(BlockKind.WORKTREE, "gone", 100).heals_after == LAST_HEAL
    assert heal_delay(100) == LAST_HEAL


texts = st.text(max_size=20)
ends = st.one_of(
    st.just(DONE),
    st.just(Ended(JobStatus.CANCELLED)),
    st.builds(
        Ended,
        st.just(JobStatus.FAILED),
        st.one_of(st.none(), st.builds(Failure, st.sampled_from(FailureKind), texts)),
        texts,
    ),
)
evidences = st.builds(
    Evidence,
    st.booleans(),
    st.sampled_from(["work", "other", None]),
    st.sampled_from(["a", "b", None]),
    st.lists(texts, max_size=7).map(tuple),
    st.integers(0, 3),
    st.lists(texts, max_size=2).map(tuple),
)


@st.composite
def views(draw: st.DrawFn) -> WorkflowView:
    """Any view at all, possible or not."""
    total = draw(st.integers(0, 4))
    return WorkflowView(
        at=Position(
            draw(st.integers(0, 50)), draw(st.sampled_from(Phase)), draw(st.integers(1, 5))
        ),
        ended=draw(ends),
        max_cycles=draw(st.integers(1, 50)),
        milestones=total,
        done=draw(st.integers(0, total)),
        done_before=draw(st.integers(0, 4)),
        head_before=draw(st.sampled_from(["a", "b", None])),
        evidence=draw(evidences),
        branch=draw(st.sampled_from(["work", None])),
        verify=draw(st.booleans()),
        publish=draw(st.sampled_from(Publish)),
        idle_cycles=draw(st.integers(0, 3)),
        verifications=draw(st.integers(0, 3)),
        heals=draw(st.integers(0, 6)),
        is_budget_spent=draw(st.booleans()),
    )


@given(views())
def test_every_view_has_one_decision(asked: WorkflowView) -> None:
    decision = advance(asked)
    assert decision == advance(asked), "the same view, the same decision"
    match decision:
        case Start():
            assert decision.position != asked.at
            assert decision.position.cycle <= max(asked.max_cycles, asked.at.cycle)
            assert not (asked.is_budget_spent and decision.position.phase.is_job)
        case Block():
            assert decision.reason
            assert decision.advice, "a block always says what a person can do"
        case End():
            assert decision.state in (WorkflowState.COMPLETE, WorkflowState.INCOMPLETE)
            assert decision.reason


@given(views())
def test_complete_means_that_all_is_checked_and_the_evidence_agrees(asked: WorkflowView) -> None:
    decision = advance(asked)
    if isinstance(decision, End) and decision.state is WorkflowState.COMPLETE:
        at_publication = asked.at.phase is Phase.PUBLISH
        assert at_publication or asked.is_all_done
        if not at_publication:
            found = asked.evidence
            assert not found.failed_checks
            assert not found.is_repository or (found.commits > 0 and not found.dirty)


@settings(max_examples=200)
@given(st.data(), st.integers(1, 8), st.booleans(), st.sampled_from(Publish))
def test_every_life_ends_and_no_phase_happens_twice(
    data: st.DataObject, max_cycles: int, verify: bool, publish: Publish
) -> None:
    """A person resumes each block at once; whatever the phases do, it ends."""
    at, known = first_position(), set[Position]()
    idle = verifications = heals = resumes = 0
    for _ in range(20 * max_cycles + 50):
        assert at not in known, "no phase twice"
        known.add(at)
        total = data.draw(st.integers(0, 3))
        asked = WorkflowView(
            at=at,
            ended=data.draw(ends) if at.phase.is_job else DONE,
            max_cycles=max_cycles,
            milestones=total,
            done=data.draw(st.integers(0, total)),
            evidence=data.draw(evidences),
            branch="work",
            verify=verify,
            publish=publish,
            idle_cycles=idle,
            verifications=verifications,
            heals=heals,
        )
        decision = advance(asked)
        if isinstance(decision, End):
            return
        idle, verifications = decision.idle_cycles, decision.verifications
        if isinstance(decision, Start):
            at = decision.position
            continue
        resumes += 1
        if resumes > 10:
            return  # somebody gave up
        at = Position(at.cycle, at.phase, max(p.try_number for p in known) + 1)
    raise AssertionError(f"it does not end: {sorted(known)}")
