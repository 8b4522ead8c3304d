"""What is on a branch: its state, its commits, what they change, and whether it would merge.

Everything here only looks: index, work tree and refs stay as they are. Blocking: call it in a
worker thread. All functions raise GitFailed if git cannot answer.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hurlicane_mcp.domain.texts import storable
from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.commands import Completed, run_git

MAX_COMMITS: Final = 200
#: Files that the summary of a diff names; git puts "..." in the place of the others.
MAX_STAT_FILES: Final = 200

#: What a user may have set for diffs (`man git-config`, diff.*) would change their format.
_PLAIN: Final = (
    *("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--no-relative", "--ignore-submodules=dirty"),
)
_TOTALS: Final = re.compile(
    r"^ (\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?$",
    re.MULTILINE,
)
#: By the length of a repository's ids: SHA-1 and SHA-256 (`git hash-object -t tree /dev/null`).
_EMPTY_TREES: Final[Mapping[int, str]] = MappingProxyType(
    {
        40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
    }
)
#: Bytes that are kept free for the sentence about what is left out.
_NOTICE: Final = 120
_USAGE: Final = 129  #: git's exit code for an option that it does not know


@dataclass(frozen=True, slots=True)
class TreeState:
    """Where a work tree stands."""

    branch: str | None  #: None: on no branch
    head: str  #: its commit; empty before the first one
    dirty: tuple[str, ...]  #: paths with changes that no commit has, as they can be shown


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit, in a line."""

    sha: str
    subject: str


@dataclass(frozen=True, slots=True)
class MergePreview:
    """What a merge of a branch into its base would do."""

    ahead: int  #: commits that the base lacks
    behind: int  #: commits of the base that the branch lacks
    conflicts: tuple[str, ...] = ()  #: paths, as they can be shown
    unknown: str = ""  #: why it could not be tried, if so


def state_of(folder: Path) -> TreeState:
    """Branch, commit and uncommitted changes of the work tree at *folder*; ignored files aside."""
    told = run_git(
        *(folder, "status", "--porcelain=v2", "--branch", "-z"),
        *("--untracked-files=normal", "--no-renames"),
    )
    branch, head, dirty = None, "", list[str]()
    for record in told.paths:
        if record.startswith("# branch.oid "):
            head = record.removeprefix("# branch.oid ")
        elif record.startswith("# branch.head "):
            branch = record.removeprefix("# branch.head ")
        elif not record.startswith(("#", "!")):
            # "1 XY sub mH mI mW hH hI path", "u XY sub m1 m2 m3 mW h1 h2 h3 path", "? path"
            fields = {"1": 8, "u": 10}.get(record[0], 1)
            dirty.append(_shown(record.split(" ", fields)[-1]))
    return TreeState(
        None if branch == "(detached)" else branch,
        "" if head == "(initial)" else head,
        tuple(dirty),
    )


def commits(folder: Path, base: str | None, head: str) -> tuple[Commit, ...]:
    """The commits of *head* that *base* does not have, newest first, at most 200.

    Without a base all of them.
    """
    told = run_git(
        *(folder, "log", "-z", "--format=tformat:%H %s", "--encoding=UTF-8", "--no-color"),
        *("--no-show-signature", f"--max-count={MAX_COMMITS}"),
        *("--end-of-options", f"{base}..{head}" if base else head, "--"),
    )
    lines = (one.decode(errors="replace") for one in told.stdout.split(b"\0") if one)
    return tuple(Commit(*line.partition(" ")[::2]) for line in lines)


def commit_of(folder: Path, name: str) -> str | None:
    """The commit that *name* (a branch before all else, or any revision) stands for; None: none."""
    for one in (f"refs/heads/{name}", name):
        revision = f"{one}^{{commit}}"
        told = run_git(
            *(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", revision), check=False
        )
        if told.code == 0:
            return told.text
        if told.code != 1:
            raise GitFailed(f"git rev-parse {revision}", folder, told.complaint)
    return None


def needed(folder: Path, name: str) -> str:
    """The commit that *name* stands for.

    Raises:
        GitFailed: there is none.
    """
    sha = commit_of(folder, name)
    if sha is None:
        raise GitFailed(f"git rev-parse {name}", folder, f"there is no branch or commit {name!r}")
    return sha


def contains(folder: Path, later: str, earlier: str) -> bool:
    """Whether the commit *earlier* is in the history of *later*. False if one is not here."""
    asked = ("merge-base", "--is-ancestor", "--end-of-options", earlier, later)
    return run_git(folder, *asked, check=False).code == 0


def diff_summary(folder: Path, base: str, head: str, max_bytes: int) -> str:
    """What turns *base* into *head*: a line a file and the totals, then the patch.

    At most *max_bytes* in UTF-8 (but for the closing sentence, if those are fewer than 120),
    whole lines only; the last line says what is left out. Of binary files only the names are told.
    Empty if nothing changed.
    """
    stat = storable(_diff(folder, f"--stat=120,90,{MAX_STAT_FILES}", base, head).text)
    if not stat:
        return ""
    patch = _diff(folder, "--patch", base, head, max_bytes=max_bytes)
    text = f"{stat}\n\n{storable(patch.stdout.decode(errors='replace'))}"
    if not patch.is_cut and len(text.encode()) <= max_bytes:
        return text
    shown = whole_lines(text, max_bytes - _NOTICE)
    return shown + _left_out(stat, shown[len(stat) :])


def empty_tree(head: str) -> str:
    """What the first commit of the repository of the commit *head* is compared with.

    Git knows the tree without any file in every repository, by the id that its hash gives it.
    """
    return _EMPTY_TREES[len(head)]


def whole_lines(text: str, max_bytes: int) -> str:
    """The longest beginning of *text* that ends with a line and has at most *max_bytes* in UTF-8.

    All of it, if that fits.
    """
    data = text.encode(errors="replace")
    if len(data) <= max_bytes:
        return text
    end = data.rfind(b"\n", 0, max(0, max_bytes))
    return data[: end + 1].decode()


def merge_preview(folder: Path, branch: str, base: str) -> MergePreview:
    """What merging *branch* into *base* would do. Writes objects that nothing refers to, no more.

    Raises:
        GitFailed: there is no such branch or base.
    """
    ours, theirs = (needed(folder, name) for name in (base, branch))
    counts = run_git(folder, "rev-list", "--left-right", "--count", f"{ours}...{theirs}", "--")
    behind, ahead = (int(one) for one in counts.text.split())
    try:
        tried = run_git(
            *(folder, "merge-tree", "--write-tree", "--name-only", "-z", "--no-messages"),
            *(ours, theirs),
            check=False,
        )
    except GitFailed as error:  # its time was up
        return MergePreview(ahead, behind, unknown=error.said)
    if tried.code in (0, 1) and tried.stdout:  # else it broke off before it wrote a tree
        _tree, *names = tried.paths
        return MergePreview(ahead, behind, tuple(_shown(name) for name in names))
    # --write-tree came with git 2.38 (October 2022).
    old = "this git is older than 2.38"
    return MergePreview(
        ahead, behind, unknown=old if tried.code == _USAGE else _without_label(tried)
    )


def conflicts_with(folder: Path, branch: str, base: str) -> tuple[str, ...]:
    """The paths in which *branch* and *base* contradict each other, as they can be shown.

    Raises:
        GitFailed: that cannot be told, as with a git older than 2.38.
    """
    preview = merge_preview(folder, branch, base)
    if preview.unknown:
        raise GitFailed(f"git merge-tree {base} {branch}", folder, preview.unknown)
    return preview.conflicts


def _diff(folder: Path, what: str, base: str, head: str, max_bytes: int | None = None) -> Completed:
    revisions = ("--end-of-options", base, head, "--")
    return run_git(folder, "diff", *_PLAIN, what, *revisions, max_bytes=max_bytes)


def _left_out(stat: str, shown: str) -> str:
    """The sentence after a patch of which only *shown* is there."""
    totals = _TOTALS.findall(stat)
    files, *lines = (int(one or 0) for one in totals[-1]) if totals else (0, 0, 0)
    shown_files = shown_lines = 0
    in_hunk = False
    for line in shown.split("\n"):
        if line.startswith("diff --git "):
            shown_files, in_hunk = shown_files + 1, False
        elif line.startswith("@@"):
            in_hunk = True
        elif in_hunk and line.startswith(("+", "-")):
            shown_lines += 1
    left = max(0, sum(lines) - shown_lines)
    return (
        f"[cut: {left:,} of {sum(lines):,} changed lines, {shown_files:,} of {files:,} files begun]"
    )


def _without_label(ended: Completed) -> str:
    return ended.complaint.removeprefix("fatal: ").removeprefix("error: ")


def _shown(path: str) -> str:
    """*path* as it can be stored and shown: what is no UTF-8 or no character to print, escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
