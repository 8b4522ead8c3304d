"""One call of a program is heard out, and nothing of it is left."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.supervision.host import Command
from hurlicane_mcp.supervision.one_shot import Heard, OneShots
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.supervision.agents import DAEMON, Stage, is_gone, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def calls(host: ShimHost, tmp_path: Path) -> AsyncGenerator[OneShots]:
    async with Watcher() as watcher:
        yield OneShots(host, watcher, tmp_path / "calls")


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], list[Path]]:
    """What is below the folder of the calls."""
    return lambda: list((tmp_path / "calls").glob("*"))


def never(_: bytes) -> bool:
    return False


async def run(
    calls: OneShots, command: Command, is_enough: Callable[[bytes], bool] = never
) -> Heard:
    return await calls.run(command, is_enough)


async def test_a_call_tells_what_was_printed_and_how_it_ended(
    calls: OneShots, stage: Stage, left: Callable[[], list[Path]]
) -> None:
    code = "import os, sys; print(sys.stdin.read()); print(os.listdir()); sys.exit('oh no')"
    heard = await run(calls, stage.command(code, stdin=b"one\ntwo"))
    assert heard.lines == (b"one", b"two", b"[]")
    assert (heard.exit.code, heard.complaint) == (1, "oh no\n")
    assert left() == []


async def test_a_program_that_is_not_there_is_told_of(
    calls: OneShots, stage: Stage, left: Callable[[], list[Path]]
) -> None:
    heard = await run(calls, Command(("/no/such",), Path("/"), {}, b"", stage.marker))
    assert "/no/such" in (heard.exit.launch_error or "")
    assert left() == []


async def test_a_call_ends_when_enough_was_said(
    calls: OneShots, stage: Stage, left: Callable[[], list[Path]]
) -> None:
    code = "import os, time; print(os.getpid(), flush=True); print('x', flush=True); time.sleep(60)"
    heard = await run(calls, stage.command(code), lambda line: line == b"x")
    assert heard.lines[1:] == (b"x",)
    assert is_gone(int(heard.lines[0]))
    assert left() == []


async def test_what_the_program_leaves_behind_is_ended_with_the_call(
    calls: OneShots, stage: Stage
) -> None:
    heard = await run(calls, stage.command(DAEMON))
    assert heard.exit.code == 0
    assert is_gone(int(heard.lines[0]))


async def test_cancelling_a_call_ends_the_program_and_what_it_has_started(
    calls: OneShots, stage: Stage, left: Callable[[], list[Path]], tmp_path: Path
) -> None:
    output = tmp_path / "calls" / stage.marker / "stdout"
    code = DAEMON + "\nif os.getsid(0) == os.getpid(): time.sleep(60)"
    printed = ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, calls, stage.command(code))
        await until(lambda: output.exists() and output.read_text().endswith("\n"))
        printed = output.read_text()
        tasks.cancel_scope.cancel()
    assert is_gone(int(printed))
    assert left() == []


async def test_a_call_that_is_cancelled_at_its_start_leaves_nothing(
    calls: OneShots, stage: Stage, left: Callable[[], list[Path]]
) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run(calls, stage.command("import time; time.sleep(60)"))
    assert left() == []


async def test_calls_of_a_server_that_was_killed_are_ended_and_removed(
    calls: OneShots, host: ShimHost, stage: Stage, left: Callable[[], list[Path]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "calls" / "ask_old"
    handle = await host.start(run_dir, stage.command("import time; time.sleep(60)"))
    (tmp_path / "calls" / "ask_older").mkdir()  # nothing was started there
    await calls.clear()
    assert is_gone(handle.identity.pid)
    assert left() == []


async def test_there_may_be_nothing_to_clear(calls: OneShots) -> None:
    await calls.clear()
