"""Calls of git as the server makes them."""

import os
from pathlib import Path

import pytest

from hurlicane_mcp.errors import GitBusy, GitDiskFull, GitFailed, NotWritable
from hurlicane_mcp.git.commands import run_git
from tests.git.checkouts import Checkout, git


@pytest.fixture
def here(tmp_path: Path) -> Checkout:
    return Checkout.beside(tmp_path)


def test_what_git_says_comes_back(here: Checkout) -> None:
    assert run_git(here.top, "rev-parse", "HEAD").text == here.wanted.base_sha
    assert run_git(here.top, "ls-files", "-z").paths == ("read.me",)


def test_an_error_names_the_call_the_folder_and_gits_own_words(here: Checkout) -> None:
    with pytest.raises(GitFailed) as raised:
        run_git(here.top, "-c", "a.b=c", "rev-list", "gone")
    told = str(raised.value)
    assert told.startswith(f"`git rev-list gone` failed in {here.top}: fatal: ambiguous argument")


def test_an_expected_failure_is_an_answer(here: Checkout) -> None:
    ended = run_git(here.top, "rev-parse", "--verify", "gone", check=False)
    assert (ended.code, ended.text) == (128, "")
    assert ended.complaint == "fatal: Needed a single revision"


def test_where_a_server_was_started_does_not_change_which_repository_is_meant(
    here: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert run_git(here.top, "ls-files", "-z").paths == ("read.me",)


def test_output_is_read_only_as_far_as_it_is_wanted(here: Checkout) -> None:
    endless = ("-c", "alias.yes=!yes", "yes")
    ended = run_git(here.top, *endless, max_bytes=1001)
    assert (ended.is_cut, len(ended.stdout), ended.code) == (True, 1001, 0)


def test_a_call_that_takes_too_long_is_ended_with_all_that_it_started(here: Checkout) -> None:
    with pytest.raises(GitFailed, match=r"longer than 0\.1 s"):
        run_git(here.top, "-c", "alias.stay=!sleep 600; true", "stay", timeout=0.1)


def test_whom_a_hook_leaves_behind_is_not_waited_for(here: Checkout) -> None:
    os.mkfifo(here.top / "end")
    ended = run_git(here.top, "-c", "alias.leave=!cat end & echo done", "leave", timeout=60)
    (here.top / "end").write_text("")  # it is alive still, else this would wait for a reader
    assert ended.text == "done"


def test_all_of_a_long_output_and_a_long_complaint_is_heard(here: Checkout) -> None:
    told = "alias.tell=!head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3"
    ended = run_git(here.top, "-c", told, "tell", check=False)
    assert (ended.code, len(ended.stdout), len(ended.stderr)) == (3, 300_000, 300_000)


def test_a_held_lock_is_told_apart_and_waited_for_a_while(here: Checkout) -> None:
    (here.top / ".git" / "index.lock").write_text("")
    (here.top / "new").write_text("")
    with pytest.raises(GitBusy, match=r"index\.lock': File exists"):
        run_git(here.top, "add", "new", patience=0.3)


def test_a_full_disk_is_told_apart(here: Checkout) -> None:
    full = "alias.full=!echo 'fatal: write error: No space left on device' >&2; false"
    with pytest.raises(GitDiskFull) as raised:
        run_git(here.top, "-c", full, "full")
    assert isinstance(raised.value, NotWritable)


def test_a_question_gets_no_answer_instead_of_waiting_for_one(here: Checkout) -> None:
    git(here.top, "config", "credential.helper", "")
    ended = run_git(here.top, "credential", "fill", input=b"protocol=https\nhost=x\n", check=False)
    assert ended.code != 0 or b"password=\n" in ended.stdout


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="No such file or directory"):
        run_git(tmp_path / "gone", "status")


def test_a_machine_without_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitFailed, match="git cannot be started"):
        run_git(tmp_path, "status")


def test_what_git_starts_is_told_nothing_of_the_servers_settings(
    here: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURLICANE_DATABASE_URL", "postgresql://somebody:password@somewhere")
    assert "HURLICANE" not in run_git(here.top, "-c", "alias.show-all=!env", "show-all").text
