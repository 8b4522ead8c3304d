"""What has changed in a work tree since a commit, committed or not. Blocking.

Nothing of the user's is touched: the index is a copy, and no object is written.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hurlicane_mcp.git.commands import run_git

MAX_PATCH_BYTES: Final = 256 * 1024
MAX_STAT_LINES: Final = 1000
#: New files that are looked at; an agent may have unpacked a whole archive.
MAX_NEW_FILES: Final = 5000
#: Larger files are told as binary ones instead of being read.
_READ: Final = "core.bigFileThreshold=4m"
_PLAIN: Final = (
    *("--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty"),
)


@dataclass(frozen=True, slots=True)
class Diff:
    """What has changed from a commit to the files as they are now."""

    head_sha: str  #: where HEAD is now
    files: int
    insertions: int
    deletions: int
    commits: int  #: from the commit to HEAD
    stat: str  #: one line a file, at most `MAX_STAT_LINES`
    patch: str  #: at most `MAX_PATCH_BYTES`, cut at a line
    is_cut: bool  #: something is left out: of the patch, the lines or the new files


def diff_since(folder: Path, base_sha: str) -> Diff:
    """What has changed in the whole work tree that *folder* is in. Ignored files do not count.

    Raises:
        GitFailed: there is no such commit any more, or git cannot say.
    """
    top = Path(run_git(folder, "rev-parse", "--show-toplevel").text)
    head = run_git(top, "rev-parse", "HEAD").text
    commits = int(run_git(top, "rev-list", "--count", f"{base_sha}..HEAD").text)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "objects").mkdir()  # without it git sees no repository
        paths = ("rev-parse", "--path-format=absolute", "--git-path", "objects")
        env = {
            "GIT_INDEX_FILE": str(Path(scratch) / "index"),
            "GIT_OBJECT_DIRECTORY": str(Path(scratch) / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(run_git(top, *paths).text),
        }
        is_whole = _note_new_files(top, env)
        compare = ("-c", _READ, "diff", *_PLAIN)
        numbers = run_git(top, *compare, "--numstat", "-z", base_sha, "--", env=env).stdout
        patch = run_git(
            top, *compare, "--unified=3", base_sha, "--", env=env, max_bytes=MAX_PATCH_BYTES
        )
    lines = _lines(numbers)
    counts = [(added, removed) for added, removed, _ in lines if added is not None]
    told = patch.stdout.rpartition(b"\n")[0] + b"\n" if patch.is_cut else patch.stdout
    return Diff(
        head,
        len(lines),
        sum(added or 0 for added, _ in counts),
        sum(removed or 0 for _, removed in counts),
        commits,
        "\n".join(_line(*one) for one in lines[:MAX_STAT_LINES]),
        told.decode(errors="replace"),
        patch.is_cut or not is_whole or len(lines) > MAX_STAT_LINES,
    )


def _note_new_files(top: Path, env: dict[str, str]) -> bool:
    """Have the copy of the index know of the new files, without their content; False if of too
    many. Repositories inside of this one are none of its files."""
    index = run_git(top, "rev-parse", "--path-format=absolute", "--git-path", "index").text
    with suppress(FileNotFoundError):  # there is none before the first file is added
        shutil.copy2(index, env["GIT_INDEX_FILE"])
    found = run_git(top, "ls-files", "-z", "--others", "--exclude-standard", env=env).paths
    new = [one for one in found if not one.endswith("/")]
    if new:
        names = b"\0".join(os.fsencode(one) for one in new[:MAX_NEW_FILES])
        add = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        as_they_are = {**env, "GIT_LITERAL_PATHSPECS": "1"}
        run_git(top, "-c", "core.safecrlf=false", *add, env=as_they_are, input=names)
    return len(new) <= MAX_NEW_FILES


def _quoted(path: str) -> str:
    """*path* as one of a list: git splits that at colons (`man git`)."""
    return '"' + path.replace("\\", r"\\").replace('"', r"\"") + '"'


def _lines(numbers: bytes) -> list[tuple[int | None, int | None, str]]:
    """Added and removed lines (None of a binary file) and the name of each file, of `numstat -z`.

    A renamed file has an empty name there, and the old and the new one follow.
    """
    fields = iter(numbers.decode(errors="replace").split("\0"))
    found: list[tuple[int | None, int | None, str]] = []
    for field in fields:
        if not field:
            continue
        added, removed, name = field.split("\t", 2)
        if not name:
            name = f"{next(fields)} → {next(fields)}"
        found.append((_count(added), _count(removed), name))
    return found


def _count(word: str) -> int | None:
    return None if word == "-" else int(word)


def _line(added: int | None, removed: int | None, name: str) -> str:
    shown = name.replace("\n", "�")
    return f"{shown} | binary" if added is None else f"{shown} | +{added} -{removed}"
