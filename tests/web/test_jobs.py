"""Jobs, waiting, agents and notes over HTTP: the same services as the tools."""

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.store import events
from tests.factories import add_job
from tests.fakes import BEGINNING
from tests.stories.server import until
from tests.web.site import Site

pytestmark = pytest.mark.anyio


async def test_a_job_is_created_and_read(operator: httpx2.AsyncClient, tmp_path: Path) -> None:
    asked = {
        "description": "Mow the lawn.\nAll of it.",
        "priority": 3,
        "work_dir": str(tmp_path),
        "context": {"tool": "a scythe"},
        "completion": "exit",
        "project": "garden",
    }
    made = await operator.post("/api/jobs", json=asked)
    assert made.status_code == 201
    job_id = made.json()["job_id"]
    assert made.json() == {"job_id": job_id, "title": "Mow the lawn.", "status": "queued"}
    job = (await operator.get(f"/api/jobs/{job_id}")).json()
    assert job.items() >= asked.items()
    assert None not in job.values()


async def test_the_same_key_returns_the_first_job(operator: httpx2.AsyncClient) -> None:
    asked = {"description": "Once only", "idempotency_key": "k"}
    first = await operator.post("/api/jobs", json=asked)
    again = await operator.post("/api/jobs", json=asked)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = await operator.post("/api/jobs", json=asked | {"description": "Another"})
    assert (other.status_code, other.json()["error"]) == (409, "conflict")


async def test_jobs_are_listed_newest_first_in_pages(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    parent = await site.db.write(lambda s: add_job(s, status="done"))
    made = [(await site.db.write(lambda s: add_job(s, parent=parent))).id for _ in range(3)]

    async def listed(query: str) -> list[str]:
        answer = await operator.get(f"/api/jobs?{query}")
        return [job["job_id"] for job in answer.json()["jobs"]]

    assert await listed("") == [*reversed(made), parent.id]
    assert await listed("limit=2") == [made[2], made[1]]
    assert await listed(f"limit=2&before={made[1]}") == [made[0], parent.id]
    assert await listed("status=done&status=failed") == [parent.id]
    assert await listed(f"parent_id={parent.id}") == made[::-1]
    assert await listed("parent_id=job_unknown") == []


async def test_a_long_result_is_read_in_pieces(site: Site, operator: httpx2.AsyncClient) -> None:
    result = "".join(f"{number:>8}" for number in range(4000))
    job, attempt = await site.running_job()
    outcome = Outcome(OutcomeKind.DONE, result)
    await site.db.write(lambda s: settlement.settle(s, attempt.id, outcome, BEGINNING))
    read = ""
    while len(read) < len(result):
        answer = await operator.get(f"/api/jobs/{job.id}", params={"offset": len(read)})
        read += answer.json()["result"]
    assert read == result


async def test_attempts_and_agents_are_told(site: Site, operator: httpx2.AsyncClient) -> None:
    job, attempt = await site.running_job()
    told = (await operator.get(f"/api/jobs/{job.id}/attempts")).json()["attempts"]
    assert [(one["attempt_id"], one["state"]) for one in told] == [(attempt.id, "starting")]
    assert (await operator.get("/api/agents")).json()["agents"] == told


async def test_a_job_is_cancelled_with_the_reason(site: Site, operator: httpx2.AsyncClient) -> None:
    job, _ = await site.running_job()
    path = f"/api/jobs/{job.id}/cancel"
    answer = await operator.post(path, json={"reason": "It rains"})
    assert answer.json() == {"job_id": job.id, "status": "cancelled"}
    told = (await operator.get(f"/api/jobs/{job.id}")).json()
    assert told["failure"]["reason"] == "Cancelled by an operator: It rains"
    assert (await operator.post(path)).json()["status"] == "cancelled"


async def test_waiting_ends_when_the_job_does(site: Site, operator: httpx2.AsyncClient) -> None:
    job, attempt = await site.running_job()
    other = await site.db.write(add_job)
    answers: list[dict[str, Any]] = []

    async def wait(query: str) -> None:
        answers.append((await operator.get(f"/api/wait?job_id={job.id}&{query}")).json())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "")
        tasks.start_soon(wait, f"job_id={other.id}&any=true")
        await until(lambda: _ears(site, job.id) == 2)
        done = Outcome(OutcomeKind.DONE, "short grass")
        await site.db.write(lambda s: settlement.settle(s, attempt.id, done, BEGINNING))
    alone, any_ = sorted(answers, key=lambda answer: len(answer["jobs"]))
    assert (alone["jobs"][0]["result"], alone["pending"]) == ("short grass", [])
    assert any_["pending"] == [other.id]


async def test_waiting_ends_when_time_is_up_or_the_server_stops(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, _ = await site.running_job()
    answer = (await operator.get(f"/api/wait?job_id={job.id}&timeout_s=0")).json()
    assert answer["pending"] == [job.id]
    assert "call wait_for_jobs again" in answer["hint"]
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            told = (await operator.get(f"/api/wait?job_id={job.id}")).json()
            assert told["pending"] == [job.id]
            assert "restarting" in told["hint"]

        tasks.start_soon(wait)
        await until(lambda: _ears(site, job.id))
        site.db.bell.close()


def _ears(site: Site, job_id: str) -> int:
    """How many wait for the end of the job."""
    ears = site.db.bell._ears  # pyright: ignore[reportPrivateUsage]  (nothing else tells)
    return len(ears.get(events.final_topic(job_id), ()))


async def test_notes_are_written_listed_and_read(operator: httpx2.AsyncClient) -> None:
    for key, value in [("plan/a", "first"), ("plan/a", "second"), ("plan/ü b", "ß"), ("x", "y")]:
        answer = await operator.put(f"/api/notes/{key}", json={"value": value})
        assert answer.status_code == 200
    listed = (await operator.get("/api/notes?prefix=plan/")).json()["notes"]
    assert [(note["key"], note["version"]) for note in listed] == [("plan/a", 2), ("plan/ü b", 1)]
    assert "value" not in listed[0]
    assert (await operator.get("/api/notes/plan/ü b")).json()["value"] == "ß"
    assert (await operator.get("/api/notes/plan/a")).json()["author"] == "operator"


async def test_a_note_belongs_to_its_project(operator: httpx2.AsyncClient) -> None:
    await operator.put("/api/notes/k?project=other", json={"value": "theirs"})
    assert (await operator.get("/api/notes")).json() == {"notes": []}
    assert (await operator.get("/api/notes/k")).status_code == 404
    assert (await operator.get("/api/notes/k?project=other")).json()["value"] == "theirs"
    assert len((await operator.get("/api/notes?project=other")).json()["notes"]) == 1
