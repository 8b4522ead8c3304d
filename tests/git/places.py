"""Repositories made by git itself, with bare ones as their remotes."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@localhost")


def git(folder: Path, *arguments: str) -> str:
    """Run git as the test's own user; its output."""
    done = subprocess.run(
        ("git", *IDENTITY, *arguments), cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout.strip()


@dataclass(frozen=True)
class Place:
    """A repository on `main`, and a folder for others beside it."""

    folder: Path
    beside: Path

    def write(self, **texts: str) -> None:
        """Write files, `name="text"`; a name's `_` is a dot."""
        for name, text in texts.items():
            (self.folder / name.replace("_", ".")).write_text(text, encoding="utf-8")

    def commit(self, message: str, **texts: str) -> str:
        """Commit files with everything else that has changed; the commit's id."""
        self.write(**texts)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--allow-empty", "--message", message)
        return self.sha()

    def sha(self, name: str = "HEAD") -> str:
        return git(self.folder, "rev-parse", name)

    def begin(self, branch: str, **texts: str) -> str:
        """A branch from here on with one commit, checked out; the commit's id."""
        git(self.folder, "checkout", "--quiet", "-b", branch)
        return self.commit(f"Work on {branch}", **(texts or {"work_txt": "work\n"}))

    def remote(self, name: str = "origin") -> "Place":
        """A bare repository as a new remote, with `main` pushed."""
        bare = self.beside / f"{name}.git"
        git(self.beside, "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
        git(self.folder, "remote", "add", name, str(bare))
        git(self.folder, "push", "--quiet", name, "main")
        return Place(bare, self.beside)

    def clone(self, name: str, source: "Place") -> "Place":
        """Somebody else's clone of *source*."""
        git(self.beside, "clone", "--quiet", str(source.folder), str(self.beside / name))
        return Place(self.beside / name, self.beside)

    def branches(self) -> dict[str, str]:
        """Branch → commit."""
        listed = git(self.folder, "for-each-ref", "--format=%(refname:short) %(objectname)")
        return dict(line.rsplit(" ", 1) for line in listed.splitlines())


def new_place(beside: Path) -> Place:
    """A repository with one commit."""
    folder = beside / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    place = Place(folder, beside)
    place.commit("Begin", README_md="Hello\n")
    return place
