"""Agents die, fall silent or lose us; their jobs go on, and whoever waits hears the truth."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.stories.server import RunningServer, until

pytestmark = pytest.mark.anyio

UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


def attempts_of(server: RunningServer, job: str) -> Sequence[dict[str, Any]]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job}/attempts").raise_for_status().json()["attempts"]


def outcomes(server: RunningServer, job: str) -> list[str]:
    return [attempt["outcome"] for attempt in attempts_of(server, job)]


def prompt_of(server: RunningServer, job: str, attempt: int) -> str:
    return Path(server.data_dir, "runs", f"{job}.{attempt}", "stdin").read_text(encoding="utf-8")


async def test_a_killed_agent_goes_on_in_its_session_and_repeats_no_work(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create(
            "run sh -c 'echo once >> work'",
            "run touch noted",  # by now the step before is in the session's file
            UNTIL_GO,
            "finish mended",
        )
        agent = await server.agent_of(job)
        await until((server.work_dir / "noted").exists)
        agent.kill()
        await until(lambda: len(attempts_of(server, job)) == 2)
        await anyio.Path(server.work_dir / "go").touch()
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["attempt"]) == ("done", 2), answer
    assert (server.work_dir / "work").read_text(encoding="utf-8") == "once\n"
    first, second = attempts_of(server, job)
    assert first["outcome"] == "crashed"
    assert "SIGKILL" in first["failure"]["reason"]
    assert first["session_id"] == second["session_id"]
    assert "SIGKILL" in prompt_of(server, job, 2)


async def test_an_agent_that_crashes_again_and_again_fails_its_job_with_the_cause(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        began = time.monotonic()
        job = await operator.create("print boom", "exit 3", "on_resume", "exit 4")
        await until(lambda: len(attempts_of(server, job)) == 2)
        with server.rest() as rest:
            await until(lambda: rest.get(f"/api/jobs/{job}").json()["status"] == "queued")
            parked = rest.get(f"/api/jobs/{job}").json()
        assert parked["not_before"] > parked["started_at"]
        (answer,) = await operator.outcome(job)
    assert answer["failure"]["kind"] == "crash_loop"
    assert "3 times within 10 minutes" in answer["failure"]["reason"]
    assert "The agent exited with code" in answer["failure"]["reason"]
    assert outcomes(server, job) == ["crashed", "crashed", "failed"]
    assert time.monotonic() - began >= 10  # the second restart waited


async def test_a_parent_killed_inside_its_wait_goes_on_with_the_results_when_they_are_there(
    server: RunningServer,
) -> None:
    child = f"Waits.\\n! {UNTIL_GO}\\n! finish from the child"
    async with server.operator() as operator:
        lead = await operator.create(
            f'call create_job {{"description": "{child}"}} as c',
            'call wait_for_jobs {"job_ids": ["${c.job_id}"]} as w',
            "finish never",
            "on_resume",
            "finish I was told",
        )
        agent = await server.agent_of(lead)
        with server.rest() as rest:
            await until(
                lambda: (
                    [one["waiting"] for one in rest.get("/api/agents").json()["agents"]]
                    == [True, False]
                )
            )
            agent.kill()
            await until(lambda: rest.get(f"/api/jobs/{lead}").json()["status"] == "queued")
        await anyio.sleep(0.5)
        assert len(attempts_of(server, lead)) == 1  # nothing to tell it yet
        await anyio.Path(server.work_dir / "go").touch()
        (answer,) = await operator.outcome(lead)
    assert (answer["result"], answer["attempt"]) == ("I was told", 2)
    assert "from the child" in prompt_of(server, lead, 2)


async def test_a_failed_job_is_retried_and_told_how_it_failed(server: RunningServer) -> None:
    failing = 'call finish_job {"result": "It does not compile", "outcome": "failed"}'
    async with server.operator() as operator:
        job = await operator.create(failing, retry_policy="same", max_retries=1)
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["attempt"]) == ("failed", 2)
    assert answer["failure"] == {"kind": "agent", "reason": "It does not compile"}
    assert outcomes(server, job) == ["failed", "failed"]
    assert "Attempt 1 ended: It does not compile" in prompt_of(server, job, 2)


async def test_a_failure_can_be_read_by_a_cheap_model_before_the_retry(
    server: RunningServer,
) -> None:
    failing = 'call finish_job {"result": "It does not compile", "outcome": "failed"}'
    async with server.operator() as operator:
        job = await operator.create(failing, retry_policy="analyze", max_retries=1)
        (answer,) = await operator.outcome(job)
        view = await operator.call("get_job", job_id=job)
        (analysis,) = await operator.outcome(*view["children"])
    assert (answer["status"], answer["attempt"]) == ("failed", 2)
    assert analysis["status"] == "done"
    assert "It does not compile" in prompt_of(server, analysis["job_id"], 1)
    prompt = prompt_of(server, job, 2)
    assert "in the opinion of a model" in prompt
    assert analysis["result"] in prompt
    assert "already created" not in prompt  # the analysis is no work of the job


async def test_an_agent_that_loses_us_is_resumed_after_its_grace(
    start: Callable[..., RunningServer],
) -> None:
    server = start(lost_grace="1")
    async with server.operator() as operator:
        job = await operator.create(
            "on_error continue",
            "disconnect",
            'call report_status {"text": "Can you hear me?"}',
            "sleep 60",
            "on_resume",
            "finish back again",
        )
        (answer,) = await operator.outcome(job)
    assert (answer["result"], answer["attempt"]) == ("back again", 2)
    assert outcomes(server, job) == ["disconnected", "done"]


async def test_an_agent_that_hangs_is_resumed_once_and_then_fails_as_silent(
    start: Callable[..., RunningServer],
) -> None:
    server = start(silent_after="1")
    async with server.operator() as operator:
        job = await operator.create("hang", "on_resume", "hang")
        (answer,) = await operator.outcome(job)
    assert answer["failure"]["kind"] == "silent"
    assert outcomes(server, job) == ["silent", "failed"]


async def test_a_frozen_agent_is_found_and_its_successor_starts_when_it_is_gone(
    start: Callable[..., RunningServer],
) -> None:
    server = start(silent_after="1")
    async with server.operator() as operator:
        job = await operator.create("sleep 600", "on_resume", "finish thawed")
        frozen = await server.agent_of(job)
        await until(lambda: "session_id" in attempts_of(server, job)[0])
        frozen.suspend()
        (answer,) = await operator.outcome(job)
    assert (answer["result"], answer["attempt"]) == ("thawed", 2)
    assert not frozen.is_running()


async def test_whoever_waits_hears_of_a_death_within_a_second(server: RunningServer) -> None:
    told: list[float] = []
    async with server.operator() as operator:
        job = await operator.create(UNTIL_GO, completion="exit")
        agent = await server.agent_of(job)

        async def hear() -> None:
            await operator.outcome(job)
            told.append(time.monotonic())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            await anyio.sleep(0.3)
            await operator.call("cancel_job", job_id=job)
            agent.wait(10)
    assert len(told) == 1
