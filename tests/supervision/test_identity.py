"""A process is known by more than its pid."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import anyio
import pytest

from hurlicane_mcp.ids import new_id
from hurlicane_mcp.supervision.host import ProcessIdentity
from hurlicane_mcp.supervision.identity import (
    boot_id,
    gone,
    identity_of,
    is_alive,
    marked,
    send,
    sweep,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def sleeper() -> Generator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = identity_of(process.pid)
    assert found
    return found


def test_a_running_process_is_alive(sleeper: subprocess.Popen[bytes]) -> None:
    found = identity(sleeper)
    assert (found.pid, found.boot_id) == (sleeper.pid, boot_id())
    assert is_alive(found)


def test_a_zombie_is_dead_but_still_has_its_identity(sleeper: subprocess.Popen[bytes]) -> None:
    before = identity(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(before)
    assert identity_of(sleeper.pid) == before


def test_a_reused_pid_and_another_boot_are_dead(sleeper: subprocess.Popen[bytes]) -> None:
    found = identity(sleeper)
    for other in (replace(found, start_time="1"), replace(found, boot_id="another")):
        assert not is_alive(other)
        assert not send(other, signal.SIGKILL)
    assert is_alive(found)


def test_a_reaped_process_has_no_identity(sleeper: subprocess.Popen[bytes]) -> None:
    found = identity(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert identity_of(sleeper.pid) is None
    assert not is_alive(found)
    assert not send(found, signal.SIGTERM)


async def test_the_end_of_a_process_is_told_and_its_zombie_reaped(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = identity(sleeper)
    assert send(found, signal.SIGKILL)
    with anyio.fail_after(5):
        await gone(found)
        await gone(found)
    assert identity_of(sleeper.pid) is None


@contextmanager
def carrier(marker: str) -> Generator[subprocess.Popen[bytes]]:
    """A process that carries the marker."""
    argv = (sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)")
    environment = {"HURLICANE_ATTEMPT": marker}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


async def test_the_marked_are_found_exactly_and_swept() -> None:
    marker = new_id("test")
    with carrier(marker) as first, carrier(marker) as second, carrier(f"{marker}0") as other:
        assert marked(marker) == {first.pid, second.pid}
        await sweep(marker)
        assert marked(marker) == frozenset()
        assert [child.wait() for child in (first, second)] == [-signal.SIGKILL] * 2
        assert other.poll() is None
