"""What can be seen of a process tree from outside."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import psutil
import pytest

from hurlicane_mcp.supervision.activity import Usage, usage_of
from hurlicane_mcp.supervision.host import ProcessIdentity
from hurlicane_mcp.supervision.identity import identity_of

KEEPER = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"
SPIN = "print('on', flush=True)\nwhile True: pass"
SLEEP = "print('on', flush=True)\nimport time; time.sleep(600)"


@contextmanager
def tree(code: str) -> Generator[tuple[ProcessIdentity, psutil.Process]]:
    """A keeper and, below it, a program that has begun to run *code*."""
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, code], stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    keeper.stdout.readline()
    (child,) = psutil.Process(keeper.pid).children()
    identity = identity_of(keeper.pid)
    assert identity is not None
    try:
        yield identity, child
    finally:
        child.kill()
        keeper.wait()
        keeper.stdout.close()


def test_a_program_that_computes_is_at_work_and_one_that_sleeps_is_not() -> None:
    for code, works in ((SPIN, True), (SLEEP, False)):
        with tree(code) as (identity, child):
            before = usage_of(identity)
            used = child.cpu_times().user
            while works and child.cpu_times().user < used + 0.2:
                pass
            after = usage_of(identity)
        assert before is not None
        assert after is not None
        assert after.is_work_since(before, 1.0) is works


def test_a_process_that_was_stopped_is_frozen_until_it_goes_on() -> None:
    with tree(SLEEP) as (identity, child):
        for change, frozen in ((child.suspend, True), (child.resume, False)):
            change()
            usage = usage_of(identity)
            assert usage is not None
            assert usage.is_frozen is frozen


def test_a_tree_whose_keeper_is_gone_has_no_usage() -> None:
    with tree(SLEEP) as (identity, _):
        pass
    assert usage_of(identity) is None


@pytest.mark.parametrize(
    ("before", "after", "works"),
    [
        pytest.param(Usage(1, 0), Usage(1.5, 0), False, id="an idle program's share"),
        pytest.param(Usage(1, 0), Usage(1.7, 0), True, id="more than that"),
        pytest.param(Usage(1, 0), Usage(1, 2_000_000), True, id="reads and writes"),
        pytest.param(Usage(9, 0), Usage(1, 0), True, id="a part of it has ended"),
    ],
)
def test_what_counts_as_work_in_thirty_seconds(before: Usage, after: Usage, works: bool) -> None:
    assert after.is_work_since(before, 30) is works
