"""`hurlicane stop`: end the server of a data folder, and with it its agents if told so."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import anyio
import psutil
import typer

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.jobs import OPEN
from hurlicane_mcp.cli.options import DataDir
from hurlicane_mcp.cli.pages import PAGE
from hurlicane_mcp.cli.render import note
from hurlicane_mcp.cli.whereabouts import data_dir_of, no_server, worker_of
from hurlicane_mcp.errors import HurlicaneError, ServerUnreachable

_LEAVE_S: Final = 25  #: more than the parent gives its worker to drain
_AGENTS_S: Final = 60
_LOOK_S: Final = 0.1
#: A worker that has just died is replaced within this time.
_REPLACED_S: Final = 1.0


class Agents(StrEnum):
    """What becomes of the agents."""

    KEEP = "keep"
    STOP = "stop"


def stop(
    *,
    agents: Annotated[
        Agents,
        typer.Option(help="keep: the next server goes on with them; stop: cancel all open jobs."),
    ] = Agents.KEEP,
    data_dir: DataDir = None,
) -> int:
    """Stop the server. Its agents go on unless --agents stop is given."""
    place = data_dir_of(data_dir)
    server = _server_process(place)
    if agents is Agents.STOP:
        ask(str(place), _stop_agents)
    server.terminate()  # psutil refuses if the pid has become another process meanwhile
    deadline = time.monotonic() + _LEAVE_S
    while _runs(server):
        if time.monotonic() > deadline:
            raise HurlicaneError(
                f"The server (pid {server.pid}) still runs {_LEAVE_S} s after SIGTERM: see its log."
            )
        time.sleep(_LOOK_S)
    note(f"The server of {place} has stopped.")
    return 0


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended; who started it may take long to reap it, or never do."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _server_process(data_dir: Path) -> psutil.Process:
    """The process to end: the parent of the worker that holds the data folder's lock.

    Raises:
        ServerUnreachable: no living process holds it.
    """
    deadline = time.monotonic() + _REPLACED_S
    while True:
        worker = _holder(data_dir)
        if worker is not None:
            break
        if time.monotonic() > deadline or worker_of(data_dir) is None:
            raise no_server(data_dir)
        time.sleep(_LOOK_S)
    parent = worker.parent()
    # A worker whose parent was killed belongs to process 1 and leaves by itself when told.
    return parent if parent and "serve" in parent.cmdline() else worker


def _holder(data_dir: Path) -> psutil.Process | None:
    """The latest worker, if it is alive and still has the lock's file open.

    A pid alone proves nothing: after a crash it may be anybody's.
    """
    known = worker_of(data_dir)
    if known is None:
        return None
    lock = str((data_dir / "server.lock").resolve())
    try:
        worker = psutil.Process(known.pid)
        return worker if any(file.path == lock for file in worker.open_files()) else None
    except psutil.Error:
        return None


async def _stop_agents(server: Connection) -> None:
    """Cancel every open job, and return when no agent lives.

    Raises:
        ServerUnreachable: some live on; the message names them.
    """
    deadline = time.monotonic() + _AGENTS_S
    while True:
        for job in (await server.get("/api/jobs", status=OPEN, limit=PAGE))["jobs"]:
            await server.post(
                f"/api/jobs/{job['job_id']}/cancel", {"reason": "The server is being stopped."}
            )
        living = [one["attempt_id"] for one in (await server.get("/api/agents"))["agents"]]
        if not living:
            return
        if time.monotonic() > deadline:
            raise ServerUnreachable(
                f"Agents still run, so the server goes on: {', '.join(living)}. Try again."
            )
        await anyio.sleep(_LOOK_S)
