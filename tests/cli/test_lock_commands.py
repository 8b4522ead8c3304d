"""File locks on the command line."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("locks")
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def listed(hurlicane: Command, count: int) -> list[dict[str, str]]:
    end = time.monotonic() + 60
    while len(found := json.loads(hurlicane("locks", "--json").stdout)["locks"]) != count:
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return found


def test_locks_are_listed_with_who_waits_and_freed_by_their_id(hurlicane: Command) -> None:
    assert hurlicane("locks").stderr == "No job holds a file.\n"
    steps = ('call lock_files {"paths": ["a"]}', "hang")
    begun = hurlicane("run", "-d", "--enforce-locks", task(*steps))
    assert "scripted cannot be made to ask before it edits" in begun.stderr
    job = begun.stdout.strip()
    (lock,) = listed(hurlicane, 1)
    shown = hurlicane("locks")
    assert lock["lock_id"] in shown.stdout
    assert f"{job}  " in shown.stdout
    assert shown.stderr == "hurlicane locks release LOCK\n"
    freed = hurlicane("locks", "release", lock["lock_id"])
    assert (freed.returncode, freed.stdout) == (0, "")
    assert freed.stderr == f"{lock['path']} is free: {job} does not hold it any more.\n"
    listed(hurlicane, 0)
    again = hurlicane("locks", "release", lock["lock_id"])
    assert again.returncode == 1
    assert "There is no lock" in again.stderr
    assert hurlicane("locks", "release", "../jobs").returncode == 2
    shown_job = json.loads(hurlicane("show", job, "--json").stdout)
    assert shown_job["status"] == "running"
