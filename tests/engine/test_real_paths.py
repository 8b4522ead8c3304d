"""What callers name, as it is on the disk."""

import os
from pathlib import Path

import pytest

from hurlicane_mcp.engine.real_paths import edited_paths, real_paths
from hurlicane_mcp.errors import Invalid


def test_links_dots_and_repetitions_come_to_the_same_path(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    (base / "real" / "deep").mkdir(parents=True)
    (base / "link").symlink_to("real")
    (base / "file").symlink_to("real/target.py")  # which does not exist yet
    names = ["link/deep", "./real/deep/", "real/../link/deep", f"/{base}/real/deep"]
    assert real_paths(str(base), names) == (f"{base}/real/deep",)
    assert real_paths(str(base), ["link/new/x", "file", "."]) == (
        str(base),
        f"{base}/real/new/x",
        f"{base}/real/target.py",
    )


def test_a_path_through_a_file_or_a_loop_is_what_it_is_called(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    (base / "file").touch()
    (base / "loop").symlink_to("loop")
    names = ["file/below", "loop/x", "x" * 3000]
    assert [os.path.relpath(one, base) for one in real_paths(str(base), names)] == names


def test_where_case_does_not_count_names_that_differ_in_it_are_one(tmp_path: Path) -> None:
    base = str(tmp_path.resolve())
    both = ["src/A.py", "SRC/a.py"]
    assert len(real_paths(base, both, ignores_case=False)) == 2
    assert len(real_paths(base, both, ignores_case=True)) == 1


@pytest.mark.parametrize("path", ["/", "//", "/..", "../../../../../../../../../../../.."])
def test_the_whole_file_system_cannot_be_locked(tmp_path: Path, path: str) -> None:
    with pytest.raises(Invalid, match="whole file system"):
        real_paths(str(tmp_path), [path])


def test_an_edit_is_of_all_files_that_a_cli_may_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path.resolve()
    monkeypatch.setenv("HOME", f"{base}/home")
    (base / "work").mkdir()
    (base / "far" / "deep").mkdir(parents=True)
    (base / "work" / "link").symlink_to(base / "far" / "deep")
    work = str(base / "work")
    assert edited_paths(work, "./a") == (f"{work}/a",)
    assert edited_paths(work, "~/a") == (f"{base}/home/a", f"{work}/~/a")
    assert f"{base}/b" in edited_paths(work, f" {base}/b")
    assert edited_paths(work, "link/../a") == (f"{base}/far/a", f"{work}/a")
