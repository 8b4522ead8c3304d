"""The agent of a chaos run: follows its task and stamps all that it does into its job's file.

It stands in for Claude Code, as the agent of the bench does, and imports as little. It remembers
what it has done over the end of its process, as a CLI's session does, and it repeats a call whose
connection broke.
"""

import fcntl
import json
import os
import sys
import time
from contextlib import closing, suppress
from sqlite3 import OperationalError, connect
from typing import Any

from bench.agent import connection_of
from bench.wire import Refused, Wire, tool_call

PROGRAM = """#!{python} -SEI
import sys
sys.path.insert(0, {root!r})
from tests.chaos import agent
agent.main()
"""
STAMPS = "CHAOS_STAMPS"  #: the environment variable that names the folder of the stamps
TASK = "chaos: "  #: what the description's line with the task begins with
PATIENCE_S = 90.0  #: how long a call is tried for while the server cannot be reached
BEAT_S = 0.02


class Stamps:
    """The job's file, which every attempt appends to."""

    def __init__(self, folder: str, job_id: str, attempt: int) -> None:
        self.folder = folder
        self._attempt = attempt
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(f"{folder}/{job_id}.stamps", flags, 0o600)

    def put(self, what: str, **data: Any) -> None:
        """Append a line, whole or not at all."""
        stamp = {"attempt": self._attempt, "at": time.monotonic(), "what": what, **data}
        os.write(self._file, json.dumps(stamp).encode() + b"\n")


class Memory:
    """What the agent knows: its task, the next step, and its children's ids by name."""

    def __init__(self, path: str, prompt: str) -> None:
        self._path = path
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123  (see bench.agent)
                known = json.load(file)
        except FileNotFoundError:
            task = json.loads(prompt.partition(TASK)[2].splitlines()[0])
            known: dict[str, Any] = {"task": task, "next": 0, "ids": {}, "limits": {}}
        self.task: dict[str, Any] = known["task"]
        self.next: int = known["next"]
        self.ids: dict[str, str] = known["ids"]
        self.limits: dict[str, float] = known["limits"]  #: models and until when they refuse

    def save(self) -> None:
        """Keep it for the next attempt."""
        known = {"task": self.task, "next": self.next, "ids": self.ids, "limits": self.limits}
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(known, file)
        os.replace(f"{self._path}.new", self._path)  # noqa: PTH105


class Agent:
    """Carries the steps out."""

    def __init__(self, stamps: Stamps, memory: Memory, number: int, url: str, token: str) -> None:
        self._stamps = stamps
        self._memory = memory
        self._number = number
        self._port, self._token = int(url.rpartition(":")[2].partition("/")[0]), token
        self._wire: Wire | None = None

    def follow(self) -> None:
        """Do what is left of the task."""
        memory = self._memory
        while memory.next < len(memory.task["steps"]):
            kind, *arguments = memory.task["steps"][memory.next]
            memory.next += 1
            if kind == "leave":
                memory.save()
                return
            getattr(self, kind)(*arguments)
            memory.save()

    def work(self, ms: int) -> None:
        """Show signs of life for a while."""
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            self._stamps.put("beat")
            time.sleep(BEAT_S)

    def meet(self) -> None:
        """Work until somebody is inside a wait, or has been."""
        database = f"file:{self._stamps.folder}/../data/hurlicane.db?mode=ro"
        while True:
            self.work(50)
            # A database whose server was just killed may not let itself be read.
            with suppress(OperationalError), closing(connect(database, uri=True)) as connection:
                if connection.execute("SELECT 1 FROM wait").fetchone():
                    return

    def answer(self, limited: list[str], for_s: float) -> None:
        """Have the model answer, which the *limited* ones do only *for_s* after the first refusal.

        A refused agent ends as Claude Code does, and tries this step again when it is resumed.
        """
        model, memory = sys.argv[sys.argv.index("--model") + 1], self._memory
        until = memory.limits.setdefault(model, time.time() + for_s)
        if model not in limited or time.time() >= until:
            text = [{"type": "text", "text": "On with it."}]
            message = {"id": f"msg_{memory.next}", "model": model, "content": text}
            _print(type="assistant", message=message)
            return
        memory.next -= 1
        memory.save()
        limit = {
            "status": "rejected",
            "resetsAt": int(until) + 1,
            "rateLimitType": "seven_day_opus",
        }
        _print(type="rate_limit_event", rate_limit_info=limit)
        said = "You've hit your limit"
        _print(type="result", subtype="success", is_error=True, api_error_status=429, result=said)
        self._stamps.put("refused_by_model", model=model)
        os._exit(1)

    def report(self) -> None:
        """Say how far it is."""
        self._call("report_status", text=f"step {self._memory.next}")

    def create(self, name: str) -> None:
        """Create a child."""
        task, ids = self._memory.task["children"][name], self._memory.ids
        arguments = {
            "title": name,
            "description": f"{TASK}{json.dumps(task)}",
            "depends_on": [ids[one] for one in task["depends_on"]],
        }
        if task["keyed"]:
            arguments["idempotency_key"] = name
        ids[name] = self._call("create_job", **arguments)["job_id"]

    def wait(self, names: list[str]) -> None:
        """Stay until the children are final."""
        pending = [self._memory.ids[name] for name in names]
        while pending:
            answer = self._call("wait_for_jobs", job_ids=pending)
            pending = answer["pending"]
            for job in answer["jobs"]:
                if job["job_id"] not in pending:
                    told = {name: job.get(name, "") for name in ("job_id", "status", "result")}
                    self._stamps.put("told", **told)

    def finish(self, outcome: str) -> None:
        """End the job. Children of which an earlier attempt has not told us are let go."""
        result = f"{self._memory.task['name']} by {self._number}"
        detach = self._number > 1
        self._call("finish_job", result=result, outcome=outcome, detach=detach)

    def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer. Ends the process if the server refuses or stays away."""
        said = {name: arguments[name] for name in arguments if name != "description"}
        self._stamps.put("call", tool=tool, **said)
        request = tool_call(self._port, self._token, tool, json.dumps(arguments))
        broken_at: float | None = None
        while True:
            try:
                body = self._exchange(request)
            except Refused as refusal:
                self._wire = None
                if "store_closed" not in str(refusal):
                    self._stamps.put("refused", tool=tool, text=str(refusal))
                    os._exit(0)
            except OSError as error:
                self._wire = None
                self._stamps.put("broken", tool=tool, text=repr(error))
            else:
                answer = structured(body)
                told = {name: answer[name] for name in ("job_id", "status") if name in answer}
                self._stamps.put("answer", tool=tool, answered=told)
                return answer
            broken_at = broken_at or time.monotonic()
            if time.monotonic() - broken_at > PATIENCE_S:
                self._stamps.put("gave_up", tool=tool)
                os._exit(1)
            time.sleep(0.1)

    def _exchange(self, request: bytes) -> bytes:
        if self._wire is None:
            self._wire = Wire(self._port)
        return self._wire.exchange(request)


def _print(**event: Any) -> None:
    """A line of the stream that Claude Code prints."""
    os.write(1, json.dumps(event).encode() + b"\n")


def structured(body: bytes) -> dict[str, Any]:
    """The structured content in an answer, be it JSON or an event stream."""
    last = body[body.rindex(b'{"jsonrpc"') :].decode()  # comments may come before it
    message, _ = json.JSONDecoder().raw_decode(last)
    return message["result"]["structuredContent"]


def main() -> None:
    """Live the life of one attempt."""
    job_id, _, number = os.environ["HURLICANE_ATTEMPT"].rpartition(".")
    folder = os.environ[STAMPS]
    stamps = Stamps(folder, job_id, int(number))
    url, token = connection_of(sys.argv[sys.argv.index("--mcp-config") + 1])
    stamps.put("start", pid=os.getpid(), token=token)
    life = os.open(f"{folder}/{job_id}.life", os.O_RDWR | os.O_CREAT, 0o600)
    try:  # the kernel lets go of it with the process, so this is exact
        fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stamps.put("overlap")
    memory = Memory(f"{folder}/{job_id}.memory", sys.stdin.read())
    memory.save()
    model = sys.argv[sys.argv.index("--model") + 1] if "--model" in sys.argv else "claude-chaos"
    _print(type="system", subtype="init", session_id=job_id, model=model)
    Agent(stamps, memory, int(number), url, token).follow()
    stamps.put("end")
    os._exit(0)  # without the interpreter's own farewell
