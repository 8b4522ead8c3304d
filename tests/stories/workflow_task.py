"""A task for workflows: its scripted agents need two cycles, a `Fix:` milestone, a verification.

Each call of a tool is made again when it breaks off, as the real CLIs do, so that the same task
serves where servers are killed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.git.checkouts import git

TRIES = 3
FIRST, SECOND = "Write one.txt", "Write two.txt"
FIX = "Fix: one.txt lacks its second line"


@dataclass(frozen=True, slots=True)
class Repository:
    """A clone with a bare remote called `origin`."""

    folder: Path
    remote: Path


def repository(folder: Path, url: str | None = None) -> Repository:
    """A new one, with a commit on `main`; *url* is what the remote is called by."""
    remote, clone = folder / "remote.git", folder / "repo"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(folder, "init", "--quiet", "--initial-branch=main", str(clone))
    git(clone, "config", "user.name", "Tess")
    git(clone, "config", "user.email", "tess@localhost")
    (clone / "README.md").write_text("# It\n", encoding="utf-8")
    git(clone, "add", "README.md")
    git(clone, "commit", "--quiet", "--message", "Begin")
    git(clone, "remote", "add", "origin", url or str(remote))
    if url is not None:  # pushed to the folder, but known by its address
        git(clone, "config", f"url.{remote}.insteadOf", url)
    git(clone, "push", "--quiet", "origin", "main")
    return Repository(clone, remote)


def task() -> str:
    """The task, with the script of all its phases."""
    phases: dict[str, Any] = {
        "assess": [*_plan(), *_note("contract", "Both files exist."), *_finish("Planned.")],
        "review": {
            "cycles": {
                "1": [*_plan(), *_finish("The plan is good.")],
                "2": [*_plan(FIRST, fix=True), *_finish("A line is missing.")],
                "default": _finish("Nothing to add."),
            }
        },
        "implement": {
            "cycles": {
                "1": _work("one.txt", "one\n", FIRST),
                "2": [
                    *_work("two.txt", "two\n", FIRST, SECOND, cycle=2, fix=True, ends=False),
                    *_work("one.txt", "and more\n", FIRST, SECOND, FIX, cycle=2, fix=True),
                ],
            }
        },
        "verify": [
            {"run": ["sh", "-c", "test -f two.txt && grep -q more one.txt"]},
            *_finish("It works."),
        ],
    }
    script = json.dumps({"phases": phases}, indent=1)
    return f"Write two files.\n\n```json script\n{script}\n```\n"


def _work(
    file: str, text: str, *done: str, cycle: int = 1, fix: bool = False, ends: bool = True
) -> list[object]:
    """Commit a line, check milestones off, and log it. An agent that is resumed does not commit
    again: its session goes on behind the commit."""
    commit = {"path": file, "append": text, "message": f"Write {file}"}
    steps: list[object] = [{"commit": commit}, *_plan(*done, fix=fix)]
    if ends:
        log = _note(f"worklog/cycle-{cycle}", f"Cycle {cycle}: {file}.")
        steps += [*log, *_finish(f"{file} is there.")]
    return steps


def _plan(*done: str, fix: bool = False) -> list[object]:
    wanted = (FIRST, SECOND, *((FIX,) if fix else ()))
    boxes = [f"- [{'x' if one in done else ' '}] {one}" for one in wanted]
    return _note("plan", "# Plan\n\n" + "\n".join(boxes) + "\n")


def _note(name: str, text: str) -> list[object]:
    key = f"workflow/${{phase.workflow}}/{name}"
    return _calls("write_note", {"key": key, "value": text})


def _finish(result: str) -> list[object]:
    return _calls("finish_job", {"result": result})


def _calls(tool: str, arguments: dict[str, str]) -> list[object]:
    return [{"call": {"name": tool, "args": arguments, "on_error": "continue"}}] * TRIES


def subjects(folder: Path, span: str) -> Sequence[str]:
    """The subjects of the commits in *span*, the oldest first."""
    return git(folder, "log", "--reverse", "--format=%s", span).splitlines()
