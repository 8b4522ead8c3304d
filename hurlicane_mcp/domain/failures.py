"""Why a job or an attempt failed: a closed list of kinds, each with one sentence."""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """The kinds of failure that a caller can tell apart."""

    AGENT = "agent"  #: the agent itself reported that it could not do the job
    LAUNCH = "launch"  #: the agent's program could not be started
    CRASHED = "crashed"  #: the agent's process ended with an error or was killed
    CRASH_LOOP = "crash_loop"  #: it did so again and again
    DISCONNECTED = "disconnected"  #: the agent could not reach the server, also when resumed
    SILENT = "silent"  #: the agent gave no sign of life, also when resumed
    TOOL_STALLED = "tool_stalled"  #: a tool call of the agent did not end
    INTERRUPTED = "interrupted"  #: the server or the machine failed again and again
    OUTPUT_LIMIT = "output_limit"  #: the agent printed more than it may
    TIME_LIMIT = "time_limit"  #: the agent ran longer than it may
    PROVIDER = "provider"  #: the agent's CLI or its model endpoint gave up
    UNFINISHED = "unfinished"  #: the agent ended, twice, without calling finish_job
    DEPENDENCY = "dependency"  #: a job that this one needed did not become done
    PARENT = "parent"  #: the job that created this one failed or was cancelled
    CANCELLED = "cancelled"  #: somebody cancelled the job

    @property
    def is_retried(self) -> bool:
        """Whether another attempt could do better, so that a job's retry policy applies."""
        return self not in _NOT_RETRIED


_NOT_RETRIED = frozenset(
    {
        FailureKind.LAUNCH,
        FailureKind.DEPENDENCY,
        FailureKind.PARENT,
        FailureKind.CANCELLED,
        FailureKind.INTERRUPTED,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind and a reason: one or two sentences for a person or a model."""

    kind: FailureKind
    reason: str
