"""Given how a phase of a workflow ended: what comes next.

`advance` is pure and total: for every view there is exactly one decision, and whatever the phases
do, a workflow comes to an end, or to a block, within a bounded number of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

from hurlicane_mcp.domain.failures import Failure, FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.workflows import (
    Block,
    BlockKind,
    Decision,
    End,
    Phase,
    Position,
    Publish,
    Start,
    WorkflowState,
    WorkflowView,
)

MAX_REPAIRS = 2  #: jobs that may mend a plan without milestones
MAX_IDLE_CYCLES = 2  #: implementations in a row without progress
MAX_VERIFICATIONS = 3
MAX_HEALS = 5  #: failures in a row after which a phase is tried again by itself; it costs money
FIRST_HEAL = timedelta(minutes=1)
LAST_HEAL = timedelta(minutes=30)
NAMED = 5  #: files and checks that are named in one sentence

#: Failures whose causes pass: they say nothing about the task.
_HEALS = frozenset(
    {
        FailureKind.LAUNCH,
        FailureKind.CRASHED,
        FailureKind.CRASH_LOOP,
        FailureKind.DISCONNECTED,
        FailureKind.SILENT,
        FailureKind.INTERRUPTED,
        FailureKind.PROVIDER,
        FailureKind.RATE_LIMIT,
        FailureKind.USAGE_LIMIT,
        FailureKind.OVERLOADED,
        FailureKind.SERVER_ERROR,
        FailureKind.NETWORK,
    }
)
_RESUME = "resume_workflow (`hurlicane workflow resume {id}`)"
_DEFAULT_ADVICE = f"See what its agent did, then {_RESUME} tries the phase again."
#: What a person can do about a phase that failed so. `{id}` stands for the workflow.
_ADVICE: Mapping[FailureKind, str] = MappingProxyType(
    {
        FailureKind.AGENT: "Read what the agent says. Change the task's surroundings or the note "
        f"with the plan, then {_RESUME} tries the phase again.",
        FailureKind.AUTH: f"Log the CLI in, then {_RESUME}.",
        FailureKind.BILLING: f"Pay, or choose another model in a new workflow, then {_RESUME}.",
        FailureKind.UNKNOWN_MODEL: "The account has no such model: cancel it, and create it anew "
        "with another implementer or reviewer.",
        FailureKind.CONTEXT_OVERFLOW: "The conversation was too long: make the milestones in the "
        f"plan smaller, then {_RESUME}.",
        FailureKind.LAUNCH: f"Mend what the reason names, then {_RESUME}.",
        FailureKind.BUDGET: "The phase has no money left: cancel it, and create it anew with more.",
    }
)


def advance(view: WorkflowView) -> Decision:
    """What comes after a phase that has ended."""
    decision = _next(view)
    costs = isinstance(decision, Start) and decision.position.phase.is_job
    if costs and view.is_budget_spent:
        return _incomplete(view, "its budget is spent")
    return decision


def asks_for_checks(view: WorkflowView) -> bool:
    """Whether what comes next depends on the checks, which may take an hour."""
    failing = replace(view.evidence, failed_checks=("one",))
    return advance(view) != advance(replace(view, evidence=failing))


def _next(view: WorkflowView) -> Decision:
    if view.ended.status is JobStatus.CANCELLED:
        advice = f"{_RESUME} starts the phase again; cancel_workflow ends the workflow."
        return _block(view, BlockKind.PHASE_CANCELLED, f"{_named(view)} was cancelled.", advice)
    if view.ended.status is JobStatus.FAILED and not _is_verdict(view):
        return _failed(view)
    wrong = _wrong_branch(view)
    if wrong is not None:
        return wrong
    match view.at.phase:
        case Phase.ASSESS | Phase.REPAIR:
            return _planned(view)
        case Phase.REVIEW:
            return _reviewed(view)
        case Phase.IMPLEMENT:
            return _implemented(view)
        case Phase.VERIFY:
            return _verified(view)
        case Phase.PUBLISH:
            return _complete(view)


def heal_delay(heals: int) -> timedelta:
    """How long to wait before a block is tried again that was tried *heals* times in a row."""
    return min(LAST_HEAL, FIRST_HEAL * 2 ** min(heals, 10))


def block_of(kind: BlockKind, reason: str, heals: int) -> Block:
    """A block by what surrounds the workflow, such as its worktree or a remote that is away.

    Looking again costs nothing, so it is tried until the cause is gone.
    """
    advice = f"Mend what the reason names, then {_RESUME}."
    return Block(kind, reason, advice, heal_delay(heals))


def _is_verdict(view: WorkflowView) -> bool:
    """Whether a failure is an answer that the workflow goes on with."""
    kind = view.ended.failure.kind if view.ended.failure else None
    match view.at.phase:
        case Phase.VERIFY:
            return kind in (FailureKind.AGENT, FailureKind.CHECKS)
        case Phase.IMPLEMENT:
            return kind is FailureKind.CHECKS
        case _:
            return False


def _failed(view: WorkflowView) -> Decision:
    failure = view.ended.failure or Failure(FailureKind.AGENT, "It gave no reason.")
    if failure.kind is FailureKind.BUDGET and view.is_budget_spent:
        return _incomplete(view, failure.reason)
    heals = failure.kind in _HEALS and view.heals < MAX_HEALS
    return _block(
        view,
        BlockKind.PHASE_FAILED,
        f"{_named(view)} failed ({failure.kind}): {failure.reason}",
        _ADVICE.get(failure.kind, _DEFAULT_ADVICE),
        heal_delay(view.heals) if heals else None,
    )


def _wrong_branch(view: WorkflowView) -> Block | None:
    found = view.evidence.branch
    if view.branch is None or not view.evidence.is_repository or found == view.branch:
        return None
    where = f"on branch {found}" if found else "on no branch"
    reason = f"Its worktree is {where} instead of {view.branch}."
    advice = (
        f"Look at what is there, `git switch {view.branch}` in the worktree, merge what you want "
        f"to keep, then {_RESUME}."
    )
    return _block(view, BlockKind.WRONG_BRANCH, reason, advice)


def _planned(view: WorkflowView) -> Decision:
    at = view.at
    if view.milestones == 0:
        return _repair(view, at.try_number if at.phase is Phase.REPAIR else 0)
    if at.cycle == 0:
        return _start(view, Position(1, Phase.REVIEW))
    return _start(view, Position(at.cycle, Phase.IMPLEMENT))


def _repair(view: WorkflowView, tries: int) -> Decision:
    if tries < MAX_REPAIRS:
        problem = "The plan has no milestones: lines that begin with `- [ ]`."
        return _start(view, Position(view.at.cycle, Phase.REPAIR, tries + 1), problem)
    return _block(
        view,
        BlockKind.NO_PLAN,
        f"The plan has no milestones, also after {tries} repairs.",
        "Write the note workflow/{id}/plan yourself, with a line `- [ ] …` for each milestone "
        f"(`hurlicane note set KEY -` reads standard input), then {_RESUME}.",
    )


def _reviewed(view: WorkflowView) -> Decision:
    if view.milestones == 0:
        return _repair(view, 0)
    if not view.is_all_done:
        return _start(view, Position(view.at.cycle, Phase.IMPLEMENT))
    return _finish(view)


def _implemented(view: WorkflowView) -> Decision:
    moved = view.evidence.head is not None and view.evidence.head != view.head_before
    idle = 0 if moved or view.done > view.done_before else view.idle_cycles + 1
    if idle >= MAX_IDLE_CYCLES:
        return _block(
            view,
            BlockKind.NO_PROGRESS,
            f"{idle} implementations in a row have committed nothing and checked no milestone.",
            "Read their worklogs; make the top milestone of the plan smaller or clearer, then "
            f"{_RESUME}.",
            idle_cycles=0,
        )
    if view.at.cycle < view.max_cycles:
        failure = view.ended.failure
        problem = (f"The last implementation ended with: {failure.reason}",) if failure else ()
        return _start(view, Position(view.at.cycle + 1, Phase.REVIEW), *problem, idle=idle)
    if view.is_all_done:
        return _finish(view)
    return _incomplete(view)


def _finish(view: WorkflowView) -> Decision:
    """The plan says that all is done: whether that is so, and what comes then."""
    problems = _contradictions(view)
    if problems:
        return _mend(view, problems, view.verifications)
    if view.verify and view.at.phase is not Phase.VERIFY:
        return _start(view, Position(view.at.cycle, Phase.VERIFY))
    if view.publish is Publish.NONE:
        return _complete(view)
    return _start(view, Position(view.at.cycle, Phase.PUBLISH))


def _contradictions(view: WorkflowView) -> tuple[str, ...]:
    found = view.evidence
    problems: list[str] = []
    if found.is_repository and found.dirty:
        problems.append(f"commit or remove what is not committed: {_names(found.dirty)}")
    elif found.is_repository and found.commits == 0:
        problems.append("nothing was committed, so nothing can be done yet")
    problems += [f"a check fails: {one}" for one in found.failed_checks[:NAMED]]
    return tuple(problems)


def _mend(view: WorkflowView, problems: tuple[str, ...], verifications: int) -> Decision:
    """One more implementation, for what contradicts the plan."""
    # A review is followed by the implementation of its own cycle.
    cycle = view.at.cycle if view.at.phase is Phase.REVIEW else view.at.cycle + 1
    if cycle > view.max_cycles:
        return _incomplete(view, *problems)
    return Start(
        Position(cycle, Phase.IMPLEMENT),
        problems,
        tuple(f"Fix: {problem}" for problem in problems),
        view.idle_cycles,
        verifications,
    )


def _verified(view: WorkflowView) -> Decision:
    has_failed = view.ended.status is JobStatus.FAILED
    if not has_failed and view.is_all_done:
        return _finish(view) if view.ended.stopped_by is None else _unverified(view)
    failed = view.verifications + 1
    failure = view.ended.failure
    said = failure.reason if failure is not None else "it added milestones to the plan"
    if failed >= MAX_VERIFICATIONS:
        return _block(
            view,
            BlockKind.VERIFICATION,
            f"Verification has failed {failed} times, at last with: {said}",
            f"Read its result and mend it by hand, or change the plan; then {_RESUME}.",
            verifications=0,
        )
    if has_failed and view.is_all_done:
        return _mend(view, (f"verification failed: {said}",), failed)
    if view.at.cycle >= view.max_cycles:
        return _incomplete(view, f"verification failed: {said}")
    problem = f"Verification failed: {said}"
    where = Position(view.at.cycle + 1, Phase.IMPLEMENT)
    return Start(where, (problem,), (), view.idle_cycles, failed)


def _unverified(view: WorkflowView) -> Decision:
    """The verification was stopped before it said anything: that is no verdict."""
    reason = f"{_named(view)} was stopped by its limit ({view.ended.stopped_by}) before its verdict"
    if view.is_budget_spent:
        return _incomplete(view, reason)
    advice = f"See how far it came, then {_RESUME} verifies again."
    return _block(view, BlockKind.VERIFICATION, f"{reason}.", advice)


def _complete(view: WorkflowView) -> End:
    said = f"All {view.milestones} milestones are done after {view.at.cycle} cycles."
    return End(WorkflowState.COMPLETE, said)


def _incomplete(view: WorkflowView, *problems: str) -> End:
    said = (
        f"{view.done} of {view.milestones} milestones are checked after {view.at.cycle} of "
        f"{view.max_cycles} cycles"
    )
    return End(WorkflowState.INCOMPLETE, "; ".join((said, *problems)) + ".")


def _start(
    view: WorkflowView, position: Position, *problems: str, idle: int | None = None
) -> Start:
    idle_cycles = view.idle_cycles if idle is None else idle
    return Start(position, problems, (), idle_cycles, view.verifications)


def _block(
    view: WorkflowView,
    kind: BlockKind,
    reason: str,
    advice: str,
    heals_after: timedelta | None = None,
    *,
    idle_cycles: int | None = None,
    verifications: int | None = None,
) -> Block:
    idle = view.idle_cycles if idle_cycles is None else idle_cycles
    failed = view.verifications if verifications is None else verifications
    return Block(kind, reason, advice, heals_after, idle, failed)


def _named(view: WorkflowView) -> str:
    again = f", try {view.at.try_number}" if view.at.try_number > 1 else ""
    return f"The phase {view.at.phase} of cycle {view.at.cycle}{again}"


def _names(files: tuple[str, ...]) -> str:
    shown = ", ".join(files[:NAMED])
    return shown if len(files) <= NAMED else f"{shown} and {len(files) - NAMED} more"
