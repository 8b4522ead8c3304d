"""The end of a worktree of our own, after all that was done in it is kept elsewhere. Blocking."""

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.commands import run_git
from hurlicane_mcp.git.salvage import keep, logged, nested, place_of, record_of, saved, tip_of
from hurlicane_mcp.git.worktrees import Entry, Wanted, entries, going_of, held, leads_to


@dataclass(frozen=True, slots=True)
class Retired:
    """What has become of a worktree."""

    is_removed: bool
    salvaged: tuple[str, ...] = ()  #: all refs that keep work of it, also of earlier tries
    branch: str | None = None  #: the one that keeps its commits; None if there is nothing in it
    trouble: str = ""  #: why it was left


def retire(wanted: Wanted) -> Retired:
    """Remove the worktree and keep what was done in it; or leave it, and say why.

    Only a worktree that git lists as one of this repository, that is not locked and has no
    repository with work of its own inside is removed. May be repeated, also after it was killed at
    any point. A branch without a commit of its own goes too.
    """
    try:
        if not wanted.repo.exists():
            gone = not wanted.path.exists()
            return Retired(gone, trouble="" if gone else f"Its repository {wanted.repo} is gone.")
        if not wanted.path.parent.exists():
            return _without_folder(wanted, None)
        with held(wanted.path.parent) as lock:
            return _retire(wanted, lock)
    except (GitFailed, OSError) as error:
        told = str(error).replace(str(going_of(wanted.path)), str(wanted.path))
        return Retired(False, trouble=told)


def _retire(wanted: Wanted, lock: int) -> Retired:
    path, repo, going = wanted.path, wanted.repo, going_of(wanted.path)
    listed = entries(repo)[1:]
    entry = next((one for one in listed if place_of(one.path) == place_of(path)), None)
    if entry is None and path.exists():
        return Retired(False, trouble=f"git does not know {path} as a worktree of {repo}.")
    if entry is None:
        _delete(going)  # what was in it is kept, else git would still know of it
        return _without_folder(wanted, lock)
    if (trouble := _refusal(entry)) is not None:
        return Retired(False, trouble=trouble)
    record = record_of(repo, path)
    if path.exists():
        if not leads_to(path, repo):
            return Retired(False, trouble=f"What is at {path} is no worktree of {repo} any more.")
        if (trouble := _in_use(record, path)) is not None:
            return Retired(False, trouble=trouble)
        _delete(going)  # of an earlier one, made again since: kept, since git forgot it before that
        # At once: from here on nobody changes it by its name.
        path.rename(going)
    try:
        there = going if going.exists() else None
        keep(repo, record, there, name=path.name, branch=wanted.branch)
    except GitFailed:
        if going.exists():
            going.rename(path)
        raise
    run_git(repo, "worktree", "remove", "--force", str(path), hold=lock)
    _delete(going)
    return _without_folder(wanted, lock)


def _refusal(entry: Entry) -> str | None:
    """Why git says that it is not to be removed."""
    if entry.lock is None:
        return None
    return f"It is locked (git worktree lock){f': {entry.lock}' if entry.lock else ''}."


def _in_use(record: Path, path: Path) -> str | None:
    """Why it must be left although it is ours."""
    if (record / "index.lock").exists():
        return (
            f"A git is at work in it, or was killed: {record / 'index.lock'} exists. "
            "Delete that file if no git runs there."
        )
    inner = nested(path)
    if inner:
        return f"It holds repositories with work that is nowhere else: {', '.join(inner[:5])}."
    return None


def _without_folder(wanted: Wanted, lock: int | None) -> Retired:
    """What is left to do when the folder and git's record of it are gone."""
    branch: str | None = wanted.branch
    tip = tip_of(wanted.repo, f"refs/heads/{wanted.branch}")
    if tip is None or _is_empty(wanted, tip):
        branch = None
        if tip is not None:
            delete = ("update-ref", "-d", f"refs/heads/{wanted.branch}", tip)
            run_git(wanted.repo, *delete, hold=lock)
    return Retired(True, saved(wanted.repo, wanted.path.name), branch)


def _is_empty(wanted: Wanted, tip: str) -> bool:
    """Whether the branch has nothing to keep, is nobody's, and is not the last to have its base."""
    repo, branch = wanted.repo, wanted.branch
    if tip != wanted.base_sha or any(one.branch == branch for one in entries(repo)):
        return False
    if set(logged(repo, f"refs/heads/{branch}")) - {tip}:
        return False  # commits were made, and reset away: its log has them
    having = run_git(repo, "for-each-ref", "--count=2", f"--contains={tip}", "--format=%(refname)")
    return set(having.text.split()) - {f"refs/heads/{branch}"} != set[str]()


def _delete(folder: Path) -> None:
    """Delete what was kept elsewhere before; what cannot be deleted now is tried again.

    Raises:
        OSError: something is left.
    """
    if not os.path.lexists(folder):
        return
    for parent, _, _ in os.walk(folder):  # caches are often made read-only
        with suppress(OSError):
            Path(parent).chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
