"""`hurlicane why`: the chain of causes behind a job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.render import age, console, duration, print_json, printable, styled
from hurlicane_mcp.clock import SystemClock


def why(job: JobArgument, *, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Say why a job is where it is, what it waits for, and what happens next and when."""
    found = ask(data_dir, lambda server: server.get(f"/api/jobs/{job}/why"))
    if as_json:
        print_json(found)
        return 0
    out = console()
    for depth, link in enumerate(found["chain"]):
        mark = "because " if depth else ""
        head = Text(f"{mark}{link['job_id']} ({printable(link['title'])}) is ")
        out.print(head + styled(link["status"]))
        out.print(Text(f"  {printable(link['because'])}{_since(link)}"))
        out.print(Text(f"  {printable(link['next'])}{_until(link)}", "dim"))
    return 0


def _since(link: Mapping[str, Any]) -> str:
    return f" (for {age(link['since'])})" if link.get("since") else ""


def _until(link: Mapping[str, Any]) -> str:
    if not link.get("until"):
        return ""
    until = datetime.fromisoformat(link["until"])
    left = (until - SystemClock().now()).total_seconds()
    return f" (at {until.astimezone():%H:%M:%S}, in {duration(left)})"
