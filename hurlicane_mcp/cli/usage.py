"""`hurlicane usage`: turns, tokens and money."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import brief, console, note, print_json

_TOKENS: Final = ("input", "cache_read", "cache_write", "output")
UNKNOWN: Final = "price unknown"


def usage(
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="Only this job and those below it."),
    ] = None,
    *,
    by: Annotated[
        str | None,
        typer.Option(
            help="day, model, job, project, tree or workflow. Default: day; job if one is named.",
            metavar="GROUP",
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="The last days (UTC), with today. Default: 7; all of a job."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Show what was used: turns, tokens, US dollars; by day, model, job, project or workflow."""
    group = by or ("job" if job else "day")
    found = ask(data_dir, lambda server: server.get("/api/usage", by=group, days=days, job_id=job))
    if as_json:
        print_json(found)
        return 0
    if not found["lines"]:
        note(f"Nothing was used since {found['since']}." if found.get("since") else "Nothing yet.")
        return 0
    console().print(_table(found))
    if left_out := found.get("left_out"):
        note(f"{left_out} more are not shown; the total counts them too.")
    return 0


def _table(found: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(found["by"].upper(), no_wrap=True)
    for name in ("turns", *_TOKENS, "cost"):
        table.add_column(name.replace("_", " ").upper(), justify="right", no_wrap=True)
    for line in found["lines"]:
        table.add_row(Text(_name(line)), *_figures(line))
    if len(found["lines"]) > 1 or found.get("left_out"):
        table.add_row("total", *_figures(found["total"]), style="bold")
    return table


def _name(line: Mapping[str, Any]) -> str:
    named = "/".join(filter(None, (line.get("provider"), line["key"])))
    return f"{brief(named)}  {brief(line['title'], 30)}" if line.get("title") else brief(named)


def _figures(line: Mapping[str, Any]) -> list[str]:
    counts = (line["turns"], *(line[f"{name}_tokens"] for name in _TOKENS))
    return [*(f"{count:,}" for count in counts), cost_shown(line)]


def cost_shown(line: Mapping[str, Any]) -> str:
    """`$1.23`; what has no price is said, not taken for nothing."""
    cost = Decimal(line["cost_usd"])
    shown = f"${cost:,.2f}" if cost >= 1 or not cost else f"${cost:.4f}"
    if not line.get("unpriced_tokens"):
        return shown
    return f"{shown} + {UNKNOWN}" if cost else UNKNOWN
