"""Branches made by git itself, read by us: state, commits, diffs and previews of merges."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git import history
from tests.git.places import Place, git, new_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return new_place(tmp_path)


def test_a_clean_tree_has_a_branch_and_a_commit_and_nothing_dirty(place: Place) -> None:
    assert history.state_of(place.folder) == history.TreeState("main", place.sha(), ())


def test_everything_uncommitted_is_dirty_and_what_is_ignored_is_not(place: Place) -> None:
    place.commit("More", a_txt="a\n", b_txt="b\n", c_txt="c\n", _gitignore="*.log\n")
    place.write(a_txt="changed\n", new_txt="new\n", noise_log="noise\n")
    git(place.folder, "rm", "--quiet", "b.txt")
    git(place.folder, "mv", "c.txt", "with space.txt")
    dirty = set(history.state_of(place.folder).dirty)
    assert dirty == {"a.txt", "b.txt", "c.txt", "with space.txt", "new.txt"}


def test_a_conflict_is_dirty(place: Place) -> None:
    place.begin("one", README_md="one\n")
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Other", README_md="two\n")
    with pytest.raises(AssertionError):
        git(place.folder, "merge", "one")
    assert history.state_of(place.folder).dirty == ("README.md",)


def test_a_detached_head_is_on_no_branch(place: Place) -> None:
    git(place.folder, "checkout", "--quiet", "--detach")
    assert history.state_of(place.folder) == history.TreeState(None, place.sha(), ())


def test_before_the_first_commit_there_is_a_branch_without_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch", "trunk")
    assert history.state_of(tmp_path) == history.TreeState("trunk", "", ())


def test_a_plain_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=str(tmp_path)):
        history.state_of(tmp_path)


def test_names_that_are_no_text_can_be_shown(place: Place) -> None:
    for name in (b"caf\xe9", "grün".encode(), b"a\nb", b'quo"te', b"-x"):
        Path(os.fsdecode(os.fsencode(place.folder) + b"/" + name)).write_bytes(b"x\n")
    names = history.state_of(place.folder).dirty
    assert set(names) == {"caf\\xe9", "grün", "a\\nb", 'quo"te', "-x"}
    base = place.sha()
    head = place.commit("Weird names")
    told = history.diff_summary(place.folder, base, head, 10_000)
    assert "5 files changed" in told
    assert told.encode()


def test_the_commits_of_a_branch_come_newest_first(place: Place) -> None:
    base = place.sha()
    first = place.commit("First | with %H and ünicode")
    second = place.commit("Second\n\nwith a body")
    assert history.commits(place.folder, base, "HEAD") == (
        history.Commit(second, "Second"),
        history.Commit(first, "First | with %H and ünicode"),
    )
    assert history.commits(place.folder, "HEAD", base) == ()


def test_no_more_than_200_commits_are_told(place: Place) -> None:
    base = place.sha()
    one = "commit refs/heads/main\ncommitter T <t@localhost> 1 +0000\ndata 2\nC\n"
    stream = f"{one}from {base}\n" + one * 200
    importing = ("git", "fast-import", "--quiet", "--force")
    subprocess.run(importing, cwd=place.folder, input=stream.encode(), check=True)
    assert len(history.commits(place.folder, base, "main")) == history.MAX_COMMITS == 200


def test_an_option_instead_of_a_commit_is_no_option(place: Place) -> None:
    with pytest.raises(GitFailed):
        history.commits(place.folder, "--output=stolen", "HEAD")
    with pytest.raises(GitFailed):
        history.diff_summary(place.folder, "--output=stolen", "HEAD", 1000)
    assert history.commit_of(place.folder, "--all") is None
    assert not list(place.folder.glob("*stolen*"))


def test_a_summary_tells_files_first_and_then_the_patch(place: Place) -> None:
    base = place.sha()
    place.commit("More", README_md="Hello\nWorld\n", new_txt="new\n")
    told = history.diff_summary(place.folder, base, "HEAD", 10_000)
    stat, patch = told.split("\n\n", 1)
    assert " README.md |" in stat
    assert "2 files changed, 2 insertions(+)" in stat
    assert "+World" in patch
    assert "+++ b/new.txt" in patch


def test_a_summary_of_nothing_is_empty(place: Place) -> None:
    assert history.diff_summary(place.folder, "HEAD", "HEAD", 1000) == ""


def test_a_rename_is_told_as_one(place: Place) -> None:
    base = place.sha()
    git(place.folder, "mv", "README.md", "MANUAL.md")
    place.commit("Rename")
    told = history.diff_summary(place.folder, base, "HEAD", 10_000)
    assert "rename to MANUAL.md" in told


def test_of_a_binary_file_only_the_name_is_told(place: Place) -> None:
    base = place.sha()
    (place.folder / "picture").write_bytes(bytes(range(256)) * 100)
    place.commit("A picture")
    told = history.diff_summary(place.folder, base, "HEAD", 10_000)
    assert "Binary files /dev/null and b/picture differ" in told
    assert len(told) < 500


def test_content_that_is_no_text_can_be_stored(place: Place) -> None:
    base = place.sha()
    (place.folder / "latin").write_bytes(b"caf\xe9\n")
    place.commit("Latin")
    assert "+caf\ufffd" in history.diff_summary(place.folder, base, "HEAD", 10_000)
    # What a user has declared to be text may hold a NUL, which PostgreSQL does not take.
    (place.folder / "nul").write_bytes(b"a\0b\n")
    place.commit("NUL", _gitattributes="nul diff\n")
    assert "+a\ufffdb" in history.diff_summary(place.folder, base, "HEAD", 10_000)


def test_a_submodule_is_told_by_its_commit(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = new_place(tmp_path / "other")
    base = place.sha()
    allowed = ("-c", "protocol.file.allow=always")
    git(place.folder, *allowed, "submodule", "--quiet", "add", str(other.folder), "sub")
    place.commit("A submodule")
    told = history.diff_summary(place.folder, base, "HEAD", 10_000)
    assert f"+Subproject commit {other.sha()}" in told
    (place.folder / "sub" / "README.md").write_text("changed\n")
    assert history.state_of(place.folder).dirty == ("sub",)


def test_what_a_user_has_set_for_diffs_changes_nothing(place: Place) -> None:
    base = place.sha()
    place.commit("More", README_md="Hello\nWorld\n")
    plain = history.diff_summary(place.folder, base, "HEAD", 10_000)
    for name, value in (
        *(("diff.external", "false"), ("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true")),
        *(("color.ui", "always"), ("diff.renames", "false"), ("log.showSignature", "true")),
        *(("core.pager", "false"), ("diff.submodule", "log")),
    ):
        git(place.folder, "config", name, value)
    assert history.diff_summary(place.folder, base, "HEAD", 10_000) == plain


def test_a_long_summary_is_cut_at_a_line_and_says_what_is_left_out(place: Place) -> None:
    base = place.sha()
    many = "".join(f"line {n}\n" for n in range(500))
    place.commit("Much", a_txt=many, b_txt=many)
    told = history.diff_summary(place.folder, base, "HEAD", 2000)
    *shown, last = told.split("\n")
    assert len(told.encode()) <= 2000
    added = sum(line.startswith("+line") for line in shown)
    assert last == f"[cut: {1000 - added:,} of 1,000 changed lines, 1 of 2 files begun]"
    assert 0 < added < 500
    assert all(line in many.splitlines() for line in (one[1:] for one in shown[-3:-1]))


@given(st.integers(min_value=120, max_value=6000))
def test_no_summary_is_longer_than_it_may_be(
    tmp_path_factory: pytest.TempPathFactory, max_bytes: int
) -> None:
    place = long_change(tmp_path_factory)
    told = history.diff_summary(place.folder, "HEAD~1", "HEAD", max_bytes)
    whole = history.diff_summary(place.folder, "HEAD~1", "HEAD", 1_000_000)
    assert len(told.encode()) <= max_bytes
    if told != whole:
        shown, newline, notice = told.rpartition("\n")
        assert whole.startswith(shown + newline)
        assert notice.startswith("[cut: ")


def long_change(factory: pytest.TempPathFactory) -> Place:
    """The same repository for all examples."""
    beside = factory.getbasetemp() / "long"
    if beside.exists():
        return Place(beside / "repository", beside)
    beside.mkdir()
    place = new_place(beside)
    text = "".join(f"{'ü' * (n % 30)} {n}\n" for n in range(60))
    place.commit("Long", a_txt=text, b_txt=text, c_txt="-- no header\n++ nor this\n" * 9)
    return place


@given(st.text(alphabet=st.sampled_from("aü€😀\n\ud800")), st.integers(-5, 60))
def test_whole_lines_are_the_longest_beginning_that_fits(text: str, max_bytes: int) -> None:
    sound = text.encode(errors="replace").decode()
    kept = history.whole_lines(text, max_bytes)
    assert sound.startswith(kept) or kept == text
    if kept == text:
        return
    assert len(kept.encode()) <= max(0, max_bytes)
    assert kept == "" or kept.endswith("\n")
    following = sound[len(kept) :].split("\n")[0] + "\n"
    fits = len((kept + following).encode()) <= max_bytes
    assert not (fits and sound.startswith(kept + following))


def test_a_merge_that_would_conflict_is_told_and_changes_nothing(place: Place) -> None:
    place.begin("feature", README_md="theirs\n", other_txt="fine\n")
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Ours", README_md="ours\n")
    before = footprint(place)
    assert history.conflicts_with(place.folder, "feature", "main") == ("README.md",)
    assert footprint(place) == before
    assert history.merge_preview(place.folder, "feature", "main") == history.MergePreview(
        1, 1, ("README.md",)
    )


def footprint(place: Place) -> object:
    """What a preview must not touch: index, refs, logs, and the files."""
    files = sorted(one for one in place.folder.rglob("*") if one.is_file())
    kept = [one for one in files if "objects" not in one.parts]
    return [(one, one.read_bytes()) for one in kept]


def test_a_base_that_has_moved_on_is_no_conflict(place: Place) -> None:
    place.begin("feature")
    git(place.folder, "checkout", "--quiet", "main")
    place.commit("Elsewhere", else_txt="x\n")
    place.commit("Again", else_txt="y\n")
    assert history.merge_preview(place.folder, "feature", "main") == history.MergePreview(1, 2)
    assert history.conflicts_with(place.folder, "feature", "main") == ()


def test_without_a_common_commit_the_preview_is_unknown(place: Place) -> None:
    git(place.folder, "checkout", "--quiet", "--orphan", "island")
    place.commit("Alone")
    preview = history.merge_preview(place.folder, "island", "main")
    assert "unrelated histories" in preview.unknown
    with pytest.raises(GitFailed, match="unrelated histories"):
        history.conflicts_with(place.folder, "island", "main")


def test_an_old_git_cannot_tell(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.begin("feature")
    real = git(place.folder, "--exec-path")
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    # As git 2.34 answers: it knows only `merge-tree <base-tree> <branch1> <branch2>`.
    old.write_text(
        "#!/bin/sh\nfor word; do if [ $word = merge-tree ]; then\n"
        "echo 'usage: git merge-tree <base-tree> <branch1> <branch2>' >&2; exit 129; fi; done\n"
        f'exec "{real}/git" "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    preview = history.merge_preview(place.folder, "feature", "main")
    assert preview == history.MergePreview(1, 0, unknown="this git is older than 2.38")


def test_a_branch_wins_over_a_tag_of_its_name(place: Place) -> None:
    git(place.folder, "tag", "twin")
    sha = place.begin("twin")
    assert history.commit_of(place.folder, "twin") == sha
    assert history.commit_of(place.folder, "nothing") is None
    assert history.commit_of(place.folder, "deadbeef" * 5) is None


def test_a_missing_branch_is_named(place: Place) -> None:
    with pytest.raises(GitFailed, match="there is no branch or commit 'gone'"):
        history.merge_preview(place.folder, "gone", "main")
