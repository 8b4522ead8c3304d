"""The `scripted` provider: our own agent that follows a script, for rehearsals and tests.

The script's language is documented in `hurlicane_mcp.providers.scripted_agent`.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from uuid import uuid4

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    LaunchSpec,
    MessageSeen,
    ModelSeen,
    Reading,
    SessionSeen,
    SessionUsage,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.interactive import FILE
from hurlicane_mcp.providers.output import Json

MODEL = re.compile(r"[\w.\[\]:-]{1,64}")
# The agent's own limit must not cut a call off that the server is about to answer.
CALL_MARGIN_S = 60


class ScriptedProvider:
    """Starts the scripted agent, and reads its stream."""

    def __init__(self, python: str = sys.executable) -> None:
        """*python* runs the agent; this package must be installed for it."""
        self._python = python

    @property
    def name(self) -> str:
        """`scripted`."""
        return "scripted"

    def check_model(self, model: str) -> None:
        """Accept any name: the agent claims to be the model that it is given.

        Raises:
            Invalid: it has other characters than letters, digits and `_ . [ ] : -`, or over 64.
        """
        if MODEL.fullmatch(model) is None:
            raise Invalid(
                "A scripted agent's model is any name of 1 to 64 letters, digits and _ . [ ] : -"
            )

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start the agent; the prompt goes by stdin, or by a file if it has a terminal.

        It names its session itself; on a terminal, where nobody reads that, we do.
        """
        # -P: a folder in the work tree called `mcp` or `yaml` must not be imported.
        argv = [self._python, "-P", "-m", "hurlicane_mcp.providers.scripted_agent"]
        if request.model is not None:
            argv += ["--model", request.model]
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

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one line of the agent's stream means; nothing for a line that is not of it."""
        event = Json.parse(line)
        read = READERS.get(event["event"].text)
        return () if read is None else read(event)


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
    return (SessionUsage(tokens, event["cost_usd"].amount),)


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
        "warning": lambda event: (WarningSeen(event["text"].text),),
        "error": lambda event: (ErrorSeen(event["text"].text),),
        "foreign": _foreign,
        "result": lambda _: (ErrorCleared(),),
    }
)
