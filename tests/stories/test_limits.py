"""Limited models, bounds and budgets as people see them: real servers and agents, a real clock."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stories.server import Refused, RunningServer, until

pytestmark = pytest.mark.anyio

CHAINS = "scripted:opus > sonnet > haiku"
UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


def refuse(*models: str, **more: object) -> str:
    """The step of an agent whose model refuses if it is one of *models*."""
    refusal = {"kind": "rate_limit", "models": models, "text": "429 Too Many Requests", **more}
    return f"refuse {json.dumps(refusal)}"


@pytest.fixture
def limited(start: Callable[..., RunningServer]) -> RunningServer:
    """A server with one slot and the chain opus > sonnet > haiku."""
    return start(chains=CHAINS, slots="1")


def attempts_of(server: RunningServer, job: str) -> Sequence[dict[str, Any]]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job}/attempts").raise_for_status().json()["attempts"]


def job_of(server: RunningServer, job: str) -> dict[str, Any]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job}").raise_for_status().json()


def prompt_of(server: RunningServer, job: str, attempt: int) -> str:
    return Path(server.data_dir, "runs", f"{job}.{attempt}", "stdin").read_text(encoding="utf-8")


def kill_whole(server: RunningServer) -> None:
    """End parent and worker at once; the agents live on."""
    worker = psutil.Process(server.worker_pid)
    server.process.kill()
    worker.kill()
    server.process.wait()


async def test_a_limited_model_is_followed_by_the_next_one_in_the_same_session(
    limited: RunningServer,
) -> None:
    async with limited.operator() as operator:
        job = await operator.create(
            "run sh -c 'echo once >> work'", refuse("opus", "sonnet"), "finish ok", model="opus"
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["result"]) == ("done", "ok"), answer
    rows = attempts_of(limited, job)
    assert [row["model"] for row in rows] == ["opus", "sonnet", "haiku"]
    assert [row["outcome"] for row in rows] == ["limited", "limited", "done"]
    assert len({row["session_id"] for row in rows}) == 1
    assert (limited.work_dir / "work").read_text(encoding="utf-8") == "once\n"
    assert "429 Too Many Requests" in prompt_of(limited, job, 2)
    assert job_of(limited, job)["models_used"] == [
        *("scripted:opus", "scripted:sonnet", "scripted:haiku")
    ]


async def test_with_no_model_left_a_job_is_parked_its_slot_is_free_and_it_goes_on_by_itself(
    limited: RunningServer,
) -> None:
    async with limited.operator() as operator:
        job = await operator.create(
            refuse("haiku", resets_in_s=6), "finish later", model="haiku", title="parked"
        )
        await until(lambda: "not_before" in job_of(limited, job))
        with limited.rest() as rest:
            why = rest.get(f"/api/jobs/{job}/why").json()["chain"][0]
        other = await operator.create("finish meanwhile", model="another")
        (answer,) = await operator.outcome(other)
        assert answer["result"] == "meanwhile"
        assert job_of(limited, job)["status"] == "queued"
        (answer,) = await operator.outcome(job)
    assert "scripted/haiku" in why["because"]
    assert "429 Too Many Requests" in why["because"]
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "later", 2)


async def test_a_job_that_crosses_to_another_cli_is_handed_what_was_done(
    start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """The other CLI is a program that stands in for Claude Code."""
    program = tmp_path / "claude"
    lines = (
        {"type": "system", "subtype": "init", "session_id": "s", "model": "claude-sonnet-5-5"},
        {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "ok"}]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": "taken over"},
    )
    printed = "\n".join(map(json.dumps, lines))
    program.write_text(f"#!/bin/sh\ncat > /dev/null\ncat <<'END'\n{printed}\nEND\n")
    program.chmod(0o755)
    server = start(claude_bin=str(program))
    async with server.operator() as operator:
        job = await operator.create(
            *("run echo half of it", "say The first half is written.", refuse("opus")),
            model="opus",
            fallback=["claude:sonnet"],
            completion="exit",
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["result"]) == ("done", "taken over"), answer
    prompt = prompt_of(server, job, 2)
    assert "It said: The first half is written." in prompt
    assert "echo half of it" in prompt
    assert "A rehearsal." in prompt  # the task itself
    assert [row["provider"] for row in attempts_of(server, job)] == ["scripted", "claude"]


async def test_a_refusal_that_the_cli_waits_out_changes_nothing(limited: RunningServer) -> None:
    async with limited.operator() as operator:
        job = await operator.create(
            refuse("opus", final=False, times=2, wait_s=1.2), "finish ok", model="opus"
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["attempt"]) == ("done", 1)


async def test_a_cli_that_obeys_a_long_wait_in_silence_is_not_waited_for(
    start: Callable[..., RunningServer],
) -> None:
    server = start(chains=CHAINS, cli_patience="2")
    async with server.operator() as operator:
        job = await operator.create(
            refuse("opus", final=False, wait_s=3600, silent=True), "finish ok", model="opus"
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["attempt"]) == ("done", 2)
    assert attempts_of(server, job)[0]["outcome"] == "limited"


async def test_a_parked_job_goes_on_after_the_whole_server_was_killed(
    start: Callable[..., RunningServer],
) -> None:
    server = start(chains=CHAINS)
    async with server.operator() as operator:
        job = await operator.create(refuse("haiku", resets_in_s=8), "finish ok", model="haiku")
        await until(lambda: "not_before" in job_of(server, job))
    kill_whole(server)
    server = start(chains=CHAINS, port=server.url.rpartition(":")[2])
    async with server.operator() as operator:
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["attempt"]) == ("done", 2)


async def test_a_child_that_would_overspend_is_refused_with_the_figures_and_the_lead_goes_on(
    limited: RunningServer,
) -> None:
    dear = json.dumps({"description": "! finish no", "stop_mode": "budget", "stop_value": 3})
    async with limited.operator() as operator:
        job = await operator.create(
            *("request " + json.dumps({"input": 500_000}),),
            f"call create_job {dear} expect_error limit_reached as refused",
            "finish ${refused.error}",
            stop_mode="budget",
            stop_value=2,
        )
        (answer,) = await operator.outcome(job)
    assert answer["status"] == "done"
    assert "is $2.00" in answer["result"]
    assert "asks for $3.00" in answer["result"]


async def test_a_stopped_job_is_done_its_agent_gone_and_its_work_kept(
    limited: RunningServer,
) -> None:
    async with limited.operator() as operator:
        request = "request " + json.dumps({"input": 600_000})
        job = await operator.create(
            *("say Half of it is done.", request, request, UNTIL_GO, "finish never"),
            stop_mode="budget",
            stop_value=1,
        )
        (answer,) = await operator.outcome(job)
        await until(lambda: "ended_at" in attempts_of(limited, job)[0])
    assert (answer["status"], answer["stopped_by"]) == ("done", "budget"), answer
    assert answer["result"] == "Half of it is done."
    (row,) = attempts_of(limited, job)
    assert row["exit_signal"] is not None or row["exit_code"] != 0
    with limited.rest() as rest:
        total = rest.get("/api/usage", params={"by": "job", "job_id": job}).json()["total"]
    assert float(total["cost_usd"]) == pytest.approx(1.2)


async def test_at_the_end_of_its_time_a_job_is_done_with_its_last_words(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        job = await operator.create(
            "say Begun.", UNTIL_GO, "finish never", stop_mode="time", stop_value=0.05
        )
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["stopped_by"]) == ("done", "time"), answer
    assert answer["result"] == "Begun."


async def test_time_is_enforced_while_no_server_runs(start: Callable[..., RunningServer]) -> None:
    server = start()
    async with server.operator() as operator:
        job = await operator.create(
            "say Begun.", UNTIL_GO, "finish never", stop_mode="time", stop_value=0.1
        )
        agent = await server.agent_of(job)
    kill_whole(server)
    await until(lambda: not agent.is_running(), timeout_s=40)
    server = start()
    async with server.operator() as operator:
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["stopped_by"]) == ("done", "time"), answer
    assert answer["result"] == "Begun."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stop_mode": "turns"}, "how many turns"),
        ({"stop_mode": "turns", "stop_value": 1.5}, "whole number"),
        ({"stop_mode": "budget", "stop_value": -1}, "more than 0"),
        ({"stop_value": 5}, "no meaning"),
        ({"fallback": ["codex:opus"]}, "codex has no model 'opus'"),
        ({"fallback": ["codex:gpt-5.5"], "stop_mode": "budget", "stop_value": 1}, "models_file"),
        ({"fallback": [""]}, "names no model"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_and_nothing_is_created(
    limited: RunningServer, arguments: dict[str, Any], message: str
) -> None:
    async with limited.operator() as operator:
        with pytest.raises(Refused, match=message):
            await operator.create("finish ok", model="opus", **arguments)
        assert (await operator.call("list_jobs"))["jobs"] == []


def test_a_chain_that_cannot_be_is_refused_at_the_start(
    start: Callable[..., RunningServer], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match="did not start"):
        start(chains="opus > nonsense model")
    assert "nonsense model" in capfd.readouterr().err
