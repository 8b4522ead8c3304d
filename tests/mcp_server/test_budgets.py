"""Budgets as agents meet them: a refusal says what is left and what to do."""

from decimal import Decimal

import pytest

from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from tests.factories import claim
from tests.mcp_server.wire import call, post

pytestmark = pytest.mark.anyio


async def test_a_child_that_asks_for_more_than_is_left_is_refused_with_the_figures(
    db: Database, endpoint: McpEndpoint
) -> None:
    asked = call("create_job", description="Lead.", stop_mode="budget", stop_value=1.5)
    lead = (await post(endpoint, OPERATOR, asked)).result["structuredContent"]["job_id"]
    attempt = await db.write(lambda session: claim(session, lead))
    agent = Caller(Role.AGENT, lead, attempt.id)
    await db.write(lambda s: jobs.set_values(s, lead, cost_usd=Decimal("0.25")))
    wish = call("create_job", description="x", stop_mode="budget", stop_value=1.3)
    refused = (await post(endpoint, agent, wish)).result
    assert refused["isError"]
    assert "$0.25 are spent" in refused["content"][0]["text"]
    assert "Ask for $1.25 at most" in refused["content"][0]["text"]
    wish = call(
        "create_job", description="x", stop_mode="budget", stop_value=1.25, fallback=["small"]
    )
    made = (await post(endpoint, agent, wish)).result["structuredContent"]
    child = await db.read(lambda session: jobs.get(session, made["job_id"]))
    assert (child.stop_value, child.payer_id) == (Decimal("1.25"), child.id)
    assert child.chain == ["scripted:", "scripted:small"]
