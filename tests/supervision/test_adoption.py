"""Agents whose server is gone: found again by another one, or proven never to have been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.supervision import run_directory
from hurlicane_mcp.supervision.host import Exit
from hurlicane_mcp.supervision.identity import identity_of
from hurlicane_mcp.supervision.shim_host import SHIM_PROGRAM, ShimHandle, ShimHost, rebooted
from tests.supervision.agents import DAEMON, SECOND, Stage, has_ended, until

pytestmark = pytest.mark.anyio

SERVER = """
import anyio, sys
from pathlib import Path
from hurlicane_mcp.supervision.host import Command
from hurlicane_mcp.supervision.shim_host import ShimHost

async def serve():
    command = Command((sys.executable, "-c", sys.argv[2]), Path("/"), {}, b"", sys.argv[3])
    await ShimHost().start(Path(sys.argv[1]), command)
    print("started", flush=True)
    await anyio.sleep_forever()

anyio.run(serve)
"""


def killed_server(stage: Stage, code: str) -> None:
    """Have a server start an agent, then SIGKILL that server."""
    argv = (sys.executable, "-c", SERVER, str(stage.run_dir), code, stage.marker)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"started\n"
        server.kill()


async def adopted(host: ShimHost, stage: Stage) -> ShimHandle:
    found = await host.adopt(stage.run_dir)
    assert isinstance(found, ShimHandle)
    return found


async def test_an_agent_outlives_its_server_and_its_exit_code_is_known(
    host: ShimHost, stage: Stage
) -> None:
    killed_server(
        stage,
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(9));"
        "print(os.getpid(), flush=True); time.sleep(60)",
    )
    [agent] = await stage.pids(1)
    handle = await adopted(host, stage)
    assert not rebooted(stage.run_dir)
    os.kill(agent, signal.SIGTERM)
    with anyio.fail_after(10):
        assert await handle.ended() == Exit(code=9)


async def test_an_adopted_agent_can_be_stopped(host: ShimHost, stage: Stage) -> None:
    killed_server(stage, DAEMON + "print(os.getpid(), flush=True); time.sleep(60)")
    pids = await stage.pids(2)
    handle = await adopted(host, stage)
    with anyio.fail_after(10):
        await handle.stop(0.1 * SECOND)
    assert await handle.ended() == Exit(signal=signal.SIGKILL)
    assert all(has_ended(pid) for pid in pids)


async def test_an_agent_that_ended_meanwhile_is_known_by_its_files(
    host: ShimHost, stage: Stage
) -> None:
    killed_server(stage, "raise SystemExit(4)")
    await until((stage.run_dir / "exit.json").exists)
    found = await host.adopt(stage.run_dir)
    if isinstance(found, ShimHandle):  # the shim was about to leave
        found = await found.ended()
    assert found == Exit(code=4)
    assert await host.adopt(stage.run_dir) == Exit(code=4)


async def test_a_handle_thrown_away_loses_nothing(host: ShimHost, stage: Stage) -> None:
    first = await host.start(stage.run_dir, stage.command("import time; time.sleep(60)"))
    identity = first.identity
    del first
    second = await adopted(ShimHost(), stage)
    assert second.identity == identity
    await second.stop(SECOND)
    assert await second.ended() == Exit(signal=signal.SIGTERM)


async def test_what_a_killed_shim_left_is_swept_on_adoption(host: ShimHost, stage: Stage) -> None:
    killed_server(stage, DAEMON + "print(os.getpid(), flush=True); time.sleep(60)")
    daemon, agent = await stage.pids(2)
    os.kill(json.loads(stage.text("shim.json"))["pid"], signal.SIGKILL)
    await until(lambda: has_ended(agent))
    assert await host.adopt(stage.run_dir) == Exit()
    assert has_ended(daemon)


async def test_an_agent_of_an_earlier_boot_has_ended_somehow(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(stage.run_dir, stage.command("input()", stdin=b"\n"))
    await handle.ended()
    (stage.run_dir / "exit.json").unlink()
    shim = json.loads(stage.text("shim.json"))
    (stage.run_dir / "shim.json").write_text(json.dumps({**shim, "boot_id": "another"}))
    assert rebooted(stage.run_dir)
    assert await host.adopt(stage.run_dir) == Exit()


async def test_a_torn_exit_file_is_an_unknown_end(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(stage.run_dir, stage.command("pass"))
    await handle.ended()
    (stage.run_dir / "exit.json").write_bytes(b"")
    assert await host.adopt(stage.run_dir) == Exit()


async def test_nothing_was_started_where_there_is_nothing(host: ShimHost, tmp_path: Path) -> None:
    assert await host.adopt(tmp_path / "nowhere") is None
    assert await host.adopt(tmp_path) is None
    assert not rebooted(tmp_path)


async def test_a_shim_that_comes_too_late_finds_its_command_withdrawn(
    host: ShimHost, stage: Stage
) -> None:
    stage.run_dir.mkdir()
    (stage.run_dir / "command").write_bytes(launch(stage, "print('late')"))
    assert await host.adopt(stage.run_dir) is None
    assert run_shim(stage) == run_directory.NOTHING_TO_RUN
    assert await host.adopt(stage.run_dir) is None
    assert stage.text("stdout") == ""


async def test_a_shim_without_shim_json_yet_is_adopted_by_its_lock(
    host: ShimHost, stage: Stage
) -> None:
    handle = await host.start(stage.run_dir, stage.command("import time; time.sleep(60)"))
    (stage.run_dir / "shim.json").unlink()
    found = await adopted(host, stage)
    assert found.identity == handle.identity == identity_of(handle.identity.pid)
    await found.stop(SECOND)


async def test_two_shims_never_run_in_one_directory(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(stage.run_dir, stage.command("import time; time.sleep(60)"))
    (stage.run_dir / "command").write_bytes(launch(stage, "print('twice')"))
    assert run_shim(stage) == run_directory.ALREADY_RUNNING
    await handle.stop(SECOND)
    assert run_shim(stage) == run_directory.ALREADY_RAN
    assert stage.text("stdout") == ""


def launch(stage: Stage, code: str) -> bytes:
    command = stage.command(code)
    args = [("arg", arg) for arg in command.argv]
    return run_directory.encode_launch([*args, ("cwd", "/"), ("grace", "1")])


def run_shim(stage: Stage) -> int:
    """The exit status of a shim in this directory."""
    argv = (sys.executable, "-I", "-S", "-E", str(SHIM_PROGRAM), str(stage.run_dir), "1")
    return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode


def frozen_nameless_shim(run_dir: Path) -> "subprocess.Popen[bytes]":
    """A process that looks like a shim, stopped between its lock and its name."""
    run_dir.mkdir()
    code = (
        "import fcntl, sys, time; file = open(sys.argv[2] + '/shim.lock', 'a');"
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    argv = (sys.executable, "-c", code, str(SHIM_PROGRAM), str(run_dir))
    shim = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert shim.stdout
    assert shim.stdout.readline() == b"held\n"
    shim.send_signal(signal.SIGSTOP)
    return shim


async def test_a_shim_that_freezes_before_it_has_told_its_name_holds_nobody_up(
    host: ShimHost, stage: Stage
) -> None:
    """It has started nothing yet: it is killed, and nothing ever ran."""
    with frozen_nameless_shim(stage.run_dir) as shim:
        with anyio.fail_after(20):
            assert await host.adopt(stage.run_dir) is None
        assert shim.wait(10) == -signal.SIGKILL


async def test_an_agent_whose_directory_is_gone_is_ended_by_its_identity_and_its_marker(
    host: ShimHost, stage: Stage
) -> None:
    killed_server(stage, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    [agent] = await stage.pids(1)
    identity = (await adopted(host, stage)).identity
    stage.run_dir.rename(stage.run_dir.with_name("lost"))
    assert await host.adopt(stage.run_dir) is None
    await host.clear(identity, stage.marker)
    await until(lambda: has_ended(agent))
    assert identity_of(identity.pid) is None or has_ended(identity.pid)
