"""What the engine needs of an agent CLI: how to start it, and what its output lines mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol, TypeAlias

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.domain.stops import StopMode


@dataclass(frozen=True, slots=True)
class EditGate:
    """Whom a CLI with hooks asks before each edit, for a job that enforces file locks."""

    url: str
    fail_open: bool = False  #: edits pass while nobody answers there


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One attempt that wants a process."""

    prompt: str  #: everything the agent is told at its start
    work_dir: Path
    run_dir: Path  #: private to the attempt (mode 0700); generated files go here
    model: str | None  #: as asked for, an alias or a full id; None for the CLI's own default
    mcp_url: str
    token: str  #: the attempt's bearer token: never in argv, never in a log
    resume: str | None  #: the CLI's own session to go on with; None to begin one
    wait_limit: timedelta  #: how long one tool call of ours may block
    hooks_url: str | None = None  #: where the CLI may send its hooks, if it has such
    edit_gate: EditGate | None = None  #: None: edits need no file lock
    interactive: bool = False  #: in a terminal: with the CLI's own screen instead of a stream
    top: Path | None = None  #: of the worktree that is all its own, if it works further below
    max_turns: int | None = None  #: for CLIs that count themselves; those of this process
    max_budget_usd: Decimal | None = None  #: the same for what this process may cost


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """A process to start: an argv list, never a shell string.

    The agent's environment is the server's own, less every variable named `HURLICANE_…` and less
    `unset`, plus `env`.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    unset: frozenset[str] = frozenset()
    files: Mapping[Path, str] = field(default_factory=dict[Path, str])  #: written with mode 0600
    stdin: str = ""  #: the process reads this and then end-of-file
    session_id: str | None = None  #: the session, if it is known before the CLI tells


# What a line of output can mean. A provider turns each line into any number of these.


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """The CLI named its session; it can be resumed under this id."""

    session_id: str


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """The model that really answered, by its resolved id."""

    model: str


@dataclass(frozen=True, slots=True)
class TurnSeen:
    """One model request was answered. Two lines about one request carry the same id."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts. `input` excludes what was read from or written to a cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What this process has used so far; a later one replaces an earlier one."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """A figure that the CLI counts over the whole session, earlier processes included.

    What this attempt used is the difference to the `SessionBase`, if the CLI tells one, else to the
    last figure of the attempts before it. A figure lower than that is booked whole.
    """

    tokens: Tokens | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SessionBase:
    """What the session had used before this process began, by the CLI's own figures.

    It comes before the `SessionUsage` that it is a part of, and replaces what is known of the
    attempts before. Of one that was killed the CLI may have booked all or nothing.
    """

    tokens: Tokens
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class RequestUsage:
    """What one model request has used so far, told while the agent is at work.

    Of several with the same id the largest of each count holds: one may tell the prompt and the
    next the answer. `SessionUsage` or `RunUsage`, the CLI's own final figure, replaces the sum of
    them all.
    """

    request_id: str  #: empty for the request that was named last
    model: str  #: as the API names it; empty if the CLI does not say, or has said it before
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class ThreadUsage:
    """What one thread of the session has used so far, in earlier processes too, told while the
    agent is at work.

    It only grows: one that is lower than what is known is old, so they may be read again. For the
    session's own thread the same figure comes as `SessionUsage` at the end, if it comes to that.
    """

    thread: str  #: empty for the session's own; else of an agent that the CLI has started itself
    model: str  #: of what came on top; empty if the CLI does not say
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class MessageSeen:
    """Text that the agent said; the last one is its last message."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolSeen:
    """A tool call began or ended, for the people who follow the log."""

    name: str
    detail: str  #: one line, at most 200 characters
    finished: bool
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A call failed because the CLI has no connection to our server, or does not know our tools.

    It is proof that the agent cannot reach us now; a later call takes it back.
    """

    text: str  #: the CLI's words, one line
    #: Whether the CLI knows that it has no connection. Otherwise one call has failed, and the next
    #: one connects anew: an agent that works on without calling is not lost.
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class WarningSeen:
    """Something that a person should know, such as a permission that was denied."""

    text: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The agent's permissions did not allow a tool call."""

    text: str  #: which one, one line


@dataclass(frozen=True, slots=True)
class Refused:
    """The model refused to answer. `ErrorCleared` or `TurnSeen` takes back what is not final."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Stopped:
    """The CLI ended the run because it has reached a limit that we gave it."""

    mode: StopMode


@dataclass(frozen=True, slots=True)
class ErrorSeen:
    """The CLI reported an error that ends the run unless something good follows."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorCleared:
    """The run went on, or ended well, after an `ErrorSeen`."""


Reading: TypeAlias = (
    SessionSeen
    | ModelSeen
    | TurnSeen
    | RunUsage
    | SessionBase
    | SessionUsage
    | RequestUsage
    | ThreadUsage
    | MessageSeen
    | ToolSeen
    | ConnectionLost
    | WarningSeen
    | Denied
    | Refused
    | Stopped
    | ErrorSeen
    | ErrorCleared
)


@dataclass(frozen=True, slots=True)
class ThreadSeen:
    """A thread has started another one, which has a file of its own."""

    thread_id: str


SideReading: TypeAlias = ThreadUsage | ThreadSeen


class SideFile(Protocol):
    """A file of a CLI's own that tells what one of its threads uses, while the agent is at work.

    It is made for one reading of the file from its beginning, whose lines it may remember.
    """

    def find(self) -> Path | None:
        """Where the file is; None while the CLI has not made it. Blocks for a moment."""
        ...

    def parse_line(self, line: bytes) -> Sequence[SideReading]:
        """What one whole line means; nothing for most. Never raises."""
        ...


class Provider(Protocol):
    """An adapter to one agent CLI. It holds settings, never state of a run."""

    @property
    def name(self) -> str:
        """`claude`, `codex`, `scripted`."""
        ...

    @property
    def tells_cost(self) -> bool:
        """Whether the CLI itself says what a run has cost, at its end at the latest."""
        ...

    @property
    def gates_edits(self) -> bool:
        """Whether the CLI can be made to ask an `EditGate` before each edit."""
        ...

    def check_model(self, model: str) -> None:
        """Refuse a model that this CLI cannot have.

        Raises:
            Invalid: the message lists what is known.
        """
        ...

    def resolve_model(self, model: str | None) -> str:
        """The full id that *model* stands for, as the ledger of limits knows it.

        A name that the catalog does not know stays as it is; None, the CLI's default, is empty.
        """
        ...

    def keeps_session(self, before: str | None, after: str | None) -> bool:
        """Whether *after* can go on in a session in which *before* has worked; None: the default.

        Also while *before* refuses to answer, so that it cannot be asked for a summary.
        """
        ...

    def cost(self, model: str, tokens: Tokens) -> Decimal | None:
        """US dollars for *tokens* of a *model*, an id or an alias; None if no price is known."""
        ...

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start the CLI for *request*. Pure but for looking the program up and new names.

        Raises:
            LaunchFailed: the program is missing; the message says how to install it.
        """
        ...

    def ask(self, prompt: str, model: str, folder: Path) -> LaunchSpec:
        """How to have *model* answer *prompt* once, headless in *folder*: a call, not an agent.

        It gets no tools of ours, and none of its own if that can be said; nothing is to be kept.
        The spec has no files. The answer is the last `MessageSeen` of its output.

        Raises:
            LaunchFailed: the program is missing.
        """
        ...

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one whole line of standard output means; nothing for a line it does not know.

        Never raises: output is the CLI's, so garbage, half JSON and new events are skipped.
        """
        ...

    def announced_wait(self, refusal: Refusal, complaints: str) -> timedelta | None:
        """How long the CLI waits after a *refusal* of its output that does not say it.

        None if *complaints*, the end of its standard error, do not tell that either. Never raises.
        """
        ...

    def read_screen(self, screen: str) -> Refusal | None:
        """The refusal that *screen*, all that an agent's terminal shows now, ends with.

        None while the model answers, and when nobody has asked it. The text of a refusal stays the
        same while the CLI counts down. Never raises.
        """
        ...

    def side_file(self, session_id: str, thread_id: str) -> SideFile | None:
        """What a thread of this session (its own has its id) uses, beside its output.

        None if the output tells all.
        """
        ...
