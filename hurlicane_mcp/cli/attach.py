"""`hurlicane attach`: the terminal of an interactive job's agent."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import DataDir, JobArgument
from hurlicane_mcp.errors import Conflict, Invalid, NotFound


def attach(
    job: JobArgument,
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", "-r", help="Look only: no key reaches the agent.")
    ] = False,
    data_dir: DataDir = None,
) -> int:
    """Show the terminal of an interactive job, and type into it. Ctrl-B D leaves.

    The agent goes on when you leave. Works on the server's machine only.
    """
    view, attempts = ask(data_dir, lambda server: _look(server, job))
    terminal = _terminal_of(view, attempts)
    folder, name = os.path.split(terminal["socket"])
    program = shutil.which("tmux")
    if program is None:
        raise NotFound("program", "tmux", hint="Install it: apt-get install tmux, or brew.")
    if not Path(terminal["socket"]).exists():
        raise NotFound("terminal", job, hint="It is on the server's machine: attach there.")
    if not sys.stdin.isatty():
        raise Invalid("A terminal is needed to attach; `hurlicane logs -f` needs none.")
    flags = ("-r",) if read_only else ()
    target = f"={terminal['session']}"
    os.chdir(folder)  # its whole path may be longer than a socket's may be
    _become(program, "-u", "-S", name, "attach-session", *flags, "-t", target)


async def _look(server: Connection, job: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
    view = await server.get(f"/api/jobs/{job}")
    return view, (await server.get(f"/api/jobs/{job}/attempts"))["attempts"]


def _terminal_of(
    view: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]
) -> Mapping[str, str]:
    """Where the job's agent is to be seen now.

    Raises:
        Invalid, Conflict: nowhere; the message says why.
    """
    job, status = view["job_id"], view["status"]
    if not view.get("interactive"):
        raise Invalid(
            f"{job} is not interactive, so it has no terminal: `hurlicane logs -f {job}` follows "
            "it. `hurlicane run --interactive` creates a job that has one."
        )
    living = [one["terminal"] for one in attempts if one.get("terminal")]
    if living:
        return living[-1]
    if attempts and status not in ("queued", "running"):
        raise Conflict(f"{job} is {status}, and its terminal is gone: `hurlicane show {job}`.")
    raise Conflict(f"{job} is {status}, but no agent of it runs yet: try again.")


def _become(program: str, *arguments: str) -> NoReturn:
    """Turn this process into the program. A tmux around us is no reason for it to refuse."""
    outside = {name: value for name, value in os.environ.items() if name != "TMUX"}
    os.execve(program, [program, *arguments], outside)
