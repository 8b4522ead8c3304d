"""Commands that print what happens: `logs` of one job and `events` of all."""

import sys
from contextlib import aclosing
from typing import Annotated, Any

import typer

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.follow import Output, attempt_output, entry_lines, output_of
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.render import print_json_line, print_result, printable
from hurlicane_mcp.cli.words import in_words
from hurlicane_mcp.errors import Invalid

_PAGE = 500
_NEWEST = 50


def logs(
    job: JobArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is finished.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt. Default: the last one.")
    ] = None,
    raw: Annotated[bool, typer.Option(help="The agent's output as it is.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print what a job's agent said and did."""
    if raw and (follow or as_json):
        raise Invalid("--raw goes neither with --follow nor with --json: leave one out.")

    async def printing(server: Connection) -> None:
        if raw:
            async with aclosing(_pieces(server, job, attempt)) as pieces:
                async for piece in pieces:
                    sys.stdout.buffer.write(piece)
        elif not follow:
            await _print_past(server, job, attempt, as_json)
        else:
            if attempt is None:
                current = (await server.get(f"/api/jobs/{job}"))["attempt"]
                pages = output_of(server, job, max(1, current))
            else:
                pages = attempt_output(server, job, attempt)
            async with aclosing(pages):
                async for page in pages:
                    _print_output(page, as_json)

    ask(data_dir, printing)
    return 0


def _pieces(server: Connection, job: str, attempt: int | None) -> Any:
    return server.pieces(f"/api/jobs/{job}/transcript/raw", attempt=attempt)


async def _print_past(server: Connection, job: str, attempt: int | None, as_json: bool) -> None:
    """Print what there is until now."""
    offset = 0
    while True:
        page = await server.get(f"/api/jobs/{job}/transcript", attempt=attempt, offset=offset)
        _print_output(Output(page["attempt"], page["entries"]), as_json)
        if page["offset"] == offset:
            return
        offset = page["offset"]


def _print_output(page: Output, as_json: bool) -> None:
    if as_json:
        for entry in page.entries:
            print_json_line({"attempt": page.attempt, **entry})
    else:
        for line in entry_lines(page.entries):
            print_result(line)


def events(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    job: Annotated[list[str] | None, typer.Option(help="Only of this job; repeatable.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind, such as job.*; repeatable.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, help="Begin after this number. Default: about the newest 50."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print what has happened; with --follow also what happens from now on."""
    query: dict[str, Any] = {"job": job, "kind": kind}

    async def printing(server: Connection) -> None:
        start = after
        if start is None:
            start = max(0, (await server.get("/api/snapshot"))["as_of"] - _NEWEST)
        if follow:
            async with aclosing(server.stream("/events", after=start, **query)) as happening:
                async for event in happening:
                    _print_event(event.data, as_json)
            return
        while True:
            page = await server.get("/api/events", after=start, limit=_PAGE, **query)
            for event in page["events"]:
                _print_event(event, as_json)
            if len(page["events"]) < _PAGE:
                return
            start = page["next"]

    ask(data_dir, printing)
    return 0


def _print_event(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json_line(event)
        return
    attempt = f".{event['attempt']}" if event.get("attempt") else ""
    told = in_words(event)
    if told is None:
        data = event["data"].items()
        told = " ".join(f"{name}={value}" for name, value in data if value is not None)
    who = f"{event.get('job_id') or ''}{attempt}"
    line = f"{event['seq']:>6} {event['at'][:19]}Z {event['kind']:<18} {who:<18} {told}"
    print_result(printable(line).replace("\n", " ").rstrip())
