"""`hurlicane merge-preview` of a job in a worktree, against one running server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Command, task
from tests.git.places import Place, git, new_place
from tests.stories.server import RunningServer, running_server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return new_place(tmp_path_factory.mktemp("merges"))


@pytest.fixture(scope="module")
def shared(place: Place) -> Iterator[RunningServer]:
    server = running_server(place.beside / "data", place.folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def test_a_job_without_a_worktree_has_nothing_to_merge(hurlicane: Command) -> None:
    job = json.loads(hurlicane("run", "--json", task("finish ok")).stdout)
    done = hurlicane("merge-preview", job["job_id"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no worktree of its own" in done.stderr


def test_what_a_merge_would_do_is_told_and_exit_code_1_stands_for_conflicts(
    hurlicane: Command, place: Place
) -> None:
    steps = ("finish ok",)
    job = json.loads(hurlicane("run", "--worktree", "--json", task(*steps)).stdout)
    tree = Place(Path(job["work_dir"]), place.beside)
    tree.commit("Work", README_md="ours\n")
    clean = hurlicane("merge-preview", job["job_id"])
    told = f"{job['branch']} is 1 ahead of main, 0 behind.\nIt merges without conflicts.\n"
    assert (clean.returncode, clean.stdout) == (0, told)
    place.commit("Theirs", README_md="theirs\n")
    before = git(tree.folder, "status", "--porcelain", "--branch")
    conflict = hurlicane("merge-preview", job["job_id"])
    told = f"{job['branch']} is 1 ahead of main, 1 behind.\nIt conflicts in:\n  README.md\n"
    assert (conflict.returncode, conflict.stdout) == (1, told)
    as_json = hurlicane("merge-preview", "--json", job["job_id"])
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["conflicts"] == ["README.md"]
    assert git(tree.folder, "status", "--porcelain", "--branch") == before
