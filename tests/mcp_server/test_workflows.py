"""Workflows as agents and operators meet them over MCP."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.mcp_server.workflows import SHOWN
from hurlicane_mcp.store import jobs, workflows
from hurlicane_mcp.store.database import Database
from tests.factories import add_job, running
from tests.fakes import BEGINNING
from tests.git.checkouts import Checkout
from tests.mcp_server.wire import call, post

pytestmark = pytest.mark.anyio


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return Checkout.beside(tmp_path).top


async def an_agent(db: Database, repo: Path, **values: Any) -> Caller:
    job, attempt = await db.write(lambda s: running(s, work_dir=str(repo), **values))
    return Caller(Role.AGENT, job.id, attempt.id)


async def asked(
    endpoint: McpEndpoint, caller: Caller, tool: str, **arguments: Any
) -> dict[str, Any]:
    result = (await post(endpoint, caller, call(tool, **arguments))).result
    assert not result.get("isError"), result
    return result["structuredContent"]


async def refused(endpoint: McpEndpoint, caller: Caller, tool: str, **arguments: Any) -> str:
    result = (await post(endpoint, caller, call(tool, **arguments))).result
    assert result["isError"], result
    return result["content"][0]["text"]


async def test_a_creation_says_who_reviews_and_why_and_what_to_wait_for(
    endpoint: McpEndpoint, repo: Path
) -> None:
    wish: dict[str, Any] = {
        "task": "# Build it\nAll of it.",
        "work_dir": str(repo),
        "implementer": "scripted:big",
        "reviewer": "scripted:small",
        "stops": {"implement": {"stop_mode": "turns", "stop_value": 50}},
        "checks": ["clean_tree"],
        "budget_usd": 2.5,
        "verify": True,
        "publish": "pull_request",
    }
    made = await asked(endpoint, OPERATOR, "create_workflow", **wish)
    assert (made["title"], made["status"], made["state"]) == ("Build it", "running", "running")
    assert (made["reviewer"], made["reviewer_why"]) == ("scripted:small", "It was asked for.")
    assert made["branch"].startswith("hurlicane/build-it-")
    assert "wait_for_jobs" in made["hint"]
    workflow_id = made["workflow_id"]
    waited = await asked(endpoint, OPERATOR, "wait_for_jobs", job_ids=[workflow_id], timeout_s=0)
    assert waited["pending"] == [workflow_id]
    view = await asked(endpoint, OPERATOR, "get_workflow", workflow_id=workflow_id)
    assert (view["implementer"], view["publish"], view["verify"]) == (
        *("scripted:big", "pull_request", True),
    )
    assert float(view["budget_usd"]) == 2.5
    assert [(one["cycle"], one["phase"]) for one in view["phases"]] == [(0, "assess")]


async def test_an_agent_creates_within_its_budget_and_sees_only_what_is_below_its_job(
    db: Database, endpoint: McpEndpoint, repo: Path
) -> None:
    bound = {"stop_mode": "budget", "stop_value": Decimal(1)}
    agent = await an_agent(db, repo, **bound)
    await db.write(lambda s: jobs.set_values(s, agent.job_id, payer_id=agent.job_id))
    text = await refused(endpoint, agent, "create_workflow", task="Build it.", budget_usd=2)
    assert "asks for $2.00" in text
    mine = await asked(endpoint, agent, "create_workflow", task="Build it.", budget_usd=0.5)
    wish = {"task": "Another.", "work_dir": str(repo)}
    other = (await asked(endpoint, OPERATOR, "create_workflow", **wish))["workflow_id"]
    found = (await asked(endpoint, agent, "list_workflows"))["workflows"]
    assert [one["workflow_id"] for one in found] == [mine["workflow_id"]]
    for tool in ("get_workflow", "resume_workflow", "cancel_workflow"):
        assert other in await refused(endpoint, agent, tool, workflow_id=other)
    found = (await asked(endpoint, OPERATOR, "list_workflows"))["workflows"]
    assert [one["workflow_id"] for one in found] == [other, mine["workflow_id"]]


async def test_a_creation_repeated_because_its_answer_was_lost_returns_the_first_workflow(
    db: Database, endpoint: McpEndpoint, repo: Path
) -> None:
    agent = await an_agent(db, repo)
    request = call("create_workflow", task="Only once, please.")
    lost = await post(endpoint, agent, request, is_gone=lambda: True)
    again = await post(endpoint, agent, request)
    ids = {one.result["structuredContent"]["workflow_id"] for one in (lost, again)}
    assert len(ids) == 1
    heard = await post(endpoint, agent, request)
    assert heard.result["structuredContent"]["workflow_id"] not in ids


async def test_bounds_and_checks_that_cannot_be_read_are_refused_with_their_form(
    endpoint: McpEndpoint, repo: Path
) -> None:
    wish = {"task": "Build it.", "work_dir": str(repo)}
    stops: dict[str, Any] = {"publish": {"stop_mode": "turns", "stop_value": 5}}
    text = await refused(endpoint, OPERATOR, "create_workflow", **wish, stops=stops)
    assert '{"implement": {"stop_mode": "turns", "stop_value": 50}}' in text
    text = await refused(endpoint, OPERATOR, "create_workflow", **wish, checks=["tidy"])
    assert "tidy" in text


async def test_a_workflow_that_is_not_blocked_cannot_be_resumed_and_a_cancelled_one_is_over(
    endpoint: McpEndpoint, repo: Path
) -> None:
    wish = {"task": "Build it.", "work_dir": str(repo)}
    name = {
        "workflow_id": (await asked(endpoint, OPERATOR, "create_workflow", **wish))["workflow_id"]
    }
    assert "is running (assess, cycle 0)" in await refused(
        endpoint, OPERATOR, "resume_workflow", **name
    )
    ended = await asked(endpoint, OPERATOR, "cancel_workflow", **name, reason="No need.")
    assert ended == {**name, "status": "cancelled"}
    view = await asked(endpoint, OPERATOR, "get_workflow", **name)
    assert (view["state"], view["failure"]["reason"]) == (
        *("cancelled", "Cancelled by an operator: No need."),
    )
    assert (await asked(endpoint, OPERATOR, "list_workflows", state=["running"]))["workflows"] == []
    assert "is cancelled, which is final" in await refused(
        endpoint, OPERATOR, "resume_workflow", **name
    )


async def test_of_many_phases_the_newest_are_told_and_where_the_others_are(
    db: Database, endpoint: McpEndpoint, repo: Path
) -> None:
    wish = {"task": "Build it.", "work_dir": str(repo)}
    workflow_id = (await asked(endpoint, OPERATOR, "create_workflow", **wish))["workflow_id"]

    def many_cycles(session: Session) -> None:
        workflow, parent = workflows.get(session, workflow_id), jobs.get(session, workflow_id)
        for cycle in range(1, SHOWN + 3):
            job = add_job(session, parent=parent, provider="scripted")
            values = {"cycle": cycle, "phase": "review", "try_number": 1, "job_id": job.id}
            workflows.begin(session, workflow, {**values, "started_at": BEGINNING})

    await db.write(many_cycles)
    view = await asked(endpoint, OPERATOR, "get_workflow", workflow_id=workflow_id)
    assert [one["cycle"] for one in view["phases"]] == list(range(3, SHOWN + 3))
    assert "first 3 phases" in view["hint"]
    listed = await asked(endpoint, OPERATOR, "list_jobs", parent_id=workflow_id)
    assert len(listed["jobs"]) == SHOWN + 3
