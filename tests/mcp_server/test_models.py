"""The tools about models, which operators have and agents do not."""

from typing import Any

import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store.database import Database
from tests.mcp_server.wire import an_agent, call, post, rpc

pytestmark = pytest.mark.anyio

TOOLS = {"list_models", "set_model_limit", "clear_model_limit"}


async def answer(endpoint: McpEndpoint, tool: str, **arguments: Any) -> Any:
    return (await post(endpoint, OPERATOR, call(tool, **arguments))).result


async def gate(endpoint: McpEndpoint, name: str) -> str:
    found = (await answer(endpoint, "list_models"))["structuredContent"]["models"]
    return next(model["gate"] for model in found if model["name"] == name)


async def test_an_operator_limits_a_model_and_lets_it_be_used_again(
    endpoint: McpEndpoint,
) -> None:
    until = "2026-01-01T18:00:00+01:00"
    limited = await answer(
        endpoint, "set_model_limit", model="opus", until=until, reason="Too dear."
    )
    assert limited["structuredContent"]["until"] == "2026-01-01T17:00:00Z"
    assert await gate(endpoint, "claude:claude-opus-5-5") == "open"
    cleared = await answer(endpoint, "clear_model_limit", model="claude:opus")
    assert cleared["structuredContent"]["evidence"] == "Too dear."
    assert await gate(endpoint, "claude:claude-opus-5-5") == "closed"


async def test_what_cannot_be_is_told_in_a_sentence(endpoint: McpEndpoint) -> None:
    refused = await answer(endpoint, "set_model_limit", model="*", for_s=60)
    assert refused["isError"]
    assert "invalid: `model` '*' is a different one" in refused["content"][0]["text"]
    missing = await answer(endpoint, "clear_model_limit", model="opus")
    assert "not_found" in missing["content"][0]["text"]


async def test_agents_have_none_of_these_tools(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    listed = (await post(endpoint, agent, rpc("tools/list"))).result["tools"]
    assert not TOOLS & {tool["name"] for tool in listed}
    operators = (await post(endpoint, OPERATOR, rpc("tools/list"))).result["tools"]
    assert {tool["name"] for tool in operators} >= TOOLS
    refused = await post(endpoint, agent, call("set_model_limit", model="opus"))
    assert b"error" in refused.body.lower()
    assert await gate(endpoint, "claude:claude-opus-5-5") == "closed"
