"""Why a job or an attempt failed: a closed list of kinds, each with one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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
    PROVIDER = "provider"  #: the agent's CLI gave up, for none of the following reasons
    RATE_LIMIT = "rate_limit"  #: too many requests for now (429)
    USAGE_LIMIT = "usage_limit"  #: what the plan allows is used up until a reset
    SPEND_LIMIT = "spend_limit"  #: a limit that the account has set for its spending
    OVERLOADED = "overloaded"  #: the provider has too much to do (529, "at capacity")
    SERVER_ERROR = "server_error"  #: the model's endpoint failed (5xx)
    NETWORK = "network"  #: the model's endpoint cannot be reached
    BILLING = "billing"  #: no credit, no quota, a payment that is due
    AUTH = "auth"  #: the CLI is not logged in, or its key is refused (401, 403)
    UNKNOWN_MODEL = "unknown_model"  #: there is no such model for this account (404)
    CONTEXT_OVERFLOW = "context_overflow"  #: the conversation is too long for the model
    BUDGET = "budget"  #: what the job may cost is spent
    CHECKS = "checks"  #: what had to hold before it may be done did not, too often
    INCOMPLETE = "incomplete"  #: a workflow used up its cycles or its budget
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
        FailureKind.BUDGET,
        # Nothing changes by trying again; somebody has to log in, or to name another model.
        FailureKind.AUTH,
        FailureKind.BILLING,
        FailureKind.UNKNOWN_MODEL,
    }
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a refusal of one kind does to the ledger of limits."""

    marks_account: bool  #: always the whole account, and not only the model
    lasts: bool  #: until somebody clears it, unless an end was announced


#: What is done about a refusal of each kind: the model, or its account, is not used for a while,
#: and the job goes on with the next one. A kind that is not here ends the attempt as a failure.
POLICIES: Mapping[FailureKind, Policy] = MappingProxyType(
    {
        FailureKind.RATE_LIMIT: Policy(marks_account=False, lasts=False),
        FailureKind.USAGE_LIMIT: Policy(marks_account=False, lasts=False),
        FailureKind.SPEND_LIMIT: Policy(marks_account=True, lasts=True),
        FailureKind.OVERLOADED: Policy(marks_account=False, lasts=False),
        FailureKind.SERVER_ERROR: Policy(marks_account=False, lasts=False),
        FailureKind.NETWORK: Policy(marks_account=True, lasts=False),
        FailureKind.BILLING: Policy(marks_account=True, lasts=True),
        FailureKind.AUTH: Policy(marks_account=True, lasts=True),
        FailureKind.UNKNOWN_MODEL: Policy(marks_account=False, lasts=False),
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind and a reason: one or two sentences for a person or a model."""

    kind: FailureKind
    reason: str
