"""What the tests of completion checks share: real shims, a repository, and agents with checks."""

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.engine.access import Caller, Role
from hurlicane_mcp.engine.checks import Checks
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.one_shot import OneShots
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import running
from tests.fakes import FakeClock
from tests.stories.server import until


@asynccontextmanager
async def real_checks(db: Database, clock: FakeClock, folder: Path) -> AsyncGenerator[Checks]:
    """Checks that run below *folder*."""
    async with Watcher() as watcher:
        yield Checks(db, clock, OneShots(ShimHost(), watcher, folder))


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user of the test's own; its output."""
    who = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    done = subprocess.run(
        ("git", *who, *arguments), cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, name: str) -> str:
    """Commit a new file; the commit's id."""
    (folder / name).write_text("new\n", encoding="utf-8")
    git(folder, "add", name)
    git(folder, "commit", "--message", name)
    return git(folder, "rev-parse", "HEAD")


async def checked(db: Database, work_dir: Path, *checks: Any, **values: Any) -> Caller:
    """An agent whose job has these checks."""

    def change(session: Session) -> Caller:
        job, attempt = running(session, work_dir=str(work_dir), checks=list(checks), **values)
        attempts.start(session, attempt.id, attempt.claimed_at, pid=1, start_time="1", boot_id="b")
        return Caller(Role.AGENT, job.id, attempt.id, is_checked=True)

    return await db.write(change)


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


async def pid_in(file: Path) -> int:
    """The number that a program writes into *file*, once it is there."""

    def text() -> str:
        return file.read_text(encoding="utf-8") if file.exists() else ""

    await until(lambda: text().endswith("\n"))
    return int(text())
