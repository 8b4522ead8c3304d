"""The server is killed at every transition of a workflow, before the commit and after it."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bench.server import ROOT
from tests.chaos.crash_points import FOLDER, KILLED, ONLY, SEEN, WHEN, passed
from tests.gh import StubGh
from tests.git.checkouts import git
from tests.stories.server import RunningServer, running_server, until
from tests.stories.test_workflows import STEPS
from tests.stories.workflow_task import repository, subjects, task

pytestmark = pytest.mark.anyio

#: What a workflow's own transitions are made of: its events, and units of work of the engine that
#: write nothing else. The life of a phase's job is that of any job (test_crash_points).
OURS = ("workflow.", "worktree.", "job.created", "write Reactor", "write Worktrees", "write Public")
#: Without these they would not be those of the whole story.
BOUNDARIES = (
    "workflow.created Two files",
    "workflow.phase Two files",
    "worktree.planned Two files",
    "job.created Assess, cycle 0: Two files",
    "job.created Implement, cycle 2: Two files",
    "job.created Verify, cycle 3: Two files",
    "workflow.published Two files",
    "workflow.complete Two files",
)


@dataclass(frozen=True, slots=True)
class Told:
    """How a story went."""

    seen: frozenset[str]
    killed: frozenset[str]


async def story(folder: Path, when: str, points: frozenset[str] = frozenset()) -> Told:
    """Let a workflow live under a server that is killed at *points*, and judge what came of it."""
    await anyio.Path(folder).mkdir()
    places = repository(folder, "https://github.com/acme/thing.git")
    gh = StubGh(folder / "gh")
    inherited = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        **{"PYTHONPATH": str(ROOT), FOLDER: str(folder), WHEN: when},
        ONLY: "\n".join(sorted(points)) or "none",
    }
    settings = {"gh_bin": str(gh.bin_dir / "gh"), "slots": "2", "log_level": "warning"}
    server = await anyio.to_thread.run_sync(
        lambda: running_server(
            folder / "data", folder, settings, inherited, "tests.chaos.crash_points"
        )
    )
    try:
        workflow_id = await _started(server, places.folder)
        await until(lambda: _state(server) not in ("running", "blocked"), timeout_s=100)
    finally:
        await anyio.to_thread.run_sync(server.stop)
    assert _state(server) == "complete"
    assert tuple(_rows(server, "SELECT cycle, phase FROM workflow_phase ORDER BY rowid")) == STEPS
    assert set(_rows(server, "SELECT try_number FROM workflow_phase")) == {(1,)}
    lost = "SELECT count(*) FROM event WHERE kind IN ('workflow.reconciled', 'workflow.blocked')"
    assert _rows(server, lost) == [(0,)]
    branch = str(_rows(server, "SELECT branch FROM worktree")[0][0])
    written = ["Write one.txt", "Write two.txt", "Write one.txt"]
    assert subjects(places.remote, f"main..{branch}") == written
    assert len(gh.pulls) == 1, "no pull request twice"
    assert len(git(places.folder, "worktree", "list").splitlines()) == 2
    assert workflow_id
    return Told(passed(folder, SEEN), passed(folder, KILLED))


async def _started(server: RunningServer, folder: Path) -> str:
    """The id of a new workflow, however often the server dies before it answers."""
    body = {"task": task(), "title": "Two files", "work_dir": str(folder), "verify": True}
    body |= {"publish": "pull_request", "idempotency_key": "the one"}
    for _ in range(20):
        try:
            with server.rest() as rest:
                answer = rest.post("/api/workflows", json=body)
                return answer.raise_for_status().json()["workflow_id"]
        except Exception:
            await anyio.sleep(0.3)
    raise AssertionError("the workflow was never created")


def _state(server: RunningServer) -> str:
    return str(_rows(server, "SELECT state FROM workflow")[0][0])


def _rows(server: RunningServer, query: str) -> Sequence[tuple[object, ...]]:
    """What the database says; read beside the server, which may be dead."""
    path = server.data_dir / "hurlicane.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as connection:
        return connection.execute(query).fetchall()


def _transitions(seen: frozenset[str]) -> frozenset[str]:
    return frozenset(point for point in seen if point.startswith(OURS))


@pytest.mark.timeout(300)
async def test_a_server_that_is_killed_at_every_transition_starts_no_phase_twice(
    tmp_path: Path,
) -> None:
    """Two servers side by side: one dies before each commit, the other after it."""
    points = _transitions((await story(tmp_path / "calm", "never")).seen)
    assert set(BOUNDARIES) - points == set()
    killed: dict[str, frozenset[str]] = {}

    async def one(when: str) -> None:
        killed[when] = (await story(tmp_path / when, when, points)).killed

    async with anyio.create_task_group() as tasks:
        for when in ("before", "after"):
            tasks.start_soon(one, when)
    for when, where in killed.items():
        assert points - where == set(), f"not killed {when} these: {sorted(points - where)}"
