"""What the scripted agent's tests run it with: a real MCP server, and a real process."""

import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
import uvicorn
from anyio.abc import Process
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from hurlicane_mcp.providers.base import LaunchRequest, LaunchSpec, Reading
from hurlicane_mcp.providers.scripted import ScriptedProvider

PROVIDER = ScriptedProvider()
TOKEN = "token-of-the-attempt"
R = TypeVar("R")


async def until(condition: Callable[[], object]) -> None:
    """Return once *condition* holds; fail if that takes more than 10 s."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110  (most of what is waited for is another process)
            await anyio.sleep(0.01)


@dataclass
class Board:
    """An MCP server with a few tools like ours, and all that it was asked."""

    port: int = 0
    calls: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])
    headers: set[str | None] = field(default_factory=set[str | None])
    protocols: set[str | None] = field(default_factory=set[str | None])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def of(self, tool: str) -> list[object]:
        return [args for name, args in self.calls if name == tool]

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Serve on a port that stays the same if the server comes back."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        app = self._server().streamable_http_app(streamable_http_path="/mcp", stateless_http=True)
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: server.serve(sockets=[listener]))
            await until(lambda: server.started)
            try:
                yield
            finally:
                server.should_exit = True

    def _server(self) -> MCPServer[Any]:
        server: MCPServer[Any] = MCPServer("hurlicane", log_level="CRITICAL")
        for tool in (
            self.create_job,
            self.wait_for_jobs,
            self.get_job,
            self.set_priority,
            self.finish_job,
        ):
            server.add_tool(tool)
        return server

    async def create_job(self, description: str, ctx: Context[Any]) -> dict[str, object]:
        """Create a job."""
        self._heard("create_job", ctx, description=description)
        return {"job_id": f"job_{len(self.of('create_job'))}", "priority": 7}

    async def wait_for_jobs(self, job_ids: list[str], ctx: Context[Any]) -> dict[str, object]:
        """Wait for jobs: no time at all, but with a sign of progress."""
        self._heard("wait_for_jobs", ctx, job_ids=job_ids)
        await ctx.report_progress(1, 2, "waiting")
        return {"jobs": [{"job_id": one, "result": f"result of {one}"} for one in job_ids]}

    async def get_job(self, job_id: str, ctx: Context[Any]) -> str:
        """Refuse."""
        self._heard("get_job", ctx, job_id=job_id)
        raise ToolError(f"not_found: There is no job {job_id!r}.")

    async def set_priority(self, priority: int, ctx: Context[Any]) -> dict[str, object]:
        """Take a number."""
        self._heard("set_priority", ctx, priority=priority)
        return {"priority": priority}

    async def finish_job(self, result: str, ctx: Context[Any]) -> dict[str, object]:
        """Finish the caller's job."""
        self._heard("finish_job", ctx, result=result)
        return {"status": "done"}

    def _heard(self, tool: str, ctx: Context[Any], **args: object) -> None:
        self.calls.append((tool, args))
        self.headers.add((ctx.headers or {}).get("authorization"))
        self.protocols.add(ctx.protocol_version)


@dataclass(frozen=True)
class Rehearsal:
    """What became of one process of the agent."""

    code: int
    readings: Sequence[Reading]
    lines: Sequence[bytes]
    errors: str

    def of(self, kind: type[R]) -> list[R]:
        """The readings of one kind, in order."""
        return [reading for reading in self.readings if isinstance(reading, kind)]


@dataclass(frozen=True)
class Stage:
    """A work folder, a folder for sessions, and a way to run agents in them."""

    folder: Path
    url: str = ""
    mode: str = "auto"

    @property
    def work_dir(self) -> Path:
        return self.folder / "work"

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "job_1.1"

    def spec(
        self, prompt: str, *, resume: str | None = None, model: str | None = None
    ) -> LaunchSpec:
        return PROVIDER.launch(self.request(prompt, resume=resume, model=model))

    def request(
        self, prompt: str, *, resume: str | None = None, model: str | None = None
    ) -> LaunchRequest:
        return LaunchRequest(
            prompt=prompt,
            work_dir=self.work_dir,
            run_dir=self.run_dir,
            model=model,
            mcp_url=self.url,
            token=TOKEN,
            resume=resume,
            wait_limit=timedelta(seconds=30),
        )

    async def rehearse(
        self,
        prompt: str,
        *,
        resume: str | None = None,
        model: str | None = None,
        max_turns: int | None = None,
    ) -> Rehearsal:
        """Run the agent to its end."""
        request = self.request(prompt, resume=resume, model=model)
        spec = PROVIDER.launch(replace(request, max_turns=max_turns))
        with anyio.fail_after(20):
            done = await anyio.run_process(
                spec.argv,
                input=spec.stdin.encode(),
                cwd=self.work_dir,
                env=self.environment(spec),
                check=False,
            )
        lines = done.stdout.splitlines()
        readings = [reading for line in lines for reading in PROVIDER.parse_line(line)]
        return Rehearsal(done.returncode, readings, lines, done.stderr.decode())

    @asynccontextmanager
    async def running(self, prompt: str) -> AsyncGenerator[Process]:
        """An agent that is on its way; killed at the end if it is still there."""
        spec = self.spec(prompt)
        process = await anyio.open_process(
            spec.argv, stderr=None, cwd=self.work_dir, env=self.environment(spec)
        )
        try:
            assert process.stdin is not None
            await process.stdin.send(spec.stdin.encode())
            await process.stdin.aclose()
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.aclose()

    def environment(self, spec: LaunchSpec) -> dict[str, str]:
        return {**os.environ, **spec.env, "SCRIPTED_MCP_MODE": self.mode, "GREETING": "good day"}

    def git(self, *args: str) -> str:
        done = subprocess.run(
            ("git", *args), cwd=self.work_dir, check=True, capture_output=True, text=True
        )
        return done.stdout


def stage_at(folder: Path) -> Stage:
    """A fresh stage: an empty git repository as the work folder."""
    stage = Stage(folder)
    stage.work_dir.mkdir()
    stage.run_dir.mkdir(parents=True)
    stage.git("init", "--quiet")
    return stage
