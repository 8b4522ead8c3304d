"""What a script can say: its steps as values."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Scope

Mode: TypeAlias = Literal["auto", "legacy"]
OnError: TypeAlias = Literal["continue", "fail"]
Cli: TypeAlias = Literal["claude", "codex"]


@dataclass(frozen=True, slots=True)
class Call:
    """Call a tool of the MCP server."""

    tool: str
    args: Mapping[str, object] = field(default_factory=dict[str, object])
    store_as: str | None = None
    expect_error: str | None = None  #: the code that it must fail with; `any` for whichever
    on_error: OnError | None = None


@dataclass(frozen=True, slots=True)
class Parallel:
    """Run sequences of steps side by side."""

    branches: tuple[tuple["Step", ...], ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """Append to a file, or write it anew. Its folder is made if need be."""

    path: str
    text: str
    append: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """Edit a file and commit it, and nothing else, to git."""

    edit: Edit
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Run a program in the work folder."""

    argv: tuple[str, ...]
    store_as: str | None = None
    on_error: OnError | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Say something: an agent's message."""

    text: str


@dataclass(frozen=True, slots=True)
class Warn:
    """Report something that a person should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Print:
    """Put a line on standard output that is no event."""

    text: str


@dataclass(frozen=True, slots=True)
class PrintBytes:
    """Put one line of this many bytes on standard output."""

    count: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Use tokens and money."""

    input: int
    output: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Request:
    """Have a request answered by the model: a turn, with what it uses."""

    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Deny:
    """Be denied a tool call by the permissions."""

    text: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Be refused by the model, and give up or wait and ask again."""

    kind: FailureKind
    text: str
    scope: Scope = Scope.MODEL
    final: bool = True
    wait_s: float = 1.0  #: until it asks again, if it does not give up
    silent: bool = False  #: it does not say how long it waits
    times: int | None = None  #: over all processes of the session; None: always
    resets_in_s: float | None = None  #: from the first time; then it is over
    models: frozenset[str] | None = None  #: those that refuse; None: whichever


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Lose the MCP connection for good."""


@dataclass(frozen=True, slots=True)
class IgnoreTerm:
    """Take no notice of SIGTERM from here on."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Be refused by the model's endpoint as that CLI would be, and give up."""

    cli: Cli


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class Crash:
    """Be ended by a signal."""

    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class Hang:
    """Do nothing for ever."""


#: Steps that end the agent, by itself or by somebody's hand.
Ending: TypeAlias = RateLimit | Exit | Crash | Hang
Step: TypeAlias = (
    Call | Parallel | Edit | Commit | Run | Say | Warn | Print | PrintBytes | Usage | Request
    | Deny | Refuse | Sleep | Disconnect | IgnoreTerm | Ending
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """What an agent does."""

    steps: tuple[Step, ...]
    on_resume: tuple[Step, ...] | None = None
    mode: Mode | None = None
    on_error: OnError = "fail"
