"""Workflows as people see them: a real server, real agents, a real repository and its remote."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gh import StubGh
from tests.git.checkouts import git
from tests.stories.server import RunningServer, until
from tests.stories.workflow_task import FIX, repository, subjects, task

pytestmark = pytest.mark.anyio

STEPS = (
    *((0, "assess"), (1, "review"), (1, "implement")),
    *((2, "review"), (2, "implement"), (3, "review"), (3, "verify")),
)
FINAL = ("complete", "incomplete", "cancelled", "blocked")


def start_workflow(server: RunningServer, folder: Path, **more: object) -> str:
    body = {"task": task(), "title": "Two files", "work_dir": str(folder), **more}
    with server.rest() as rest:
        answer = rest.post("/api/workflows", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["workflow_id"]


def workflow(server: RunningServer, workflow_id: str) -> dict[str, Any]:
    with server.rest() as rest:
        return rest.get(f"/api/workflows/{workflow_id}").raise_for_status().json()


async def ended(server: RunningServer, workflow_id: str) -> dict[str, Any]:
    await until(lambda: workflow(server, workflow_id)["state"] in FINAL, timeout_s=90)
    return workflow(server, workflow_id)


@pytest.mark.timeout(150)
async def test_a_task_becomes_a_pull_request(
    start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    gh = StubGh(tmp_path / "gh")
    server = start(gh_bin=str(gh.bin_dir / "gh"))
    places = repository(tmp_path, "https://github.com/acme/thing.git")
    workflow_id = start_workflow(server, places.folder, verify=True, publish="pull_request")
    async with server.operator() as operator:
        (answer,) = await operator.outcome(workflow_id, timeout_s=90)
    assert answer["status"] == "done", answer
    view = workflow(server, workflow_id)
    assert view["state"] == "complete"
    assert tuple((one["cycle"], one["phase"]) for one in view["phases"]) == STEPS
    assert all(one["try_number"] == 1 for one in view["phases"])
    assert (view["milestones"], view["milestones_done"]) == (3, 3)
    branch = view["branch"]
    written = ["Write one.txt", "Write two.txt", "Write one.txt"]
    assert subjects(places.remote, f"main..{branch}") == written
    assert git(places.folder, "status", "--porcelain") == "", "the clone itself is untouched"
    (pull,) = gh.pulls
    assert view["published"]["url"] == pull.url
    assert (pull.base, pull.head) == ("main", branch)
    assert FIX in pull.body


@pytest.mark.timeout(150)
async def test_a_workflow_outlives_its_server(
    start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    places = repository(tmp_path)
    server = start()
    workflow_id = start_workflow(server, places.folder)
    await until(lambda: len(workflow(server, workflow_id)["phases"]) >= 3, timeout_s=60)
    os.kill(server.worker_pid, 9)
    view = await ended(server, workflow_id)
    assert view["state"] == "complete", view
    assert len({(one["cycle"], one["phase"]) for one in view["phases"]}) == len(view["phases"])
    assert view["published"]["pushed"] is True
    assert view["branch"] in git(places.remote, "branch", "--list", view["branch"])


async def test_whoever_waits_hears_that_a_workflow_is_blocked(
    server: RunningServer, tmp_path: Path
) -> None:
    places = repository(tmp_path)
    body = {"task": "! finish No plan.", "work_dir": str(places.folder)}
    async with server.operator() as operator:
        made = await operator.call("create_workflow", **body)
        workflow_id = made["workflow_id"]
        answer = await operator.call("wait_for_jobs", job_ids=[workflow_id], timeout_s=60)
        assert answer["pending"] == [workflow_id]
        assert answer["jobs"][0]["blocked"]["kind"] == "no_plan"
        assert "wait again only after that" in answer["hint"]
        why = await operator.call("why", job_id=workflow_id)
        assert "no milestones" in why["chain"][0]["because"]
        await operator.call("cancel_workflow", workflow_id=workflow_id)
    assert workflow(server, workflow_id)["state"] == "cancelled"
