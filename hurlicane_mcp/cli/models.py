"""`hurlicane models`: which models there are, and which may not be used now."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir, goes_on
from hurlicane_mcp.cli.render import console, note, print_json, printable
from hurlicane_mcp.cli.words import cause, until
from hurlicane_mcp.errors import Invalid

ModelArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Id or alias, also as provider:model; `claude` is all of its models."
    ),
]
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_UNITS_S = (86400, 3600, 60, 1)

models = typer.Typer(help="List models; keep launches from one, or let it be used again.")


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context, *, as_json: AsJson = False, data_dir: DataDir = None
) -> int:
    """List the models, and which may not be used now, until when and why."""
    if goes_on(context, has_options=as_json or data_dir is not None):
        return 0
    found = ask(data_dir, lambda server: server.get("/api/models"))
    if as_json:
        print_json(found)
        return 0
    out = console()
    out.print(_table(found["models"]))
    for chain in found["chains"]:
        out.print(Text(f"falls back: {printable(' > '.join(chain))}", "dim"))
    return 0


@models.command()
def limit(
    model: ModelArgument,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", help="How long: 30m, 1h30m, or seconds.", metavar="TIME")
    ] = None,
    moment: Annotated[
        str | None,
        typer.Option("--until", help="2026-11-24T18:00, here or with a zone.", metavar="MOMENT"),
    ] = None,
    forever: Annotated[
        bool, typer.Option("--forever", help="Until it is cleared, which is the default.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for those who wonder.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Start no more agents on a model for a while; those that run on it go on."""
    if sum((duration is not None, moment is not None, forever)) > 1:
        raise Invalid("Give one of --for, --until and --forever.")
    new = {
        "model": model,
        "for_s": None if duration is None else _seconds(duration),
        "until": None if moment is None else _moment(moment),
        "reason": reason,
    }
    limited = ask(data_dir, lambda server: server.post("/api/models/rate-limits", new))
    if as_json:
        print_json(limited)
    else:
        note(f"{limited['name']} is limited {until(limited.get('until'))}.")
    return 0


@models.command()
def clear(model: ModelArgument, *, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Let a model be used again; jobs that are parked for it go on."""
    path = f"/api/models/rate-limits/{quote(model, safe='')}"
    cleared = ask(data_dir, lambda server: server.delete(path))
    if as_json:
        print_json(cleared)
    else:
        waiting = f" Parked for it: {cleared['parked']}." if cleared["parked"] else ""
        note(f"{cleared['name']} may be used again.{waiting}")
    return 0


def _table(found: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("MODEL", "ALIASES", "STATE"):
        table.add_column(name, no_wrap=True)
    table.add_column("PARKED", justify="right", no_wrap=True)
    table.add_column("$/M IN, OUT", no_wrap=True)
    table.add_column("WHY", overflow="ellipsis", no_wrap=True)
    for one in found:
        table.add_row(
            Text(printable(one["name"])),
            Text(", ".join(one.get("aliases") or ())),
            _state(one),
            str(one["parked"] or ""),
            "" if one["model"] == "*" else _price(one.get("prices")),
            Text(_why(one)),
        )
    return table


def _state(model: Mapping[str, Any]) -> Text:
    limited = model.get("limit")
    match model["gate"]:
        case "open" if limited is not None:
            return Text(f"limited {until(limited.get('until'))}", "red")
        case "probed" if limited is not None:
            return Text(f"tried again by {limited.get('probe')}", "yellow")
        case "half_open":
            return Text("the next job tries it again", "yellow")
        case _:
            return Text("available", "green")


def _why(model: Mapping[str, Any]) -> str:
    limited = model.get("limit")
    if limited is None:
        return ""
    told = cause(limited)
    return told if limited["name"] == model["name"] else f"{limited['name']}, {told}"


def _price(prices: Mapping[str, Any] | None) -> str:
    """`4, 20 (2026-11-24)`: US dollars for a million tokens, as of a day."""
    if prices is None:
        return "unknown"
    told = _rates(prices)
    if long := prices.get("long_prompt"):
        told += f"; {_rates(long)} above {long['above_tokens'] // 1000}k"
    return f"{told} ({prices['as_of']})"


def _rates(rates: Mapping[str, Any]) -> str:
    return ", ".join(f"{Decimal(rates[kind]):f}" for kind in ("input", "output"))


def _seconds(text: str) -> int:
    """The length of time that *text* says."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise Invalid(f"--for {text!r} is no length of time: write 90, 30m or 1h30m.")
    return sum(unit * int(count or 0) for unit, count in zip(_UNITS_S, found.groups(), strict=True))


def _moment(text: str) -> str:
    """The moment that *text* says, of this machine's zone if it names none."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone().isoformat()
    except (ValueError, OverflowError):
        raise Invalid(f"--until {text!r} is no moment: write 2026-11-24T18:00.") from None
