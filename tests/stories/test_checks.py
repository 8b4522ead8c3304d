"""Jobs with completion checks, from the agent that mends its work to the server that is killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.engine.checking import commit, git, pid_in
from tests.stories.server import RunningServer, until
from tests.supervision.agents import is_gone

pytestmark = pytest.mark.anyio

#: Writes its pid anew at each run, and ends well once the file `go` is there.
UNTIL_GO = "echo $$ > pid; echo x >> runs; until [ -e go ]; do sleep 0.05; done"


def get(server: RunningServer, job_id: str) -> dict[str, Any]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job_id}").raise_for_status().json()


def outcome(server: RunningServer, job_id: str) -> dict[str, Any]:
    """The job once it is final."""
    with server.rest() as rest:
        params: dict[str, Any] = {"job_id": job_id, "timeout_s": 40}
        rest.get("/api/wait", params=params, timeout=50).raise_for_status()
    return get(server, job_id)


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text(encoding="utf-8").split()) if path.exists() else 0


async def test_an_agent_mends_its_work_after_a_failed_check(
    server: RunningServer, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, "what was there before")
    checks = ["clean_tree", "diff_not_empty", "no_error_in_output", {"command": "test -e fix.txt"}]
    async with server.operator() as operator:
        job = await operator.create(
            'call finish_job {"result": "Nothing done."} expect_error checks_failed',
            'edit draft.txt "not committed"',
            'call finish_job {"result": "Too early."} expect_error checks_failed',
            "run rm draft.txt",
            'commit fix.txt "mended" "Fix it"',
            "finish Now it holds.",
            work_dir=str(folder),
            checks=checks,
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "Now it holds.", 1)
    view = get(server, job)
    assert view["checks_failed"] == "2 of 3"
    assert "2 of 4 checks failed" in view["checks_told"]
    assert "?? draft.txt" in view["checks_told"]


async def test_an_agent_that_cannot_mend_it_fails_the_job(server: RunningServer) -> None:
    refused = 'call finish_job {"result": "Done?"} expect_error checks_failed'
    async with server.operator() as operator:
        job = await operator.create(refused, refused, checks=[{"command": "false"}], check_tries=2)
        (answer,) = await operator.outcome(job)
    assert (answer["failure"]["kind"], answer["result"]) == ("checks", "Done?")
    assert "`false` failed: Exit code 1." in answer["failure"]["reason"]


async def test_a_worker_that_is_killed_leaves_no_check_and_the_repeated_call_runs_them_anew(
    server: RunningServer,
) -> None:
    pid = server.work_dir / "pid"
    async with server.operator() as operator:
        job = await operator.create(
            "on_error continue",
            'call finish_job {"result": "Lost."}',
            "sleep 0.5",
            "finish Heard.",
            checks=[{"command": UNTIL_GO}],
        )
    first = await pid_in(pid)
    os.kill(server.worker_pid, signal.SIGKILL)
    await until(lambda: is_gone(first))
    await until(lambda: runs(server.work_dir) == 2)
    await anyio.Path(server.work_dir / "go").touch()
    answer = outcome(server, job)
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "Heard.", 1), answer
    assert answer["checks_failed"] == "0 of 3"


async def test_without_any_server_a_check_is_ended_when_its_time_is_up(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        check = {"command": UNTIL_GO, "time_limit_s": 3}
        await operator.create("finish Never.", checks=[check])
    pid = await pid_in(server.work_dir / "pid")
    worker = psutil.Process(server.worker_pid)
    server.process.kill()
    worker.kill()
    assert not is_gone(pid)
    await until(lambda: is_gone(pid))


async def test_a_cancelled_job_leaves_no_check(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create("finish Never.", checks=[{"command": UNTIL_GO}])
        pid = await pid_in(server.work_dir / "pid")
        why = await operator.call("why", job_id=job)
        assert why["chain"][0]["because"].startswith("Its checks run: `echo $$")
        await operator.call("cancel_job", job_id=job)
        await until(lambda: is_gone(pid))
        (answer,) = await operator.outcome(job)
    assert answer["status"] == "cancelled"


async def test_sigterm_ends_the_checks_and_the_next_server_runs_them_anew(
    start: Callable[..., RunningServer],
) -> None:
    first = start()
    async with first.operator() as operator:
        job = await operator.create(
            'call finish_job {"result": "a"} as told',
            "say ${told.note}",
            "run sh -c 'until [ -e restarted ]; do sleep 0.05; done'",
            "finish b",
            checks=[{"command": UNTIL_GO}],
        )
    pid = await pid_in(first.work_dir / "pid")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    assert is_gone(pid)
    second = start(port=first.url.rpartition(":")[2])  # where the agent knows it
    (second.work_dir / "restarted").touch()
    await until(lambda: runs(second.work_dir) == 2)
    (second.work_dir / "go").touch()
    assert outcome(second, job)["result"] == "b"


async def test_checks_of_a_job_that_ends_by_its_exit_run_then_and_a_failure_is_retried(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create(
            "run sh -c 'echo x >> runs'",
            "say My last words.",
            completion="exit",
            checks=[{"command": '[ "$(wc -l < runs)" -ge 2 ]'}],
            retry_policy="same",
            max_retries=1,
        )
        lost = await operator.create("say No.", completion="exit", checks=[{"command": "false"}])
        good, bad = await operator.outcome(job, lost)
    assert (good["status"], good["result"], good["attempt"]) == ("done", "My last words.", 2)
    assert (bad["status"], bad["failure"]["kind"], bad["result"]) == ("failed", "checks", "No.")


async def test_a_server_that_starts_does_not_wait_for_the_checks_of_an_agent_that_has_exited(
    start: Callable[..., RunningServer],
) -> None:
    first = start()
    async with first.operator() as operator:
        job = await operator.create("say Mine.", completion="exit", checks=[{"command": UNTIL_GO}])
    pid = await pid_in(first.work_dir / "pid")
    assert get(first, job)["presence"]["why"] == "waits for its checks"
    worker = psutil.Process(first.worker_pid)
    first.process.kill()
    worker.kill()
    first.process.wait()
    second = start()
    assert is_gone(pid)
    await until(lambda: runs(second.work_dir) == 2)
    assert get(second, job)["status"] == "running"
    (second.work_dir / "go").touch()
    answer = outcome(second, job)
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "Mine.", 1)
