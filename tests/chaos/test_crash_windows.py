"""Moments between two steps that chance seldom meets: each is brought about on purpose."""

import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.wire import tool_call
from tests.stories.server import RunningServer

Start = Callable[..., RunningServer]

UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"
HANGS_UP = 300


def create(server: RunningServer, *steps: str) -> str:
    """The id of a new job whose scripted agent follows *steps*."""
    description = "\n".join(("A rehearsal.", *(f"! {step}" for step in steps)))
    with server.rest() as rest:
        created = rest.post("/api/jobs", json={"description": description}).raise_for_status()
    return created.json()["job_id"]


def job_of(server: RunningServer, job_id: str, part: str = "") -> dict[str, Any]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job_id}{part}").raise_for_status().json()


def eventually(condition: Callable[[], Any], timeout_s: float = 15) -> Any:
    """What *condition* answers as soon as that is true."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def agents_of(attempt: str) -> list[psutil.Process]:
    """The living processes of an attempt."""
    return [one for one in psutil.process_iter() if _marker(one) == attempt]


def _marker(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.environ().get("HURLICANE_ATTEMPT")
    return None


def kill(server: RunningServer) -> None:
    """The whole server at once, as when memory runs out."""
    worker = psutil.Process(server.worker_pid)
    server.process.kill()
    worker.kill()
    server.process.wait()
    worker.wait(10)


@pytest.fixture(autouse=True)
def no_agent_is_left(tmp_path: Path) -> Iterator[None]:
    """Agents that their server has lost sight of must not outlive the test."""
    yield
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if _marker(process) and process.cwd() == str(tmp_path):
                process.kill()


def test_a_server_that_starts_while_the_last_one_is_leaving_waits_for_it(start: Start) -> None:
    """A client in the middle of a request, a frozen one say, keeps the last worker for 5 s."""
    first = start()
    port = int(first.url.rpartition(":")[2])
    head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {first.token}\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        time.sleep(0.5)  # the worker reads it
        first.process.kill()
        first.process.wait()
        second = start(port=str(port))
    with second.rest() as rest:
        assert rest.get("/healthz").status_code == 200


def test_an_agent_whose_run_directory_is_gone_is_not_doubled(start: Start) -> None:
    first = start()
    job_id = create(first, UNTIL_GO, "finish once")
    eventually(lambda: job_of(first, job_id, "/attempts")["attempts"][0].get("pid"))
    kill(first)
    shutil.rmtree(first.data_dir / "runs" / f"{job_id}.1")
    second = start()
    create(second, "finish")  # what the queue holds before it has been started by its end
    eventually(lambda: job_of(second, job_id)["status"] != "queued")
    time.sleep(1)
    assert not (agents_of(f"{job_id}.1") and agents_of(f"{job_id}.2"))


def test_an_agent_that_was_started_is_supervised_whatever_fails_next(
    server: RunningServer,
) -> None:
    (server.work_dir / ".git").write_bytes(b"gitdir: \xff\xfe")  # reading the branch fails
    job_id = create(server, UNTIL_GO, "finish once")
    eventually(lambda: agents_of(f"{job_id}.1"))
    time.sleep(1)
    attempt = job_of(server, job_id, "/attempts")["attempts"][0]
    assert attempt.get("ended_at") is None or not agents_of(f"{job_id}.1")


def test_a_wait_whose_client_hangs_up_at_once_is_closed(server: RunningServer) -> None:
    call = f'call create_job {{"description": "Waits.\\n! {UNTIL_GO}"}} as c'
    lead = create(server, call, UNTIL_GO, "finish")
    child = eventually(lambda: job_of(server, lead).get("children"))[0]
    agent = eventually(lambda: agents_of(f"{lead}.1"))[0]
    port, token = int(server.url.rpartition(":")[2]), agent.environ()["HURLICANE_TOKEN"]
    request = tool_call(port, token, "wait_for_jobs", f'{{"job_ids": ["{child}"]}}')
    for _ in range(HANGS_UP):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request)
            time.sleep(random.uniform(0, 0.012))
    time.sleep(1)
    with server.rest() as rest:
        agents = rest.get("/api/agents").json()["agents"]
    assert [one["waiting"] for one in agents] == [False, False]


def test_an_operator_token_that_was_never_written_is_made_anew(
    start: Start, tmp_path: Path
) -> None:
    """The first start died after it had created the file."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "operator.token").touch(0o600)
    with start().rest() as rest:
        assert rest.get("/api/jobs").status_code == 200
