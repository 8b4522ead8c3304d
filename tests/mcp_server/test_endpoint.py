"""What goes over the wire at /mcp: forms of answers, sizes, and answers that nobody hears."""

import anyio
import pytest
from starlette.requests import ClientDisconnect

from hurlicane_mcp.engine.access import OPERATOR, Caller
from hurlicane_mcp.mcp_server.endpoint import MAX_BODY, McpEndpoint
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from tests.factories import running
from tests.mcp_server.wire import Answer, an_agent, call, post, rpc

pytestmark = pytest.mark.anyio


async def children(db: Database, caller: Caller) -> int:
    return len(await db.read(lambda session: jobs.children(session, caller.job_id)))


async def test_the_tool_list_of_an_agent_is_short(db: Database, endpoint: McpEndpoint) -> None:
    """Every byte of it is paid in every agent's context."""
    answer = await post(endpoint, await an_agent(db), rpc("tools/list"))
    names = [tool["name"] for tool in answer.result["tools"]]
    assert names[:2] == ["report_status", "finish_job"]
    assert len(answer.body) <= 20 * 1024


async def test_an_operator_has_no_tools_of_an_attempt(endpoint: McpEndpoint) -> None:
    answer = await post(endpoint, OPERATOR, rpc("tools/list"))
    names = {tool["name"] for tool in answer.result["tools"]}
    assert "create_job" in names
    assert not names & {"report_status", "finish_job"}
    refused = await post(endpoint, OPERATOR, call("finish_job", result="x"))
    assert b"finish_job" in refused.body
    assert b"error" in refused.body.lower()


async def test_quick_tools_answer_as_json_and_blocking_ones_as_a_stream(
    db: Database, endpoint: McpEndpoint
) -> None:
    job, _ = await db.write(running)
    quick = await post(endpoint, OPERATOR, call("get_job", job_id=job.id))
    blocking = await post(endpoint, OPERATOR, call("wait_for_jobs", job_ids=[job.id], timeout_s=0))
    assert (quick.content_type, blocking.content_type) == ("application/json", "text/event-stream")
    assert blocking.result["structuredContent"]["pending"] == [job.id]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_there_is_no_stream_to_open_and_no_session_to_end(
    endpoint: McpEndpoint, method: str
) -> None:
    assert (await post(endpoint, OPERATOR, b"", method=method)).status == 405


async def test_a_huge_request_is_refused(endpoint: McpEndpoint) -> None:
    answer = await post(endpoint, OPERATOR, b" " * (MAX_BODY + 1))
    assert answer.status == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"method": 5}', b"\xff\xfe"])
async def test_what_is_no_request_is_a_client_error(endpoint: McpEndpoint, body: bytes) -> None:
    assert (await post(endpoint, OPERATOR, body)).status == 400


async def test_a_creation_repeated_because_its_answer_was_lost_returns_the_first_job(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    request = call("create_job", description="Only once, please.")
    lost = await post(endpoint, agent, request, is_gone=lambda: True)
    again = await post(endpoint, agent, request)
    ids = {one.result["structuredContent"]["job_id"] for one in (lost, again)}
    assert (len(ids), await children(db, agent)) == (1, 1)


async def test_the_same_creation_after_a_heard_answer_means_another_job(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    for _ in range(2):
        await post(endpoint, agent, call("create_job", description="One of several."))
    assert await children(db, agent) == 2


async def test_once_the_repetition_was_heard_the_same_creation_means_another_job(
    db: Database, endpoint: McpEndpoint
) -> None:
    agent = await an_agent(db)
    request = call("create_job", description="Only once, please.")
    await post(endpoint, agent, request, is_gone=lambda: True)
    await post(endpoint, agent, request)
    assert await children(db, agent) == 1
    await post(endpoint, agent, request)
    assert await children(db, agent) == 2


async def test_identical_creations_side_by_side_are_several_jobs(
    db: Database, endpoint: McpEndpoint
) -> None:
    """Five opinions on one question, say: none of them repeats another."""
    agent = await an_agent(db)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(post, endpoint, agent, call("create_job", description="Think."))
    assert await children(db, agent) == 5


async def test_a_body_nested_without_end_is_a_client_error(endpoint: McpEndpoint) -> None:
    assert (await post(endpoint, OPERATOR, b"[" * 2_000_000)).status == 400


async def test_a_client_that_leaves_before_its_blocking_call_is_whole_is_no_fault_of_ours(
    endpoint: McpEndpoint,
) -> None:
    call_of = {b"mcp-method": b"tools/call", b"mcp-name": b"wait_for_jobs"}
    headers = call_of | {b"mcp-protocol-version": b"2026-07-28"}
    with pytest.raises(ClientDisconnect):  # which the app around it knows
        await post(endpoint, OPERATOR, None, is_gone=lambda: True, more_headers=headers)


async def test_a_stream_that_only_listens_ends_in_order_when_the_server_stops(
    db: Database, endpoint: McpEndpoint
) -> None:
    version = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    wanted = {"toolsListChanged": True}
    request = rpc("subscriptions/listen", notifications=wanted, _meta=meta)
    headers = {b"mcp-method": b"subscriptions/listen", b"mcp-protocol-version": version.encode()}
    answers: list[Answer] = []

    async def hear() -> None:
        answers.append(await post(endpoint, OPERATOR, request, more_headers=headers))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await anyio.sleep(0.3)
        assert answers == []  # it stays open
        db.bell.close()
    assert (answers[0].status, answers[0].content_type) == (200, "text/event-stream")
    assert b"acknowledged" in answers[0].body
