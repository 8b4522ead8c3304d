"""What a folder's git repository looks like, read from its files.

Starting git would cost some 4 ms for each job that is created; these questions are answered by
files whose format git documents (gitrepository-layout).
"""

import re
from pathlib import Path
from typing import Final

from hurlicane_mcp.errors import GitFailed
from hurlicane_mcp.git.commands import run_git

#: SHA-1 or SHA-256. What else stands there came from an agent, and would be an argument of git's.
_ID: Final = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: References that lead to references, one after the other, as in git.
_MAX_LINKS: Final = 5


def top_level(folder: Path) -> Path | None:
    """The top of the work tree that *folder* lies in; None outside a repository."""
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)


def branch(folder: Path) -> str | None:
    """The branch that *folder*'s work tree is on; None outside a repository or on no branch."""
    top = top_level(folder)
    if top is None:
        return None
    try:
        head = (_git_dir(top / ".git") / "HEAD").read_text(encoding="utf-8")
    except (OSError, ValueError):  # unreadable, or a name that is no UTF-8
        return None
    prefix = "ref: refs/heads/"
    return head.removeprefix(prefix).strip() if head.startswith(prefix) else None


def _git_dir(entry: Path) -> Path:
    """Where the data is: `.git` itself, or what a linked work tree's `.git` file names."""
    if entry.is_dir():
        return entry
    named = entry.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return entry.parent / named


def head(folder: Path) -> str | None:
    """The commit that *folder*'s work tree is at; None outside a repository or before the first."""
    top = top_level(folder)
    if top is None:
        return None
    try:
        own = _git_dir(top / ".git")
        shared = _shared_dir(own)
        if (shared / "reftable").exists():  # references that only git can read
            return run_git(top, "rev-parse", "--verify", "--quiet", "HEAD").text
        name = (own / "HEAD").read_text(encoding="utf-8").strip()
        for _ in range(_MAX_LINKS):
            if not name.startswith("ref: "):
                return name if _ID.fullmatch(name) else None
            name = _reference(own, shared, name.removeprefix("ref: ").strip())
    except (OSError, ValueError, GitFailed):  # not there, unreadable, or before the first commit
        return None
    return None


def _shared_dir(own: Path) -> Path:
    """Where the references are that all work trees share."""
    pointer = own / "commondir"
    return own / pointer.read_text(encoding="utf-8").strip() if pointer.exists() else own


def _reference(own: Path, shared: Path, name: str) -> str:
    """What a reference says: a commit, or `ref: …`.

    Raises:
        OSError: there is no such reference.
    """
    for place in (own, shared):
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8").strip()
    with (shared / "packed-refs").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sha, _, packed = line.strip().partition(" ")
            if packed == name:
                return sha
    raise FileNotFoundError(name)
