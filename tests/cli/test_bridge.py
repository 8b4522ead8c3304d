"""`hurlicane mcp` between a client that only speaks stdio and a server that may restart."""

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest
from mcp import Client, StdioServerParameters

from hurlicane_mcp.cli.bridge import REPEATABLE
from tests.cli.command import START, Command
from tests.stories.server import Agent, Mode, RunningServer, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def bridged(server: RunningServer, mode: str, **variables: str) -> AsyncGenerator[Agent]:
    """An MCP client behind a bridge of its own."""
    command = Command(server.data_dir, server.work_dir)
    parameters = StdioServerParameters(
        command=START[0], args=[*START[1:], "mcp"], env={**command.environment, **variables}
    )
    with anyio.fail_after(40):
        async with Client(parameters, mode=cast("Mode", mode)) as client:
            await client.list_tools()
            yield Agent(client)


async def test_the_death_of_the_worker_is_invisible_to_its_client(
    server: RunningServer, mode: str
) -> None:
    async with bridged(server, mode) as client:
        # A header that is missing would make the client fall back, and nobody would notice.
        assert (client.client.protocol_version == "2026-07-28") is (mode == "auto")
        job = await client.create("sleep 1.5", "finish ok")
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                answers.append((await client.outcome(job))[0]["result"])

            tasks.start_soon(wait)
            await server.agent_of(job)
            killed = server.worker_pid
            os.kill(killed, signal.SIGKILL)
            assert (await client.call("get_job", job_id=job))["status"] == "running"
            await client.create("finish second")
            await until(lambda: server.worker_pid != killed)
        assert answers == ["ok"]
        assert len((await client.call("list_jobs"))["jobs"]) == 2


async def test_a_cancelled_call_ends_at_the_server(server: RunningServer, mode: str) -> None:
    """Seen with an agent's token, because only the waits of agents leave a row."""
    async with server.operator() as operator:
        job = await operator.create("hang")
        token = await server.token_of(job)

        def waiting() -> bool:
            agents = rest.get("/api/agents").json()["agents"]
            return any(one["waiting"] for one in agents)

        variables = {"HURLICANE_URL": server.url, "HURLICANE_TOKEN": token}
        with server.rest() as rest:
            async with bridged(server, mode, **variables) as agent:
                child = await agent.create("hang")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(agent.outcome, child)
                    await until(waiting)
                    tasks.cancel_scope.cancel()
                await until(lambda: not waiting())
                assert (await agent.call("get_job", job_id=child))["status"] == "running"


async def test_every_tool_of_an_operator_may_be_repeated(server: RunningServer) -> None:
    async with server.operator() as operator:
        tools = (await operator.client.list_tools()).tools
    assert {tool.name for tool in tools} == REPEATABLE


async def test_what_is_no_message_is_answered_and_the_end_of_input_ends_it(
    server: RunningServer, tmp_path: Path
) -> None:
    bridge = Command(server.data_dir, tmp_path).start("mcp")
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert bridge.stdin is not None
    assert bridge.stdout is not None
    bridge.stdin.write(f"nonsense\n{ping}\n")
    bridge.stdin.flush()
    answers = [json.loads(bridge.stdout.readline()) for _ in range(2)]
    assert answers[0]["error"]["code"] == -32700
    assert answers[1] == {"jsonrpc": "2.0", "id": 1, "result": {}}
    output, errors = bridge.communicate(timeout=10)
    assert (bridge.returncode, output, errors) == (0, "", "")
