"""What has changed since a commit, of real repositories."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.diffs import MAX_NEW_FILES, MAX_PATCH_BYTES, diff_since
from hurlicane_mcp.git.repository import head
from tests.git.checkouts import Checkout, commit, git


@pytest.fixture
def here(tmp_path: Path) -> Checkout:
    return Checkout.beside(tmp_path)


def everything(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    """Every file below *folder*, with its time of change and content."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file), file.stat().st_mtime_ns, file.read_bytes()


def test_nothing_has_changed(here: Checkout) -> None:
    diff = diff_since(here.top, here.wanted.base_sha)
    assert (diff.head_sha, diff.files, diff.commits) == (here.wanted.base_sha, 0, 0)
    assert (diff.stat, diff.patch, diff.is_cut) == ("", "", False)


def test_committed_staged_changed_and_new_files_are_all_in_it(here: Checkout) -> None:
    newest = commit(here.top, "committed", "one\ntwo\n")
    (here.top / "staged").write_text("three\n")
    git(here.top, "add", "staged")
    (here.top / "read.me").write_text("Hello again\n")
    (here.top / "deep").mkdir()
    (here.top / "deep" / "new").write_text("four\n")
    (here.top / ".gitignore").write_text("*.log\n")
    (here.top / "ignored.log").write_text("no\n")
    diff = diff_since(here.top / "deep", here.wanted.base_sha)
    assert (diff.head_sha, diff.commits) == (newest, 1)
    assert (diff.files, diff.insertions, diff.deletions) == (5, 6, 1)
    assert set(diff.stat.splitlines()) == {
        ".gitignore | +1 -0",
        "committed | +2 -0",
        "deep/new | +1 -0",
        "read.me | +1 -1",
        "staged | +1 -0",
    }
    assert "\n-Hello\n+Hello again\n" in diff.patch
    assert "ignored" not in diff.patch


def test_the_patch_can_be_applied(here: Checkout, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(here.top), "clone")
    commit(here.top, "committed", "one\n")
    (here.top / "näme with space").write_text("new")
    (here.top / "read.me").unlink()
    patch = tmp_path / "patch"
    patch.write_text(diff_since(here.top, here.wanted.base_sha).patch)
    git(tmp_path / "clone", "apply", str(patch))
    names = {one.name for one in (tmp_path / "clone").iterdir()}
    assert names == {".git", "committed", "näme with space"}


def test_nothing_of_the_users_is_touched(here: Checkout) -> None:
    (here.top / "staged").write_text("three\n")
    git(here.top, "add", "staged")
    (here.top / "new").write_text("four\n")
    before = list(everything(here.top))
    diff_since(here.top, here.wanted.base_sha)
    assert list(everything(here.top)) == before


def test_a_locked_index_is_no_hindrance(here: Checkout) -> None:
    (here.top / ".git" / "index.lock").write_text("")
    (here.top / "new").write_text("four\n")
    assert diff_since(here.top, here.wanted.base_sha).files == 1


def test_renames_and_binary_files_are_told(here: Checkout) -> None:
    git(here.top, "mv", "read.me", "READ.ME")
    (here.top / "image").write_bytes(bytes(range(256)))
    assert set(diff_since(here.top, here.wanted.base_sha).stat.splitlines()) == {
        "read.me → READ.ME | +0 -0",
        "image | binary",
    }


def test_a_large_file_is_told_as_binary_instead_of_being_read(here: Checkout) -> None:
    (here.top / "large").write_text("line\n" * 2_000_000)
    diff = diff_since(here.top, here.wanted.base_sha)
    assert (diff.stat, diff.is_cut) == ("large | binary", False)


def test_a_long_patch_is_cut_at_a_line_and_the_counts_are_whole(here: Checkout) -> None:
    (here.top / "long").write_text("a line of some length\n" * 20_000)
    diff = diff_since(here.top, here.wanted.base_sha)
    assert diff.is_cut
    assert MAX_PATCH_BYTES - 100 < len(diff.patch.encode()) <= MAX_PATCH_BYTES
    assert diff.patch.endswith("\n")
    assert diff.insertions == 20_000


def test_of_very_many_new_files_the_first_are_told(here: Checkout) -> None:
    (here.top / "many").mkdir()
    for number in range(MAX_NEW_FILES + 1):
        (here.top / "many" / str(number)).touch()
    diff = diff_since(here.top, here.wanted.base_sha)
    assert (diff.files, diff.is_cut) == (MAX_NEW_FILES, True)


def test_repositories_inside_are_none_of_its_files(here: Checkout) -> None:
    for name in ("empty", "inner"):
        (here.top / name).mkdir()
        git(here.top / name, "init", "--quiet")
    commit(here.top / "inner", "work")
    assert diff_since(here.top, here.wanted.base_sha).files == 0


def test_settings_of_the_users_do_not_change_it(here: Checkout) -> None:
    (here.top / "read.me").write_text("Hello again\n")
    plain = diff_since(here.top, here.wanted.base_sha)
    for name, value in (
        ("color.ui", "always"),
        ("diff.noprefix", "true"),
        ("diff.external", "false"),
        ("diff.context", "0"),
        ("core.quotePath", "true"),
    ):
        git(here.top, "config", name, value)
    assert diff_since(here.top, here.wanted.base_sha) == plain


def test_a_commit_that_is_gone_is_told(here: Checkout) -> None:
    with pytest.raises(GitFailed, match="git rev-list"):
        diff_since(here.top, "1" * 40)


def test_the_commit_of_a_folder_is_read_without_git(here: Checkout, tmp_path: Path) -> None:
    newest = commit(here.top, "deep/file")
    assert head(here.top) == head(here.top / "deep") == newest
    git(here.top, "pack-refs", "--all")
    assert head(here.top) == newest
    git(here.top, "checkout", "--quiet", "--detach", here.wanted.base_sha)
    assert head(here.top) == here.wanted.base_sha
    here.make()
    newer = commit(here.path, "work")
    assert head(here.path) == newer
    git(here.top, "pack-refs", "--all")
    assert head(here.path) == newer


def test_without_a_repository_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert head(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert head(tmp_path) is None
    (tmp_path / ".git" / "HEAD").write_bytes(os.urandom(8) + b"\xff")
    assert head(tmp_path) is None


@pytest.mark.parametrize("name", ["a:b", 'a"b', "a\\b", "#a"])
def test_a_path_may_hold_what_git_splits_lists_at(tmp_path: Path, name: str) -> None:
    here = Checkout.beside(tmp_path / name)
    (here.top / "new").write_text("new\n")
    assert diff_since(here.top, here.wanted.base_sha).files == 1


def test_what_is_no_commit_is_none(here: Checkout) -> None:
    (here.top / ".git" / "refs" / "heads" / "main").write_text("--output=read.me\n")
    assert head(here.top) is None
