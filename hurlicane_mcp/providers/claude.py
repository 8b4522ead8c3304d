"""The `claude` provider: Claude Code, told by flags and read as JSON lines or left to its screen.

What is said here of the CLI was measured with version 2.1.330 in November 2026.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias
from uuid import uuid4

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.providers.base import LaunchRequest, LaunchSpec, Reading, SideFile, Tokens
from hurlicane_mcp.providers.catalog import Catalog
from hurlicane_mcp.providers.claude_hooks import has_hooks, hook_files
from hurlicane_mcp.providers.claude_stream import readings_of
from hurlicane_mcp.providers.interactive import prompt_argument
from hurlicane_mcp.providers.outage import SERVER
from hurlicane_mcp.providers.program import find_program
from hurlicane_mcp.providers.screens import claude_refusal

# The folder is trusted without a question, and what is said stays in the terminal's history.
ON_TERMINAL: Mapping[str, str] = MappingProxyType(
    {"CLAUDE_CODE_SANDBOXED": "1", "CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN": "1"}
)
Permissions: TypeAlias = Literal["edit", "full"] | tuple[str, ...]

OUR_TOOLS = f"mcp__{SERVER}"
SERVERS, SETTINGS = "mcp.json", "settings.json"  # files of a run
STREAM = ("--print", "--output-format", "stream-json", "--verbose")
# What each request uses is told while it is answered.
LIVE = ("--include-partial-messages",)
# A question and its answer. Login, endpoint and key helper of the user's settings stay in use.
ALONE = (
    *("--tools", "", "--strict-mcp-config", "--safe-mode", "--no-session-persistence"),
    *("--max-turns", "1"),
    *("--system-prompt", "Answer with what you are asked for, and with nothing else."),
)
# Root may not skip the permission checks, so "full" is a list of every tool that asks.
EVERY_TOOL = (
    *("Bash", "Edit", "Glob", "Grep", "Monitor", "NotebookEdit", "Read", "Skill", "Task"),
    *("WebFetch", "WebSearch", "Workflow", "Write"),
)
FULL_ID = re.compile(r"claude-[a-z0-9][a-z0-9.-]*(\[1m\])?")
# Of a known model both mean the same: the API answers with a dated id, and `[1m]` changes nothing.
VARIANT = re.compile(r"(?:-\d{8})?(?:\[1m\])?$")
# The CLI must not give a call up that the server is about to answer.
CALL_MARGIN = timedelta(seconds=60)
# What Claude Code puts into its children's environment (seen in its Bash tool). A server started
# there must not pass it on: the agents would take themselves for parts of that session.
MARKS_OF_A_SESSION = frozenset(
    {
        "CLAUDECODE",
        "CLAUDE_CODE_CHILD_NOTES_DIR",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_EXECPATH",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CLAUDE_CODE_MESSAGING_TOKEN",
        "CLAUDE_CODE_SESSION_ATTENDED",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_EFFORT",
        "CLAUDE_PID",
    }
)


@dataclass(frozen=True, slots=True)
class ClaudeProvider:
    """Starts Claude Code with the user's own login and settings, and reads its stream.

    *permissions*: `edit` accepts edits in the work tree and all shell commands; `full` allows every
    tool; a tuple allows these tools, written as Claude Code's rules, and nothing else. Our own
    tools are always allowed.
    """

    program: str = "claude"  #: a name to look up or a path
    permissions: Permissions = "edit"
    catalog: Catalog = field(default_factory=Catalog.load)
    search_path: str | None = None  #: where to look; None for this process's PATH

    @property
    def name(self) -> str:
        """`claude`."""
        return "claude"

    @property
    def tells_cost(self) -> bool:
        """True: with the result of each run."""
        return True

    @property
    def gates_edits(self) -> bool:
        """True: by a hook before its tools for edits. What Bash writes is not seen."""
        return True

    def check_model(self, model: str) -> None:
        """Accept the catalog's names and every `claude-…`; `[1m]` may follow.

        Raises:
            Invalid: *model* is something else; the message lists what is known.
        """
        self.catalog.check(self.name, model, FULL_ID)

    def resolve_model(self, model: str | None) -> str:
        """The full id of *model*, if the catalog knows it, also with a date or `[1m]` behind it."""
        name = model or ""
        known = self.catalog.resolve(self.name, name)
        known = known or self.catalog.resolve(self.name, VARIANT.sub("", name))
        return known.id if known is not None else name

    def keeps_session(self, before: str | None, after: str | None) -> bool:
        """True: the history is sent as it is."""
        return True

    def cost(self, model: str, tokens: Tokens) -> Decimal | None:
        """US dollars for *tokens*, by the catalog's prices."""
        return self.catalog.cost(self.name, self.resolve_model(model), tokens)

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start the CLI for *request*; the prompt goes by standard input.

        Interactive, it is an argument, nobody is asked whether the folder is to be trusted (no more
        than without a terminal), and the session is named by us, since the CLI does not tell. Two
        dialogs remain for a user who has never run the CLI: the first steps, and whether to use the
        key in ANTHROPIC_API_KEY.

        Raises:
            LaunchFailed: the program is missing.
        """
        call_limit_ms = _milliseconds(request.wait_limit + CALL_MARGIN)
        spec = LaunchSpec(
            argv=(
                self._find_program(),
                *(() if request.interactive else (*STREAM, *LIVE)),
                *_file_flags(request),
                *self._permission_flags(),
            ),
            env=_environment(call_limit_ms),
            unset=MARKS_OF_A_SESSION,
            files=_files(request, call_limit_ms),
        )
        if request.interactive:
            return _on_terminal(request, spec)
        argv = (*spec.argv, *_choices(request), *_bounds(request))
        return replace(spec, argv=argv, stdin=request.prompt)

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one line of `stream-json` means; nothing for a line that is not of it."""
        return readings_of(line)

    def announced_wait(self, refusal: Refusal, complaints: str) -> timedelta | None:
        """None: what is known of a wait is in its output."""
        return None

    def read_screen(self, screen: str) -> Refusal | None:
        """The refusal that stands above the input box; None if there is none."""
        return claude_refusal(screen)

    def side_file(self, session_id: str, thread_id: str) -> SideFile | None:
        """None: its stream tells what each request uses."""
        return None

    def ask(self, prompt: str, model: str, folder: Path) -> LaunchSpec:
        """How to have *model* answer once: without tools, servers, hooks, memory or a session.

        What the request holds besides the prompt is 2 kB then, instead of 53.

        Raises:
            LaunchFailed: the program is missing.
        """
        argv = (self._find_program(), *STREAM, *ALONE, "--model", model)
        return LaunchSpec(argv, unset=MARKS_OF_A_SESSION, stdin=prompt)

    def _find_program(self) -> str:
        return find_program(
            self.program,
            self.search_path,
            "Install Claude Code (npm install -g @anthropic-ai/claude-code) and log in once, "
            "or name its program in HURLICANE_CLAUDE_BIN.",
        )

    def _permission_flags(self) -> tuple[str, ...]:
        match self.permissions:
            case "edit":
                mode, allowed = "acceptEdits", ("Bash",)
            case "full":
                mode, allowed = "acceptEdits", EVERY_TOOL
            case tools:
                mode, allowed = "dontAsk", tools
        return ("--permission-mode", mode, "--allowedTools", OUR_TOOLS, *allowed)


def _on_terminal(request: LaunchRequest, spec: LaunchSpec) -> LaunchSpec:
    prompt = prompt_argument(request.prompt, request.run_dir)
    session = request.resume or str(uuid4())
    return replace(
        spec,
        argv=(
            *spec.argv,
            # Behind the other allowed tools: the file is outside of the work tree.
            *(f"Read(/{file})" for file in prompt.files),
            *_choices(request),
            *(() if request.resume else ("--session-id", session)),
            *("--", prompt.text),
        ),
        env={**spec.env, **ON_TERMINAL},
        files={**spec.files, **prompt.files},
        session_id=session,
    )


def _choices(request: LaunchRequest) -> tuple[str, ...]:
    """The model and the session that were asked for."""
    return (
        *(("--model", request.model) if request.model is not None else ()),
        *(("--resume", request.resume) if request.resume is not None else ()),
    )


def _bounds(request: LaunchRequest) -> tuple[str, ...]:
    """What the CLI is to stop itself at. It counts what this process does, not the session."""
    turns, budget = request.max_turns, request.max_budget_usd
    return (
        *(("--max-turns", str(turns)) if turns is not None else ()),
        *(("--max-budget-usd", f"{budget:f}") if budget is not None else ()),
    )


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def _environment(call_limit_ms: int) -> dict[str, str]:
    return {
        "MCP_TOOL_TIMEOUT": str(call_limit_ms),
        "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT": str(call_limit_ms),
        # A wait that moved to the background would end the agent's turn without an answer.
        "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS": "0",
        # Our few tools are told to the model at once instead of being found by a search.
        "ENABLE_TOOL_SEARCH": "false",
    }


def _files(request: LaunchRequest, call_limit_ms: int) -> dict[Path, str]:
    files = {request.run_dir / SERVERS: _mcp_config(request, call_limit_ms)}
    return {**files, **hook_files(request, request.run_dir / SETTINGS)}


def _file_flags(request: LaunchRequest) -> tuple[str, ...]:
    servers, settings = request.run_dir / SERVERS, request.run_dir / SETTINGS
    return (
        *(("--add-dir", str(request.top)) if request.top is not None else ()),
        *("--mcp-config", str(servers), "--strict-mcp-config"),
        *(("--settings", str(settings)) if has_hooks(request) else ()),
    )


def _mcp_config(request: LaunchRequest, call_limit_ms: int) -> str:
    server = {
        "type": "http",
        "url": request.mcp_url,
        "headers": {"Authorization": f"Bearer {request.token}"},
        "timeout": call_limit_ms,
    }
    return json.dumps({"mcpServers": {"hurlicane": server}}, indent=2)
