"""Changes to the work folder: edits, commits and programs."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from hurlicane_mcp.errors import Conflict
from hurlicane_mcp.providers.scripted_agent.vocabulary import Edit

# Agents that share a worktree meet at git's locks, which it does not wait for.
LOCK_PATIENCE_S = 20.0
IDENTITY = ("-c", "user.name=Scripted Agent", "-c", "user.email=scripted@localhost")
QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "gc.auto=0")
LOCKED = ("index.lock", "cannot lock ref", "unable to lock", "unable to create")
# Another commit had read the index before our `add` and has written it back since (git reads it
# before it takes its lock; measured with 2.39): the file is added once more.
FORGOTTEN = "did not match any file(s) known to git"
NOTHING = ("nothing to commit", "nothing added to commit", "no changes added to commit")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended, and what it printed on both of its streams."""

    exit_code: int
    output: str


def apply(edit: Edit) -> None:
    """Make the change, in a folder that is made if need be.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(edit.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if edit.append else "w", encoding="utf-8", newline="") as file:
        file.write(edit.text)


async def run(argv: Sequence[str], **env: str) -> Ran:
    """Run a program to its end, in the work folder, with *env* added and without our token.

    Raises:
        OSError: there is no such program.
    """
    ours = {name: value for name, value in os.environ.items() if name != "HURLICANE_TOKEN"}
    done = await anyio.run_process(
        argv,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        check=False,
        env=ours | env,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"))


async def commit(path: str, message: str) -> str:
    """Commit *path* alone, and return the new commit's id; an empty text if nothing had changed.

    Raises:
        Conflict: git refuses, or somebody holds its locks for more than 20 s.
        OSError: there is no git.
    """
    deadline = anyio.current_time() + LOCK_PATIENCE_S
    while True:
        await _git("add", "--", path)
        accept = (*NOTHING, FORGOTTEN)
        said = await _git("commit", "--quiet", f"--message={message}", "--", path, accept=accept)
        if FORGOTTEN not in said:
            break
        if anyio.current_time() > deadline:
            raise Conflict(f"git commit: {said.strip()}")
    if any(words in said for words in NOTHING):
        return ""
    return (await _git("rev-parse", "--short", "HEAD")).strip()


async def _git(*args: str, accept: tuple[str, ...] = ()) -> str:
    deadline = anyio.current_time() + LOCK_PATIENCE_S
    pause = 0.02
    while True:
        ran = await run(("git", *IDENTITY, *QUIET, *args), LC_ALL="C")
        if ran.exit_code == 0 or any(words in ran.output for words in accept):
            return ran.output
        locked = any(words in ran.output.lower() for words in LOCKED)
        if not locked or anyio.current_time() > deadline:
            raise Conflict(f"git {args[0]}: {ran.output.strip()}")
        await anyio.sleep(pause)
        pause = min(0.5, pause * 1.5)
