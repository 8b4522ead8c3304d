"""What the server is compared with: uvicorn with one route, and the SDK with one tool.

Run as `python -m bench.bare_server route|tool`; prints its port when it listens.
"""

import socket
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp


def route_app() -> ASGIApp:
    """One route that reads a body and answers a little JSON, at any time and to anybody."""

    async def answer(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {"ok": True}})

    return Starlette(routes=[Route("/mcp", answer, methods=["GET", "POST"])])


def tool_app() -> ASGIApp:
    """The SDK's stateless endpoint in JSON mode, with one tool that does nothing."""
    server: MCPServer[Any] = MCPServer("bare", version="1", log_level="WARNING")

    async def report_status(text: str) -> str:
        return str(len(text))

    server.add_tool(report_status, structured_output=False)
    return server.streamable_http_app(stateless_http=True, json_response=True)


def main(kind: str) -> None:
    """Serve until killed."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(listener.getsockname()[1], flush=True)
    app = route_app() if kind == "route" else tool_app()
    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
