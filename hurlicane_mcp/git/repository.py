"""What a folder's git repository looks like, read from its files.

Starting git would cost some 4 ms for each job that is created; these two questions are answered by
files whose format git documents (gitrepository-layout).
"""

from pathlib import Path


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
