"""The real CLIs while their server, or they themselves, are killed: the work goes on, once.

The leads of one test work side by side, so that an outage costs its time once. Each appends a line
to a file, has a child do something, waits for it, appends another line and finishes. A call of ours
that fails is repeated once; then most models give up, as real ones do, and the CLI ends. A pensive
one thinks until it is told to go on.
"""

import re
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_script import (
    CallTool,
    Conversation,
    Move,
    Returned,
    Said,
    Say,
    Script,
    Told,
    by_role,
)
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import Sandbox, make_sandbox
from tests.stories.server import RunningServer, running_server, until

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(180)]

CLIS = ("claude", "codex")
#: Where a lead is when it happens. A pensive one is between two calls.
BETWEEN, IN_CALL, IN_WAIT, PENSIVE = "between-calls", "in-a-call", "in-a-wait", "pensive"
TRIES = 2
LISTED = re.compile(r"^- (job_\w+) \(", re.MULTILINE)
ANSWER = "from the child"
CHILD = f"""A rehearsal.
! run sh -c 'until [ -e go ]; do sleep 0.05; done'
! finish {ANSWER}
"""


@dataclass
class Gate:
    """Where a lead's model thinks until the test lets it go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    thought: threading.Event = field(default_factory=threading.Event)

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(120)

    def think(self) -> None:
        assert self.thought.wait(120)


def lead(role: str, gate: Gate) -> Script:
    """What the model of *role* does next, by what has worked so far."""
    cli, _, place = role.partition("-")

    def script(conversation: Conversation) -> Move:
        if (failed := _failures(conversation)) and place == PENSIVE:
            gate.think()
        if failed >= TRIES:
            return Say("I cannot reach the server.")
        written = len(conversation.results("Bash") + conversation.results("exec_command"))
        if written == 0:
            return shell(cli, f"echo one >> {role}.txt")
        if not (children := _children(conversation)):
            if place == IN_CALL:
                gate.pass_through()
            return CallTool("create_job", {"description": CHILD, "provider": "scripted"})
        if place in (BETWEEN, PENSIVE):
            gate.pass_through()
        if not _has_answer(conversation):
            gate.reached.set()
            return CallTool("wait_for_jobs", {"job_ids": children[:1]})
        if written == 1:
            return shell(cli, f"echo two >> {role}.txt")
        if not _good(conversation, "finish_job", "status"):
            return CallTool("finish_job", {"result": f"It says: {ANSWER}"})
        return Say("Bye.")

    return script


def shell(cli: str, command: str) -> CallTool:
    name, argument = ("Bash", "command") if cli == "claude" else ("exec_command", "cmd")
    return CallTool(name, {argument: command}, server=None)


def _good(conversation: Conversation, tool: str, key: str) -> list[dict[str, Any]]:
    """The answers of *tool* that are what it promises."""
    return [one.data() for one in conversation.results(tool) if f'"{key}"' in one.text]


def _children(conversation: Conversation) -> Sequence[str]:
    """The ids of jobs created before, from the calls' answers or from a resumed attempt's prompt.

    Claude Code writes its session a moment late: a SIGKILL may take the last answer with it.
    """
    answers = _good(conversation, "create_job", "job_id")
    told = [turn.text for turn in conversation.turns if isinstance(turn, Told)]
    listed = "\n".join(text.partition("already created")[2] for text in told)
    return [str(answer["job_id"]) for answer in answers] or LISTED.findall(listed)


def _has_answer(conversation: Conversation) -> bool:
    """Whether a wait, or the prompt of a resumed attempt, has told the child's result."""
    waited = _good(conversation, "wait_for_jobs", "jobs")
    return ANSWER in conversation.told or any(not answer["pending"] for answer in waited)


def _failures(conversation: Conversation) -> int:
    """How many calls have failed in a row, in this run of the CLI."""
    failed = 0
    for turn in reversed(conversation.turns):
        if isinstance(turn, Said) or (isinstance(turn, Told) and "still yours" in turn.text):
            break  # a turn ended, or a resumed one began
        if isinstance(turn, Returned):
            if not _is_failure(turn.text):
                break
            failed += 1
    return failed


def _is_failure(text: str) -> bool:
    words = ("is not connected", "connection closed", "ECONNRESET", "No such tool", "Transport ")
    return any(word in text for word in words)


@dataclass
class Stage:
    """A server that can be killed, and leads at work below it."""

    root: Path
    sandbox: Sandbox
    gates: Mapping[str, Gate]
    port: int
    grace_s: float
    server: RunningServer
    jobs: dict[str, str] = field(default_factory=dict[str, str])

    async def begin(self) -> None:
        """Start every lead and return once each is where it should be when it happens."""
        with self.server.rest() as rest:
            for role in self.gates:
                body = {
                    "description": f"[[role:{role}]] Have it answered.",
                    "provider": role.partition("-")[0],
                }
                answer = rest.post("/api/jobs", json=body).raise_for_status()
                self.jobs[role] = answer.json()["job_id"]
            for role, gate in self.gates.items():
                await until(gate.reached.is_set, 60)
                if role.endswith(IN_WAIT):
                    await until(partial(self._is_waiting, rest, self.jobs[role]), 30)

    def _is_waiting(self, rest: httpx2.Client, job_id: str) -> bool:
        agents = rest.get("/api/agents").json()["agents"]
        return any(agent["job_id"] == job_id and agent["waiting"] for agent in agents)

    def open(self, *places: str) -> None:
        """Let the models of all leads at these places make their next call."""
        for role, gate in self.gates.items():
            if role.endswith(places):
                gate.opened.set()

    async def outage(self, seconds: float) -> None:
        """Kill the server, parent and worker, and start it anew so much later."""
        worker = psutil.Process(self.server.worker_pid)
        await self.catch_in_a_call(worker)
        kill([psutil.Process(self.server.process.pid), worker])
        self.server.process.communicate()
        self.open(BETWEEN, PENSIVE)
        await anyio.sleep(seconds)
        self.server = _server(self.root, self.sandbox, self.port, self.grace_s)

    async def catch_in_a_call(self, worker: psutil.Process) -> None:
        """Freeze the worker, and have leads call it: their calls are open when it dies."""
        worker.suspend()
        self.open(IN_CALL)
        await anyio.sleep(1)  # nobody tells that a call waits at a frozen process

    def attempts(self, role: str) -> Sequence[Mapping[str, Any]]:
        """The attempts of a lead's job."""
        with self.server.rest() as rest:
            return rest.get(f"/api/jobs/{self.jobs[role]}/attempts").json()["attempts"]

    def finish_children(self) -> None:
        (self.sandbox.work_dir / "go").touch()

    async def outcomes(self) -> Mapping[str, Sequence[str]]:
        """The outcomes of each lead's attempts, once it has done its work, once, in one session."""
        seen = {role: self._seen(role) for role in self.jobs}
        wanted = Work("done", f"It says: {ANSWER}", 1, ("done",), ("one", "two"))
        assert seen == dict.fromkeys(self.jobs, wanted), self.jobs
        return {role: [one["outcome"] for one in self.attempts(role)] for role in self.jobs}

    def _seen(self, role: str) -> "Work":
        job_id = self.jobs[role]
        with self.server.rest() as rest:
            params: dict[str, Any] = {"job_id": job_id, "timeout_s": 100}
            answer = rest.get("/api/wait", params=params, timeout=httpx2.Timeout(110))
            (job,) = answer.json()["jobs"]
            below = rest.get("/api/jobs", params={"parent_id": job_id}).json()["jobs"]
        return Work(
            status=job["status"],
            result=job.get("result") or str(job.get("failure")),
            sessions=len({one.get("session_id") for one in self.attempts(role)}),
            children=tuple(child["status"] for child in below),
            lines=tuple((self.sandbox.work_dir / f"{role}.txt").read_text("utf-8").split()),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What a lead has done."""

    status: str
    result: str
    sessions: int
    children: tuple[str, ...]
    lines: tuple[str, ...]


def _server(root: Path, sandbox: Sandbox, port: int, grace_s: float) -> RunningServer:
    settings = {
        "port": str(port),
        "slots": "16",
        "lost_grace": str(grace_s),
        "kill_grace": "1",
    }
    return running_server(root / "data", sandbox.work_dir, settings, sandbox.environment)


@contextmanager
def stage(
    root: Path, *places: str, also: Sequence[str] = (), grace_s: float = 2
) -> Generator[Stage]:
    """A server and its models, on loopback and below *root*, for a lead of each CLI at each place.

    An agent that has been lost for *grace_s* is stopped.
    """
    roles = (*(f"{cli}-{place}" for cli in CLIS for place in places), *also)
    gates = {role: Gate() for role in roles}
    script = by_role({role: lead(role, gate) for role, gate in gates.items()})
    with anthropic_endpoint(script) as anthropic, openai_endpoint(script) as openai:
        sandbox = make_sandbox(root / "sandbox", anthropic.url, openai.url)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = _server(root, sandbox, port, grace_s)
        on = Stage(root, sandbox, gates, port, grace_s, server)
        try:
            yield on
        finally:
            for gate in gates.values():
                gate.opened.set()
                gate.thought.set()
            on.server.stop()


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


async def test_a_killed_worker_costs_no_agent_its_work(tmp_path: Path) -> None:
    with stage(tmp_path, BETWEEN, IN_CALL, IN_WAIT) as on:
        await on.begin()
        worker = psutil.Process(on.server.worker_pid)
        await on.catch_in_a_call(worker)
        kill([worker])
        on.open(BETWEEN)
        await until(lambda: on.server.worker_pid != worker.pid)
        on.finish_children()
        assert await on.outcomes() == {role: ["done"] for role in on.jobs}


@pytest.mark.parametrize("seconds", [3, pytest.param(40, id="slow-40")])
async def test_after_an_outage_agents_go_on_that_had_ended_or_only_think(
    seconds: float, tmp_path: Path
) -> None:
    """Codex connects anew at each call: while its model thinks it is not lost, however long."""
    thinker = f"codex-{PENSIVE}"
    with stage(tmp_path, BETWEEN, IN_CALL, IN_WAIT, also=[thinker]) as on:
        await on.begin()
        thinking = await on.server.agent_of(on.jobs[thinker])
        await on.outage(seconds)
        on.finish_children()
        await anyio.sleep(3 * on.grace_s)
        assert thinking.is_running()
        on.gates[thinker].thought.set()
        wanted = {role: ["disconnected", "done"] for role in on.jobs}
        assert await on.outcomes() == wanted | {thinker: ["done"]}


async def test_an_agent_that_comes_back_by_itself_is_left_alone(tmp_path: Path) -> None:
    """Claude Code connects anew, unasked; Codex does at its next call."""
    with stage(tmp_path, PENSIVE, grace_s=60) as on:
        await on.begin()
        (before,) = on.attempts(f"claude-{PENSIVE}")
        await on.outage(3)
        await until(
            lambda: on.attempts(f"claude-{PENSIVE}")[0]["last_seen_at"] > before["last_seen_at"], 30
        )
        for gate in on.gates.values():
            gate.thought.set()
        on.finish_children()
        assert await on.outcomes() == {role: ["done"] for role in on.jobs}


async def test_a_killed_cli_goes_on_in_its_session(tmp_path: Path) -> None:
    with stage(tmp_path, BETWEEN, IN_WAIT) as on:
        await on.begin()
        for job_id in on.jobs.values():
            (await on.server.agent_of(job_id)).kill()
        on.open(BETWEEN)
        on.finish_children()
        assert await on.outcomes() == {role: ["crashed", "done"] for role in on.jobs}
