"""The commands of `hurlicane`, and what becomes of their errors."""

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from hurlicane_mcp.cli import (
    attach,
    client_config,
    doctor,
    explain,
    folders,
    jobs,
    locks,
    merges,
    models,
    notes,
    stop,
    streams,
    talk,
    usage,
    warnings,
    workflows,
)
from hurlicane_mcp.cli import run as run_command
from hurlicane_mcp.cli.bridge import bridge
from hurlicane_mcp.cli.options import AsJson, DataDir
from hurlicane_mcp.cli.render import note, print_json
from hurlicane_mcp.errors import HurlicaneError, Invalid

app = typer.Typer(
    name="hurlicane",
    help="Run coding agents: queue jobs, follow them, get their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def serve(
    settings: Annotated[
        list[str] | None, typer.Argument(help="`hurlicane serve --help` lists them.")
    ] = None,
) -> int:
    """Run the server in the foreground."""
    from hurlicane_mcp.cli.serve import serve as run_server

    return run_server(settings or [])


app.command()(run_command.run)
app.command()(stop.stop)
app.command()(jobs.ps)
app.command()(jobs.show)
app.command()(explain.why)
app.command("merge-preview")(merges.merge_preview)
app.command()(streams.logs)
app.command()(attach.attach)
app.command()(jobs.cancel)
app.command()(jobs.wait)
app.command()(streams.events)
app.command()(usage.usage)
app.command()(folders.diff)
app.command()(folders.worktrees)
app.command()(talk.questions)
app.command()(talk.answer)
app.command()(talk.send)
app.add_typer(notes.notes, name="note")
app.add_typer(workflows.workflows, name="workflow")
app.add_typer(locks.locks, name="locks")
app.add_typer(warnings.warnings, name="warnings")
app.add_typer(models.models, name="models")
app.command()(doctor.doctor)
app.command("mcp-config")(client_config.mcp_config)


@app.command()
def mcp(*, data_dir: DataDir = None) -> int:
    """Speak MCP over standard input and output, for clients that only do that.

    Messages go to the running server and back; a crash of the server is bridged.
    """
    return bridge(data_dir)


@app.command()
def demo(
    *,
    agent: Annotated[str, typer.Option(help="scripted, claude or codex.")] = "scripted",
    workflow: Annotated[
        bool, typer.Option("--workflow", help="Plan, review, implement, verify and push.")
    ] = False,
) -> int:
    """Show a lead agent and three others, or a workflow, at work in a scratch repository."""
    if workflow:
        from hurlicane_mcp.cli.demo_workflow import demo as play
    else:
        from hurlicane_mcp.cli.demo import demo as play
    return play(agent)


@app.command()
def version(*, as_json: AsJson = False) -> int:
    """Print the version."""
    if as_json:
        print_json({"version": version_of("hurlicane-mcp")})
    else:
        sys.stdout.write(f"hurlicane {version_of('hurlicane-mcp')}\n")
    return 0


def run() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        return app(standalone_mode=False) or 0
    except Invalid as error:
        note(f"error: {error}")
        return 2
    except HurlicaneError as error:
        note(f"error: {error}")
        return 1
    except typer.TyperException as error:
        if text := error.format_message():  # empty after a call without arguments: help was shown
            note(f"error: {text} Try --help.")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has left; the interpreter must not flush into the pipe
        return 0
