"""Recordings of the real CLIs, and what their readings come to."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Provider,
    Reading,
    Refused,
    RequestUsage,
    SessionBase,
    SessionSeen,
    SessionUsage,
    Stopped,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True, slots=True)
class Run:
    """All that one run of a CLI said, in the sense in which the engine takes readings."""

    session: str | None = None
    model: str | None = None
    requests: frozenset[str] = field(default_factory=frozenset[str])
    message: str | None = None
    error: str | None = None
    calls: tuple[str, ...] = ()  #: the tools that were called, by name
    failed_calls: tuple[str, ...] = ()  #: what they answered
    losses: tuple[str, ...] = ()  #: how it said that it could not reach us
    warnings: tuple[str, ...] = ()
    denials: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    stopped: StopMode | None = None
    live: tuple[RequestUsage, ...] = ()
    usage: SessionUsage | None = None

    @property
    def turns(self) -> int:
        return len(self.requests)


def recordings(provider: str, suffix: str = ".ndjson") -> list[Path]:
    """Every recording of *provider*, by name."""
    return sorted((DATA / provider).glob(f"*{suffix}"))


def replay(provider: Provider, name: str) -> Run:
    """What *provider* reads in its recording *name*."""
    run = Run()
    for line in (DATA / provider.name / f"{name}.ndjson").read_bytes().splitlines():
        for reading in provider.parse_line(line):
            run = _after(run, reading)
    return run


def _after(run: Run, reading: Reading) -> Run:
    match reading:
        case SessionSeen(session):
            return replace(run, session=session)
        case ModelSeen(model):
            return replace(run, model=model)
        case TurnSeen(request):
            return replace(run, requests=run.requests | {request})
        case MessageSeen(text):
            return replace(run, message=text)
        case ErrorSeen(text):
            return replace(run, error=text)
        case ErrorCleared():
            return replace(run, error=None)
        case ToolSeen(name, _, finished=False):
            return replace(run, calls=(*run.calls, name))
        case ToolSeen(_, detail, is_error=True):
            return replace(run, failed_calls=(*run.failed_calls, detail))
        case ToolSeen():
            return run
        case ConnectionLost(text):
            return replace(run, losses=(*run.losses, text))
        case WarningSeen(text):
            return replace(run, warnings=(*run.warnings, text))
        case _:
            return _with_figures(run, reading)


def _with_figures(run: Run, reading: Reading) -> Run:
    match reading:
        case SessionUsage():
            return replace(run, usage=reading)
        case SessionBase():
            return run  # what the engine makes of it is tested there
        case RequestUsage():
            return replace(run, live=(*run.live, reading))
        case Refused(refusal):
            return replace(run, refusals=(*run.refusals, refusal))
        case Denied(text):
            return replace(run, denials=(*run.denials, text))
        case Stopped(mode):
            return replace(run, stopped=mode)
        case _:
            raise AssertionError("both CLIs are booked by the figures of their whole session")
