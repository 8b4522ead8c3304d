"""The server is killed and started again: its agents go on, and nobody loses a result."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from tests.stories.server import RunningServer, until

pytestmark = pytest.mark.anyio


def answer_of(server: RunningServer, job_id: str) -> dict[str, Any]:
    """The job once it is final."""
    with server.rest() as rest:
        params: dict[str, Any] = {"job_id": job_id, "timeout_s": 30}
        answer = rest.get("/api/wait", params=params, timeout=40).raise_for_status().json()
    assert answer["pending"] == [], answer
    return answer["jobs"][0]


def waiting(server: RunningServer) -> list[bool]:
    """Whether each living agent waits, oldest first."""
    with server.rest() as rest:
        return [agent["waiting"] for agent in rest.get("/api/agents").json()["agents"]]


async def release(folder: Path, name: str) -> None:
    """Let the agents go on that wait for this file."""
    await anyio.Path(folder / name).touch()


#: A step that ends when the file `go` appears: the agent works on, whatever the server does.
UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


async def test_a_killed_worker_is_replaced_and_its_agents_go_on(server: RunningServer) -> None:
    async with server.operator() as operator:
        jobs = [await operator.create(UNTIL_GO, f"finish number {i}") for i in range(4)]
        agents = [await server.agent_of(job) for job in jobs]
    worker = server.worker_pid
    os.kill(worker, signal.SIGKILL)
    # The parent holds the socket: whoever comes now is not refused, it only takes longer.
    async with server.operator() as operator:
        for job in jobs:
            assert (await operator.call("get_job", job_id=job))["status"] == "running"
        assert server.worker_pid != worker
        await release(server.work_dir, "go")
        answers = await operator.outcome(*jobs)
    assert [one["result"] for one in answers] == [f"number {i}" for i in range(4)]
    assert [one["attempt"] for one in answers] == [1] * 4
    for agent in agents:
        agent.wait(15)


async def test_an_agent_whose_wait_is_cut_by_the_crash_gets_the_result_by_asking_again(
    server: RunningServer,
) -> None:
    wait = 'call wait_for_jobs {"job_ids": ["${c.job_id}"]} as w'
    child = f"Waits.\\n! {UNTIL_GO}\\n! finish from the child"
    async with server.operator() as operator:
        lead = await operator.create(
            "on_error continue",
            f'call create_job {{"description": "{child}"}} as c',
            wait,
            "sleep 0.5",
            wait,
            "finish ${w.jobs.0.result}",
        )
    await until(lambda: waiting(server) == [True, False])
    worker = server.worker_pid
    os.kill(worker, signal.SIGKILL)
    await until(lambda: server.worker_pid != worker and waiting(server) == [True, False])
    await release(server.work_dir, "go")
    answer = answer_of(server, lead)
    assert (answer["status"], answer.get("result")) == ("done", "from the child"), answer


async def test_a_new_server_adopts_the_living_and_settles_those_that_ended_meanwhile(
    start: Callable[..., RunningServer],
) -> None:
    first = start()
    async with first.operator() as operator:
        living = await operator.create(UNTIL_GO, "finish I lived on")
        ended = await operator.create("sleep 0.3", "say The end.", "exit 0", completion="exit")
        failed = await operator.create("sleep 0.3", "exit 7", completion="exit")
        agent = await first.agent_of(living)
        gone = [await first.agent_of(ended), await first.agent_of(failed)]
    worker = psutil.Process(first.worker_pid)
    first.process.kill()
    worker.kill()
    first.process.wait()
    for process in gone:
        await until(lambda process=process: not process.is_running())

    second = start(port=first.url.rpartition(":")[2])  # where the agents know it
    assert answer_of(second, ended)["result"] == "The end."
    failure = answer_of(second, failed)["failure"]
    assert failure["kind"] == "crashed"
    assert "code 7" in failure["reason"]
    await release(second.work_dir, "go")
    answer = answer_of(second, living)
    assert (answer["result"], answer["attempt"]) == ("I lived on", 1)
    agent.wait(15)


async def test_sigterm_answers_those_who_wait_and_leaves_the_agents(
    start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    first = start()
    async with first.operator() as operator:
        job = await operator.create(UNTIL_GO, "say done", "exit 0", completion="exit")
        agent = await first.agent_of(job)
        answers: list[dict[str, Any]] = []

        async def wait() -> None:
            answers.append(await operator.call("wait_for_jobs", job_ids=[job]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.3)
            first.process.send_signal(signal.SIGTERM)
    assert answers[0]["pending"] == [job]
    assert "restarting" in answers[0]["hint"]
    assert first.process.wait(15) == 0
    assert agent.is_running()
    second = start()
    await release(tmp_path, "go")
    assert answer_of(second, job)["result"] == "done"


def test_a_second_server_on_the_same_data_is_refused(server: RunningServer) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "hurlicane_mcp", "serve", "--port", "0"],
        env={**os.environ, "HURLICANE_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert second.returncode == 1
    assert f"A server at {server.url}" in second.stderr
    assert "hurlicane stop" in second.stderr
    assert "Traceback" not in second.stderr
    with server.rest() as rest:
        assert rest.get("/healthz").status_code == 200


async def test_a_killed_parent_takes_its_worker_along_and_the_port_is_free(
    start: Callable[..., RunningServer],
) -> None:
    """Two servers never hold one database: the orphan drains at once."""
    first = start()
    worker = psutil.Process(first.worker_pid)
    first.process.kill()
    first.process.wait()
    worker.wait(15)
    with pytest.raises(httpx2.ConnectError), first.rest() as rest:
        rest.get("/healthz")
    second = start()
    with second.rest() as rest:
        assert rest.get("/readyz").status_code == 200
