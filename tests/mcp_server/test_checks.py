"""finish_job of a job with checks, as it goes over the wire."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from tests.engine.checking import checked, pid_in
from tests.fakes import FakeClock
from tests.mcp_server.wire import Answer, an_agent, call, post, rpc
from tests.stories.server import until
from tests.supervision.agents import is_gone

pytestmark = pytest.mark.anyio

FINISH = call("finish_job", result="Done.")
SLOW = {"command": "echo $$ > pid; echo x >> runs; until [ -e go ]; do sleep 0.05; done"}


async def status(db: Database, job_id: str) -> str:
    return (await db.read(lambda session: jobs.get(session, job_id))).status


async def test_a_check_that_fails_is_a_tool_error_in_a_stream(
    db: Database, endpoint: McpEndpoint, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, {"command": "echo no such target; exit 2"})
    answer = await post(endpoint, agent, FINISH)
    assert (answer.content_type, answer.result["isError"]) == ("text/event-stream", True)
    assert answer.result["content"][0]["text"].endswith(
        "checks_failed: 1 of 1 checks failed.\n\n"
        "`echo no such target; exit 2` failed: Exit code 2.\n"
        "The end of its output:\nno such target\n\n"
        "The job is not finished. Mend this, then call finish_job again: 2 tries are left."
    )


async def test_without_checks_the_answer_is_quick_json(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    answer = await post(endpoint, agent, FINISH)
    assert answer.content_type == "application/json"
    assert answer.result["structuredContent"]["status"] == "done"


async def test_the_stream_tells_what_runs(
    db: Database, endpoint: McpEndpoint, clock: FakeClock, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, "clean_tree", SLOW)
    request = rpc(
        "tools/call",
        name="finish_job",
        arguments={"result": "Done."},
        _meta={"progressToken": "mine"},
    )
    answers: list[Answer] = []

    async def hear() -> None:
        answers.append(await post(endpoint, agent, request))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await pid_in(tmp_path / "pid")
        await clock.advance(timedelta(seconds=40))
        (tmp_path / "go").touch()
    text = answers[0].body.decode()
    assert text.count("notifications/progress") == 2
    assert "check 2 of 2 runs: `echo $$ > pid;" in text


async def test_a_client_that_hangs_up_ends_the_checks(
    db: Database, endpoint: McpEndpoint, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    gone = anyio.Event()

    async def hang_up() -> None:
        await post(endpoint, agent, FINISH, is_gone=gone.is_set)

    pid = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang_up)
        pid = await pid_in(tmp_path / "pid")
        gone.set()
    await until(lambda: is_gone(pid))
    assert await status(db, agent.job_id) == "running"
    (tmp_path / "go").touch()
    again = await post(endpoint, agent, FINISH)
    assert again.result["structuredContent"]["status"] == "done"


async def test_of_two_calls_at_once_the_second_hears_that_the_first_has_ended_the_job(
    db: Database, endpoint: McpEndpoint, tmp_path: Path
) -> None:
    agent = await checked(db, tmp_path, SLOW)
    answers: list[Answer] = []

    async def hear() -> None:
        answers.append(await post(endpoint, agent, FINISH))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await pid_in(tmp_path / "pid")
        tasks.start_soon(hear)
        await anyio.sleep(0.2)
        (tmp_path / "go").touch()
    notes = [answer.result["structuredContent"]["note"] for answer in answers]
    assert sorted("already" in note for note in notes) == [False, True]
    assert (tmp_path / "runs").read_text() == "x\n"


async def test_a_job_is_created_with_its_checks_and_children_have_their_own(
    db: Database, endpoint: McpEndpoint, tmp_path: Path
) -> None:
    written = ["clean_tree", {"command": ["make", "test"], "time_limit_s": 300}]
    agent = await checked(db, tmp_path, "diff_not_empty")

    async def made(**arguments: object) -> list[object]:
        answer = await post(endpoint, agent, call("create_job", **arguments))
        job_id = answer.result["structuredContent"]["job_id"]
        job = await db.read(lambda session: jobs.get(session, job_id))
        return [*job.checks, job.check_tries]

    assert await made(description="Checked.", checks=written, check_tries=5) == [*written, 5]
    assert await made(description="Free.") == [3]


async def test_a_wrong_check_is_refused_with_what_is_allowed(endpoint: McpEndpoint) -> None:
    request = call("create_job", description="x", checks=["clean-tree"])
    answer = await post(endpoint, OPERATOR, request)
    text = answer.result["content"][0]["text"]
    assert "invalid: `checks` entry 1 is 'clean-tree', which is no check. Allowed: " in text
