"""`hurlicane warnings`: what about jobs may be worth a look."""

from typing import Annotated, Any

import typer
from rich.text import Text

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument, checked_word, goes_on
from hurlicane_mcp.cli.render import age, console, note, print_json, printable

warnings = typer.Typer(help="List what about jobs may be worth a look, and dismiss it.")


@warnings.callback(invoke_without_command=True)
def list_warnings(
    context: typer.Context, *, as_json: AsJson = False, data_dir: DataDir = None
) -> int:
    """List what about jobs may be worth a look, oldest first."""
    if goes_on(context, has_options=as_json or data_dir is not None):
        return 0
    found = ask(data_dir, lambda server: server.get("/api/warnings"))
    if as_json:
        print_json(found)
        return 0
    out = console()
    for one in found["warnings"]:
        since = age(one["since"])
        line = f"{one['job_id']}  {one['kind']:17}  {since:>6}  {printable(one['text'])}"
        out.print(Text(line))
    if found["warnings"]:
        note("hurlicane warnings dismiss JOB KIND")
    else:
        note("No job has a warning.")
    return 0


@warnings.command()
def dismiss(
    job: JobArgument,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Such as stalled_output.", callback=checked_word)
    ],
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Show a warning no more while it holds; it may come again after that."""

    async def work(server: Connection) -> Any:
        return await server.delete(f"/api/jobs/{job}/warnings/{kind}")

    dismissed = ask(data_dir, work)
    if as_json:
        print_json(dismissed)
    else:
        note(f"{job} is no longer shown with {kind}.")
    return 0
