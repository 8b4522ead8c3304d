"""Nothing that was done in a worktree is lost with it: references keep what no branch has.

Blocking. What is kept: what was not committed (untracked files too, ignored ones not), what was
only staged, and commits that only the worktree's own HEAD or its log knew. The branch, the
worktree's files and its index are not touched, and no hook runs.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.commands import Completed, run_git

PREFIX: Final = "refs/hurlicane/salvage"
#: Seconds: large files may have to be read.
SAVE_S: Final = 900.0
_INDEX: Final = "the index"
#: Read in git's sources (rebase.c, builtin/merge.c, 2.39).
_AUTOSTASHES: Final = ("rebase-merge/autostash", "rebase-apply/autostash", "MERGE_AUTOSTASH")
#: Lines of a log that are looked at, the newest ones.
_LOGGED: Final = 1000
#: Whoever made the commits that keep work; the user's own identity may not be set.
_IDENTITY: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "hurlicane"), ("EMAIL", "hurlicane@localhost"))
    }
)
#: What a user may have set that would hide work, or refuse it.
_SEE_ALL: Final = tuple(
    word
    for one in (
        *("core.splitIndex=false", "core.untrackedCache=false", "core.safecrlf=false"),
        *("core.sparseCheckout=false", "advice.addEmbeddedRepo=false"),
    )
    for word in ("-c", one)
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a worktree held, and the references that keep what no other one does."""

    head: str | None  #: the commit that it is at; None before the first
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A worktree's state, written as trees: of HEAD, of the index, of the files."""

    head: str | None
    head_tree: str
    index_tree: str | None  #: None if it holds conflicts or cannot be read
    tree: str
    lost: tuple[str, ...]  #: commits that no reference leads to


def place_of(path: Path) -> Path:
    """*path* without links on the way to it. It may be a link itself, or not be there."""
    return path.parent.resolve() / path.name


def record_of(repo: Path, path: Path) -> Path:
    """Where git keeps what it knows of the worktree at *path* (gitrepository-layout(5)).

    Raises:
        GitFailed: there is no such record.
    """
    common = run_git(repo, "rev-parse", "--path-format=absolute", "--git-common-dir").text
    for file in sorted(Path(common).glob("worktrees/*/gitdir")):
        # It may be relative (worktree.useRelativePaths, git 2.48).
        named = file.parent / file.read_text(encoding="utf-8", errors="replace").strip()
        if place_of(named.parent) == place_of(path):
            return file.parent
    raise GitFailed("git worktree list", repo, f"there is no record of {path}")


def tip_of(repo: Path, reference: str) -> str | None:
    """The commit that a reference, named in full, points at; None if there is none."""
    found = run_git(
        repo, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}", check=False
    )
    return found.text if found.code == 0 else None


def keep(
    repo: Path,
    record: Path,
    path: Path | None,
    *,
    name: str,
    branch: str,
    is_half_made: bool = False,
) -> Kept:
    """Have references keep what the worktree with this *record* holds and no reference has.

    *path* is its folder; None if that is gone, so that only what was staged or committed is left.
    The log of *branch*, which stays, keeps what was amended or reset there. In one that git was
    killed over, files that are missing are no work. Done again it makes no second reference.

    Raises:
        GitFailed: something cannot be read or written; nothing may be removed then.
    """
    found = _found(repo, record, path, branch)
    parents = [*([found.head] if found.head else []), *found.lost]
    parents = list(dict.fromkeys(parents))
    if found.index_tree not in (None, found.head_tree, found.tree) and not is_half_made:
        parents.append(_commit(repo, str(found.index_tree), parents[:1], f"{name}: {_INDEX}"))
    has_files = found.tree != found.head_tree
    if has_files and is_half_made:
        changed = ("diff-tree", "-r", "--diff-filter=d", "--name-only")
        has_files = run_git(repo, *changed, found.head_tree, found.tree).text != ""
    if not has_files and len(parents) <= 1 and not found.lost:
        return Kept(found.head, saved(repo, name))
    if not _is_saved(repo, name, found.tree, parents):
        commit = found.head
        if commit is None or has_files or len(parents) > 1:
            commit = _commit(repo, found.tree, parents, f"What was left in the worktree {name}")
        _refer(repo, name, commit)
    return Kept(found.head, saved(repo, name))


def saved(repo: Path, name: str) -> tuple[str, ...]:
    """The references that keep work of the worktree *name*, oldest first."""
    listed = run_git(repo, "for-each-ref", "--format=%(refname)", f"{PREFIX}/{name}/").text
    return tuple(sorted(listed.split(), key=lambda one: int(one.rpartition("/")[2])))


def logged(repo: Path, reference: str, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Where a reference has pointed, by its log: each commit once; none without a log."""
    log = ("reflog", "show", f"--max-count={_LOGGED}", "--format=%H", reference)
    shown = run_git(repo, *log, "--", env=env, check=False)
    return tuple(dict.fromkeys(shown.text.split())) if shown.code == 0 else ()


def nested(path: Path) -> tuple[str, ...]:
    """Repositories inside the worktree at *path* with work that is nowhere else.

    A commit of the outer repository holds nothing of theirs. A submodule or clone whose files are
    committed and whose commits are all on its remote can be had again, so it does not count.
    """
    listed = run_git(path, "ls-files", "-z", "--stage").paths
    links = [one.partition("\t")[2] for one in listed if one.startswith("160000 ")]
    others = run_git(path, "ls-files", "-z", "--others", "--exclude-standard").paths
    inner = [*links, *(one.rstrip("/") for one in others if one.endswith("/"))]
    inner = [one for one in inner if (path / one / ".git").exists()]
    return tuple(one for one in inner if not _can_be_had_again(path / one))


def _can_be_had_again(inner: Path) -> bool:
    look = ("status", "--porcelain", "--ignored=no", "--untracked-files=normal")
    if run_git(inner, *look, check=False).stdout:
        return False
    # All references, the stash among them, and what was reset away or stashed below another one.
    not_there = ("rev-list", "--max-count=1", "HEAD", "--all", "--reflog")
    left = run_git(inner, *not_there, "--not", "--remotes", check=False)
    return left.code == 0 and not left.stdout and not nested(inner)


def _found(repo: Path, record: Path, path: Path | None, branch: str) -> _Found:
    here = {"GIT_DIR": str(record), "GIT_WORK_TREE": str(path or repo)}
    log = _log_of_head(repo, record, here)
    head = run_git(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", env=here, check=False)
    # On a branch that somebody deleted, HEAD leads nowhere; its log still knows.
    sha = head.text if head.code == 0 else (tip_of(repo, log[0]) if log else None)
    empty = run_git(repo, "mktree", input=b"").text
    head_tree = run_git(repo, "rev-parse", f"{sha}^{{tree}}").text if sha else empty
    lost = _lost(repo, {*log, *([sha] if sha else []), *_stashed(record)}, branch)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "index"
        here |= {"GIT_INDEX_FILE": str(copy)}
        index_tree = None
        if (record / "index").exists():  # there is none before the first file is added
            shutil.copy2(record / "index", copy)
            index = _written(repo, here)
            index_tree = index.text if index.code == 0 else None
        tree = index_tree or head_tree
        if path is not None:
            tree = _tree_of_files(path, here, head_tree)
    return _Found(sha, head_tree, index_tree, tree, lost)


def _tree_of_files(path: Path, here: dict[str, str], head_tree: str) -> str:
    """The files as they are now. The index is a copy, with what it knows of their times."""
    listed = run_git(path, *_SEE_ALL, "ls-files", "-z", "-v", env=here, check=False)
    if listed.code != 0 or not Path(here["GIT_INDEX_FILE"]).exists():
        # Damaged, or never made: begin from what is committed.
        Path(here["GIT_INDEX_FILE"]).unlink(missing_ok=True)
        run_git(path, *_SEE_ALL, "read-tree", head_tree, env=here)
    # Files that git was told not to look at (in small letters, or S) may have been changed.
    names = [one[2:] for one in listed.paths if one[0] == "S" or one[0].islower()]
    there = [os.fsencode(one) for one in names if os.path.lexists(path / one)]
    for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
        if there:
            update = ("update-index", flag, "-z", "--stdin")
            run_git(path, *_SEE_ALL, *update, env=here, input=b"\0".join(there))
    run_git(path, *_SEE_ALL, "add", "--all", ".", env=here, timeout=SAVE_S)
    return _written(path, here, check=True).text


def _written(folder: Path, here: dict[str, str], *, check: bool = False) -> Completed:
    return run_git(folder, *_SEE_ALL, "write-tree", env=here, check=check, timeout=SAVE_S)


def _log_of_head(repo: Path, record: Path, here: Mapping[str, str]) -> tuple[str, ...]:
    """Where the worktree's HEAD has been, the newest first. Git does not show the log of a HEAD
    that leads nowhere."""
    file = record / "logs" / "HEAD"
    if not file.exists():
        return logged(repo, "HEAD", here)
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOGGED:]
    return tuple(dict.fromkeys(line.split(" ")[1] for line in reversed(lines) if " " in line))


def _stashed(record: Path) -> tuple[str, ...]:
    """What a rebase or a merge that was not finished has put aside (`man git-rebase`,
    --autostash): only these files know of it."""
    files = (record / one for one in _AUTOSTASHES)
    return tuple(one.read_text(encoding="utf-8").strip() for one in files if one.exists())


def _lost(repo: Path, known: Collection[str], branch: str) -> tuple[str, ...]:
    """The newest of the *known* commits that no reference and no log of *branch* leads to."""
    known = [one for one in known if one.strip("0")]
    if not known:
        return ()
    elsewhere = logged(repo, f"refs/heads/{branch}")
    listed = run_git(
        repo, "rev-list", "--parents", "--ignore-missing", "--stdin",
        "--not", "--glob=refs/*", *elsewhere,
        input="\n".join(sorted(known)).encode(),
    ).text.splitlines()  # fmt: skip
    commits = [line.split(" ") for line in listed]
    parents = {parent for _, *rest in commits for parent in rest}
    return tuple(sha for sha, *_ in commits if sha not in parents)


def _commit(repo: Path, tree: str, parents: Sequence[str], message: str) -> str:
    options = [word for one in parents for word in ("-p", one)]
    env = dict(_IDENTITY)
    if message.endswith(_INDEX) and parents:
        # The same again must be the same commit, so that it is known to be kept already.
        date = run_git(repo, "show", "--no-patch", "--format=%cI", parents[0]).text
        env |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return run_git(repo, "commit-tree", tree, *options, input=message.encode(), env=env).text


def _is_saved(repo: Path, name: str, tree: str, parents: Sequence[str]) -> bool:
    """Whether a reference keeps the same already: this was done before, and then cut off."""
    form = "--format=%(tree) %(parent)"
    for line in run_git(repo, "for-each-ref", form, f"{PREFIX}/{name}/").text.splitlines():
        its_tree, *its_parents = line.split()
        if its_tree == tree and set(parents) <= set(its_parents):
            return True
    return False


def _refer(repo: Path, name: str, commit: str) -> None:
    """A new reference to *commit*; it must not be there, and no other commit gets lost by it."""
    last = saved(repo, name)
    number = int(last[-1].rpartition("/")[2]) + 1 if last else 1
    run_git(repo, "update-ref", f"{PREFIX}/{name}/{number}", commit, "")
