"""`hurlicane workflow`: tasks that are planned, reviewed and implemented in cycles."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias

import typer

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.pages import Listing
from hurlicane_mcp.cli.render import console, note, print_json, print_result
from hurlicane_mcp.cli.workflow_start import start
from hurlicane_mcp.cli.workflow_words import print_workflow, workflow_table
from hurlicane_mcp.errors import Invalid

OPEN: Final = ("running", "blocked")
LISTED: Final = Listing("/api/workflows", "workflows", "workflow_id", "state")

workflows = typer.Typer(
    help="Have tasks planned, reviewed and implemented in cycles, on branches of their own.",
    no_args_is_help=True,
)
workflows.command()(start)


def _workflow_id(given: str) -> str:
    """*given*, which becomes a part of a path."""
    if not re.fullmatch(r"\w+", given, re.ASCII):
        raise Invalid(f"{given!r} is no workflow's id: `hurlicane workflow ps` lists them.")
    return given


WorkflowArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="Such as wf_1a2b.", callback=_workflow_id)
]


@workflows.command()
def ps(
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="All workflows, not only open and recent ones.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the open workflows and the ten newest others."""

    async def listing(server: Connection) -> Sequence[Mapping[str, Any]]:
        return await (LISTED.everything(server) if everything else LISTED.going_on(server, OPEN))

    found = ask(data_dir, listing)
    if as_json:
        print_json({"workflows": found})
    elif found:
        console().print(workflow_table(found))
    else:
        note('There are no workflows yet: hurlicane workflow start "what to build" creates one.')
    return 0


@workflows.command()
def show(
    workflow: WorkflowArgument,
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="The plan itself, as it is written.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Show all about a workflow: state, milestones, phases, and what it needs if it is blocked."""

    async def look(server: Connection) -> tuple[Mapping[str, Any], str | None]:
        view = await server.get(f"/api/workflows/{workflow}")
        return view, (await _plan(server, view)) if plan else None

    view, text = ask(data_dir, look)
    if as_json:
        print_json(view if text is None else {**view, "plan_text": text})
    elif text is not None:
        print_result(text)
    else:
        print_workflow(console(), view)
        if view.get("result"):
            console().print()
            print_result(view["result"])
    return 0


async def _plan(server: Connection, view: Mapping[str, Any]) -> str:
    """The note with the plan; empty before there is one."""
    key, project = f"{view['notes']}plan", view["project"]
    found = await server.get("/api/notes", prefix=key, project=project)
    if not any(one["key"] == key for one in found["notes"]):
        return ""
    return (await server.get(f"/api/notes/{key}", project=project))["value"]


@workflows.command()
def resume(
    workflow: WorkflowArgument,
    *,
    from_phase: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PHASE",
            help="Begin assess, review, implement or verify anew. Default: go on where it was.",
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Let a blocked workflow go on, once what blocked it is mended."""

    async def work(server: Connection) -> Mapping[str, Any]:
        return await server.post(f"/api/workflows/{workflow}/resume", {"from_phase": from_phase})

    view = ask(data_dir, work)
    if as_json:
        print_json(view)
    else:
        note(f"{workflow} goes on: {view['phase']}, cycle {view['cycle']}.")
    return 0


@workflows.command()
def cancel(
    workflow: WorkflowArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; agents and people get to read it.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Cancel a workflow; its agents are stopped, its branch stays."""

    async def work(server: Connection) -> Mapping[str, Any]:
        await server.post(f"/api/workflows/{workflow}/cancel", {"reason": reason})
        return await server.get(f"/api/workflows/{workflow}")

    view = ask(data_dir, work)
    if as_json:
        print_json(view)
    elif view["state"] != "cancelled":
        note(f"{workflow} was {view['state']} already: nothing changed.")
    else:
        kept = f"; its work is on {view['branch']}" if view.get("branch") else ""
        note(f"{workflow} is cancelled{kept}.")
    return 0
