"""The tools about file locks, over the wire."""

import anyio
import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store import locks, waits
from hurlicane_mcp.store.database import Database
from tests.mcp_server.wire import Answer, an_agent, call, post, rpc

pytestmark = pytest.mark.anyio


async def test_locks_are_taken_seen_and_released(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    taken = await post(endpoint, agent, call("lock_files", paths=["b", "a"], reason="To mend it"))
    assert taken.content_type == "text/event-stream"
    paths = ["/project/a", "/project/b"]
    assert taken.result["structuredContent"] == {"locked": paths, "ttl_s": 600}
    for caller in (agent, OPERATOR):
        seen = await post(endpoint, caller, call("check_file_locks"))
        found = seen.result["structuredContent"]["locks"]
        assert [one["path"] for one in found] == paths
        assert {(one["job_id"], one["reason"]) for one in found} == {(agent.job_id, "To mend it")}
    freed = await post(endpoint, agent, call("release_files", paths=["b"]))
    assert freed.result["structuredContent"] == {"released": ["/project/b"]}
    (row,) = await db.read(locks.held)
    assert row.path == "/project/a"


async def test_of_very_many_locks_an_answer_tells_what_fits(
    db: Database, endpoint: McpEndpoint
) -> None:
    first, second = await an_agent(db), await an_agent(db)
    for part in range(5):
        paths = [f"{part}/{number}-{'x' * 80}" for number in range(200)]
        await post(endpoint, first, call("lock_files", paths=paths))
    refused = await post(endpoint, second, call("lock_files", paths=["."], wait_s=0))
    told = refused.result["structuredContent"]
    assert (len(told["held_by"]), told["more_holders"]) == (20, 980)
    seen = (await post(endpoint, second, call("check_file_locks"))).result
    assert len(seen["content"][0]["text"]) < 64 * 1024
    shown = len(seen["structuredContent"]["locks"])
    assert f"{1000 - shown} more locks" in seen["structuredContent"]["hint"]
    freed = (await post(endpoint, first, call("release_files"))).result["structuredContent"]
    assert len(freed["released"]) + freed["more_released"] == 1000
    assert await db.read(locks.held) == []


async def test_a_call_that_waits_is_answered_when_the_files_are_free(
    db: Database, endpoint: McpEndpoint
) -> None:
    first, second = await an_agent(db), await an_agent(db)
    await post(endpoint, first, call("lock_files", paths=["a"]))
    answers: list[Answer] = []

    async def wait() -> None:
        answers.append(await post(endpoint, second, call("lock_files", paths=["a"])))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with anyio.fail_after(20):
            while not await db.read(waits.open_waits):  # noqa: ASYNC110  (rows)
                await anyio.sleep(0.01)
        await post(endpoint, first, call("release_files"))
    assert answers[0].result["structuredContent"]["locked"] == ["/project/a"]


async def test_who_does_not_wait_and_who_closes_a_circle_reads_why(
    db: Database, endpoint: McpEndpoint
) -> None:
    first, second = await an_agent(db), await an_agent(db)
    await post(endpoint, first, call("lock_files", paths=["a"]))
    refused = await post(endpoint, second, call("lock_files", paths=["a"], wait_s=0))
    told = refused.result["structuredContent"]
    assert told["locked"] == []
    assert [one["job_id"] for one in told["held_by"]] == [first.job_id]
    bad = await post(endpoint, second, call("lock_files", paths=[], ttl_s=10**9))
    assert bad.result["isError"]
    assert "invalid: `paths` must name 1 to 200" in bad.result["content"][0]["text"]


async def test_operators_look_and_agents_lock(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    names = {
        who.name: {
            tool["name"] for tool in (await post(endpoint, who, rpc("tools/list"))).result["tools"]
        }
        for who in (agent, OPERATOR)
    }
    tools = {"lock_files", "release_files", "check_file_locks"}
    assert names[agent.name] & tools == tools
    assert names["operator"] & tools == {"check_file_locks"}
    relative = await post(endpoint, OPERATOR, call("check_file_locks", paths=["a"]))
    assert "absolute" in relative.result["content"][0]["text"]
