"""One agent from its start to its end, and everything that may happen to it on the way."""

import json
import os
import signal
import stat
import sys
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.errors import LaunchFailed
from hurlicane_mcp.supervision.host import Command, Exit, Handle
from hurlicane_mcp.supervision.identity import is_alive
from hurlicane_mcp.supervision.shim_host import ShimHost, stopped_by
from tests.supervision.agents import (
    DAEMON,
    DEAF,
    SECOND,
    Stage,
    argv_of,
    has_ended,
    is_gone,
    until,
)

pytestmark = pytest.mark.anyio


async def end_of(handle: Handle) -> Exit:
    with anyio.fail_after(10):
        return await handle.ended()


async def test_an_agent_reads_its_prompt_and_leaves_output_and_exit_code(
    host: ShimHost, stage: Stage
) -> None:
    code = "import sys; print(sys.stdin.read()); sys.stderr.write('hm'); sys.exit(7)"
    handle = await host.start(stage.run_dir, stage.command(code, stdin=b"be\nkind"))
    assert await end_of(handle) == Exit(code=7)
    assert stage.text("stdout") == "be\nkind\n"
    assert stage.text("stderr") == "hm"
    assert stopped_by(stage.run_dir) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_death_by_a_signal_is_told_as_such(
    host: ShimHost, stage: Stage, number: signal.Signals
) -> None:
    code = f"import os; os.kill(os.getpid(), {int(number)})"
    handle = await host.start(stage.run_dir, stage.command(code))
    assert await end_of(handle) == Exit(signal=number)


@pytest.mark.parametrize(
    ("program", "cwd", "sentence"),
    [
        pytest.param("no-such-cli", "/", "The program 'no-such-cli' cannot be executed: No such "
                     "file or directory (ENOENT).", id="missing program"),
        pytest.param("/", "/", "The program '/' cannot be executed: Permission denied (EACCES).",
                     id="not a program"),
        pytest.param("true", "/nowhere", "The working directory '/nowhere' cannot be entered: No "
                     "such file or directory (ENOENT).", id="missing directory"),
    ],
)  # fmt: skip
async def test_what_cannot_be_executed_is_an_exit_with_a_reason(
    host: ShimHost, stage: Stage, program: str, cwd: str, sentence: str
) -> None:
    handle = await host.start(
        stage.run_dir, Command((program,), Path(cwd), {"PATH": "/usr/bin"}, b"", stage.marker)
    )
    assert await end_of(handle) == Exit(launch_error=sentence)
    assert await host.adopt(stage.run_dir) == Exit(launch_error=sentence)


async def test_the_agents_environment_is_the_given_one_and_its_state_is_clean(
    host: ShimHost, stage: Stage
) -> None:
    code = (
        "import os; print(sorted(os.environ.items())); print(open('/proc/self/status').read());"
        "print(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())"
    )
    env = {"NAME": "Zoë\n=1", "LC_ALL": "C.UTF-8"}
    await end_of(await host.start(stage.run_dir, stage.command(code, env=env)))
    first, *status, last = stage.text("stdout").splitlines()
    expected = {**env, "HURLICANE_ATTEMPT": stage.marker}
    assert first == str(sorted(expected.items()))
    assert last == "['0', '1', '2', '3'] True"  # 3 is the listing itself
    signals = dict(line.split(":\t") for line in status if line.startswith("Sig"))
    ignored = {n + 1 for n in range(64) if int(signals["SigIgn"], 16) >> n & 1}
    # The agent is Python, which ignores SIGPIPE and SIGXFSZ by itself; 32 and 33 belong to the C
    # library, which lets no program set them: they come from whatever started this machine.
    assert ignored <= {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}
    assert int(signals["SigBlk"], 16) == 0


async def test_sigpipe_ends_an_agent_as_in_any_shell(host: ShimHost, stage: Stage) -> None:
    command = Command(("sh", "-c", "kill -PIPE $$; echo no"), Path("/"), {}, b"", stage.marker)
    assert await end_of(await host.start(stage.run_dir, command)) == Exit(signal=signal.SIGPIPE)


async def test_secrets_are_in_no_argv_and_in_no_file_for_others(
    host: ShimHost, stage: Stage
) -> None:
    token = "hca_0123456789"
    code = "print('up', flush=True); import time; time.sleep(60)"
    handle = await host.start(stage.run_dir, stage.command(code, env={"TOKEN": token}))
    await stage.lines(1)
    agent = int(json.loads(stage.text("shim.json"))["agent_pid"])
    for pid in (agent, handle.identity.pid):
        assert token not in argv_of(pid)
    await until(lambda: not (stage.run_dir / "command").exists())
    files = list(stage.run_dir.iterdir())
    assert stat.S_IMODE(stage.run_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not [file for file in files if token.encode() in file.read_bytes()]
    await handle.stop(SECOND)


async def test_the_end_is_told_to_all_who_wait_and_again(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(stage.run_dir, stage.command("input()", stdin=b"\n"))
    seen: list[Exit] = []

    async def watch() -> None:
        seen.append(await end_of(handle))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(watch)
    await watch()
    assert seen == [Exit(code=0)] * 4
    assert is_gone(handle.identity.pid)  # reaped: no zombie is left


async def test_stop_lets_a_polite_agent_end_by_itself(host: ShimHost, stage: Stage) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5));"
        "print('ready', flush=True); time.sleep(60)"
    )
    handle = await host.start(stage.run_dir, stage.command(code))
    await stage.lines(1)
    with anyio.fail_after(5):
        await handle.stop(grace=60 * SECOND)
    assert await handle.ended() == Exit(code=5)
    assert stopped_by(stage.run_dir) == "request"
    await handle.stop(grace=60 * SECOND)  # a second time is harmless


async def test_stop_kills_a_deaf_tree_with_escaped_children(host: ShimHost, stage: Stage) -> None:
    code = DAEMON + "print(os.getpid(), flush=True); time.sleep(60)"
    handle = await host.start(stage.run_dir, stage.command(code))
    pids = await stage.pids(2)
    began = anyio.current_time()
    await handle.stop(grace=0.5 * SECOND)
    assert 0.5 <= anyio.current_time() - began < 2.5
    assert all(is_gone(pid) for pid in pids)
    assert await handle.ended() == Exit(signal=signal.SIGKILL)


async def test_a_second_stop_shortens_the_grace(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(
        stage.run_dir, stage.command(DEAF + "print(os.getpid(), flush=True); time.sleep(60)")
    )
    await stage.lines(1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(handle.stop, 60 * SECOND)
            await until(lambda: stage.text("grace") == "60.0")
            tasks.start_soon(handle.stop, timedelta(0))
    assert await handle.ended() == Exit(signal=signal.SIGKILL)


async def test_stop_reaches_a_frozen_agent(host: ShimHost, stage: Stage) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    handle = await host.start(stage.run_dir, stage.command(code))
    [agent] = await stage.pids(1)
    os.kill(agent, signal.SIGSTOP)
    with anyio.fail_after(5):
        await handle.stop(grace=60 * SECOND)
    assert await handle.ended() == Exit(signal=signal.SIGTERM)


async def test_strays_of_an_ended_agent_are_killed_before_its_end_is_told(
    host: ShimHost, stage: Stage
) -> None:
    handle = await host.start(stage.run_dir, stage.command(DAEMON + "sys.exit(3)"))
    [stray] = await stage.pids(1)
    assert await end_of(handle) == Exit(code=3)
    assert is_gone(stray)


async def test_the_agent_dies_with_its_shim_and_what_is_marked_is_swept(
    host: ShimHost, stage: Stage
) -> None:
    code = DAEMON + "print(os.getpid(), flush=True); time.sleep(60)"
    handle = await host.start(stage.run_dir, stage.command(code))
    daemon, agent = await stage.pids(2)
    os.kill(handle.identity.pid, signal.SIGKILL)
    assert await end_of(handle) == Exit()
    assert has_ended(agent)
    assert has_ended(daemon)


async def test_a_frozen_shim_is_killed_from_outside_with_its_tree(
    host: ShimHost, stage: Stage
) -> None:
    # The child drops its marker, so that only its descent betrays it.
    code = (
        "import os, time\n"
        "child = os.fork()\n"
        "if not child: os.setsid(); os.execve('/bin/sleep', ['sleep', '60'], {})\n"
        "print(os.getpid(), child, sep='\\n', flush=True); time.sleep(60)"
    )
    handle = await host.start(stage.run_dir, stage.command(code))
    pids = await stage.pids(2)
    os.kill(handle.identity.pid, signal.SIGSTOP)
    with anyio.fail_after(10):
        await handle.stop(grace=0.1 * SECOND)
    assert not is_alive(handle.identity)
    assert all(has_ended(pid) for pid in pids)
    assert await handle.ended() == Exit()


async def test_a_second_start_in_the_same_directory_is_refused(
    host: ShimHost, stage: Stage
) -> None:
    handle = await host.start(stage.run_dir, stage.command("input()", stdin=b"\n"))
    with pytest.raises(LaunchFailed, match="use a fresh directory"):
        await ShimHost().start(stage.run_dir, stage.command("print('twice')"))
    assert await end_of(handle) == Exit(code=0)
    with pytest.raises(LaunchFailed, match="use a fresh directory"):
        await host.start(stage.run_dir, stage.command("print('twice')"))
    assert stage.text("stdout") == ""


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        pytest.param("/nowhere/python", "No such file or directory", id="missing"),
        pytest.param("/bin/false", "it said nothing", id="fails at once"),
        pytest.param("/bin/cat", "cat: ", id="tells why"),
    ],
)
async def test_a_shim_that_does_not_come_up_fails_the_launch(
    stage: Stage, python: str, reason: str
) -> None:
    command = stage.command("print('never')", env={"TOKEN": "secret"})
    with pytest.raises(LaunchFailed, match=reason):
        await ShimHost(python).start(stage.run_dir, command)
    assert not (stage.run_dir / "command").exists()  # it would hold the token
    assert await ShimHost().adopt(stage.run_dir) is None


async def test_nul_characters_fail_the_launch(host: ShimHost, stage: Stage) -> None:
    with pytest.raises(LaunchFailed, match="NUL"):
        await host.start(stage.run_dir, stage.command("print('a\0b')"))


async def test_a_shim_stands_outside_our_session(host: ShimHost, stage: Stage) -> None:
    handle = await host.start(stage.run_dir, stage.command("input()", stdin=b"\n"))
    assert os.getsid(handle.identity.pid) == handle.identity.pid
    assert argv_of(handle.identity.pid).startswith(sys.executable)
    await end_of(handle)
