"""The prompts of workflows, for people who work without one."""

import json
from typing import Any

import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store.database import Database
from tests.mcp_server.wire import an_agent, post, rpc

pytestmark = pytest.mark.anyio

NAMES = ["assess", "review", "implement", "verify"]


async def got(endpoint: McpEndpoint, name: str, **arguments: str) -> str:
    """The text of a prompt."""
    answer = await post(endpoint, OPERATOR, rpc("prompts/get", name=name, arguments=arguments))
    (message,) = answer.result["messages"]
    assert message["role"] == "user"
    return message["content"]["text"]


async def refusal(endpoint: McpEndpoint, name: str, **arguments: str) -> dict[str, Any]:
    answer = await post(endpoint, OPERATOR, rpc("prompts/get", name=name, arguments=arguments))
    return json.loads(answer.body)["error"]


async def test_an_operator_is_offered_them_with_what_they_take(endpoint: McpEndpoint) -> None:
    answer = await post(endpoint, OPERATOR, rpc("prompts/list"))
    prompts = answer.result["prompts"]

    assert [one["name"] for one in prompts] == NAMES
    for one in prompts:
        assert one["title"]
        assert one["description"]
        assert [arg["name"] for arg in one["arguments"] if arg["required"]] == ["task"]
        assert all(arg["description"] for arg in one["arguments"])
    assert len(answer.body) < 4 * 1024


async def test_an_agent_pays_nothing_for_them(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    prompts = await post(endpoint, agent, rpc("prompts/list"))
    tools = await post(endpoint, agent, rpc("tools/list"))

    assert prompts.result["prompts"] == []
    assert b"Plan a task" not in tools.body
    assert not {tool["name"] for tool in tools.result["tools"]} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
async def test_a_prompt_is_made_of_the_task_and_needs_no_workflow(
    endpoint: McpEndpoint, name: str
) -> None:
    text = await got(endpoint, name, task="Add `x`.", plan="- [ ] Add x", contract="Use tabs.")

    assert "````text\nAdd `x`.\n````" in text
    assert "- [ ] Add x" in text
    assert "Use tabs." in text
    for word in ("Phase:", "workflow/", "write_note", "read_note", "finish_job"):
        assert word not in text


async def test_a_review_is_of_the_plan_unless_there_are_changes(endpoint: McpEndpoint) -> None:
    plan = await got(endpoint, "review", task="Add x.", plan="- [ ] Add x")
    diff = await got(endpoint, "review", task="Add x.", diff="+x = 1")
    since = await got(endpoint, "review", task="Add x.", since="main")

    assert "Improve the plan" in plan
    assert "Review the changes" in diff
    assert "````diff\n+x = 1\n````" in diff
    assert "(`git diff main HEAD`)" in since


async def test_a_task_that_claude_code_has_cut_at_its_spaces_is_no_plan(
    endpoint: McpEndpoint,
) -> None:
    text = await got(endpoint, "review", task="Write", plan="two", contract="files", diff="with")

    assert "````text\nWrite two files with …\n\n" in text
    assert "`<command-args>`" in text
    for heading in ("## Plan\n", "## Contract\n", "Changes:\n"):
        assert heading not in text


async def test_without_a_task_there_is_no_prompt(endpoint: McpEndpoint) -> None:
    empty, missing = (
        await refusal(endpoint, "assess", task=" "),
        await refusal(endpoint, "assess", plan="- [ ] x"),
    )

    assert empty["message"] == "`task` is empty: say what is to be done."
    assert "task" in missing["message"]
