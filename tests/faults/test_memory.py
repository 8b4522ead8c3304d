"""The kernel kills an agent because memory runs out: that is told, and not mistaken."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.supervision.host import Exit
from hurlicane_mcp.supervision.shim_host import ShimHost
from tests.faults.conftest import MIB
from tests.machine import missing
from tests.supervision.agents import Stage

GROUPS = Path("/sys/fs/cgroup")

pytestmark = pytest.mark.anyio


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory, into which processes can be moved."""
    is_old = (GROUPS / "memory").is_dir()
    folder = (GROUPS / "memory" if is_old else GROUPS) / f"hurlicane-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if is_old else "memory.max")).write_text(str(64 * MIB))
    except OSError as error:
        missing(f"no control group with a limit can be made here: {error}")
    yield folder
    folder.rmdir()


async def test_an_agent_that_was_killed_for_want_of_memory_is_said_to_be(
    tmp_path: Path, group: Path
) -> None:
    stage = Stage(tmp_path / "run", "job_memory.1")
    code = (
        f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "eaten = []\n"
        "while True: eaten.append(b'x' * (1 << 20))"
    )
    handle = await ShimHost().start(stage.run_dir, stage.command(code))
    with anyio.fail_after(20):
        assert await handle.ended() == Exit(signal=signal.SIGKILL, oom=True)


async def test_an_agent_that_was_killed_by_hand_is_not_said_to_have_had_too_little_memory(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path / "run", "job_memory.2")
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    handle = await ShimHost().start(stage.run_dir, stage.command(code))
    with anyio.fail_after(20):
        assert await handle.ended() == Exit(signal=signal.SIGKILL)
