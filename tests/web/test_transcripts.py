"""Transcripts over HTTP: pages, a live stream that can be resumed, and the raw output."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.ids import new_token
from hurlicane_mcp.supervision.host import Exit
from tests.fakes import BEGINNING
from tests.web.site import Site, streamed

pytestmark = pytest.mark.anyio

STREAM = "text/event-stream"


def says(folder: str, *texts: str) -> None:
    """The agent of that run folder prints messages."""
    lines = (json.dumps({"event": "message", "text": text}) + "\n" for text in texts)
    prints(folder, "".join(lines).encode())


def prints(folder: str, output: bytes) -> None:
    with Path(folder, "stdout").open("ab") as file:
        file.write(output)


async def end(site: Site, attempt_id: str) -> None:
    def change(session: Session) -> None:
        settlement.settle(session, attempt_id, Outcome(OutcomeKind.DONE), BEGINNING)
        settlement.mark_ended(session, attempt_id, Exit(code=0), BEGINNING)

    await site.db.write(change)


def texts(page: dict[str, Any]) -> list[str]:
    return [entry["text"] for entry in page["entries"]]


async def test_a_transcript_is_read_in_pages(site: Site, operator: httpx2.AsyncClient) -> None:
    job, attempt = await site.running_job()
    path = f"/api/jobs/{job.id}/transcript"
    says(attempt.run_dir, "one")
    first = (await operator.get(path)).json()
    assert first == {
        "attempt": 1,
        "entries": [{"kind": "message", "text": "one"}],
        "offset": 36,
        "ended": False,
    }
    says(attempt.run_dir, "two")
    second = (await operator.get(path, params={"attempt": 1, "offset": first["offset"]})).json()
    assert (texts(second), second["ended"]) == (["two"], False)
    await end(site, attempt.id)
    last = (await operator.get(path, params={"offset": second["offset"]})).json()
    assert (last["entries"], last["ended"]) == ([], True)


async def test_a_transcript_is_followed_and_resumed_where_it_was_cut(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, attempt = await site.running_job()
    path = f"/api/jobs/{job.id}/transcript"
    says(attempt.run_dir, "one")
    async with streamed(operator, path, accept=STREAM) as stream:
        one = await stream.next()
        says(attempt.run_dir, "two")
        two = await stream.next()
    assert one is not None
    assert two is not None
    assert (one.event, texts(one.data), texts(two.data)) == ("page", ["one"], ["two"])
    says(attempt.run_dir, "three")
    at = str(two.id)
    async with streamed(operator, f"{path}?offset=0", accept=STREAM, last_event_id=at) as stream:
        three = await stream.next()
        await end(site, attempt.id)
        (last,) = await stream.rest()
    assert three is not None
    assert texts(three.data) == ["three"]
    assert (last.data["entries"], last.data["ended"]) == ([], True)


async def test_following_ends_when_the_server_stops(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, attempt = await site.running_job()
    says(attempt.run_dir, "one")
    path = f"/api/jobs/{job.id}/transcript"
    async with streamed(operator, path, accept=STREAM) as stream:
        await stream.next()
        site.db.bell.close()
        assert await stream.rest() == []


async def test_a_stream_of_nothing_is_refused_before_it_begins(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    accept = {"Accept": STREAM}
    answer = await operator.get("/api/jobs/job_x/transcript", headers=accept)
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    job, _ = await site.running_job()
    accept["Last-Event-ID"] = "there"
    answer = await operator.get(f"/api/jobs/{job.id}/transcript", headers=accept)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")


async def test_the_raw_output_is_text_without_tokens(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, attempt = await site.running_job()
    token = new_token("agent")
    prints(attempt.run_dir, b"\xff\n" * 200_000 + f"{token}\nend".encode())
    answer = await operator.get(f"/api/jobs/{job.id}/transcript/raw?attempt=1")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content.endswith(b"\nhca_masked-masked-masked\nend")
    assert answer.content.startswith(b"\xff\n" * 200_000)
