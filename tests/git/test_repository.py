"""Repositories made by git itself, read by us."""

import subprocess
from pathlib import Path

import pytest

from hurlicane_mcp.git.repository import branch, top_level


def git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    subprocess.run(("git", *identity, *arguments), cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "repository"
    top.mkdir()
    git("init", "--initial-branch", "trunk/main", cwd=top)
    git("commit", "--allow-empty", "--message", "Begin", cwd=top)
    (top / "deep" / "er").mkdir(parents=True)
    return top


@pytest.fixture
def linked(repository: Path, tmp_path: Path) -> Path:
    git("worktree", "add", "-b", "feature", str(tmp_path / "linked"), cwd=repository)
    return tmp_path / "linked"


def test_a_repository_is_found_from_any_depth(repository: Path) -> None:
    assert top_level(repository / "deep" / "er") == repository
    assert branch(repository / "deep" / "er") == "trunk/main"


def test_a_linked_work_tree_has_its_own_top_and_branch(linked: Path) -> None:
    assert top_level(linked) == linked
    assert branch(linked) == "feature"


def test_a_detached_head_is_on_no_branch(repository: Path) -> None:
    git("checkout", "--detach", cwd=repository)
    assert branch(repository) is None


def test_a_plain_folder_belongs_to_no_repository(tmp_path: Path) -> None:
    assert top_level(tmp_path) is None
    assert branch(tmp_path) is None
