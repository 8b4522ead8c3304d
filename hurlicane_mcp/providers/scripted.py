"""The `scripted` provider: our own agent that follows a script, for rehearsals and tests.

The script's language is documented in `hurlicane_mcp.providers.scripted_agent`.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    LaunchSpec,
    MessageSeen,
    ModelSeen,
    Reading,
    Refused,
    RequestUsage,
    SessionSeen,
    SessionUsage,
    SideFile,
    Stopped,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.catalog import MILLION
from hurlicane_mcp.providers.interactive import FILE
from hurlicane_mcp.providers.output import Json

MODEL = re.compile(r"[\w.\[\]:-]{1,64}")
# A step of an answer, perhaps quoted, and perhaps for one model.
ASKED = re.compile(r"^[> ]*\?([\w.\[\]:-]*) +(\S.*)$", re.MULTILINE)
# The agent's own limit must not cut a call off that the server is about to answer.
CALL_MARGIN_S = 60
LONGEST_WAIT_S = 10**6


class ScriptedProvider:
    """Starts the scripted agent, and reads its stream."""

    def __init__(self, python: str = sys.executable) -> None:
        """*python* runs the agent; this package must be installed for it."""
        self._python = python

    @property
    def name(self) -> str:
        """`scripted`."""
        return "scripted"

    @property
    def tells_cost(self) -> bool:
        """True: as its script says."""
        return True

    @property
    def gates_edits(self) -> bool:
        """False: its script says what it writes."""
        return False

    def check_model(self, model: str) -> None:
        """Accept any name: the agent claims to be the model that it is given.

        Raises:
            Invalid: it has other characters than letters, digits and `_ . [ ] : -`, or over 64.
        """
        if MODEL.fullmatch(model) is None:
            raise Invalid(
                "A scripted agent's model is any name of 1 to 64 letters, digits and _ . [ ] : -"
            )

    def resolve_model(self, model: str | None) -> str:
        """*model* itself: a scripted agent has no aliases."""
        return model or ""

    def keeps_session(self, before: str | None, after: str | None) -> bool:
        """True: the history is sent as it is."""
        return True

    def cost(self, model: str, tokens: Tokens) -> Decimal | None:
        """US dollars for *tokens*: each costs a millionth, whatever the model is called."""
        spent = tokens.input + tokens.output + tokens.cache_read + tokens.cache_write
        return Decimal(spent) / MILLION

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start the agent; the prompt goes by stdin, or by a file if it has a terminal.

        It names its session itself; on a terminal, where nobody reads that, we do.
        """
        # -P: a folder in the work tree called `mcp` or `yaml` must not be imported.
        argv = [self._python, "-P", "-m", "hurlicane_mcp.providers.scripted_agent"]
        if request.model is not None:
            argv += ["--model", request.model]
        if request.max_turns is not None:
            argv += ["--max-turns", str(request.max_turns)]
        if request.resume is not None:
            argv += ["--resume", request.resume]
        env = {
            "HURLICANE_MCP_URL": request.mcp_url,
            "HURLICANE_TOKEN": request.token,
            "SCRIPTED_SESSIONS": str(request.run_dir.parent / "scripted-sessions"),
            "SCRIPTED_CALL_LIMIT_S": str(int(request.wait_limit.total_seconds()) + CALL_MARGIN_S),
        }
        if not request.interactive:
            return LaunchSpec(argv=tuple(argv), env=env, stdin=request.prompt)
        file, session = request.run_dir / FILE, request.resume or str(uuid4())
        argv += ["--prompt-file", str(file)]
        argv += [] if request.resume else ["--session", session]
        files = {file: request.prompt}
        return LaunchSpec(argv=tuple(argv), env=env, files=files, session_id=session)

    def ask(self, prompt: str, model: str, folder: Path) -> LaunchSpec:
        """How to have the agent answer once: it follows the lines of *prompt* that begin with `?`.

        `? say simple` is a step for every model, `?haiku refuse rate_limit` one for haiku alone.
        A quoted line (`> ? say simple`) counts as well. Without any it says nothing.
        """
        found = ASKED.findall(prompt)
        steps = (f"! {step}" for name, step in found if name in ("", model))
        argv = (self._python, "-P", "-m", "hurlicane_mcp.providers.scripted_agent")
        env = {"SCRIPTED_SESSIONS": str(folder)}
        script = "\n".join(steps) or "! exit 0"
        return LaunchSpec((*argv, "--model", model), env, stdin=script)

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one line of the agent's stream means; nothing for a line that is not of it."""
        event = Json.parse(line)
        read = READERS.get(event["event"].text)
        return () if read is None else read(event)

    def announced_wait(self, refusal: Refusal, complaints: str) -> timedelta | None:
        """None: what is known of a wait is in its output."""
        return None

    def read_screen(self, screen: str) -> Refusal | None:
        """The refusal that the last event on *screen* tells, while it is the last one."""
        lines = [line for line in screen.splitlines() if line.strip()]
        told = self.parse_line(lines[-1].encode(errors="replace")) if lines else ()
        return next((one.refusal for one in told if isinstance(one, Refused)), None)

    def side_file(self, session_id: str, thread_id: str) -> SideFile | None:
        """None: its output tells all."""
        return None


def _session(event: Json) -> Sequence[Reading]:
    session, model = event["session_id"].text, event["model"].text
    return (
        *((SessionSeen(session),) if session else ()),
        *((ModelSeen(model),) if model else ()),
    )


def _tool(event: Json) -> Sequence[Reading]:
    return (
        ToolSeen(
            name=event["name"].text,
            detail=event["detail"].brief,
            finished=event["phase"].text == "end",
            is_error=event["is_error"].is_true,
        ),
    )


def _usage(event: Json) -> Sequence[Reading]:
    tokens = Tokens(input=event["input"].count, output=event["output"].count)
    return (SessionUsage(tokens, event["cost_usd"].usd),)


def _request(event: Json) -> Sequence[Reading]:
    tokens = Tokens(input=event["input"].count, output=event["output"].count)
    return (RequestUsage(event["id"].text, event["model"].text, tokens),)


def _refused(event: Json) -> Sequence[Reading]:
    kind, text, is_final = event["kind"].text, event["text"], event["final"].is_true
    if kind not in tuple(FailureKind):
        return ()
    wait, reset = event["wait_s"].amount, event["resets_at"].amount
    refusal = Refusal(
        FailureKind(kind),
        text.brief,
        Scope.ACCOUNT if event["scope"].text == Scope.ACCOUNT else Scope.MODEL,
        resets_at=_moment(reset) if reset is not None else None,
        is_final=is_final,
        cli_waits=timedelta(seconds=float(min(wait, LONGEST_WAIT_S))) if wait is not None else None,
    )
    return (*((ErrorSeen(text.text),) if is_final else ()), Refused(refusal))


def _moment(epoch: Decimal) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _foreign(event: Json) -> Sequence[Reading]:
    """A line of another CLI, of which only the final refusal matters here."""
    line = event["line"]
    if line["type"].text == "result" and line["is_error"].is_true:
        return (ErrorSeen(line["result"].text),)
    if line["type"].text == "turn.failed":
        return (ErrorSeen(line["error"]["message"].text),)
    return ()


READERS: Mapping[str, Callable[[Json], Sequence[Reading]]] = MappingProxyType(
    {
        "session": _session,
        "turn": lambda event: (TurnSeen(event["id"].text),),
        "message": lambda event: (MessageSeen(event["text"].text),),
        "tool": _tool,
        "disconnected": lambda event: (ConnectionLost(event["text"].brief),),
        "usage": _usage,
        "request": _request,
        "denied": lambda event: (Denied(event["text"].brief),),
        "refused": _refused,
        "answered": lambda _: (ErrorCleared(),),
        "stopped": lambda _: (Stopped(StopMode.TURNS),),
        "warning": lambda event: (WarningSeen(event["text"].text),),
        "error": lambda event: (ErrorSeen(event["text"].text),),
        "foreign": _foreign,
        "result": lambda _: (ErrorCleared(),),
    }
)
