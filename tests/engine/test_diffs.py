"""Diffs of attempts, as far as one attempt follows another in the same folder."""

import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.engine.diffs import Diffs
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from tests.factories import add_job, claim
from tests.fakes import FakeClock
from tests.git.checkouts import Checkout, git

pytestmark = pytest.mark.anyio


async def test_an_attempt_begins_only_when_the_diff_of_the_last_one_is_made(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    here = Checkout.beside(tmp_path)
    gate, opened = here.top / ".git" / "gate", here.top / ".git" / "opened"
    os.mkfifo(gate)
    slow = f"test -e '{opened}' || cat '{gate}'; cat"
    git(here.top, "config", "filter.slow.clean", slow)
    (here.top / ".git" / "info").mkdir(exist_ok=True)
    (here.top / ".git" / "info" / "attributes").write_text("read.me filter=slow\n")
    (here.top / "read.me").write_text("Changed\n")
    job = await db.write(lambda session: add_job(session, work_dir=str(here.top)))
    attempt = await db.write(lambda session: claim(session, job.id))
    sha = here.wanted.base_sha
    await db.write(lambda session: attempts.write(session, attempt.id, base_sha=sha))
    diffs, order = Diffs(db, clock), list[str]()

    async def note() -> None:
        await diffs.note(attempt.id)
        order.append("told")

    async def begin() -> None:
        await diffs.begin(attempt.id, here.top)
        order.append("begun")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(note)
        pipe = await anyio.to_thread.run_sync(lambda: gate.open("w"))  # git is at the file now
        tasks.start_soon(begin)
        await anyio.wait_all_tasks_blocked()
        opened.touch()
        pipe.close()
    assert order == ["told", "begun"]
    assert (await diffs.of(OPERATOR, job.id)).files == 1
