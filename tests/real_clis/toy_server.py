"""A small MCP server in the product's image: enough to see what a CLI sends."""

import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mcp.server import MCPServer
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.real_clis.loopback import serving


class Created(BaseModel):
    job_id: str


class Waited(BaseModel):
    jobs: dict[str, str]


@dataclass(slots=True)
class ToyServer:
    """Where the server is, and the calls that it got, in order."""

    url: str = ""
    token: str = field(default_factory=secrets.token_hex)
    calls: list[tuple[str, Mapping[str, object]]] = field(
        default_factory=list[tuple[str, Mapping[str, object]]]
    )


@contextmanager
def toy_server() -> Generator[ToyServer]:
    """A stateless server with create_job, wait_for_jobs and finish_job, behind a bearer token."""
    toy = ToyServer()
    app = _tools(toy).streamable_http_app(streamable_http_path="/mcp", stateless_http=True)
    with serving(_guarded(app, toy.token)) as address:
        toy.url = f"{address}/mcp"
        yield toy


def _tools(toy: ToyServer) -> MCPServer:
    server = MCPServer("hurlicane", log_level="WARNING")

    @server.tool()
    async def create_job(description: str) -> Created:
        """Create a job."""
        toy.calls.append(("create_job", {"description": description}))
        return Created(job_id=f"job_{len(toy.calls)}")

    @server.tool()
    async def wait_for_jobs(job_ids: list[str]) -> Waited:
        """Wait until these jobs are finished."""
        toy.calls.append(("wait_for_jobs", {"job_ids": job_ids}))
        return Waited(jobs=dict.fromkeys(job_ids, "done"))

    @server.tool()
    async def finish_job(result: str) -> str:
        """Hand in the result."""
        toy.calls.append(("finish_job", {"result": result}))
        return "finished"

    return server


def _guarded(app: ASGIApp, token: str) -> ASGIApp:
    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        header = Headers(scope=scope).get("authorization") if scope["type"] == "http" else None
        if scope["type"] == "http" and header != f"Bearer {token}":
            await PlainTextResponse("wrong token", 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard
