"""Worktrees of our own, made by git itself in every state that a repository can be in."""

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import pytest

from hurlicane_mcp.errors import GitFailed, Invalid
from hurlicane_mcp.git.salvage import record_of
from hurlicane_mcp.git.worktrees import Wanted, base_of, held, make, place_for
from tests.git.checkouts import Checkout, commit, git


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of whoever runs the tests is not asked; there is no identity either."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def here(tmp_path: Path) -> Checkout:
    return Checkout.beside(tmp_path)


def test_a_base_is_what_is_checked_out(here: Checkout) -> None:
    base = base_of(here.top, None)
    assert (base.repo, base.branch, base.sha) == (here.top, "main", here.wanted.base_sha)
    assert (base.inside, base.dirty) == (PurePath(), ())


def test_a_folder_inside_is_kept(here: Checkout) -> None:
    commit(here.top, "deep/er/file")
    assert base_of(here.top / "deep" / "er", None).inside == PurePath("deep/er")


def test_another_branch_can_be_the_base_and_what_is_dirty_here_does_not_matter_then(
    here: Checkout,
) -> None:
    git(here.top, "branch", "old")
    commit(here.top, "new")
    (here.top / "read.me").write_text("Changed\n")
    base = base_of(here.top, "old")
    assert (base.branch, base.sha, base.dirty) == ("old", here.wanted.base_sha, ())


def test_a_branch_that_only_the_remote_has_can_be_the_base(here: Checkout, tmp_path: Path) -> None:
    git(here.top, "branch", "theirs")
    git(tmp_path, "clone", "--quiet", str(here.top), "clone")
    for name in ("theirs", "origin/theirs"):
        assert base_of(tmp_path / "clone", name).branch == "theirs"


def test_a_tag_or_a_commit_can_be_the_base_which_is_no_branch_then(here: Checkout) -> None:
    git(here.top, "tag", "v1")
    commit(here.top, "new")
    for name in ("v1", here.wanted.base_sha[:10]):
        base = base_of(here.top, name)
        assert (base.branch, base.sha) == (None, here.wanted.base_sha)


def test_on_no_branch_the_base_is_the_commit(here: Checkout) -> None:
    git(here.top, "checkout", "--quiet", "--detach")
    base = base_of(here.top, None)
    assert (base.branch, base.sha) == (None, here.wanted.base_sha)


def test_what_is_not_committed_is_named(here: Checkout) -> None:
    commit(here.top, "old name")
    git(here.top, "mv", "old name", "new näme")
    (here.top / "read.me").write_text("Changed\n")
    (here.top / "untracked").write_text("")
    (here.top / ".gitignore").write_text("*.log\n")
    (here.top / "ignored.log").write_text("")
    assert set(base_of(here.top, None).dirty) == {"new näme", "read.me", "untracked", ".gitignore"}


@pytest.mark.parametrize("name", ["gone", "-b", "main..main", "", "a b", "origin/gone"])
def test_an_unknown_base_is_refused_with_those_that_exist(here: Checkout, name: str) -> None:
    with pytest.raises(Invalid, match=r"is no branch of .*There are: main"):
        base_of(here.top, name)


def test_a_folder_outside_of_repositories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"needs a git repository.*git init"):
        base_of(tmp_path, None)


def test_a_repository_without_a_commit_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(Invalid, match="no commit yet"):
        base_of(tmp_path, None)


def test_a_bare_repository_and_the_inside_of_one_are_refused(
    here: Checkout, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(here.top), "bare")
    for folder in (tmp_path / "bare", here.top / ".git"):
        with pytest.raises(Invalid, match="no work tree"):
            base_of(folder, None)


def test_a_linked_worktree_leads_to_its_main_repository(here: Checkout, tmp_path: Path) -> None:
    git(here.top, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    newest = commit(tmp_path / "side", "aside")
    base = base_of(tmp_path / "side", None)
    assert (base.repo, base.branch, base.sha) == (here.top, "side", newest)


def test_a_worktree_of_a_bare_repository_leads_to_that(here: Checkout, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(here.top), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "--quiet", str(tmp_path / "side"), "main")
    base = base_of(tmp_path / "side", None)
    assert base.repo == tmp_path / "bare.git"
    made = make(Wanted(base.repo, place_for(base.repo, "x"), "hurlicane/x", base.sha, is_new=True))
    assert (made.path / "read.me").exists()


def submodule(here: Checkout, tmp_path: Path) -> Path:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet", "--initial-branch", "main")
    allow = ("-c", "protocol.file.allow=always")
    git(outer, *allow, "submodule", "--quiet", "add", str(here.top), "lib")
    git(outer, "commit", "--quiet", "--message", "With a submodule")
    return outer / "lib"


def test_a_submodule_is_a_repository_of_its_own(here: Checkout, tmp_path: Path) -> None:
    lib = submodule(here, tmp_path)
    git(lib, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    for folder in (lib, tmp_path / "side"):
        base = base_of(folder, None)
        assert base.repo == lib
        name = folder.name
        made = make(Wanted(lib, place_for(lib, name), f"hurlicane/{name}", base.sha, is_new=True))
        assert (made.path / "read.me").exists()
    # Which the outer repository does not see.
    assert git(tmp_path / "outer", "status", "--porcelain") == ""


def test_a_new_worktree_is_on_a_branch_of_its_own_and_the_users_is_not_touched(
    here: Checkout,
) -> None:
    (here.top / "read.me").write_text("Changed\n")
    made = here.make()
    assert (made.path, made.branch, made.told) == (here.path, here.wanted.branch, ())
    assert (here.path / "read.me").read_text() == "Hello\n"
    assert git(here.path, "symbolic-ref", "--short", "HEAD") == here.wanted.branch
    assert (here.top / "read.me").read_text() == "Changed\n"
    assert git(here.top, "symbolic-ref", "--short", "HEAD") == "main"


def test_what_is_there_is_taken_as_it_is(here: Checkout) -> None:
    here.make()
    newest = commit(here.path, "work")
    git(here.path, "checkout", "--quiet", "--detach")
    (here.path / "more").write_text("not committed")
    for wanted in (here.wanted, here.used):
        assert make(wanted).path == here.path
    assert (here.path / "more").read_text() == "not committed"
    assert git(here.path, "rev-parse", "HEAD") == newest


def test_no_hook_and_no_setting_of_the_users_gets_in_the_way(here: Checkout) -> None:
    hook = here.top / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    git(here.top, "config", "color.ui", "always")
    git(here.top, "config", "core.quotePath", "true")
    assert here.make().path == here.path


def test_a_branch_that_somebody_has_taken_is_left_to_them(here: Checkout) -> None:
    git(here.top, "checkout", "--quiet", "-b", here.wanted.branch)
    theirs = commit(here.top, "theirs")
    git(here.top, "branch", f"{here.wanted.branch}-2")
    git(here.top, "branch", f"{here.wanted.branch}-3", "HEAD~1")
    made = here.make()
    assert made.branch == f"{here.wanted.branch}-4"
    assert "somebody else's" in made.told[0]
    assert git(here.top, "rev-parse", here.wanted.branch) == theirs
    assert git(made.path, "rev-parse", "HEAD") == here.wanted.base_sha


def test_a_branch_called_hurlicane_does_not_stop_us(here: Checkout) -> None:
    git(here.top, "branch", "hurlicane")
    assert here.make().branch == "hurlicane-mend-it-abc123"


def test_a_foreign_folder_at_the_path_is_left_alone(here: Checkout) -> None:
    here.path.mkdir(parents=True)
    (here.path / "theirs").write_text("keep")
    made = here.make()
    assert made.path == here.path.with_name("abc123-2")
    assert (here.path / "theirs").read_text() == "keep"
    assert {one.name for one in here.path.iterdir()} == {"theirs"}


def test_a_foreign_repository_at_the_path_is_left_alone(here: Checkout, tmp_path: Path) -> None:
    other = Checkout.beside(tmp_path / "other")
    here.path.parent.mkdir(parents=True)
    git(other.top, "worktree", "add", "--quiet", "-b", "theirs", str(here.path))
    assert here.make().path != here.path
    assert git(here.path, "symbolic-ref", "--short", "HEAD") == "theirs"


def test_a_file_at_the_path_is_left_alone(here: Checkout) -> None:
    here.path.parent.mkdir(parents=True)
    here.path.write_text("keep")
    assert here.make().path.is_dir()
    assert here.path.read_text() == "keep"


def test_a_deleted_folder_is_made_again_with_all_that_was_committed_or_staged(
    here: Checkout,
) -> None:
    here.make()
    newest = commit(here.path, "work")
    (here.path / "staged").write_text("staged only")
    git(here.path, "add", "staged")
    subprocess.run(("rm", "-rf", here.path), check=True)
    made = make(here.used)
    assert made.path == here.path
    assert "was not there any more" in made.told[0]
    assert git(here.path, "rev-parse", "HEAD") == newest
    (kept,) = made.salvaged
    assert here.shown(kept, "staged") == "staged only"
    assert git(here.path, "symbolic-ref", "--short", "HEAD") == here.wanted.branch


def test_the_commits_of_a_deleted_folder_that_was_on_no_branch_are_kept(here: Checkout) -> None:
    here.make()
    git(here.path, "checkout", "--quiet", "--detach")
    lost = commit(here.path, "work")
    subprocess.run(("rm", "-rf", here.path), check=True)
    made = make(here.used)
    (kept,) = made.salvaged
    assert here.reaches(kept, lost)
    assert here.survives(lost)


def test_a_folder_that_was_deleted_and_forgotten_is_made_again_from_its_branch(
    here: Checkout,
) -> None:
    here.make()
    newest = commit(here.path, "work")
    git(here.top, "worktree", "remove", str(here.path))
    assert make(here.used).path == here.path
    assert git(here.path, "rev-parse", "HEAD") == newest


def test_without_folder_and_branch_it_begins_where_it_was(here: Checkout) -> None:
    here.make()
    newest = commit(here.path, "work")
    subprocess.run(("rm", "-rf", here.path), check=True)
    git(here.top, "update-ref", "-d", f"refs/heads/{here.wanted.branch}")
    make(here.used)
    # What HEAD was is only in the worktree's log now.
    assert git(here.path, "rev-parse", "HEAD") == newest
    assert here.survives(newest)


def test_a_branch_that_a_person_took_over_goes_on_under_another_name(here: Checkout) -> None:
    here.make()
    newest = commit(here.path, "work")
    git(here.top, "worktree", "remove", str(here.path))
    git(here.top, "checkout", "--quiet", here.wanted.branch)
    made = make(here.used)
    assert made.branch == f"{here.wanted.branch}-2"
    assert git(made.path, "rev-parse", "HEAD") == newest


def test_a_locked_worktree_on_a_drive_that_is_away_is_not_given_up(here: Checkout) -> None:
    here.make()
    git(here.top, "worktree", "lock", "--reason", "on a stick", str(here.path))
    away = here.path.with_name("away")
    here.path.rename(away)
    made = make(here.used)
    assert made.path == here.path.with_name("abc123-2")
    assert "locked on a stick" in git(here.top, "worktree", "list", "--porcelain")


def test_killed_before_the_checkout_was_done_it_is_made_again(here: Checkout) -> None:
    commit(here.top, "second")
    wanted = Wanted(
        here.top, here.path, here.wanted.branch, git(here.top, "rev-parse", "HEAD"), is_new=True
    )
    make(wanted)
    # As git leaves it when it is killed in the middle of the checkout.
    (here.record / "locked").write_text("initializing")
    (here.record / "index").unlink()
    (here.record / "index.lock").write_text("")
    (here.path / "second").unlink()
    made = make(wanted)
    assert (made.path, made.branch, made.salvaged) == (here.path, here.wanted.branch, ())
    assert (here.path / "second").exists()
    assert git(here.path, "status", "--porcelain") == ""
    assert not (here.record / "locked").exists()


def test_killed_after_the_branch_was_made_it_takes_that_branch(here: Checkout) -> None:
    git(here.top, "branch", here.wanted.branch, here.wanted.base_sha)
    here.path.mkdir(parents=True)
    assert here.make().branch == here.wanted.branch


def test_killed_for_real_at_any_moment_the_next_try_makes_it(tmp_path: Path) -> None:
    here = Checkout.beside(tmp_path)
    for number in range(300):
        (here.top / f"file{number}").write_text("x" * 2000)
    git(here.top, "add", ".")
    git(here.top, "commit", "--quiet", "--message", "Many")
    base = git(here.top, "rev-parse", "HEAD")
    wanted = Wanted(here.top, here.path, here.wanted.branch, base, is_new=True)
    here.path.parent.mkdir(parents=True)
    for delay_s in (0.0, 0.003, 0.006, 0.01, 0.02):
        process = subprocess.Popen(
            ("git", "worktree", "add", "--quiet", "-b", wanted.branch, str(here.path), base),
            cwd=here.top,
            stderr=subprocess.DEVNULL,
        )
        timer = threading.Timer(delay_s, process.kill)
        timer.start()
        process.wait()
        timer.join()
        made = make(wanted)
        assert git(made.path, "status", "--porcelain") == ""
        assert git(made.path, "rev-parse", "HEAD") == base
        assert len(list(made.path.glob("file*"))) == 300
        git(here.top, "worktree", "remove", "--force", "--force", str(made.path))
        git(here.top, "branch", "-D", made.branch)


def test_a_git_that_outlived_its_server_is_waited_for(here: Checkout) -> None:
    with ThreadPoolExecutor() as threads:
        with held(here.path.parent):
            waiting = threads.submit(here.make)
            assert not waiting.done()
            assert not here.path.exists()
        assert waiting.result().path == here.path


def test_a_commit_that_is_gone_is_told(here: Checkout) -> None:
    gone = "1" * 40
    with pytest.raises(GitFailed, match=r"the commit 111111111111 .*is not there any more"):
        make(Wanted(here.top, here.path, here.wanted.branch, gone, is_new=True))


def test_a_repository_that_is_gone_is_told(here: Checkout) -> None:
    here.top.rename(here.top.with_name("moved"))
    with pytest.raises(GitFailed, match="the repository is not there any more"):
        here.make()
    assert not here.path.parent.exists()


def test_ten_worktrees_at_once_are_all_made(here: Checkout) -> None:
    wanted = [
        Wanted(here.top, place_for(here.top, name), f"hurlicane/{name}", here.wanted.base_sha, True)
        for name in map(str, range(10))
    ]
    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(make, wanted))
    assert [one.path for one in made] == [one.path for one in wanted]
    assert len(here.worktrees()) == 11


def test_a_branch_with_a_tag_of_its_name_is_that_branch(here: Checkout) -> None:
    git(here.top, "tag", "main")
    assert base_of(here.top, None).branch == "main"


def test_head_is_what_is_checked_out_here_and_not_what_a_server_prefers(
    here: Checkout, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(here.top), "clone")
    clone = tmp_path / "clone"
    git(clone, "switch", "--quiet", "--create", "mine")
    newest = commit(clone, "new")
    base = base_of(clone, "HEAD")
    assert (base.branch, base.sha) == ("mine", newest)
    base = base_of(clone, "origin/HEAD")
    assert (base.branch, base.sha) == (None, here.wanted.base_sha)


def test_a_commit_named_after_a_branch_is_no_branch(here: Checkout) -> None:
    commit(here.top, "new")
    base = base_of(here.top, "main~1")
    assert (base.branch, base.sha) == (None, here.wanted.base_sha)


def test_a_path_with_a_line_break_is_refused(tmp_path: Path) -> None:
    top = Checkout.beside(tmp_path / "one\ntwo").top
    with pytest.raises(Invalid, match="line break"):
        base_of(top, None)


def test_a_folder_of_worktrees_that_is_a_link_to_a_larger_disk_is_fine(
    here: Checkout, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    here.path.parent.parent.symlink_to(disk)
    for _ in range(2):
        assert here.make().path == here.path
    (here.path / "new").write_text("")
    shutil.rmtree(here.path)
    assert make(here.used).branch == here.wanted.branch
    assert here.retire().is_removed
    assert here.worktrees() == [here.top]


def test_a_repository_that_moved_behind_a_link_keeps_its_worktrees(tmp_path: Path) -> None:
    here = Checkout.beside(tmp_path / "home")
    here.make()
    commit(here.path, "work")
    (tmp_path / "home").rename(tmp_path / "moved")
    (tmp_path / "home").symlink_to(tmp_path / "moved")
    assert make(here.used).path == here.path
    assert here.retire().is_removed
    assert here.worktrees() == [tmp_path / "moved" / "repo"]


def test_a_record_with_a_path_of_its_own_place_is_found(here: Checkout) -> None:
    here.make()
    (here.record / "gitdir").write_text(os.path.relpath(here.path / ".git", here.record))
    assert record_of(here.top, here.path) == here.record
