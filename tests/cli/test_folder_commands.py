"""Worktrees and diffs on the command line, against one running server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.command import Command, task
from tests.git.checkouts import Checkout, commit, git
from tests.stories.server import RunningServer, running_server


@dataclass(frozen=True)
class Shared:
    server: RunningServer
    here: Checkout


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("folders")
    server = running_server(folder / "data", folder, {})
    yield Shared(server, Checkout.beside(folder))
    server.stop()


@pytest.fixture
def hurlicane(shared: Shared) -> Command:
    return Command(shared.server.data_dir, shared.server.work_dir)


@pytest.fixture
def here(shared: Shared) -> Checkout:
    return shared.here


def test_a_worktree_is_asked_for_listed_and_shown(hurlicane: Command, here: Checkout) -> None:
    git(here.top, "branch", "old")
    commit(here.top, "new")
    wishes = ("--worktree", "--base-branch", "old", "--dir", str(here.top), "--title", "Mend it")
    made = hurlicane("run", "--json", *wishes, task("commit work.txt x", "finish Done."))
    job = json.loads(made.stdout)
    branch = f"hurlicane/mend-it-{job['job_id'].removeprefix('job_')}"
    assert (job["branch"], job["worktree"]["base_branch"]) == (branch, "old")
    assert here.files(branch) == {"read.me", "work.txt"}
    (line,) = [
        one for one in hurlicane("worktrees").stdout.splitlines() if one.startswith(job["job_id"])
    ]
    assert line.split()[1:4] == ["ready", branch, "old"]
    (listed,) = json.loads(hurlicane("worktrees", "--json").stdout)["worktrees"]
    assert (listed["job_id"], listed["path"]) == (job["job_id"], job["work_dir"])
    assert f"worktree     ready, branch {branch}" in hurlicane("show", job["job_id"]).stdout


def test_a_diff_can_be_read_summed_up_and_applied(hurlicane: Command, here: Checkout) -> None:
    made = hurlicane(
        "run", "--json", "--worktree", "--dir", str(here.top),
        task("commit work.txt x", "edit draft y", "finish Done."),
    )  # fmt: skip
    job = json.loads(made.stdout)["job_id"]
    shown = hurlicane("diff", job)
    while shown.returncode != 0:  # it is made when the process is gone
        assert "when an attempt in a git repository has ended" in shown.stderr
        shown = hurlicane("diff", job)
    assert "2 files, +2 -0, 1 commits" in shown.stderr
    (here.top.parent / "patch").write_text(shown.stdout)
    git(here.top, "apply", "--check", str(here.top.parent / "patch"))
    stat = hurlicane("diff", job, "--stat").stdout.splitlines()
    assert set(stat) == {"work.txt | +1 -0", "draft | +1 -0"}
    whole = json.loads(hurlicane("diff", job, "--attempt", "1", "--json").stdout)
    assert (whole["attempt"], whole["patch"]) == (1, shown.stdout)
    assert hurlicane("diff", job, "--attempt", "7").returncode == 1


def test_a_base_without_a_worktree_is_a_mistake(hurlicane: Command) -> None:
    refused = hurlicane("run", "--base-branch", "main", task("finish Done."))
    assert refused.returncode == 2
    assert "needs `use_worktree`" in refused.stderr
