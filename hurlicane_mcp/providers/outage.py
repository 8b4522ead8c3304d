"""The words in which the CLIs say that they cannot reach our MCP server.

A tool's answer in Claude Code's stream does not name the tool, so its text has to name our server
or one of our tools. It counts only if it is the whole answer: an agent that reads its own log in a
shell gets the same words inside of others. Recorded in November 2026.
"""

import re
from typing import Final

SERVER: Final = "hurlicane"
#: The tools of agents. A name outside this list may be a model's invention.
AGENT_TOOLS: Final = (
    *("report_status", "finish_job", "create_job", "wait_for_jobs", "get_job", "list_jobs"),
    *("why", "cancel_job", "read_note", "write_note", "list_notes", "watch_notes", "send_message"),
    "ask_user",
)
NOT_CONNECTED: Final = f'MCP server "{SERVER}" is not connected'
CUT_OFF: Final = (
    f'MCP server "{SERVER}" connection closed before the tool call was answered. '
    "The tool may have run: check whether it did before running it again."
)

# The third and fourth are in the program of 2.1.330; they were not provoked.
_CLAUDE = re.compile(
    rf'MCP server "{SERVER}" '
    r"(?:is not connected|connection closed before the tool call (?:was answered|ran)"
    r"|session expired)(?:\. .*)?"
    rf"|<tool_use_error>Error: No such tool available: mcp__{SERVER}__"
    rf"(?:{'|'.join(AGENT_TOOLS)})(?:\. .*)?</tool_use_error>",
    re.DOTALL,
)
_CODEX = re.compile(
    rf"tool call error: tool call failed for `{SERVER}/\w+`\s+Caused by:\s+"
    r"Transport (?:send error: .*|closed)",
    re.DOTALL,
)
# An answer may have megabytes; these have a few hundred characters.
_LONGEST = 4_000


def claude_says_so(answer: str) -> bool:
    """Whether *answer*, a failed tool call's in Claude Code 2.1, says that we cannot be reached."""
    return len(answer) <= _LONGEST and _CLAUDE.fullmatch(answer) is not None


def codex_says_so(message: str) -> bool:
    """Whether *message*, the error of an MCP call in Codex 0.169, says that."""
    return len(message) <= _LONGEST and _CODEX.fullmatch(message.strip()) is not None
