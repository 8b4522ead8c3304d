"""A repository and worktrees of ours beside it, and how to see that nothing is lost."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hurlicane_mcp.git.removal import Retired, retire
from hurlicane_mcp.git.worktrees import Made, Wanted, make, place_for

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{role}_NAME": "Tess" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "tess@localhost" for role in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What git prints, as a person on a terminal would have it run in *folder*."""
    ended = subprocess.run(
        ("git", *arguments),
        cwd=folder,
        env={**ENVIRONMENT, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"git {' '.join(arguments)}: {ended.stderr}"
    return ended.stdout.strip()


def commit(folder: Path, name: str, text: str = "text\n") -> str:
    """The commit that adds or changes this file, and it alone."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    git(folder, "add", "--force", name)
    git(folder, "commit", "--quiet", "--message", f"Write {name}", "--", name)
    return git(folder, "rev-parse", "HEAD")


@dataclass(frozen=True)
class Checkout:
    """A repository with a first commit on `main`, and a worktree that is wanted beside it."""

    top: Path
    wanted: Wanted

    @staticmethod
    def beside(folder: Path, name: str = "repo") -> "Checkout":
        top = folder / name
        top.mkdir(parents=True)
        git(top, "init", "--quiet", "--initial-branch", "main")
        base = commit(top, "read.me", "Hello\n")
        path = place_for(top, "abc123")
        return Checkout(top, Wanted(top, path, "hurlicane/mend-it-abc123", base, is_new=True))

    @property
    def path(self) -> Path:
        return self.wanted.path

    @property
    def used(self) -> Wanted:
        """The same, once somebody has worked in it."""
        return Wanted(self.top, self.path, self.wanted.branch, self.wanted.base_sha, is_new=False)

    @property
    def record(self) -> Path:
        return self.top / ".git" / "worktrees" / self.path.name

    def make(self) -> Made:
        return make(self.wanted)

    def retire(self) -> Retired:
        return retire(self.used)

    def shown(self, reference: str, name: str) -> str:
        """The content of a file in a commit."""
        return git(self.top, "show", f"{reference}:{name}")

    def files(self, reference: str) -> set[str]:
        return set(git(self.top, "ls-tree", "-r", "--name-only", reference).splitlines())

    def reaches(self, reference: str, sha: str) -> bool:
        """Whether a commit is kept by a reference."""
        return sha in git(self.top, "rev-list", reference).splitlines()

    def branches(self) -> set[str]:
        return set(git(self.top, "branch", "--format=%(refname:short)").splitlines())

    def worktrees(self) -> list[Path]:
        listed = git(self.top, "worktree", "list", "--porcelain").splitlines()
        return [Path(one.removeprefix("worktree ")) for one in listed if one[:8] == "worktree"]

    def survives(self, sha: str) -> bool:
        """Whether a commit would be there after the strictest clean-up: references alone keep."""
        git(self.top, "reflog", "expire", "--expire=now", "--all")
        git(self.top, "gc", "--quiet", "--prune=now")
        found = subprocess.run(
            ("git", "cat-file", "-e", sha), cwd=self.top, capture_output=True, check=False
        )
        return found.returncode == 0
