"""Nobody gets past the guard without a known name, a known origin and a known token."""

from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest

from tests.web.site import ALLOWED, TOKEN, Site

pytestmark = pytest.mark.anyio

PATHS = ("/mcp", "/healthz", "/readyz", "/events", "/api/jobs", "/api/openapi.json", "/nothing")


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_nothing_is_answered(site: Site, path: str) -> None:
    async with site.client("") as nobody:
        answer = await nobody.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == "unauthorized"
    assert "operator.token" in answer.json()["message"]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"],
)
async def test_what_is_not_a_token_of_ours_is_refused(site: Site, authorization: str) -> None:
    async with site.client("") as nobody:
        headers = [(b"Authorization", authorization.encode("latin-1"))]
        assert (await nobody.get("/mcp", headers=headers)).status_code == 401


async def test_the_token_says_who_calls(site: Site) -> None:
    async with site.client() as operator, site.client(await site.agent_token()) as agent:
        assert (await operator.get("/mcp")).json() == {"role": "operator"}
        assert (await agent.get("/mcp")).json() == {"role": "agent"}
        assert (await agent.post("/mcp")).json() == {"role": "agent"}
        lower = {"Authorization": f"bearer {TOKEN}"}
        assert (await agent.get("/mcp", headers=lower)).json() == {"role": "operator"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1234", 200),
        ("localhost:80", 200),
        ("LocalHost", 200),
        ("[::1]", 200),
        ("[::1]:7717", 200),
        (ALLOWED, 200),
        (f"{ALLOWED}:443", 200),
        (f"evil.{ALLOWED}", 421),
        ("evil.example", 421),
        ("evil.example:7717", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("evil.example#127.0.0.1", 421),
        ("127.0.0.1:evil", 421),
        ("[::1]evil.example", 421),
        ("::1", 421),
        ("", 421),
    ],
)
async def test_only_known_hosts_are_answered(
    operator: httpx2.AsyncClient, host: str, status: int
) -> None:
    for path in ("/healthz", "/mcp"):
        answer = await operator.get(path, headers={"Host": host})
        assert answer.status_code == status
    if status == 421:
        assert answer.json()["error"] == "wrong_host"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7717", 200),
        ("https://localhost", 200),
        ("http://[::1]:3000", 200),
        (f"https://{ALLOWED}", 200),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("http://evil.example/localhost", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_pages_of_other_origins_are_refused(
    operator: httpx2.AsyncClient, origin: str, status: int
) -> None:
    for path in ("/healthz", "/mcp", "/api/jobs"):
        answer = await operator.get(path, headers={"Origin": origin})
        assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"] == "foreign_origin"


async def test_a_websocket_is_refused_before_anything_else(site: Site) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "websocket", "path": "/events", "headers": headers, "query_string": b""}
    await site.app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


OPERATORS_ONLY = (
    ("GET", "/events"),
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs"),
    ("GET", "/api/jobs/job_x"),
    ("GET", "/api/jobs/job_x/attempts"),
    ("POST", "/api/jobs/job_x/cancel"),
    ("GET", "/api/jobs/job_x/transcript"),
    ("GET", "/api/jobs/job_x/transcript/raw"),
    ("GET", "/api/wait"),
    ("GET", "/api/agents"),
    ("GET", "/api/notes"),
    ("GET", "/api/notes/plan"),
    ("PUT", "/api/notes/plan"),
    ("GET", "/api/events"),
    ("GET", "/api/snapshot"),
    ("GET", "/api/server"),
    ("GET", "/api/openapi.json"),
)


async def test_agents_have_the_tools_and_nothing_else(site: Site) -> None:
    async with site.client(await site.agent_token()) as agent:
        for method, path in OPERATORS_ONLY:
            answer = await agent.request(method, path)
            assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), path
        assert (await agent.get("/healthz")).status_code == 200
        assert (await agent.get("/readyz")).status_code == 200
