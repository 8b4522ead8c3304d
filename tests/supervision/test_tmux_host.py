"""Agents on a terminal: with a real tmux, from their start to every kind of end."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from hurlicane_mcp.errors import LaunchFailed, ShimDied
from hurlicane_mcp.supervision.host import Command, Exit, Handle
from hurlicane_mcp.supervision.identity import is_alive
from hurlicane_mcp.supervision.shim_host import ShimHandle, ShimHost, stopped_by
from hurlicane_mcp.supervision.tmux_host import LocalHost, Terminal, TmuxHost, terminal_of
from tests.machine import missing
from tests.supervision.agents import DEAF, SECOND, Stage, argv_of, has_ended, is_gone, until

pytestmark = pytest.mark.anyio

SLEEP = "import os, time; print(os.getpid(), 'is up', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def tmux() -> str:
    """The program; without it nothing here can be tested."""
    found = shutil.which("tmux")
    if found is None:
        missing("tmux is not installed")
    return found


@pytest.fixture
def host() -> TmuxHost:
    return TmuxHost()


def ask_tmux(stage: Stage, *commands: str) -> str:
    """What the attempt's tmux answers."""
    argv = ("tmux", "-S", "tmux", *commands)
    ran = subprocess.run(argv, cwd=stage.run_dir, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def server_of(stage: Stage) -> int:
    """The pid of the attempt's tmux."""
    return int(ask_tmux(stage, "display-message", "-p", "#{pid}"))


def agent_of(stage: Stage) -> int:
    return int(json.loads(stage.text("shim.json"))["agent_pid"])


async def started(host: TmuxHost, stage: Stage, code: str = SLEEP) -> Handle:
    """An agent that has said that it is up."""
    handle = await host.start(stage.run_dir, stage.command(code))
    await until(lambda: "is up" in stage.text("screen"))
    return handle


async def end_of(handle: Handle, seconds: float = 10) -> Exit:
    with anyio.fail_after(seconds):
        return await handle.ended()


async def test_an_agent_has_a_terminal_and_what_it_showed_is_kept(
    host: TmuxHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMUX", "COLUMNS"):
        monkeypatch.setenv(name, "wrong")
    code = (
        "import os, sys\n"
        "print([os.isatty(n) for n in range(3)], os.get_terminal_size())\n"
        "print(os.tcgetpgrp(0) == os.getpgrp(), sorted(os.listdir('/proc/self/fd')))\n"
        "print(sorted(os.environ)); print('\\x1b[31mred\\x1b[0m ü'); sys.exit(7)"
    )
    env = {"LC_ALL": "C.UTF-8", "TERM": "dumb", "TMUX": "wrong", "COLUMNS": "7"}
    handle = await host.start(stage.run_dir, stage.command(code, env=env))
    assert await end_of(handle) == Exit(code=7)
    assert stopped_by(stage.run_dir) is None
    first, second, third, last = stage.text("scrollback.txt").rstrip("\n").split("\n")
    assert first == "[True, True, True] os.terminal_size(columns=160, lines=48)"
    assert second == "True ['0', '1', '2', '3']"  # 3 is the listing itself
    assert third == "['HURLICANE_ATTEMPT', 'LC_ALL', 'TERM']"
    assert last == "red ü"
    assert "\x1b[31mred\x1b[0m ü\n" in stage.text("screen")
    assert not [name for name in ("stdout", "ready") if (stage.run_dir / name).exists()]
    assert stage.text("shim.log") == ""


async def test_tmux_leaves_when_its_agent_has_ended(host: TmuxHost, stage: Stage) -> None:
    handle = await started(host, stage)
    server = server_of(stage)
    await handle.stop(SECOND)
    await until(lambda: has_ended(server))


async def test_the_scrollback_holds_what_has_left_the_screen(host: TmuxHost, stage: Stage) -> None:
    code = "for n in range(500): print('line', n)"
    await end_of(await host.start(stage.run_dir, stage.command(code)))
    assert stage.text("scrollback.txt").split() == [
        word for n in range(500) for word in ("line", str(n))
    ]
    assert stage.text("screen").splitlines() == [f"line {n}" for n in range(500)]


async def test_any_folder_will_do(host: TmuxHost, tmp_path: Path, stage: Stage) -> None:
    """Longer than a socket's path may be, with all that shells and tmux give a meaning to."""
    folder = tmp_path / ("x" * 120) / "a 'b' \"c\" #{pid} $(d) %H ;"
    odd = Stage(folder / "job_1.1;", stage.marker)
    folder.mkdir(parents=True)
    await end_of(await host.start(odd.run_dir, odd.command("print('here')")))
    assert odd.text("screen") == "here\n"
    assert odd.text("scrollback.txt") == "here\n"


async def test_the_session_is_named_after_the_attempt(host: TmuxHost, stage: Stage) -> None:
    run_dir = stage.run_dir.with_name("job_abc.2")
    named = Stage(run_dir, stage.marker)
    handle = await started(host, named)
    terminal = terminal_of(run_dir)
    assert terminal == Terminal(run_dir / "tmux", "job_abc_2")
    assert ask_tmux(named, "list-panes", "-a", "-F", "#{session_name} #{pane_id}") == (
        "job_abc_2 %0"
    )
    await handle.stop(SECOND)


async def test_secrets_reach_the_agent_alone(
    host: TmuxHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, other = "hca_0123456789", "a secret of the server's own"
    monkeypatch.setenv("SOME_API_KEY", other)
    handle = await host.start(stage.run_dir, stage.command(SLEEP, env={"TOKEN": token}))
    await until(lambda: "is up" in stage.text("screen"))
    assert psutil.Process(agent_of(stage)).environ()["TOKEN"] == token
    for pid in (server_of(stage), handle.identity.pid):
        seen = repr(psutil.Process(pid).environ()) + argv_of(pid)
        assert not [one for one in (token, other) if one in seen]
    assert token not in ask_tmux(stage, "show-environment", "-g")
    await until(lambda: not (stage.run_dir / "command").exists())
    files = [path for path in stage.run_dir.iterdir() if path.is_file()]
    assert {path.stat().st_mode & 0o77 for path in stage.run_dir.iterdir()} == {0}
    assert not [file for file in files if token.encode() in file.read_bytes()]
    await handle.stop(SECOND)


async def test_the_users_own_configuration_of_tmux_is_not_read(
    host: TmuxHost, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tmux.conf").write_text("set -g status-left MINE\nset -g remain-on-exit on\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    handle = await started(host, stage)
    assert "MINE" not in ask_tmux(stage, "show-options", "-g")
    await handle.stop(SECOND)


async def test_stop_lets_a_polite_agent_end_by_itself(host: TmuxHost, stage: Stage) -> None:
    code = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); {SLEEP}"
    handle = await started(host, stage, code)
    with anyio.fail_after(5):
        await handle.stop(grace=60 * SECOND)
    assert await handle.ended() == Exit(code=5)
    assert stopped_by(stage.run_dir) == "request"
    assert "is up" in stage.text("scrollback.txt")


async def test_stop_kills_a_deaf_tree_with_escaped_children(host: TmuxHost, stage: Stage) -> None:
    code = DEAF + (
        "child = os.fork()\nif not child: os.setsid(); time.sleep(60)\n"
        "print(child, 'is up', flush=True); time.sleep(60)"
    )
    handle = await started(host, stage, code)
    child = int(stage.text("screen").split()[0])
    with anyio.fail_after(5):
        await handle.stop(grace=0.3 * SECOND)
    assert await handle.ended() == Exit(signal=signal.SIGKILL)
    assert is_gone(child)


async def test_the_end_of_tmux_is_the_end_of_the_agent_and_noticed_at_once(
    host: TmuxHost, stage: Stage
) -> None:
    handle = await started(host, stage)
    agent = agent_of(stage)
    os.kill(server_of(stage), signal.SIGKILL)
    assert await end_of(handle, 1) == Exit(signal=signal.SIGTERM)
    assert is_gone(agent)
    assert stopped_by(stage.run_dir) == "hangup"


async def test_an_agent_that_ignores_the_end_of_tmux_is_killed_soon(
    host: TmuxHost, stage: Stage
) -> None:
    deaf = DEAF + f"signal.signal(signal.SIGHUP, signal.SIG_IGN); {SLEEP}"
    handle = await started(host, stage, deaf)
    ask_tmux(stage, "kill-server")
    assert await end_of(handle, 4) == Exit(signal=signal.SIGKILL)


async def test_the_end_of_one_tmux_ends_no_other_agent(
    host: TmuxHost, stage: Stage, tmp_path: Path
) -> None:
    first, other = await started(host, stage), Stage(tmp_path / "other", "another.1")
    second = await started(host, other)
    os.kill(server_of(stage), signal.SIGKILL)
    await end_of(first, 1)
    assert is_alive(second.identity)
    await second.stop(SECOND)


async def test_the_agent_dies_with_its_shim(host: TmuxHost, stage: Stage) -> None:
    handle = await started(host, stage)
    agent = agent_of(stage)
    os.kill(handle.identity.pid, signal.SIGKILL)
    assert await end_of(handle) == Exit()
    assert has_ended(agent)


async def test_a_frozen_shim_is_set_going_by_tmux(host: TmuxHost, stage: Stage) -> None:
    handle = await started(host, stage)
    os.kill(handle.identity.pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(handle.identity.pid).status() == psutil.STATUS_SLEEPING)
    await handle.stop(SECOND)
    assert await handle.ended() == Exit(signal=signal.SIGTERM)


async def test_a_shim_that_is_frozen_with_its_tmux_is_killed_from_outside(
    host: TmuxHost, stage: Stage
) -> None:
    handle = await started(host, stage)
    agent, server = agent_of(stage), psutil.Process(server_of(stage))
    server.suspend()
    os.kill(handle.identity.pid, signal.SIGSTOP)
    try:
        with anyio.fail_after(10):
            await handle.stop(grace=0.1 * SECOND)
        assert await handle.ended() == Exit()
        assert has_ended(agent)
    finally:
        server.kill()


async def test_a_frozen_tmux_keeps_nobody_from_stopping_the_agent(
    host: TmuxHost, stage: Stage
) -> None:
    handle = await started(host, stage)
    server = psutil.Process(server_of(stage))
    server.suspend()
    try:
        with anyio.fail_after(8):
            await handle.stop(grace=SECOND)
        assert await handle.ended() == Exit(signal=signal.SIGTERM)
    finally:
        server.kill()


async def test_ctrl_z_does_not_freeze_the_agent(host: TmuxHost, stage: Stage) -> None:
    code = "print('is up', flush=True); print(len(input()), flush=True)"
    handle = await started(host, stage, code)
    ask_tmux(stage, "send-keys", "C-z")
    await until(lambda: "^Z" in stage.text("screen"))
    ask_tmux(stage, "send-keys", "-l", "four")
    ask_tmux(stage, "send-keys", "Enter")
    assert await end_of(handle) == Exit(code=0)
    assert "4\n" in stage.text("screen")


async def test_ctrl_c_reaches_the_agent_and_not_its_shim(host: TmuxHost, stage: Stage) -> None:
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); " + SLEEP
    handle = await started(host, stage, code)
    ask_tmux(stage, "send-keys", "C-c")
    assert await end_of(handle) == Exit(code=3)
    assert stopped_by(stage.run_dir) is None


SERVER = """
import anyio, sys
from pathlib import Path
from hurlicane_mcp.supervision.host import Command
from hurlicane_mcp.supervision.tmux_host import TmuxHost

async def serve():
    command = Command((sys.executable, "-c", sys.argv[2]), Path("/"), {}, b"", sys.argv[3])
    await TmuxHost().start(Path(sys.argv[1]), command)
    print("started", flush=True)
    await anyio.sleep_forever()

anyio.run(serve)
"""


def killed_server(stage: Stage) -> None:
    """Have a server start an agent, then SIGKILL that server."""
    argv = (sys.executable, "-c", SERVER, str(stage.run_dir), SLEEP, stage.marker)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"started\n"
        server.kill()


async def test_an_agent_outlives_its_server_and_is_adopted(stage: Stage) -> None:
    killed_server(stage)
    await until(lambda: "is up" in stage.text("screen"))
    handle = await LocalHost(ShimHost(), TmuxHost()).adopt(stage.run_dir)
    assert isinstance(handle, ShimHandle)
    assert server_of(stage)
    os.kill(agent_of(stage), signal.SIGTERM)
    assert await end_of(handle) == Exit(signal=signal.SIGTERM)
    assert "is up" in stage.text("scrollback.txt")


async def test_an_agent_ends_while_no_server_looks_and_its_screen_is_kept(
    host: TmuxHost, stage: Stage
) -> None:
    started = await host.start(stage.run_dir, stage.command("print('alone'); raise SystemExit(4)"))
    await until(lambda: has_ended(started.identity.pid))
    assert await host.adopt(stage.run_dir) == Exit(code=4)
    assert stage.text("scrollback.txt") == "alone\n"


@contextmanager
def viewer(stage: Stage) -> Generator["subprocess.Popen[bytes]"]:
    """Somebody who has attached."""
    master, terminal = pty.openpty()
    argv = ("tmux", "-S", "tmux", "attach-session")
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        argv, cwd=stage.run_dir, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        yield process
        process.kill()
    os.close(master)


async def test_a_viewer_that_is_killed_leaves_the_agent_alone(host: TmuxHost, stage: Stage) -> None:
    code = "print('is up', flush=True); print('heard', input(), flush=True)"
    handle = await started(host, stage, code)
    with viewer(stage) as process:
        await until(lambda: ask_tmux(stage, "list-clients") != "")
        process.kill()
        process.wait()
        await until(lambda: ask_tmux(stage, "list-clients") == "")
    assert is_alive(handle.identity)
    assert await host.type(stage.run_dir, "you")
    assert await end_of(handle) == Exit(code=0)
    assert "heard you" in stage.text("scrollback.txt")


ANSWERS = "print('is up', flush=True)\nwhile (line := input()) != 'bye': print(repr(line))"


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        pytest.param('it\'s "$HOME" #{pid};', 'it\'s "$HOME" #{pid};', id="signs"),
        pytest.param("ünï → 漢字", "ünï → 漢字", id="unicode"),
        pytest.param("Enter", "Enter", id="the name of a key"),
        pytest.param("-p -r", "-p -r", id="options"),
        pytest.param("a\x03\x1b[201~b\r\x04 c", "a[201~b c", id="control characters"),
        pytest.param(" padded\tout \n", "padded out", id="spaces"),
    ],
)
async def test_a_text_is_typed_as_it_is_and_entered(
    host: TmuxHost, stage: Stage, text: str, heard: str
) -> None:
    handle = await started(host, stage, ANSWERS)
    assert await host.type(stage.run_dir, text)
    await until(lambda: repr(heard) in stage.text("screen"))
    assert await host.type(stage.run_dir, "bye")
    assert await end_of(handle) == Exit(code=0)


async def test_a_text_reaches_an_agent_whose_viewer_scrolls(host: TmuxHost, stage: Stage) -> None:
    handle = await started(host, stage, ANSWERS)
    ask_tmux(stage, "copy-mode")
    assert await host.type(stage.run_dir, "bye")
    assert await end_of(handle) == Exit(code=0)


async def test_lines_stay_together_where_the_agent_knows_pastes(
    host: TmuxHost, stage: Stage
) -> None:
    code = (
        "import os, tty; tty.setraw(0); print('\\x1b[?2004his up\\r', flush=True)\n"
        "while (got := os.read(0, 999)) != b'\\r': print(repr(got), got.decode()[-10:], flush=True)"
    )
    handle = await started(host, stage, code)
    await until(lambda: ask_tmux(stage, "display-message", "-p", "#{pane_mode}") == "")
    assert await host.type(stage.run_dir, "one\ntwo and more")
    assert await end_of(handle) == Exit(code=0)
    assert r"b'\x1b[200~one\rtwo and more\x1b[201~'" in stage.text("screen")


async def test_no_enter_is_pressed_where_the_text_does_not_show(
    host: TmuxHost, stage: Stage
) -> None:
    """As in a dialog, which Enter would answer."""
    code = (
        "import os, tty; tty.setraw(0); print('is up\\r', flush=True)\n"
        "while b'!' not in (got := os.read(0, 999)): print(repr(got).upper() + '\\r', flush=True)"
    )
    handle = await started(host, stage, code)
    assert not await host.type(stage.run_dir, "yes, allow all")
    ask_tmux(stage, "send-keys", "-l", "!")
    await end_of(handle)
    assert "B'YES, ALLOW ALL'" in stage.text("screen")
    assert r"\R" not in stage.text("screen")


async def test_nothing_is_typed_where_no_terminal_is(host: TmuxHost, stage: Stage) -> None:
    assert not await host.type(stage.run_dir, "hello")
    handle = await host.start(stage.run_dir, stage.command("pass"))
    await end_of(handle)
    assert not await host.type(stage.run_dir, "hello")
    assert not await TmuxHost(program="no-such-tmux").type(stage.run_dir, "hello")


async def test_without_tmux_the_launch_fails_with_how_to_install_it(stage: Stage) -> None:
    with pytest.raises(LaunchFailed, match="apt-get install tmux") as failed:
        await TmuxHost(program="no-such-tmux").start(stage.run_dir, stage.command("pass"))
    assert not isinstance(failed.value, ShimDied)  # trying again would not help
    assert not stage.run_dir.exists()


async def test_a_tmux_that_fails_is_quoted_and_leaves_no_token(
    stage: Stage, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho protocol version mismatch >&2\nexit 1\n")
    broken.chmod(0o700)
    with pytest.raises(ShimDied, match="protocol version mismatch"):
        await TmuxHost(program=str(broken)).start(
            stage.run_dir, stage.command("pass", env={"TOKEN": "secret"})
        )
    assert not (stage.run_dir / "command").exists()
    assert await ShimHost().adopt(stage.run_dir) is None


async def test_a_tmux_that_starts_the_shim_but_does_not_say_so_leaves_no_agent(
    stage: Stage, tmp_path: Path, tmux: str
) -> None:
    mute = tmp_path / "mute"
    mute.write_text(f'#!/bin/sh\n{tmux} "$@" >/dev/null\nsleep 0.5\n')
    mute.chmod(0o700)
    with pytest.raises(ShimDied):
        await TmuxHost(program=str(mute)).start(stage.run_dir, stage.command(SLEEP))
    assert has_ended(agent_of(stage))
    assert json.loads(stage.text("exit.json"))["signal"] == signal.SIGTERM


async def test_a_shim_that_does_not_come_up_is_told_with_its_words(stage: Stage) -> None:
    with pytest.raises(ShimDied, match="cat: "):
        await TmuxHost(python="/bin/cat").start(stage.run_dir, stage.command("pass"))
    assert not (stage.run_dir / "command").exists()


async def test_what_cannot_be_executed_is_an_exit_with_a_reason(
    host: TmuxHost, stage: Stage
) -> None:
    command = Command(("no-such-cli",), Path("/"), {}, b"", stage.marker)
    handle = await host.start(stage.run_dir, command)
    assert "'no-such-cli' cannot be executed" in ((await end_of(handle)).launch_error or "")


async def test_the_host_of_this_machine_gives_a_terminal_to_those_who_ask(stage: Stage) -> None:
    host = LocalHost(ShimHost(), TmuxHost())
    ask = stage.command("import os; print(os.isatty(1))")
    await end_of(await host.start(stage.run_dir, replace(ask, terminal=True)))
    assert stage.text("screen") == "True\n"
    other = Stage(stage.run_dir.with_name("files"), stage.marker)
    await end_of(await host.start(other.run_dir, ask))
    assert other.text("stdout") == "False\n"
