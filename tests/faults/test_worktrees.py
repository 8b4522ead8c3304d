"""Worktrees that cannot be made at first: a full disk, a killed server, a git in the way."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.git.worktrees import base_of, held
from tests.faults.asking import created, events, eventually, get, outcome
from tests.faults.conftest import MIB, Serve
from tests.git.checkouts import Checkout, commit, git


def test_a_worktree_is_made_once_the_disk_has_room(
    disk: Path, serve: Serve, tmp_path: Path
) -> None:
    here = Checkout.beside(disk)
    large = here.top / "large"
    large.write_bytes(os.urandom(3 * MIB))
    git(here.top, "add", "large")
    git(here.top, "commit", "--quiet", "--message", "Large")  # twice on the disk of 8 MiB now
    server = serve(tmp_path / "data")
    job = created(server, "commit work.txt x", "finish", work_dir=str(here.top), use_worktree=True)
    (warning,) = eventually(
        lambda: [one for one in events(server, job) if one["kind"] == "attempt.warning"]
    )
    assert "No space left on device" in warning["data"]["text"]
    assert get(server, f"/api/jobs/{job}")["status"] == "running"
    assert here.worktrees() == [here.top]
    large.unlink()
    assert outcome(server, job)["attempt"] == 1
    tree = get(server, f"/api/jobs/{job}")["worktree"]
    assert here.files(tree["branch"]) == {"read.me", "large", "work.txt"}


def slow_to_check_out(here: Checkout) -> None:
    """Git takes a second to write a file of this repository."""
    git(here.top, "config", "filter.slow.smudge", "sleep 1; cat")
    commit(here.top, ".gitattributes", "slow filter=slow\n")
    commit(here.top, "slow")


def test_a_worker_that_is_killed_while_it_makes_a_worktree_has_it_made_all_the_same(
    serve: Serve, tmp_path: Path
) -> None:
    here = Checkout.beside(tmp_path)
    slow_to_check_out(here)
    server = serve(tmp_path / "data")
    job = created(server, "commit work.txt x", "finish", work_dir=str(here.top), use_worktree=True)
    record = here.top / ".git" / "worktrees" / job.removeprefix("job_")
    eventually((record / "locked").exists)
    os.kill(server.worker_pid, signal.SIGKILL)  # git lives on
    assert outcome(server, job)["status"] == "done"
    tree = get(server, f"/api/jobs/{job}")["worktree"]
    assert Path(tree["path"]).name == record.name
    assert here.files(tree["branch"]) >= {"slow", "work.txt"}
    assert len(here.worktrees()) == 2


def test_another_git_that_is_at_work_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    here = Checkout.beside(tmp_path)
    server = serve(tmp_path / "data")
    told, folder = threading.Event(), here.path.parent

    def hold() -> None:
        with held(folder):
            told.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        job = created(server, "finish", work_dir=str(here.top), use_worktree=True)
        (warning,) = eventually(
            lambda: [one for one in events(server, job) if one["kind"] == "attempt.warning"]
        )
    finally:
        told.set()
        holder.join()
    assert "is held by another git or server" in warning["data"]["text"]
    assert outcome(server, job)["attempt"] == 1


def test_a_place_that_cannot_be_written_to_is_refused_at_once(disk: Path) -> None:
    here = Checkout.beside(disk)
    subprocess.run(("mount", "-o", "remount,ro", str(disk)), check=True)
    with pytest.raises(Invalid, match="may not write in"):
        base_of(here.top, None)
