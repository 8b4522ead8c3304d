"""What the screen of an interactive agent says of its model: the CLI's last words above its input.

An agent on a terminal has no stream, so this is all that tells. Only what stands right above the
input box counts, in the form that the CLI gives its own words: what scrolled up is over, and what
an agent says or reads about limits has another form. Seen with Claude Code 2.1.330 and Codex
0.169.0 in November 2026; how Claude Code gives up at a limit of a plan, or for want of context, is
only read in its program. The texts have no countdown, so that they stay while a CLI waits.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.providers.claude_refusals import refusal_of_error
from hurlicane_mcp.providers.codex_refusals import refusal_in
from hurlicane_mcp.providers.output import Json, one_line

_CLAUDES_PROMPT, _CODEXS_PROMPT = "\u276f", "\u203a"
_RULE = re.compile(r"─{10,}")
_BOX_HEIGHT: Final = 24  # lines that a message half typed may have
# Above the box, where Claude Code's line about its work may be: tips and tasks follow it.
_LIVE_LINES: Final = 12
_EFFORT = re.compile(r"\s{20,}\S.*")  # at the right edge
# The star turns; a message of the agent has another sign. A long wait is told in minutes, too.
_CLAUDE_RETRIES = re.compile(
    rf"[^\w\s●{_CLAUDES_PROMPT}⎿│>] (?P<cause>.+) · retrying in "
    r"(?:(?P<minutes>\d{1,4})m ?)?(?:(?P<seconds>\d{1,5})s)?"
    r"(?: \((?P<reset>\d{1,2}(?::\d{2})? ?[ap]m)\))? · attempt (?P<attempt>\d+)/\d+"
)
_CLAUDE_ENDS = re.compile(r"(?:● |\s{0,4}⎿\s+)(?P<text>\S.*)")
# How the CLI's own words begin: the agent's have the same sign.
_CLAUDES_OWN = re.compile(
    r"API Error: |Failed to authenticate\. |Credit balance |Claude (?:AI )?usage limit reached"
    r"|There's an issue with the selected model|You['\u2019](?:ve (?:hit|reached) your|re out of) "
    r"|(?:5-hour|Weekly|Session|Opus|Sonnet|Haiku|Fable|Usage|Usage credit) limit reached"
    r"|Context limit reached|Prompt is too long|Request too large|Invalid API key|Not logged in"
    r"|Please run /login"
)
_STATUS = re.compile(
    r"(?:Failed to authenticate\. )?(?:API Error: )?(?:Request rejected \()?(\d{3})\b"
)
#: What the screen words otherwise than the stream.
_CLAUDE_KINDS: Final = (
    (re.compile(r"Credit balance (?:is )?too low\b"), FailureKind.BILLING),
    (re.compile(r"There's an issue with the selected model\b"), FailureKind.UNKNOWN_MODEL),
    (re.compile(r"(?:Context limit reached|Request too large)\b"), FailureKind.CONTEXT_OVERFLOW),
    (re.compile(r"Usage credit limit reached\b"), FailureKind.SPEND_LIMIT),
)
_CODEX_RETRIES = re.compile(
    r"[•◦] (?:(?P<busy>Server is busy, reconnecting )|Reconnecting\.\.\. )"
    r"(?P<which>\d{1,4}/\d+|waiting for network) \(.*esc to interrupt\)"
)
_CODEX_BLOCKS: Final = 3  # the last ones, since messages that are queued stand below


def claude_refusal(screen: str) -> Refusal | None:
    """The refusal that a *screen* of Claude Code ends with; None if it works, asks or is idle."""
    above = _above_claudes_input(screen.splitlines())
    for line in reversed(above[-_LIVE_LINES:]):
        if retry := _CLAUDE_RETRIES.match(line):
            return _claude_retries(retry)
    words: list[str] = []
    for line in reversed(_last_block(above)):
        if ends := _CLAUDE_ENDS.match(line):
            text = " ".join([ends["text"], *words])
            return _claude_says(text) if _CLAUDES_OWN.match(text) else None
        words.insert(0, line.strip())
    return None


def codex_refusal(screen: str) -> Refusal | None:
    """The refusal that a *screen* of Codex ends with; None if it works, asks or is idle."""
    above = _above_codexs_input(screen.splitlines())
    last = _last_block(above)
    if last and last[0].startswith("■ "):
        return refusal_in(" ".join(line.strip() for line in last).removeprefix("■ "))
    for _ in range(_CODEX_BLOCKS):
        block = _last_block(above)
        if block and (retry := _CODEX_RETRIES.match(block[0])):
            return _codex_retries(retry, block[1:])
        above = above[: len(_without_blanks(above)) - len(block)]
    return None


def _above_claudes_input(lines: Sequence[str]) -> Sequence[str]:
    """The lines above the input box, which stands between two rules; none if there is no box."""
    rules = [number for number, line in enumerate(lines) if _RULE.fullmatch(line.strip())]
    if len(rules) < 2:
        return ()
    top, bottom = rules[-2:]
    if not lines[top + 1].startswith(_CLAUDES_PROMPT) or bottom - top > _BOX_HEIGHT:
        return ()
    return [line for line in lines[:top] if not _EFFORT.fullmatch(line)]


def _above_codexs_input(lines: Sequence[str]) -> Sequence[str]:
    """The lines above the last prompt sign, which is the input's or a dialog's."""
    signs = [number for number, line in enumerate(lines) if line.startswith(_CODEXS_PROMPT)]
    return lines[: signs[-1]] if signs else ()


def _without_blanks(lines: Sequence[str]) -> Sequence[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]


def _last_block(lines: Sequence[str]) -> Sequence[str]:
    """The last lines without an empty one between them."""
    full = _without_blanks(lines)
    begin = len(full)
    while begin and full[begin - 1].strip():
        begin -= 1
    return full[begin:]


def _claude_retries(retry: re.Match[str]) -> Refusal | None:
    """As for the stream: no wait mends a login or a limit of the plan; the network is the CLI's."""
    reset = f" · resets {retry['reset']}" if retry["reset"] else ""
    refusal = _claude_says(retry["cause"] + reset)
    if refusal is None:
        return None
    wait = timedelta(minutes=int(retry["minutes"] or 0), seconds=int(retry["seconds"] or 0))
    match refusal.kind:
        case FailureKind.RATE_LIMIT | FailureKind.OVERLOADED:
            return replace(refusal, is_final=False, cli_waits=wait)
        case FailureKind.SERVER_ERROR | FailureKind.NETWORK:
            return None
        case FailureKind.AUTH if int(retry["attempt"]) == 1:
            return None
        case _:
            return refusal


def _claude_says(text: str) -> Refusal | None:
    own = next((kind for words, kind in _CLAUDE_KINDS if words.match(text)), None)
    if own is not None:
        return Refusal(own, one_line(text))
    status = _STATUS.match(text)
    return refusal_of_error(Json({"api_error_status": int(status[1]) if status else 0}), text)


def _codex_retries(retry: re.Match[str], below: Sequence[str]) -> Refusal | None:
    cause = " ".join(line.strip() for line in below).removeprefix("└ ")
    if not cause and retry["busy"]:
        cause = "rate limit exceeded"
    refusal = refusal_in(f"Reconnecting... {retry['which']} ({cause})")
    return replace(refusal, text=one_line(cause)) if refusal is not None else None
