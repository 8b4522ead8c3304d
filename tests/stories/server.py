"""A server as its users run it: `hurlicane serve` in a process of its own, and its clients."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import anyio
import httpx2
import psutil
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

Mode = Literal["auto", "legacy"]


class Refused(Exception):
    """A tool answered with an error; the text is what a model reads."""


@dataclass
class Agent:
    """A connected MCP client: an operator's, or one that holds an agent's token."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The tool's structured answer.

        Raises:
            Refused: it answered with an error.
        """
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise Refused(cast("TextContent", result.content[0]).text)
        return cast("dict[str, Any]", result.structured_content)

    async def create(self, *steps: str, **arguments: Any) -> str:
        """The id of a new job whose scripted agent follows *steps*."""
        description = "\n".join(("A rehearsal.", *(f"! {step}" for step in steps)))
        return (await self.call("create_job", description=description, **arguments))["job_id"]

    async def outcome(self, *job_ids: str, timeout_s: float = 45) -> list[dict[str, Any]]:
        """The jobs once all of them are final."""
        answer = await self.call("wait_for_jobs", job_ids=list(job_ids), timeout_s=timeout_s)
        assert answer["pending"] == [], answer
        return answer["jobs"]


@dataclass
class RunningServer:
    """A server process and its data folder."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path
    work_dir: Path

    @property
    def token(self) -> str:
        return (self.data_dir / "operator.token").read_text(encoding="utf-8").strip()

    @property
    def worker_pid(self) -> int:
        return json.loads((self.data_dir / "server.json").read_text(encoding="utf-8"))["pid"]

    def rest(self) -> httpx2.Client:
        """A client of the REST interface, as the operator."""
        return httpx2.Client(base_url=self.url, headers=_bearer(self.token), timeout=30)

    @asynccontextmanager
    async def operator(self, mode: str = "auto") -> AsyncGenerator[Agent]:
        async with self.client(self.token, mode) as agent:
            yield agent

    @asynccontextmanager
    async def client(self, token: str, mode: str = "auto") -> AsyncGenerator[Agent]:
        """A client that holds *token*."""
        timeout = httpx2.Timeout(60, read=None)
        async with (
            httpx2.AsyncClient(headers=_bearer(token), timeout=timeout) as http,
            Client(
                streamable_http_client(f"{self.url}/mcp", http_client=http), mode=cast("Mode", mode)
            ) as client,
        ):
            await client.list_tools()
            yield Agent(client)

    async def agent_of(self, job_id: str, attempt: int = 1) -> psutil.Process:
        """The process of the agent itself, below its shim, once it runs."""
        path = self.data_dir / "runs" / f"{job_id}.{attempt}" / "shim.json"
        await until(path.exists)
        return psutil.Process(json.loads(path.read_text(encoding="utf-8"))["agent_pid"])

    async def token_of(self, job_id: str, attempt: int = 1) -> str:
        """The bearer token that an agent was given, read from its environment."""
        process = await self.agent_of(job_id, attempt)
        return process.environ()["HURLICANE_TOKEN"]

    def stop(self) -> None:
        """SIGTERM, as a service manager does; the server must be gone in time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self._end_agents()

    def _end_agents(self) -> None:
        """Agents outlive their server; those of a test must not outlive the test."""
        shims = [shim for path in self._shim_files() if (shim := _shim_of(path)) is not None]
        for shim in shims:
            with suppress(psutil.NoSuchProcess):
                shim.terminate()  # it ends its whole tree
        _, left = psutil.wait_procs(shims, timeout=20)
        assert left == []

    def _shim_files(self) -> Iterable[Path]:
        return (self.data_dir / "runs").glob("*/shim.json")


def _shim_of(path: Path) -> psutil.Process | None:
    """The shim that wrote this file, if it still lives."""
    try:
        process = psutil.Process(json.loads(path.read_text(encoding="utf-8"))["pid"])
        return process if str(path.parent) in process.cmdline() else None
    except psutil.NoSuchProcess:
        return None


async def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Return once *condition* holds."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  (a file or another process: nobody notifies us)
            await anyio.sleep(0.02)


def running_server(
    data_dir: Path,
    work_dir: Path,
    settings: Mapping[str, str],
    inherited: Mapping[str, str] | None = None,
    module: str = "hurlicane_mcp",
) -> RunningServer:
    """A new server on *data_dir*, ready; *settings* are `HURLICANE_…` variables in lower case.

    *inherited* is the environment besides them; by default this process's search path and home.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = dict(environment if inherited is None else inherited)
    environment |= {
        "HURLICANE_PORT": "0",
        "HURLICANE_PROVIDER": "scripted",
        "HURLICANE_LEAVE_GRACE": "2",
    }
    environment |= {f"HURLICANE_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", module, "serve", "--data-dir", str(data_dir)],
        cwd=work_dir,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = process.stdout.readline()
    if "ready" not in ready:
        process.communicate()
        raise AssertionError(f"the server did not start: {ready!r}, exit {process.returncode}")
    url = next(word for word in ready.split() if word.startswith("http")).removesuffix("/mcp")
    return RunningServer(process, url, data_dir, work_dir)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
