"""What people read on a terminal. Texts of agents are shown without their control characters."""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.clock import SystemClock

STYLES: Final = (
    ("done", "green"),
    ("failed", "red"),
    ("cancelled", "yellow"),
    ("running", "cyan"),
    ("queued", "blue"),
    ("blocked", "magenta"),
)
_FIRST_LINE: Final = 60
_UNBOUND: Final = 1000  #: columns of an output that is no terminal: nothing is cut off


def console(stream: TextIO | None = None) -> Console:
    """A console on *stream* (standard output), wide and plain where that is no terminal."""
    file = sys.stdout if stream is None else stream
    return Console(file=file, width=None if file.isatty() else _UNBOUND, highlight=False)


def printable(text: str) -> str:
    """*text* without control characters other than line feeds and tabs.

    An agent's output may hold sequences that move the cursor or rename the window.
    """
    return "".join(one for one in text if one in "\n\t" or one.isprintable())


def brief(text: str | None, length: int = _FIRST_LINE) -> str:
    """The first line of *text*, cut to *length* characters."""
    line = printable(text or "").strip().partition("\n")[0]
    return line if len(line) <= length else f"{line[: length - 1]}…"


def styled(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=dict(STYLES).get(status, ""))


def age(since: str | None, until: str | None = None) -> str:
    """How long it was from *since* to *until* (now), both as the API writes times: `2m05s`."""
    if not since:
        return ""
    end = datetime.fromisoformat(until) if until else SystemClock().now()
    return duration((end - datetime.fromisoformat(since)).total_seconds())


def duration(seconds: float) -> str:
    """A length of time in two units at most."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def job_table(jobs: Iterable[Mapping[str, Any]]) -> Table:
    """Jobs in lines, as `ps` and `run` show them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("JOB", "STATUS", "TRY", "AGENT", "TIME"):
        table.add_column(name, no_wrap=True)
    table.add_column("TITLE", overflow="ellipsis", no_wrap=True)
    table.add_column("NOW", overflow="ellipsis", no_wrap=True)
    for job in jobs:
        table.add_row(
            job["job_id"],
            styled(job["status"]),
            str(job["attempt"] or ""),
            Text("/".join(filter(None, (job["provider"], job.get("model"))))),
            age(job.get("started_at"), job.get("finished_at")),
            Text(brief(job["title"], 40)),
            Text(brief(_now(job), 60)),
        )
    return table


def _now(job: Mapping[str, Any]) -> str:
    """What there is to know about a job at first sight, with a mark if it has warnings."""
    warned = ", ".join(one["kind"] for one in job.get("warnings") or ())
    return " · ".join(filter(None, (warned and f"! {warned}", _doing(job))))


def _doing(job: Mapping[str, Any]) -> str:
    if failure := job.get("failure"):
        return why(failure)
    if question := job.get("question"):
        return f"waiting for you: {question['text']}"
    if block := job.get("blocked"):
        return f"blocked: {block['reason']}"
    presence = job.get("presence")
    if presence and presence["state"] in ("lost", "silent", "waiting"):
        return f"{presence['state']} for {age(presence['since'])}: {presence['why']}"
    if job.get("not_before") or job.get("limited_by"):
        return _parked(job)
    return job.get("progress") or (presence["state"] if presence else "")


def _parked(job: Mapping[str, Any]) -> str:
    told = "parked"
    if job.get("not_before"):
        told += f" until {datetime.fromisoformat(job['not_before']).astimezone():%H:%M:%S}"
    return f"{told}: {job['limited_by']}" if job.get("limited_by") else told


def asked(question: Mapping[str, Any]) -> str:
    """A question with what may be answered: `Which one? (left, right)`."""
    choices = question.get("choices")
    return question["text"] + (f" ({', '.join(choices)})" if choices else "")


def print_json(value: object) -> None:
    """*value* as one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    """*value* as one line on standard output, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_result(text: str | None) -> None:
    """A job's result on standard output: as it is into a file or pipe, harmless on a terminal."""
    if text:
        shown = printable(text) if sys.stdout.isatty() else text
        sys.stdout.write(shown if shown.endswith("\n") else f"{shown}\n")
        sys.stdout.flush()


def note(text: str) -> None:
    """A line about what goes on, on standard error."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def why(failure: Mapping[str, Any]) -> str:
    """A failure in words: its kind and its reason."""
    kind, reason = failure["kind"], failure["reason"]
    return reason if kind == "cancelled" and reason else f"{kind}: {reason}"
