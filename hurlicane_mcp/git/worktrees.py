"""Worktrees of our own beside somebody's repository: where they begin, how they are made. Blocking.

What is said of git was measured with version 2.39 in November 2026; 2.31 is needed.
"""

import fcntl
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePath
from typing import Final

from hurlicane_mcp.errors import GitBusy, GitDiskFull, GitFailed, Invalid
from hurlicane_mcp.git.commands import run_git
from hurlicane_mcp.git.salvage import keep, place_of, record_of, tip_of

FOLDER: Final = ".hurlicane-worktrees"
#: Seconds: filters and slow disks may take long.
CHECKOUT_S: Final = 900.0
#: Seconds to wait for a lock that another git holds.
PATIENCE_S: Final = 5.0
_HEADS: Final = "refs/heads/"
_LOCK: Final = ".lock"
_POLL_S: Final = 0.1
_BLOCK: Final = 4096  #: bytes that a small file takes on most file systems
#: What git itself locks a worktree with while it makes it (builtin/worktree.c).
_HALF_MADE: Final = "initializing"


@dataclass(frozen=True, slots=True)
class Base:
    """What a worktree begins from."""

    repo: Path  #: top level of the main work tree; the repository itself if it has none
    inside: PurePath  #: the folder that was asked for, from the top
    branch: str | None  #: None: on no branch, or named by a commit or a tag
    sha: str
    dirty: tuple[str, ...]  #: what was not committed there, so that it is not in the worktree


@dataclass(frozen=True, slots=True)
class Wanted:
    """A worktree as its row says."""

    repo: Path
    path: Path
    branch: str
    base_sha: str
    is_new: bool  #: nobody has worked in it yet


@dataclass(frozen=True, slots=True)
class Made:
    """A worktree that is there now, perhaps not where and as it was wanted."""

    path: Path
    branch: str
    told: tuple[str, ...] = ()  #: what a person should know
    salvaged: tuple[str, ...] = ()  #: refs that keep what was found


@dataclass(frozen=True, slots=True)
class Entry:
    """A worktree as git lists it."""

    path: Path
    branch: str | None
    lock: str | None  #: why it is locked, perhaps without a word; None if it is not


def base_of(folder: Path, base_branch: str | None) -> Base:
    """Where a worktree for work in *folder* begins: at its HEAD, or at *base_branch*.

    Raises:
        Invalid: there can be none; the message says why and what to do.
        GitFailed: git cannot be started.
    """
    inside_git = run_git(folder, "rev-parse", "--is-inside-work-tree", check=False)
    if inside_git.code != 0:
        raise Invalid(
            f"`use_worktree` needs a git repository, and {folder} is in none that can be used "
            f"({inside_git.complaint}). Run `git init` and commit there, or leave it out."
        )
    if inside_git.text != "true":
        raise Invalid(f"{folder} has no work tree (a bare repository, or .git). Name a checkout.")
    inside = run_git(folder, "rev-parse", "--show-prefix").text
    if "\n" in str(folder.resolve()):
        raise Invalid(
            f"git cannot list worktrees of {str(folder)!r}: rename what has a line break."
        )
    repo = _main_of(folder)
    _check_place(repo)
    # Not --short: beside a tag of the same name that is `heads/main`.
    at = run_git(folder, "symbolic-ref", "--quiet", "HEAD", check=False).text
    current = at.removeprefix(_HEADS) or None
    branch, sha = _commit_of(folder, base_branch, current)
    dirty = _dirty(folder) if branch == current else ()
    return Base(repo, PurePath(inside), branch, sha, dirty)


def place_for(repo: Path, name: str) -> Path:
    """Where the worktree *name* of *repo* belongs."""
    return repo.parent / FOLDER / repo.name / name


def going_of(path: Path) -> Path:
    """Where the folder of a worktree is while it is removed."""
    return path.with_name(f".removed-{path.name}")


def make(wanted: Wanted) -> Made:
    """Have the worktree be there. May be repeated, also after it was killed at any point.

    One that is there is taken as it is, whatever it is on by now. A branch or a path that is
    somebody else's is left alone: a free name is taken instead.

    Raises:
        GitBusy: another git is at work; the same call may work later.
        GitDiskFull: the disk is full or read-only.
        GitFailed: the repository or the commit is gone, or git refuses.
        OSError: the folder cannot be made.
    """
    if not wanted.repo.is_dir():
        raise GitFailed("git worktree add", wanted.repo, "the repository is not there any more")
    with held(wanted.path.parent) as lock:
        place = place_of(wanted.path)  # git lists it without links
        entry = next((one for one in entries(wanted.repo) if place_of(one.path) == place), None)
        if entry is not None and not wanted.path.exists() and going_of(wanted.path).exists():
            going_of(wanted.path).rename(wanted.path)  # its removal was cut off
        if entry is None or (not wanted.path.exists() and entry.lock not in (None, _HALF_MADE)):
            return _add(wanted, wanted.base_sha, (), lock)
        if not wanted.path.exists():
            return _make_again(wanted, lock)
        if not leads_to(wanted.path, wanted.repo):
            return _add(wanted, wanted.base_sha, (), lock)
        if entry.lock == _HALF_MADE:
            return _make_again(wanted, lock)
        return Made(wanted.path, wanted.branch)


def entries(repo: Path) -> Sequence[Entry]:
    """The worktrees that git knows of *repo*, the main one first."""
    found: list[Entry] = []
    for line in run_git(repo, "worktree", "list", "--porcelain").text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "worktree":
            found.append(Entry(Path(rest), None, None))
        elif word == "branch":
            found[-1] = replace(found[-1], branch=rest.removeprefix("refs/heads/"))
        elif word == "locked":
            found[-1] = replace(found[-1], lock=rest)
    return found


def leads_to(path: Path, repo: Path) -> bool:
    """Whether *path* is the top of a work tree of *repo*, by what lies in it."""
    if not (path / ".git").is_file():
        return False
    ask = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    theirs = run_git(path, *ask, "--show-toplevel", check=False)
    ours = run_git(repo, *ask, check=False)
    if theirs.code != 0 or ours.code != 0:
        return False
    common, _, top = theirs.text.partition("\n")
    return Path(common) == Path(ours.text) and Path(top) == path.resolve()


@contextmanager
def held(folder: Path) -> Generator[int]:
    """Hold the folder of a repository's worktrees: one of our processes at a time works on them.

    What is yielded is to be held by git as well (`run_git`): if this process is killed, the next
    one waits for a git that lives on.

    Raises:
        GitBusy: another process held it for too long.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder.parent / ".gitignore"
    if not ignore.exists():  # the folder may lie in the work tree of another repository
        ignore.write_text("*\n", encoding="utf-8")
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    said = f"{folder / _LOCK} is held by another git or server"
                    raise GitBusy("git worktree", folder, said) from None
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _main_of(folder: Path) -> Path:
    """The top level of the main work tree of *folder*'s repository."""
    ask = ("rev-parse", "--path-format=absolute", "--git-common-dir", "--absolute-git-dir")
    common, _, own = run_git(folder, *ask).text.partition("\n")
    if common == own:
        return Path(run_git(folder, "rev-parse", "--show-toplevel").text)
    if Path(common).name == ".git":
        return Path(common).parent
    # A submodule's repository says where its work tree is; a bare one has none and is its own top.
    top = run_git(Path(common), "rev-parse", "--show-toplevel", check=False)
    return Path(top.text if top.code == 0 and top.text else common)


def _check_place(repo: Path) -> None:
    """Refuse now what could never be made."""
    folder = place_for(repo, "one").parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Invalid(
            f"`use_worktree` needs {repo.parent / FOLDER}, but the server may not write in "
            f"{folder}. Give it the right to, or move the repository."
        )


def _commit_of(
    folder: Path, base_branch: str | None, current: str | None
) -> tuple[str | None, str]:
    """The branch and the commit to begin from."""
    if base_branch in (None, "HEAD"):  # a clone has an `origin/HEAD` too: the server's choice
        sha = _resolved(folder, "HEAD")
        if sha is None:
            raise Invalid(f"The repository of {folder} has no commit yet. Make one first.")
        return current, sha
    if (sha := _tip(folder, f"{_HEADS}{base_branch}")) is not None:
        return base_branch, sha
    for remote in run_git(folder, "remote").text.splitlines():
        name = base_branch.removeprefix(f"{remote}/")
        if name != "HEAD" and (sha := _tip(folder, f"refs/remotes/{remote}/{name}")) is not None:
            return name, sha
    if not base_branch.startswith("-") and (sha := _resolved(folder, base_branch)) is not None:
        return None, sha
    known = run_git(
        folder, "for-each-ref", "--count=8", "--sort=-committerdate", "--format=%(refname:short)",
        "refs/heads",
    ).text.split()  # fmt: skip
    there = f"There are: {', '.join(known)}." if known else "There is none."
    raise Invalid(f"`base_branch` {base_branch!r} is no branch of {folder}. {there}")


def _tip(folder: Path, reference: str) -> str | None:
    """Where this reference is; None for what only begins with one (`main~2`)."""
    is_one = run_git(folder, "show-ref", "--verify", "--quiet", reference, check=False).code == 0
    return _resolved(folder, reference) if is_one else None


def _resolved(folder: Path, name: str) -> str | None:
    found = run_git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
    return found.text if found.code == 0 else None


def _dirty(folder: Path) -> tuple[str, ...]:
    """What is not committed in the work tree of *folder*, from its top; ignored files are not."""
    top = Path(run_git(folder, "rev-parse", "--show-toplevel").text)
    fields = iter(run_git(top, "status", "--porcelain", "-z", "--ignore-submodules=none").paths)
    found: list[str] = []
    for field in fields:
        found.append(field[3:])
        if field[0] in "RC":  # followed by where it came from
            next(fields, None)
    return tuple(found)


def _make_again(wanted: Wanted, lock: int) -> Made:
    """Replace one whose folder is gone, or that git was killed over before anybody worked in it."""
    record = record_of(wanted.repo, wanted.path)
    is_there = wanted.path.exists()
    kept = keep(
        wanted.repo,
        record,
        wanted.path if is_there else None,
        name=wanted.path.name,
        branch=wanted.branch,
        is_half_made=is_there,
    )
    run_git(wanted.repo, "worktree", "remove", "--force", "--force", str(wanted.path), hold=lock)
    return _add(wanted, kept.head or wanted.base_sha, kept.refs, lock)


def _add(wanted: Wanted, start: str, salvaged: tuple[str, ...], lock: int) -> Made:
    """Add the worktree, with its branch at *start* if that does not exist."""
    repo, tip = wanted.repo, tip_of(wanted.repo, f"refs/heads/{wanted.branch}")
    start = start if wanted.is_new or tip is None else tip
    if _resolved(repo, start) is None:
        said = f"the commit {start[:12]} that the worktree begins from is not there any more"
        raise GitFailed("git worktree add", repo, said)
    path = _free_path(wanted)
    branch = next(one for one in _names(repo, wanted.branch) if _is_free(wanted, one))
    what = ("-b", branch, str(path), start)
    if tip_of(repo, f"refs/heads/{branch}") is not None:
        what = (str(path), branch)
    try:
        run_git(
            repo,
            *("-c", "submodule.recurse=false", "-c", "worktree.guessRemote=false"),
            *("worktree", "add", "--quiet", *what),
            timeout=CHECKOUT_S,
            patience=PATIENCE_S,
            hold=lock,
        )
    except GitFailed as error:
        # Of a disk that gets full git says only that a file cannot be written.
        if (short := _shortage(repo, path.parent, start)) is not None:
            raise GitDiskFull("git worktree add", repo, f"{error.said}: {short}") from None
        raise
    told: list[str] = []
    if path != wanted.path:
        told.append(f"What is at {wanted.path} is somebody else's: the worktree is at {path}.")
    elif not wanted.is_new:
        told.append(f"{path} was not there any more. It is made again, from {start[:12]}.")
    if branch != wanted.branch:
        told.append(f"The branch {wanted.branch} is somebody else's: this one is {branch}.")
    return Made(path, branch, tuple(told), salvaged)


def _shortage(repo: Path, folder: Path, sha: str) -> str | None:
    """What is missing on the disk of *folder* for the files of a commit; None if they fit."""
    fields = run_git(repo, "ls-tree", "-r", "-l", "-z", sha, check=False).paths
    sizes = [one.partition("\t")[0].split()[-1] for one in fields]
    needed = sum((int(one) // _BLOCK + 1) * _BLOCK for one in sizes if one.isdigit())
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed <= free:
        return None
    return f"No space left on device: {needed:,} bytes are needed, {free:,} are free"


def _is_free(wanted: Wanted, branch: str) -> bool:
    """Whether a branch of this name may be made, or is the one that was made for this."""
    tip = tip_of(wanted.repo, f"refs/heads/{branch}")
    if tip is None:
        return True
    if branch != wanted.branch or any(one.branch == branch for one in entries(wanted.repo)):
        return False
    return not wanted.is_new or tip == wanted.base_sha


def _free_path(wanted: Wanted) -> Path:
    known = {place_of(one.path) for one in entries(wanted.repo)}
    for number in count(1):
        path = wanted.path
        path = path if number == 1 else path.with_name(f"{path.name}-{number}")
        is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if is_free and place_of(path) not in known:
            return path
    raise AssertionError("there is always one more name")


def _names(repo: Path, wanted: str) -> Generator[str]:
    """The name wanted, and then others like it.

    A branch `hurlicane` makes `hurlicane/…` impossible, since references are files in folders.
    """
    first = wanted
    if tip_of(repo, f"refs/heads/{wanted.partition('/')[0]}") is not None:
        first = wanted.replace("/", "-")
    yield first
    for number in count(2):
        yield f"{first}-{number}"
