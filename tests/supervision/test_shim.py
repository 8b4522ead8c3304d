"""The shim by itself: the limits it keeps without a server, and its fallback without /proc."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.supervision import processes, run_directory
from hurlicane_mcp.supervision.identity import marked
from hurlicane_mcp.supervision.shim_host import SHIM_PROGRAM, stopped_by
from tests.supervision.agents import DEAF, Stage, has_ended, until

pytestmark = pytest.mark.anyio

Spawn = Callable[..., subprocess.Popen[bytes]]

#: Runs a program as on a system that we have no special code for.
ELSEWHERE = "import runpy, sys; sys.platform = 'elsewhere'; sys.argv = sys.argv[1:]; " + (
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
#: Stands in for macOS's ps, whose -E shows environments: here the option is `e`.
PS = '#!/bin/sh\nshift\nexec {ps} axeww "$@"\n'


@pytest.fixture
def spawn(stage: Stage) -> Generator[Spawn]:
    """Starts a shim without a host; killed after the test if need be."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        code: str, *python: str, path: str = os.defpath, **limits: str
    ) -> subprocess.Popen[bytes]:
        stage.run_dir.mkdir()
        command = stage.command(code)
        entries = [("arg", arg) for arg in command.argv]
        entries += [("env", f"HURLICANE_ATTEMPT={stage.marker}"), ("cwd", "/"), ("grace", "0.3")]
        launch = run_directory.encode_launch([*entries, *limits.items()])
        (stage.run_dir / "command").write_bytes(launch)
        (stage.run_dir / "stdin").touch()
        argv = (sys.executable, *(python or ("-I", "-S", "-E")), str(SHIM_PROGRAM))
        process = subprocess.Popen(
            (*argv, str(stage.run_dir), "1"), stdout=subprocess.PIPE, env={"PATH": path}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


async def ended(process: subprocess.Popen[bytes]) -> None:
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0


async def test_the_time_limit_is_kept_without_a_server(spawn: Spawn, stage: Stage) -> None:
    await ended(spawn(DEAF + "time.sleep(60)", time_limit_s="0.3"))
    assert stopped_by(stage.run_dir) == "time"
    assert json.loads(stage.text("exit.json"))["signal"] == 9


async def test_an_agent_is_stopped_when_no_server_attends(spawn: Spawn, stage: Stage) -> None:
    await ended(spawn("import time; time.sleep(60)", unattended_limit_s="0.3"))
    assert stopped_by(stage.run_dir) == "unattended"
    assert json.loads(stage.text("exit.json"))["signal"] == 15


async def test_an_attended_agent_goes_on(spawn: Spawn, stage: Stage) -> None:
    process = spawn("import time; time.sleep(1)", unattended_limit_s="0.4")
    while process.poll() is None:
        (stage.run_dir / "attended").touch()
        await anyio.sleep(0.05)
    assert stopped_by(stage.run_dir) is None
    assert json.loads(stage.text("exit.json"))["code"] == 0


async def test_limits_that_are_not_reached_do_not_matter(spawn: Spawn, stage: Stage) -> None:
    await ended(spawn("print('done')", time_limit_s="60", unattended_limit_s="60"))
    assert stopped_by(stage.run_dir) is None
    assert stage.text("stdout") == "done\n"


async def test_a_shim_goes_on_when_its_host_no_longer_listens(spawn: Spawn, stage: Stage) -> None:
    process = spawn("print('done')")
    assert process.stdout
    process.stdout.close()
    await ended(process)
    assert stage.text("stdout") == "done\n"
    assert stage.text("shim.log") == ""


async def test_without_proc_the_tree_is_found_by_group_descent_and_marker(
    spawn: Spawn, stage: Stage, tmp_path: Path
) -> None:
    ps = tmp_path / "ps"
    ps.write_text(PS.format(ps=shutil.which("ps")))
    ps.chmod(0o700)
    code = DEAF + (
        "\nif os.fork() == 0:"  # one in the group, whose own child has left it and the marker
        "\n    if os.fork() == 0: os.setsid(); print(os.getpid(), flush=True);"
        " os.execve('/bin/sleep', ['sleep', '60'], {})"
        "\n    time.sleep(60)"
        "\nif os.fork() == 0:"  # one far away, which keeps the marker
        "\n    os.setsid()"
        "\n    if os.fork(): os._exit(0)"
        "\nprint(os.getpid(), flush=True); time.sleep(60)"
    )
    process = spawn(code, "-c", ELSEWHERE, path=f"{tmp_path}:{os.defpath}")
    pids = await stage.pids(3)
    await until((stage.run_dir / "shim.json").exists)
    process.terminate()
    await ended(process)
    assert all(has_ended(pid) for pid in pids)
    assert marked(stage.marker) == frozenset()
    assert stopped_by(stage.run_dir) == "request"


def test_a_process_may_have_any_name() -> None:
    stat = processes.process_stat(os.getpid())
    assert stat
    state, parent, start_time = stat
    assert (state, parent) == ("R", os.getppid())
    assert start_time.isdecimal()
    comm = Path("/proc/self/comm")
    name = comm.read_text()
    try:
        comm.write_text("a) R 1 (b")
        assert processes.process_stat(os.getpid()) == stat
    finally:
        comm.write_text(name)
