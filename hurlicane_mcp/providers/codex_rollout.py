"""The file in which Codex keeps a thread, read for what the thread has used so far.

Its stream tells usage only when a turn ends, and never that of the agents that Codex starts by
itself. The file gets a line after each answer of the model, before the tools that it calls have
run. The figures count all processes of the thread. Measured with version 0.169.0 in November 2026.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hurlicane_mcp.providers.base import SideReading, ThreadSeen, ThreadUsage, Tokens
from hurlicane_mcp.providers.output import Json

THREAD = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# The other lines hold the conversation, and may be long.
TELLING = (b'"token_usage_record"', b'"token_count"', b'"turn_context"', b'"SubAgentActivity"')


def codex_home() -> Path:
    """Where Codex keeps its threads, if it is started with this process's environment."""
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")


def tokens_of(usage: Json) -> Tokens:
    """Codex counts what it read from or wrote to a cache as input; we do not."""
    cached, written = usage["cached_input_tokens"].count, usage["cache_write_input_tokens"].count
    return Tokens(
        input=max(0, usage["input_tokens"].count - cached - written),
        output=usage["output_tokens"].count,
        cache_read=cached,
        cache_write=written,
    )


@dataclass(slots=True)
class Rollout:
    """The file of one thread: `sessions/Y/M/D/rollout-TIME-THREAD.jsonl`."""

    home: Path
    thread_id: str
    name: str = ""  #: how its figures are called: empty for the session's own thread
    _model: str = ""
    _has_records: bool = False

    def find(self) -> Path | None:
        """Where it is; None while there is none, and for a name that no thread of Codex has."""
        if THREAD.fullmatch(self.thread_id) is None:
            return None
        for folder in self._folders():
            with suppress(OSError):
                pattern = f"rollout-*-{self.thread_id}.jsonl"
                if (found := next(folder.glob(pattern), None)) is not None:
                    return found
        return None

    def _folders(self) -> Iterator[Path]:
        """Where it may be: below the local date of its beginning, which a UUIDv7 tells (RFC 9562).

        People have very many threads, so it is not looked for elsewhere.
        """
        begun_ms = int(self.thread_id[:8] + self.thread_id[9:13], 16)
        with suppress(OverflowError, ValueError):
            begun = datetime.fromtimestamp(begun_ms / 1000, UTC)
            for days in (0, 1, -1):
                yield self.home / "sessions" / f"{begun + timedelta(days=days):%Y/%m/%d}"

    def parse_line(self, line: bytes) -> Sequence[SideReading]:
        """What one line tells of the thread's figures and its agents. Never raises."""
        if not any(mark in line for mark in TELLING):
            return ()
        event = Json.parse(line)
        kind, payload = event["type"].text, event["payload"]
        if kind == "turn_context":
            self._model = payload["model"].text
        elif kind == "token_usage_record":
            self._has_records = True
            if payload["thread_id"].text == self.thread_id:
                return (self._usage(payload["thread_token_usage"]),)
        elif kind == "event_msg":
            return self._told(payload)
        return ()

    def _told(self, event: Json) -> Sequence[SideReading]:
        match event["type"].text:
            # What versions without records tell, and later: after the tools have run.
            case "token_count" if not self._has_records:
                total = event["info"]["total_token_usage"]
                return (self._usage(total),) if total.value is not None else ()
            case "item_completed" if event["item"]["type"].text == "SubAgentActivity":
                thread = event["item"]["agent_thread_id"].text
                return (ThreadSeen(thread),) if thread else ()
            case _:
                return ()

    def _usage(self, total: Json) -> ThreadUsage:
        return ThreadUsage(self.name, self._model, tokens_of(total))
