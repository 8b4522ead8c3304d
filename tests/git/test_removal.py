"""The end of worktrees in every state that somebody may have left them in: no work is lost.

That a commit is kept is asked after every log has expired and `git gc --prune=now` has run, so only
references count.
"""

import os
import shutil
from pathlib import Path

import pytest

from hurlicane_mcp.git.removal import retire
from hurlicane_mcp.git.salvage import PREFIX
from hurlicane_mcp.git.worktrees import Entry, Wanted, going_of, make
from tests.git.checkouts import Checkout, commit, git

FIRST = f"{PREFIX}/abc123/1"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration and no identity of whoever runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def here(tmp_path: Path) -> Checkout:
    """A worktree of ours that is there."""
    checkout = Checkout.beside(tmp_path)
    checkout.make()
    return checkout


def assert_removed(here: Checkout) -> None:
    assert not here.path.exists()
    assert not going_of(here.path).exists()
    assert here.worktrees() == [here.top]
    assert git(here.top, "status", "--porcelain") == ""


def assert_left(here: Checkout, words: str) -> None:
    """Left as it is, with a reason; asked again, the same."""
    for _ in range(2):
        retired = here.retire()
        assert not retired.is_removed
        assert words in retired.trouble
    assert here.path.exists()


def test_one_without_any_work_goes_with_its_branch(here: Checkout) -> None:
    retired = here.retire()
    assert (retired.is_removed, retired.salvaged, retired.branch) == (True, (), None)
    assert_removed(here)
    assert here.branches() == {"main"}


def test_commits_keep_their_branch(here: Checkout) -> None:
    newest = commit(here.path, "work")
    retired = here.retire()
    assert (retired.branch, retired.salvaged) == (here.wanted.branch, ())
    assert_removed(here)
    assert git(here.top, "rev-parse", here.wanted.branch) == newest
    assert here.survives(newest)


def test_what_was_not_committed_is_kept_and_the_branch_is_not_touched(here: Checkout) -> None:
    newest = commit(here.path, "work")
    (here.path / "read.me").write_text("Changed\n")
    (here.path / "new file").write_text("untracked")
    (here.path / ".gitignore").write_text("*.log\n")
    (here.path / "debug.log").write_text("ignored")
    (here.path / "work").unlink()
    retired = here.retire()
    assert retired.salvaged == (FIRST,)
    assert_removed(here)
    assert here.files(FIRST) == {"read.me", "new file", ".gitignore"}
    assert here.shown(FIRST, "read.me") == "Changed"
    assert here.shown(FIRST, "new file") == "untracked"
    assert git(here.top, "rev-parse", f"{FIRST}^") == newest
    assert git(here.top, "rev-parse", here.wanted.branch) == newest
    assert here.survives(git(here.top, "rev-parse", FIRST))


def test_an_untouched_branch_goes_though_something_was_salvaged(here: Checkout) -> None:
    (here.path / "new").write_text("untracked")
    retired = here.retire()
    assert (retired.salvaged, retired.branch) == ((FIRST,), None)
    assert here.branches() == {"main"}
    assert here.shown(FIRST, "new") == "untracked"


def test_what_was_only_staged_is_kept_as_well(here: Checkout) -> None:
    (here.path / "both").write_text("staged")
    (here.path / "gone").write_text("staged, then deleted")
    (here.path / ".gitignore").write_text("*.log\n")
    (here.path / "forced.log").write_text("ignored, but added")
    git(here.path, "add", "both", "gone", ".gitignore")
    git(here.path, "add", "--force", "forced.log")
    (here.path / "both").write_text("changed since")
    (here.path / "forced.log").write_text("changed since")
    (here.path / "gone").unlink()
    assert here.retire().salvaged == (FIRST,)
    assert here.shown(FIRST, "both") == here.shown(FIRST, "forced.log") == "changed since"
    assert here.shown(f"{FIRST}^2", "both") == "staged"
    assert here.shown(f"{FIRST}^2", "gone") == "staged, then deleted"


def test_changes_that_git_was_told_to_overlook_are_kept(here: Checkout) -> None:
    commit(here.path, "second")
    git(here.path, "update-index", "--assume-unchanged", "read.me")
    git(here.path, "update-index", "--skip-worktree", "second")
    for name in ("read.me", "second"):
        (here.path / name).write_text("hidden change\n")
    assert git(here.path, "status", "--porcelain") == ""
    assert here.retire().salvaged == (FIRST,)
    assert here.shown(FIRST, "read.me") == here.shown(FIRST, "second") == "hidden change"


def test_commits_on_no_branch_are_kept(here: Checkout) -> None:
    git(here.path, "checkout", "--quiet", "--detach")
    lost = commit(here.path, "work")
    assert here.retire().salvaged == (FIRST,)
    assert_removed(here)
    assert git(here.top, "rev-parse", FIRST) == lost
    assert here.survives(lost)


def test_commits_on_no_branch_that_were_left_again_are_kept(here: Checkout) -> None:
    git(here.path, "checkout", "--quiet", "--detach")
    one = commit(here.path, "one")
    git(here.path, "checkout", "--quiet", "--detach", here.wanted.base_sha)
    two = commit(here.path, "two")
    git(here.path, "checkout", "--quiet", here.wanted.branch)
    assert here.retire().salvaged == (FIRST,)
    assert here.branches() == {"main"}
    assert here.survives(one)
    assert here.survives(two)


def test_a_branch_that_was_moved_inside_keeps_what_it_was_moved_from(here: Checkout) -> None:
    left = commit(here.path, "work")
    git(here.path, "reset", "--quiet", "--hard", here.wanted.base_sha)
    retired = here.retire()
    # It points where it began, but its log, which goes with it, knows a commit.
    assert retired.branch == here.wanted.branch
    assert left in git(here.top, "reflog", "show", "--format=%H", here.wanted.branch)


def test_a_branch_that_was_moved_from_outside_loses_nothing(here: Checkout) -> None:
    newest = commit(here.path, "work")
    git(here.top, "update-ref", f"refs/heads/{here.wanted.branch}", here.wanted.base_sha)
    retired = here.retire()
    assert_removed(here)
    assert retired.branch == here.wanted.branch
    assert newest in git(here.top, "reflog", "show", "--format=%H", here.wanted.branch)


def test_a_branch_that_was_deleted_from_outside_loses_nothing(here: Checkout) -> None:
    newest = commit(here.path, "work")
    git(here.top, "update-ref", "-d", f"refs/heads/{here.wanted.branch}")
    retired = here.retire()
    assert_removed(here)
    assert retired.salvaged == (FIRST,)
    assert here.survives(newest)


def test_other_branches_made_inside_stay(here: Checkout) -> None:
    git(here.path, "checkout", "--quiet", "-b", "another")
    newest = commit(here.path, "work")
    git(here.path, "stash", "list")
    retired = here.retire()
    assert (retired.salvaged, retired.branch) == ((), None)
    assert git(here.top, "rev-parse", "another") == newest


def test_a_merge_that_was_not_finished_is_kept_as_it_is(here: Checkout) -> None:
    theirs = commit(here.top, "read.me", "theirs\n")
    commit(here.path, "read.me", "ours\n")
    with pytest.raises(AssertionError, match="git merge main"):
        git(here.path, "merge", "main")
    (here.path / "solved").write_text("half way")
    assert here.retire().salvaged == (FIRST,)
    assert "<<<<<<<" in here.shown(FIRST, "read.me")
    assert here.shown(FIRST, "solved") == "half way"
    assert here.survives(theirs)


def test_a_rebase_that_was_not_finished_is_kept(here: Checkout) -> None:
    commit(here.top, "read.me", "theirs\n")
    commit(here.path, "first")
    before = commit(here.path, "read.me", "ours\n")
    with pytest.raises(AssertionError, match="git rebase main"):
        git(here.path, "rebase", "main")
    done = git(here.path, "rev-parse", "HEAD")
    retired = here.retire()
    assert retired.is_removed
    assert here.survives(before)
    assert here.survives(done)


def test_a_folder_that_was_deleted_leaves_what_was_staged_or_committed(here: Checkout) -> None:
    git(here.path, "checkout", "--quiet", "--detach")
    lost = commit(here.path, "work")
    (here.path / "staged").write_text("staged")
    git(here.path, "add", "staged")
    shutil.rmtree(here.path)
    assert here.retire().salvaged == (FIRST,)
    assert_removed(here)
    assert here.shown(FIRST, "staged") == "staged"
    assert here.survives(lost)


def test_one_that_a_person_has_removed_is_removed(here: Checkout) -> None:
    newest = commit(here.path, "work")
    git(here.top, "worktree", "remove", str(here.path))
    retired = here.retire()
    assert (retired.is_removed, retired.branch) == (True, here.wanted.branch)
    assert here.survives(newest)


def test_one_that_was_never_made_is_removed(tmp_path: Path) -> None:
    here = Checkout.beside(tmp_path)
    assert here.retire().is_removed
    assert not here.path.parent.exists()


def test_a_locked_worktree_is_left(here: Checkout) -> None:
    git(here.top, "worktree", "lock", "--reason", "I look at it", str(here.path))
    (here.path / "new").write_text("untracked")
    assert_left(here, "locked (git worktree lock): I look at it")
    git(here.top, "worktree", "unlock", str(here.path))
    assert here.retire().salvaged == (FIRST,)


def test_a_locked_index_is_left_since_a_git_may_be_alive_there(here: Checkout) -> None:
    lock = here.record / "index.lock"
    lock.write_text("")
    (here.path / "new").write_text("untracked")
    assert_left(here, str(lock))
    assert lock.exists()
    lock.unlink()
    assert here.retire().salvaged == (FIRST,)


def test_a_foreign_worktree_at_the_path_is_left(here: Checkout, tmp_path: Path) -> None:
    git(here.top, "worktree", "remove", str(here.path))
    other = Checkout.beside(tmp_path / "other")
    git(other.top, "worktree", "add", "--quiet", "-b", "theirs", str(here.path))
    (here.path / "new").write_text("theirs")
    assert_left(here, "git does not know")
    assert (here.path / "new").read_text() == "theirs"
    assert git(here.path, "symbolic-ref", "--short", "HEAD") == "theirs"


def test_a_foreign_folder_put_in_its_place_is_left(here: Checkout) -> None:
    shutil.rmtree(here.path)
    here.path.mkdir()
    (here.path / "theirs").write_text("keep")
    assert_left(here, "is no worktree of")
    assert (here.path / "theirs").read_text() == "keep"


def test_worktrees_of_other_people_are_never_looked_at(here: Checkout, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    git(here.top, "worktree", "add", "--quiet", "-b", "theirs", str(theirs))
    beside = here.path.with_name("theirs-too")
    git(here.top, "worktree", "add", "--quiet", "-b", "theirs-too", str(beside))
    gone = tmp_path / "on-a-stick"
    git(here.top, "worktree", "add", "--quiet", "-b", "stick", str(gone))
    gone.rename(tmp_path / "away")
    assert here.retire().is_removed
    assert set(here.worktrees()) == {here.top, theirs, beside, gone}


def test_the_main_worktree_is_never_removed(here: Checkout) -> None:
    wanted = Wanted(here.top, here.top, "main", here.wanted.base_sha, is_new=False)
    assert not retire(wanted).is_removed
    assert (here.top / "read.me").exists()


def test_a_repository_inside_with_work_of_its_own_is_left(here: Checkout) -> None:
    inner = here.path / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    assert_left(here, "nowhere else: inner")
    commit(inner, "work")
    assert_left(here, "nowhere else: inner")


def test_a_submodule_with_work_of_its_own_is_left_and_one_without_is_not(
    here: Checkout, tmp_path: Path
) -> None:
    library = Checkout.beside(tmp_path / "library").top
    allow = ("-c", "protocol.file.allow=always")
    git(here.path, *allow, "submodule", "--quiet", "add", str(library), "lib")
    git(here.path, "commit", "--quiet", "--message", "With a submodule")
    newest = commit(here.path / "lib", "work")
    assert_left(here, "nowhere else: lib")
    git(here.path / "lib", "push", "--quiet", "origin", f"{newest}:refs/heads/work")
    (here.path / "lib" / "untracked").write_text("")
    assert_left(here, "nowhere else: lib")
    (here.path / "lib" / "untracked").unlink()
    assert here.retire().is_removed
    assert_removed(here)


def test_a_repository_that_is_gone_leaves_the_folder(here: Checkout) -> None:
    here.top.rename(here.top.with_name("moved"))
    assert_left(here, "is gone")
    shutil.rmtree(here.path)
    assert here.retire().is_removed


def test_work_that_cannot_be_saved_is_left(here: Checkout) -> None:
    git(here.top, "config", "filter.broken.clean", "false")
    git(here.top, "config", "filter.broken.required", "true")
    (here.path / ".gitattributes").write_text("* filter=broken\n")
    (here.path / "new").write_text("untracked")
    assert_left(here, "git add")
    assert (here.path / "new").read_text() == "untracked"


def test_no_hook_and_no_identity_is_needed(here: Checkout) -> None:
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-index-change"):
        hook = here.top / ".git" / "hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    git(here.top, "config", "commit.gpgSign", "true")
    (here.path / "new").write_text("untracked")
    assert here.retire().salvaged == (FIRST,)


def test_a_read_only_folder_inside_is_no_hindrance(here: Checkout) -> None:
    (here.path / ".gitignore").write_text("cache/\n")
    cache = here.path / "cache" / "deep"
    cache.mkdir(parents=True)
    (cache / "file").write_text("")
    cache.chmod(0o500)
    assert here.retire().is_removed
    assert_removed(here)


def test_killed_after_the_salvage_nothing_is_saved_twice(
    here: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(here.path, "checkout", "--quiet", "--detach")
    lost = commit(here.path, "work")
    (here.path / "both").write_text("staged")
    git(here.path, "add", "both")
    (here.path / "both").write_text("changed since")

    def killed(_folder: Path) -> None:
        raise OSError("killed")

    # Between the rename of the folder and the end: three moments.
    here.path.rename(going_of(here.path))
    with monkeypatch.context() as patch:
        patch.setattr("hurlicane_mcp.git.removal._delete", killed)
        assert not here.retire().is_removed
    assert here.worktrees() == [here.top]
    assert going_of(here.path).exists()
    retired = here.retire()
    assert (retired.is_removed, retired.salvaged) == (True, (FIRST,))
    assert_removed(here)
    assert here.shown(FIRST, "both") == "changed since"
    assert here.survives(lost)


def test_killed_before_the_folder_was_forgotten_the_same_is_known_to_be_saved(
    here: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(here.path, "checkout", "--quiet", "--detach")
    commit(here.path, "work")
    (here.path / "both").write_text("staged")
    git(here.path, "add", "both")
    (here.path / "both").write_text("changed since")
    git(here.top, "worktree", "lock", str(here.path))

    def allowed(_entry: Entry) -> None:
        return None

    # Git refuses to remove a locked one, which stands for being killed right before that.
    monkeypatch.setattr("hurlicane_mcp.git.removal._refusal", allowed)
    assert not here.retire().is_removed
    git(here.top, "worktree", "unlock", str(here.path))
    assert here.retire().salvaged == (FIRST,)
    assert_removed(here)


def test_a_job_that_comes_back_to_one_half_removed_finds_its_files(here: Checkout) -> None:
    (here.path / "new").write_text("untracked")
    here.path.rename(going_of(here.path))
    assert make(here.used).told == ()
    assert (here.path / "new").read_text() == "untracked"


def clone_inside(here: Checkout, tmp_path: Path) -> Path:
    """A clone in the worktree with nothing that its remote does not have."""
    git(here.path, "clone", "--quiet", str(Checkout.beside(tmp_path / "other").top), "inner")
    return here.path / "inner"


def test_a_repository_inside_with_nothing_but_a_stash_is_left(
    here: Checkout, tmp_path: Path
) -> None:
    inner = clone_inside(here, tmp_path)
    (inner / "read.me").write_text("Half done\n")
    git(inner, "stash")
    assert_left(here, "nowhere else: inner")
    git(inner, "stash", "drop")
    git(inner, "reflog", "expire", "--expire=now", "--all")
    assert here.retire().is_removed


def test_a_repository_inside_with_commits_that_only_its_log_knows_is_left(
    here: Checkout, tmp_path: Path
) -> None:
    inner = clone_inside(here, tmp_path)
    commit(inner, "work")
    git(inner, "reset", "--quiet", "--hard", "origin/main")
    assert_left(here, "nowhere else: inner")


def test_new_files_of_a_repository_inside_count_even_if_the_user_hides_them(
    here: Checkout, tmp_path: Path
) -> None:
    inner = clone_inside(here, tmp_path)
    git(inner, "config", "status.showUntrackedFiles", "no")
    (inner / "new").write_text("")
    assert_left(here, "nowhere else: inner")


def test_what_a_rebase_has_put_aside_is_kept(here: Checkout) -> None:
    commit(here.path, "read.me", "Ours\n")
    commit(here.path, "other")
    commit(here.top, "read.me", "Theirs\n")
    (here.path / "other").write_text("not committed\n")
    with pytest.raises(AssertionError, match="git rebase"):  # it stops at the conflict
        git(here.path, "rebase", "--autostash", "main")
    stashed = (here.record / "rebase-merge" / "autostash").read_text().strip()
    assert here.retire().is_removed
    assert here.survives(stashed)


def test_commits_whose_signature_is_shown_are_no_hindrance(here: Checkout) -> None:
    signer = here.top / ".git" / "gpg"
    signer.write_text(
        "#!/bin/sh\n"
        "echo '[GNUPG:] SIG_CREATED ' >&2\n"
        "echo 'gpg: Signature made by somebody' >&2\n"
        "echo '-----BEGIN PGP SIGNATURE-----'\n"
        "echo '-----END PGP SIGNATURE-----'\n"
        "cat >/dev/null\n"
    )
    signer.chmod(0o755)
    git(here.top, "config", "gpg.program", str(signer))
    git(here.top, "config", "log.showSignature", "true")
    (here.path / "work").write_text("")
    git(here.path, "add", "work")
    git(here.path, "commit", "--quiet", "--gpg-sign", "--message", "Work")
    (here.path / "read.me").write_text("staged\n")
    git(here.path, "add", "read.me")
    (here.path / "read.me").write_text("changed\n")
    assert here.retire().salvaged == (FIRST,)


def test_what_an_earlier_removal_could_not_delete_does_not_stop_the_next_one(
    here: Checkout,
) -> None:
    left = going_of(here.path)
    left.mkdir()
    (left / "file").write_text("kept before")
    commit(here.path, "work")
    assert here.retire().is_removed
    assert_removed(here)
