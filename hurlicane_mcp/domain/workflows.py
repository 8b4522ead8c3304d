"""A workflow: assess → review → implement → review → … What it is, and what decides its way."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from hurlicane_mcp.domain.failures import Failure
from hurlicane_mcp.domain.jobs import JobStatus

CYCLES = range(1, 51)


class WorkflowState(StrEnum):
    """Where a workflow is in its life. The last three are final."""

    RUNNING = "running"
    BLOCKED = "blocked"  #: a person has to do something, or it is tried again by itself
    COMPLETE = "complete"  #: every milestone is checked, and the evidence agrees
    INCOMPLETE = "incomplete"  #: its cycles or its budget are used up
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a workflow does at a time. All but PUBLISH are jobs of an agent."""

    ASSESS = "assess"  #: the implementer reads the code and writes the plan
    REVIEW = "review"  #: the reviewer improves the plan; from cycle 2 on it reviews the code
    IMPLEMENT = "implement"  #: the implementer does the top open milestone
    VERIFY = "verify"  #: an agent builds, runs and tests the result
    REPAIR = "repair"  #: a plan without milestones is written anew
    PUBLISH = "publish"  #: the server pushes the branch

    @property
    def is_job(self) -> bool:
        """Whether an agent does it."""
        return self is not Phase.PUBLISH


class Publish(StrEnum):
    """What becomes of the branch of a workflow that is complete."""

    NONE = "none"  #: it stays where it is
    BRANCH = "branch"  #: it is pushed, if there is a remote
    PULL_REQUEST = "pull_request"  #: it is pushed, and a pull request is opened with `gh`


class BlockKind(StrEnum):
    """Why a workflow cannot go on by itself."""

    PHASE_FAILED = "phase_failed"
    PHASE_CANCELLED = "phase_cancelled"
    NO_PLAN = "no_plan"
    NO_PROGRESS = "no_progress"
    WRONG_BRANCH = "wrong_branch"
    VERIFICATION = "verification"
    WORKTREE = "worktree"  #: git cannot read it
    BUDGET = "budget"  #: the next phase asks for more than is left
    PUBLISHING = "publishing"
    PROMPT = "prompt"  #: a template of the user's cannot be rendered
    FAULT = "fault"  #: the next phase cannot be begun, for a reason that nobody foresaw


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One try at one phase of one cycle; a workflow is at each of them once at most."""

    cycle: int
    phase: Phase
    try_number: int = 1

    @property
    def again(self) -> "Position":
        """The next try at the same phase."""
        return Position(self.cycle, self.phase, self.try_number + 1)


def first_position() -> Position:
    """Where a workflow begins."""
    return Position(0, Phase.ASSESS)


@dataclass(frozen=True, slots=True)
class Ended:
    """How the job of a phase ended."""

    status: JobStatus
    failure: Failure | None = None
    result: str = ""
    stopped_by: str | None = None  #: its limit, if that ended it and not its agent


@dataclass(frozen=True, slots=True)
class Evidence:
    """What git and the checks say, whatever the plan says."""

    is_repository: bool = True
    branch: str | None = None  #: what is checked out; None for a commit without a branch
    head: str | None = None
    dirty: tuple[str, ...] = ()  #: files that are not committed
    commits: int = 0  #: since the workflow began
    failed_checks: tuple[str, ...] = ()  #: in words; known once every milestone is checked


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """All that decides what comes after the phase *at*, which has ended."""

    at: Position
    ended: Ended
    max_cycles: int
    milestones: int  #: in the plan as it is now
    done: int  #: how many of them are checked
    done_before: int = 0  #: the same when the phase began
    head_before: str | None = None
    evidence: Evidence = field(default_factory=Evidence)
    branch: str | None = None  #: the one that its worktree has to be on; None without a worktree
    verify: bool = False
    publish: Publish = Publish.BRANCH
    idle_cycles: int = 0
    verifications: int = 0
    heals: int = 0
    is_budget_spent: bool = False

    @property
    def is_all_done(self) -> bool:
        """Whether the plan says that nothing is left."""
        return 0 < self.milestones <= self.done


@dataclass(frozen=True, slots=True)
class Start:
    """Begin this phase."""

    position: Position
    problems: tuple[str, ...] = ()  #: what its agent is to know of
    new_milestones: tuple[str, ...] = ()  #: for the plan, unless its agents have added some
    idle_cycles: int = 0
    verifications: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Wait for a person, or until *heals_after* has passed."""

    kind: BlockKind
    reason: str
    advice: str
    heals_after: timedelta | None = None
    idle_cycles: int = 0
    verifications: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """It is over."""

    state: WorkflowState
    reason: str


Decision: TypeAlias = Start | Block | End
