"""File locks over HTTP, and the hook that asks before an edit."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hurlicane_mcp.engine.access import Caller, Role
from hurlicane_mcp.engine.lock_requests import Wanted
from hurlicane_mcp.store import jobs
from tests.web.site import Site

pytestmark = pytest.mark.anyio


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


async def an_agent(site: Site, **values: object) -> tuple[Caller, str]:
    """An agent at work, and its token."""
    job, attempt = await site.running_job()
    if values:
        await site.db.write(lambda session: jobs.set_values(session, job.id, **values))
    return Caller(Role.AGENT, job.id, attempt.id), f"token of {attempt.id}"


async def locked(site: Site, agent: Caller, *paths: str) -> list[str]:
    wanted = Wanted(paths, "To mend it", wait=timedelta(0))
    return (await site.services.locks.lock(agent, wanted, no_beat)).locked


async def test_an_operator_lists_locks_and_frees_one(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    agent, _ = await an_agent(site)
    await locked(site, agent, "/r/a", "/r/b")
    found = (await operator.get("/api/locks")).json()["locks"]
    assert [one["path"] for one in found] == ["/r/a", "/r/b"]
    assert {name: found[0][name] for name in ("job_id", "title", "reason")} == {
        "job_id": agent.job_id,
        "title": "A job",
        "reason": "To mend it",
    }
    below = (await operator.get("/api/locks", params={"path": "/r/a/x"})).json()["locks"]
    assert [one["path"] for one in below] == ["/r/a"]
    path = f"/api/locks/{found[0]['lock_id']}"
    assert (await operator.delete(path)).json()["path"] == "/r/a"
    assert (await operator.delete(path)).status_code == 404
    (event,) = (await operator.get("/api/events?kind=lock.released")).json()["events"]
    assert event["data"] == {"by": "operator", "count": 1, "paths": ["/r/a"]}


async def test_agents_use_their_tools_instead(site: Site) -> None:
    agent, token = await an_agent(site)
    await locked(site, agent, "/r/a")
    async with site.client(token) as client:
        assert (await client.get("/api/locks")).status_code == 403
        assert (await client.delete("/api/locks/lock_1")).status_code == 403


def hook(**tool_input: str) -> dict[str, Any]:
    return {"hook_event_name": "PreToolUse", "tool_name": "Edit", "tool_input": tool_input}


async def test_an_edit_without_the_lock_is_denied_with_what_to_do(
    site: Site, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    agent, token = await an_agent(site, enforce_locks=True, work_dir=folder)
    other, _ = await an_agent(site, work_dir=folder)
    await locked(site, other, "taken")
    async with site.client(token) as client:
        for name in ("free", "taken"):
            answer = await client.post(
                "/hooks/claude/edit", json=hook(file_path=f"{folder}/{name}")
            )
            told = answer.json()["hookSpecificOutput"]
            assert (told["hookEventName"], told["permissionDecision"]) == ("PreToolUse", "deny")
            why = told["permissionDecisionReason"]
            assert f"lock of {folder}/{name}" in why
            assert "lock_files" in why
            assert (other.job_id in why) == (name == "taken")
        await locked(site, agent, "nb.ipynb", "src")
        for given in (
            hook(notebook_path=f"{folder}/nb.ipynb"),
            hook(file_path=f"{folder}/src/new/deep.py"),
            {**hook(file_path="src/relative.py"), "cwd": folder},
        ):
            answer = await client.post("/hooks/claude/edit", json=given)
            assert (answer.status_code, answer.json()) == (200, {})


async def test_an_edit_is_denied_if_any_reading_of_what_it_names_is_not_locked(
    site: Site, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    agent, token = await an_agent(site, enforce_locks=True, work_dir=folder)
    await locked(site, agent, ".")
    async with site.client(token) as client:
        for given in (
            hook(file_path="~/elsewhere"),
            hook(file_path=" /elsewhere"),
            hook(file_path=f"{folder}/a", notebook_path="/elsewhere"),
        ):
            answer = await client.post("/hooks/claude/edit", json={**given, "cwd": folder})
            assert "elsewhere" in answer.json()["hookSpecificOutput"]["permissionDecisionReason"]


async def test_a_job_that_does_not_enforce_locks_edits_what_it_wants(site: Site) -> None:
    _, token = await an_agent(site)
    async with site.client(token) as client:
        answer = await client.post("/hooks/claude/edit", json=hook(file_path="/r/a"))
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"tool_input": {"file_path": ""}}'])
async def test_what_cannot_be_judged_is_an_error_and_no_permission(
    site: Site, body: bytes, operator: httpx2.AsyncClient
) -> None:
    _, token = await an_agent(site, enforce_locks=True)
    async with site.client(token) as client:
        assert (await client.post("/hooks/claude/edit", content=body)).status_code == 422
    assert (await operator.post("/hooks/claude/edit", content=body)).status_code == 403


async def test_a_stale_attempt_is_told_to_stop_instead_of_editing(site: Site) -> None:
    agent, token = await an_agent(site, enforce_locks=True)
    await site.db.write(lambda session: jobs.set_values(session, agent.job_id, attempt=2))
    async with site.client(token) as client:
        answer = await client.post("/hooks/claude/edit", json=hook(file_path="/r/a"))
    told = answer.json()
    assert told["continue"] is False
    assert told["hookSpecificOutput"]["permissionDecision"] == "deny"  # the edit is not made either


async def test_a_job_can_be_created_with_locks_enforced(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    body = {"description": "Do it.", "enforce_locks": True}
    answer = (await operator.post("/api/jobs", json=body)).json()
    assert answer["note"].startswith("scripted cannot be made to ask before it edits")
    job = await site.db.read(lambda session: jobs.get(session, answer["job_id"]))
    assert job.enforce_locks
