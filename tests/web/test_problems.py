"""Whatever is wrong, the answer is one shape with a fitting status and a sentence to act on."""

import logging
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import httpx2
import pytest
from sqlmodel import Session, text
from starlette.requests import Request

from hurlicane_mcp.errors import (
    AlreadyServing,
    Forbidden,
    GitFailed,
    HurlicaneError,
    IllegalTransition,
    JobFinished,
    LimitReached,
    OpenChildren,
    StaleAttempt,
    WaitCycle,
)
from hurlicane_mcp.web.operations import MAX_BODY
from hurlicane_mcp.web.problems import of_error
from tests.web.site import TOKEN, Site

pytestmark = pytest.mark.anyio


def check(answer: httpx2.Response, status: int, error: str, *words: str) -> None:
    """The answer is a problem of this kind whose message has these words."""
    problem = answer.json()
    assert (answer.status_code, problem["error"]) == (status, error), problem
    assert problem.keys() == {"error", "message"}
    assert [word for word in words if word not in problem["message"]] == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/job_x",
        "/api/jobs/job_x/attempts",
        "/api/jobs/job_x/transcript",
        "/api/jobs/job_x/transcript/raw",
        "/api/jobs?before=job_x",
        "/api/wait?job_id=job_x",
        "/api/notes/job_x",
    ],
)
async def test_what_does_not_exist_is_named(operator: httpx2.AsyncClient, path: str) -> None:
    check(await operator.get(path), 404, "not_found", "job_x")
    check(await operator.post("/api/jobs/job_x/cancel"), 404, "not_found", "job_x")


async def test_an_unknown_path_or_method_is_told_what_there_is(
    operator: httpx2.AsyncClient,
) -> None:
    check(await operator.get("/api/nothing"), 404, "not_found", "/api/nothing", "openapi.json")
    answer = await operator.delete("/api/jobs")
    check(answer, 405, "method_not_allowed", "DELETE", "GET", "POST")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/jobs?status=asleep", ["asleep", "running"]),
        ("/api/jobs?limit=0", ["limit"]),
        ("/api/jobs?limit=many", ["limit"]),
        ("/api/jobs?state=done", ["state"]),
        ("/api/jobs/job_x?offset=-1", ["offset"]),
        ("/api/jobs/job_x/transcript?attempt=0", ["attempt"]),
        (f"/api/jobs/job_x/transcript?offset={2**63}", ["offset"]),
        ("/api/wait", ["job_ids"]),
        ("/api/wait?job_id=job_x&timeout_s=nan", ["timeout_s"]),
        ("/api/wait?job_id=job_x&timeout_s=1e300", ["timeout_s"]),
        ("/api/events?limit=501", ["limit"]),
        (f"/api/events?after={2**63}", ["after"]),
        ("/healthz?really", ["really"]),
    ],
)
async def test_a_wrong_parameter_is_named(
    operator: httpx2.AsyncClient, path: str, words: list[str]
) -> None:
    check(await operator.get(path), 422, "invalid", *words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["description"]),
        (b"{}", ["description"]),
        (b"{", ["cannot be read", "JSON"]),
        (b"[]", ["cannot be read"]),
        (b"\xff", ["cannot be read", "JSON"]),
        (b'{"description": "\\ud800"}', ["cannot be read", "JSON"]),
        (b'{"description": " "}', ["description", "empty"]),
        (b'{"description": "x", "urgent": true}', ["urgent"]),
        (b'{"description": "x", "priority": 11}', ["priority"]),
        (b'{"description": "x", "priority": "high"}', ["priority"]),
        (b'{"description": "x", "completion": "never"}', ["completion", "finish_job"]),
        (b'{"description": "x", "depends_on": "job_x"}', ["depends_on"]),
        (b'{"description": "x", "context": {"a": 1}}', ["context.a"]),
        (b'{"description": "x", "provider": "nobody"}', ["nobody", "scripted"]),
        (b'{"description": "x", "work_dir": "here"}', ["work_dir", "absolute"]),
    ],
)
async def test_a_wrong_body_is_explained_and_nothing_is_written(
    site: Site, operator: httpx2.AsyncClient, body: bytes, words: list[str]
) -> None:
    check(await operator.post("/api/jobs", content=body), 422, "invalid", *words)
    assert (await operator.get("/api/jobs")).json() == {"jobs": []}


async def test_a_body_may_be_a_mebibyte_long_and_no_longer(operator: httpx2.AsyncClient) -> None:
    longest = b'{"description": "x"}'.ljust(MAX_BODY)
    assert (await operator.post("/api/jobs", content=longest)).status_code == 201

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield longest
        yield b" "

    for content in (longest + b" ", pieces()):
        answer = await operator.post("/api/jobs", content=content)
        check(answer, 413, "too_large", "1,048,576")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StaleAttempt(), 409),
        (JobFinished("job_x", "done"), 409),
        (IllegalTransition("job", "done", "fail"), 409),
        (OpenChildren("two"), 409),
        (WaitCycle("a circle"), 409),
        (LimitReached("200 jobs"), 429),
        (Forbidden("no"), 403),
        (AlreadyServing("a fault here"), 500),
        (GitFailed("git status", "/x", "fatal: no"), 409),
        (HurlicaneError("a fault"), 500),
    ],
)
def test_each_error_has_its_status(error: HurlicaneError, status: int) -> None:
    assert of_error(Request({"type": "http"}), error).status_code == status


async def test_a_stopping_server_says_when_to_call_again(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    await site.db.close()
    answer = await operator.post("/api/jobs", json={"description": "x"})
    check(answer, 503, "store_closed", "again")
    assert answer.headers["retry-after"] == "1"


def drop(table: str) -> Any:
    """A change that breaks the database."""

    def change(session: Session) -> None:
        session.connection().execute(text(f"DROP TABLE {table}"))

    return change


async def test_a_fault_is_logged_and_tells_nothing_of_itself(
    site: Site, operator: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await site.db.write(drop("note"))
    with caplog.at_level(logging.ERROR):
        answer = await operator.get("/api/notes")
    check(answer, 500, "unexpected")
    assert "note" not in answer.text
    assert "no such table: note" in caplog.text


async def test_a_server_that_cannot_read_is_healthy_but_not_ready(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    assert (await operator.get("/readyz")).json() == {"status": "ok"}
    await site.db.write(drop("meta"))
    answer = await operator.get("/readyz")
    check(answer, 503, "not_ready", "log")
    assert answer.headers["retry-after"] == "1"
    assert (await operator.get("/healthz")).json() == {"status": "ok"}


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_fault(site: Site) -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_message: MutableMapping[str, Any]) -> None:
        pass

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/api/jobs", "headers": headers}
    await site.app({**scope, "query_string": b"", "root_path": ""}, receive, send)


async def test_the_server_tells_what_it_is(site: Site, operator: httpx2.AsyncClient) -> None:
    facts = (await operator.get("/api/server")).json()
    assert facts == site.services.facts.model_dump(mode="json")
    assert facts["url"] == site.url
