"""The `claude` provider: Claude Code, told by flags and read as JSON lines or left to its screen.

What is said here of the CLI was measured with version 2.1.330 in November 2026.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias
from uuid import uuid4

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
from hurlicane_mcp.providers.catalog import Catalog
from hurlicane_mcp.providers.claude_hooks import hook_settings
from hurlicane_mcp.providers.interactive import prompt_argument
from hurlicane_mcp.providers.outage import SERVER, claude_says_so
from hurlicane_mcp.providers.output import Json, content_line, content_text, one_line
from hurlicane_mcp.providers.program import find_program

# The folder is trusted without a question, and what is said stays in the terminal's history.
ON_TERMINAL: Mapping[str, str] = MappingProxyType(
    {"CLAUDE_CODE_SANDBOXED": "1", "CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN": "1"}
)
Permissions: TypeAlias = Literal["edit", "full"] | tuple[str, ...]

OUR_TOOLS = f"mcp__{SERVER}"
SERVERS, SETTINGS = "mcp.json", "settings.json"  # files of a run
STREAM = ("--print", "--output-format", "stream-json", "--verbose")
# Root may not skip the permission checks, so "full" is a list of every tool that asks.
EVERY_TOOL = (
    *("Bash", "Edit", "Glob", "Grep", "Monitor", "NotebookEdit", "Read", "Skill", "Task"),
    *("WebFetch", "WebSearch", "Workflow", "Write"),
)
FULL_ID = re.compile(r"claude-[a-z0-9][a-z0-9.-]*(\[1m\])?")
# The CLI must not give a call up that the server is about to answer.
CALL_MARGIN = timedelta(seconds=60)
# The "model" of messages that the CLI itself writes into the conversation, such as API errors.
SYNTHETIC = "<synthetic>"
# A tool's result names the call, not the tool.
UNNAMED_TOOL = "tool"
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

    def check_model(self, model: str) -> None:
        """Accept the catalog's names and every `claude-…`; `[1m]` may follow.

        Raises:
            Invalid: *model* is something else; the message lists what is known.
        """
        self.catalog.check(self.name, model, FULL_ID)

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
                *(() if request.interactive else STREAM),
                *_file_flags(request),
                *self._permission_flags(),
            ),
            env=_environment(call_limit_ms),
            unset=MARKS_OF_A_SESSION,
            files=_files(request, call_limit_ms),
        )
        if request.interactive:
            return _on_terminal(request, spec)
        return replace(spec, argv=(*spec.argv, *_choices(request)), stdin=request.prompt)

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one line of `stream-json` means; nothing for a line that is not of it."""
        event = Json.parse(line)
        read = READERS.get(event["type"].text)
        return tuple(read(event)) if read is not None else ()

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
    if request.hooks_url is not None:
        files[request.run_dir / SETTINGS] = hook_settings(
            request.hooks_url, request.token, has_stream=not request.interactive
        )
    return files


def _file_flags(request: LaunchRequest) -> tuple[str, ...]:
    servers, settings = request.run_dir / SERVERS, request.run_dir / SETTINGS
    return (
        *("--mcp-config", str(servers), "--strict-mcp-config"),
        *(("--settings", str(settings)) if request.hooks_url is not None else ()),
    )


def _mcp_config(request: LaunchRequest, call_limit_ms: int) -> str:
    server = {
        "type": "http",
        "url": request.mcp_url,
        "headers": {"Authorization": f"Bearer {request.token}"},
        "timeout": call_limit_ms,
    }
    return json.dumps({"mcpServers": {"hurlicane": server}}, indent=2)


def _system(event: Json) -> Iterator[Reading]:
    match event["subtype"].text:
        case "init":
            if session := event["session_id"].text:
                yield SessionSeen(session)
            if model := event["model"].text:
                yield ModelSeen(model)
            for server in event["mcp_servers"]:
                if server["name"].text == SERVER and server["status"].text == "failed":
                    yield ConnectionLost("The MCP server did not answer when the CLI started.")
        case "api_retry":
            yield WarningSeen(_describe_retry(event))
        case "model_fallback":
            yield WarningSeen(event["content"].brief)
            if model := event["fallback_model"].text:
                yield ModelSeen(model)
        case _:
            pass


def _describe_retry(event: Json) -> str:
    status = event["error_status"].count
    answer = f"answered {status}" if status else "did not answer"
    return (
        f"The model's endpoint {answer} ({event['error'].brief}): "
        f"retry {event['attempt'].count} of {event['max_retries'].count} "
        f"in {event['retry_delay_ms'].count / 1000:.1f} s"
    )


def _assistant(event: Json) -> Iterator[Reading]:
    """One block of a model's answer; the blocks of one answer share its id."""
    message = event["message"]
    if message["model"].text == SYNTHETIC:
        return
    if answer := message["id"].text:
        yield TurnSeen(answer)
    is_subagent = event["parent_tool_use_id"].text != ""
    for block in message["content"]:
        match block["type"].text:
            case "text" if block["text"].text and not is_subagent:
                yield MessageSeen(block["text"].text)
            case "tool_use":
                yield ToolSeen(block["name"].brief, block["input"].brief, finished=False)
            case _:
                pass


def _user(event: Json) -> Iterator[Reading]:
    for block in event["message"]["content"]:
        if block["type"].text == "tool_result":
            is_error = block["is_error"].is_true
            answer = content_line(block["content"])
            yield ToolSeen(UNNAMED_TOOL, answer, finished=True, is_error=is_error)
            if is_error and claude_says_so(text := content_text(block["content"])):
                yield ConnectionLost(one_line(text))


def _result(event: Json) -> Iterator[Reading]:
    for denial in event["permission_denials"]:
        yield WarningSeen(
            f"Permission denied: {denial['tool_name'].brief} {denial['tool_input'].brief}"
        )
    # `usage` misses requests that the last answer ended and counts dropped ones; `modelUsage` is
    # what the cost is made of. Both are of the whole session. Without a request both are empty,
    # and say nothing of the session's earlier runs.
    if used := event["modelUsage"].entries:
        yield SessionUsage(_tokens(usage for _, usage in used), event["total_cost_usd"].amount)
    if latest := event["model_usage_since_last_result"].entries or used:
        yield ModelSeen(max(latest, key=lambda entry: entry[1]["outputTokens"].count)[0])
    # A failure of the API is a "success" with `is_error`.
    if event["is_error"].is_true:
        yield ErrorSeen(_describe_error(event))
        return
    yield ErrorCleared()
    if text := event["result"].text:
        yield MessageSeen(text)


def _tokens(usages: Iterator[Json]) -> Tokens:
    each = tuple(usages)
    return Tokens(
        input=sum(usage["inputTokens"].count for usage in each),
        output=sum(usage["outputTokens"].count for usage in each),
        cache_read=sum(usage["cacheReadInputTokens"].count for usage in each),
        cache_write=sum(usage["cacheCreationInputTokens"].count for usage in each),
    )


def _describe_error(event: Json) -> str:
    errors = "; ".join(error.text for error in event["errors"] if error.text)
    text = event["result"].text or errors or f"Claude Code ended with {event['subtype'].brief!r}."
    status = event["api_error_status"].count
    return f"{text} (HTTP status {status})" if status and str(status) not in text else text


READERS: Mapping[str, Callable[[Json], Iterator[Reading]]] = MappingProxyType(
    {"system": _system, "assistant": _assistant, "user": _user, "result": _result}
)
