"""From create_job to the result: what an operator and a lead agent rely on."""

import json
from collections.abc import Callable

import pytest

from tests.stories.server import Refused, RunningServer

pytestmark = pytest.mark.anyio


async def test_a_job_goes_from_its_creation_to_its_result(server: RunningServer, mode: str) -> None:
    async with server.operator(mode) as operator:
        job = await operator.create("finish It is done.", title="Hello")
        (answer,) = await operator.outcome(job)
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "It is done.", 1)
    assert answer["work_dir"] == str(server.work_dir)


async def test_a_lead_fans_out_waits_and_sums_up(server: RunningServer, mode: str) -> None:
    """Two jobs side by side and a third that needs both; the lead reads all three results."""

    def create(steps: str, name: str, **more: object) -> str:
        return f"call create_job {json.dumps({'description': steps, **more})} as {name}"

    lead_steps = (
        f"mode {mode}",
        create("Left.\n! finish left", "a"),
        create("Right.\n! finish right", "b"),
        create("Both.\n! finish both", "c", depends_on=["${a.job_id}", "${b.job_id}"]),
        'call wait_for_jobs {"job_ids": ["${a.job_id}", "${b.job_id}", "${c.job_id}"]} as all',
        "finish ${all.jobs.0.result}, ${all.jobs.1.result}, ${all.jobs.2.result}",
    )
    async with server.operator(mode) as operator:
        lead = await operator.create(*lead_steps)
        (answer,) = await operator.outcome(lead)
        assert (answer["status"], answer.get("result")) == ("done", "left, right, both"), answer
        listed = await operator.call("list_jobs", parent_id=lead)
    assert [job["status"] for job in listed["jobs"]] == ["done"] * 3


async def test_with_one_slot_a_chain_of_five_waiting_parents_finishes(
    start: Callable[..., RunningServer],
) -> None:
    server = start(slots="1")
    description = "The last.\n! finish deep"
    for _ in range(4):
        arguments = json.dumps({"description": description}).replace("${", "$${")
        description = "\n".join(
            (
                "A parent.",
                f"! call create_job {arguments} as child",
                '! call wait_for_jobs {"job_ids": ["${child.job_id}"]} as waited',
                "! finish ${waited.jobs.0.result} and back",
            )
        )
    async with server.operator() as operator:
        job = (await operator.call("create_job", description=description))["job_id"]
        (answer,) = await operator.outcome(job)
    assert answer["status"] == "done", answer
    assert answer["result"] == "deep" + " and back" * 4


async def test_an_end_without_finish_job_is_resumed_once_with_a_reminder(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        mended = await operator.create("say Nearly.", "on_resume", "finish Now it is done.")
        given_up = await operator.create("say This is all I have.", "on_resume", "say No.")
        first, second = await operator.outcome(mended, given_up)
    assert (first["status"], first["result"], first["attempt"]) == ("done", "Now it is done.", 2)
    assert (second["status"], second["failure"]["kind"]) == ("failed", "unfinished")
    assert (second["result"], second["attempt"]) == ("No.", 2)


async def test_exit_zero_ends_a_job_that_asked_for_it(server: RunningServer) -> None:
    async with server.operator() as operator:
        good = await operator.create("say My last words.", completion="exit")
        bad = await operator.create("say Oh.", "exit 3", completion="exit")
        first, second = await operator.outcome(good, bad)
    assert (first["status"], first["result"]) == ("done", "My last words.")
    assert (second["status"], second["failure"]["kind"]) == ("failed", "crashed")
    assert "code 3" in second["failure"]["reason"]


async def test_a_lost_dependency_fails_its_dependants_with_the_reason(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        first = await operator.create('call finish_job {"result": "No way", "outcome": "failed"}')
        second = await operator.create("finish never", depends_on=[first])
        third = await operator.create("finish never", depends_on=[second])
        answers = await operator.outcome(first, second, third)
        late = await operator.create("finish never", depends_on=[first])
        (late_answer,) = await operator.outcome(late)
    kinds = [answer["failure"]["kind"] for answer in (*answers, late_answer)]
    assert kinds == ["agent", "dependency", "dependency", "dependency"]
    assert "No way" in answers[1]["failure"]["reason"]


async def test_any_returns_at_the_first_finished_job(server: RunningServer) -> None:
    async with server.operator() as operator:
        slow, fast = await operator.create("hang"), await operator.create("finish fast")
        answer = await operator.call("wait_for_jobs", job_ids=[slow, fast], any=True, timeout_s=40)
        assert answer["pending"] == [slow]
        short = await operator.call("wait_for_jobs", job_ids=[slow], timeout_s=0.2)
        assert short["pending"] == [slow]
        assert "call wait_for_jobs again" in short["hint"]
        assert (await operator.call("cancel_job", job_id=slow))["status"] == "cancelled"


async def test_cancelling_ends_the_whole_tree_and_its_processes(server: RunningServer) -> None:
    child = json.dumps({"description": "Hangs.\n! ignore_term\n! hang"})
    async with server.operator() as operator:
        parent = await operator.create(
            f"call create_job {child} as c", 'call wait_for_jobs {"job_ids": ["${c.job_id}"]}'
        )
        process = await server.agent_of(parent)
        listed: list[dict[str, str]] = []
        while not listed:
            listed = (await operator.call("list_jobs", parent_id=parent))["jobs"]
        child_process = await server.agent_of(listed[0]["job_id"])
        await operator.call("cancel_job", job_id=parent, reason="Changed my mind.")
        first, second = await operator.outcome(parent, listed[0]["job_id"])
    assert (first["status"], second["status"]) == ("cancelled", "cancelled")
    assert "Changed my mind." in first["failure"]["reason"]
    process.wait(15)
    child_process.wait(15)


async def test_a_program_that_is_missing_fails_the_job_and_says_how_to_install_it(
    start: Callable[..., RunningServer],
) -> None:
    server = start(claude_bin="/nowhere/claude")
    async with server.operator() as operator:
        job = await operator.create("finish x", provider="claude")
        (answer,) = await operator.outcome(job)
    assert answer["failure"]["kind"] == "launch"
    assert "/nowhere/claude" in answer["failure"]["reason"]
    assert "install" in answer["failure"]["reason"]


async def test_a_long_result_is_cut_and_can_be_read_on(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create(f"finish {'x' * 20_000}")
        (answer,) = await operator.outcome(job)
        assert len(answer["result"]) == 16 * 1024
        rest = await operator.call("get_job", job_id=job, offset=16 * 1024)
    assert len(answer["result"] + rest["result"]) == 20_000
    assert "offset=16384" in answer["result_cut"]


async def test_bad_input_is_refused_with_what_to_do_and_nothing_is_written(
    server: RunningServer, mode: str
) -> None:
    refused: list[tuple[dict[str, object], str]] = [
        ({"description": "  "}, "`description` is empty"),
        ({"description": "x" * 300_000}, "262,144 are allowed"),
        ({"description": "a\0b"}, r"U\+0000 at position 1"),
        ({"description": "x", "work_dir": "/nowhere/at/all"}, "is no folder"),
        ({"description": "x", "work_dir": "here"}, "absolute path"),
        ({"description": "x", "provider": "nobody"}, "Known: claude, codex, scripted"),
        ({"description": "x", "provider": "claude", "model": "gpt-9"}, "gpt-9"),
        ({"description": "x", "depends_on": ["job_none"]}, "job_none"),
        ({"description": "x", "priority": 11}, "from -10 to 10"),
    ]
    async with server.operator(mode) as operator:
        for arguments, words in refused:
            with pytest.raises(Refused, match=words):
                await operator.call("create_job", **arguments)
        with pytest.raises(Refused, match="job_none"):
            await operator.call("wait_for_jobs", job_ids=["job_none"])
        with pytest.raises(Refused, match="not_found"):
            await operator.call("get_job", job_id="job_none")
        assert (await operator.call("list_jobs"))["jobs"] == []


async def test_the_same_key_returns_the_first_job(server: RunningServer) -> None:
    async with server.operator() as operator:
        first = await operator.create("finish x", idempotency_key="once")
        assert await operator.create("finish x", idempotency_key="once") == first
        with pytest.raises(Refused, match=f"already stands for job {first}"):
            await operator.create("finish y", idempotency_key="once")
        assert len((await operator.call("list_jobs"))["jobs"]) == 1
