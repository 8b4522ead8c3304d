"""`hurlicane locks`: which files agents hold, and who waits for them."""

from typing import Annotated, Any

import typer
from rich.text import Text

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import AsJson, DataDir, checked_word, goes_on
from hurlicane_mcp.cli.render import age, console, note, print_json, printable

locks = typer.Typer(help="List the files that agents hold, and free them.")


@locks.callback(invoke_without_command=True)
def list_locks(context: typer.Context, *, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """List the files that agents hold, oldest first, and who waits for them."""
    if goes_on(context, has_options=as_json or data_dir is not None):
        return 0
    found = ask(data_dir, lambda server: server.get("/api/locks"))
    if as_json:
        print_json(found)
        return 0
    out = console()
    for one in found["locks"]:
        waiters = ", ".join(waiter["job_id"] for waiter in one.get("waiting") or ())
        waiting = f"  (waiting: {waiters})" if waiters else ""
        told = f"{one['lock_id']}  {one['job_id']}  {age(one['taken_at']):>6}  {one['path']}"
        out.print(Text(printable(f"{told}{waiting}")))
    if found["locks"]:
        note("hurlicane locks release LOCK")
    else:
        note("No job holds a file.")
    return 0


@locks.command()
def release(
    lock: Annotated[
        str, typer.Argument(metavar="LOCK", help="Such as lock_1a2b.", callback=checked_word)
    ],
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Take a lock from its job, whose agent is not told. Who waits for it goes on."""

    async def work(server: Connection) -> Any:
        return await server.delete(f"/api/locks/{lock}")

    freed = ask(data_dir, work)
    if as_json:
        print_json(freed)
    else:
        note(f"{freed['path']} is free: {freed['job_id']} does not hold it any more.")
    return 0
