"""Jobs on a terminal: people attach to them, and they end like all others."""

import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from tests.cli.command import START, Command, task
from tests.machine import missing
from tests.stories.server import RunningServer, running_server, until

pytestmark = pytest.mark.anyio

#: A step that reads a line from the terminal into the file `heard`.
LISTEN = "run sh -c 'read -r line </dev/tty; printf %s \"$line\" > heard'"
UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


@pytest.fixture(autouse=True)
def tmux() -> None:
    """Without tmux nothing here can be tested."""
    if shutil.which("tmux") is None:
        missing("tmux is not installed")


def created(server: RunningServer, *steps: str, **arguments: Any) -> str:
    """The id of a new interactive job."""
    body = {"description": task(*steps), "interactive": True, **arguments}
    with server.rest() as rest:
        return rest.post("/api/jobs", json=body).raise_for_status().json()["job_id"]


def outcome(server: RunningServer, job_id: str) -> dict[str, Any]:
    """The job once it is final."""
    with server.rest() as rest:
        params: dict[str, Any] = {"job_id": job_id, "timeout_s": 30}
        answer = rest.get("/api/wait", params=params, timeout=httpx2.Timeout(40)).json()
    assert answer["pending"] == [], answer
    return answer["jobs"][0]


def attempts(server: RunningServer, job_id: str) -> list[dict[str, Any]]:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job_id}/attempts").json()["attempts"]


def kept(server: RunningServer, job_id: str, name: str, attempt: int = 1) -> str:
    """A file of an attempt's run directory; empty if there is none."""
    path = server.data_dir / "runs" / f"{job_id}.{attempt}" / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


async def tmux_of(server: RunningServer, job_id: str, attempt: int = 1) -> psutil.Process:
    """The tmux that shows an agent."""
    agent = await server.agent_of(job_id, attempt)
    shim = agent.parent()
    assert shim is not None
    found = shim.parent()
    assert found is not None
    assert found.name().startswith("tmux")
    return found


@dataclass
class Viewer:
    """A person's terminal with `hurlicane attach` on it."""

    process: "subprocess.Popen[bytes]"
    master: int
    seen: bytes = b""

    def sees(self, text: str) -> bool:
        """Whether this has been on the screen until now."""
        with suppress(OSError):  # nothing new, or the program has left
            self.seen += os.read(self.master, 65536)
        return text.encode() in self.seen

    def types(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@contextmanager
def viewer(server: RunningServer, *arguments: str, **variables: str) -> Generator[Viewer]:
    """Somebody who attaches from a shell of their own, inside another tmux."""
    hurlicane = Command(server.data_dir, server.work_dir)
    environment = {**hurlicane.environment, "TERM": "xterm", "TMUX": "/elsewhere,1,0", **variables}
    master, terminal = pty.openpty()
    os.set_blocking(master, False)
    with subprocess.Popen(
        [*START, "attach", *arguments],
        cwd=server.work_dir,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        try:
            yield Viewer(process, master)
        finally:
            process.kill()
            os.close(master)


async def test_an_interactive_job_ends_with_finish_job_and_its_screen_is_kept(
    server: RunningServer,
) -> None:
    job = created(server, "print on the screen", UNTIL_GO, "finish 42")
    agent = await server.agent_of(job)
    await until(lambda: "terminal" in attempts(server, job)[0])
    terminal = attempts(server, job)[0]["terminal"]
    assert terminal["socket"] == str(server.data_dir / "runs" / f"{job}.1" / "tmux")
    assert terminal["session"] == f"{job}_1"
    assert agent.terminal() is not None
    await until(lambda: "on the screen" in kept(server, job, "screen"))
    (server.work_dir / "go").touch()
    answer = outcome(server, job)
    assert (answer["status"], answer["result"], answer["attempt"]) == ("done", "42", 1)
    await until(lambda: "ended_at" in attempts(server, job)[0])
    (attempt,) = attempts(server, job)
    assert (attempt["exit_code"], attempt.get("terminal")) == (0, None)
    assert attempt["session_id"]
    assert "on the screen" in kept(server, job, "scrollback.txt")


def test_run_says_how_to_attach_and_prints_the_result(server: RunningServer) -> None:
    ran = Command(server.data_dir, server.work_dir)("run", "-i", task("finish 42"))
    assert (ran.returncode, ran.stdout) == (0, "42\n")
    assert "`hurlicane attach job_" in ran.stderr


async def test_an_agent_gives_a_child_a_terminal(server: RunningServer) -> None:
    child = '{"description": "Child.\\n! finish ok", "interactive": true}'
    async with server.operator() as operator:
        lead = await operator.create(
            f"call create_job {child} as c",
            'call wait_for_jobs {"job_ids": ["${c.job_id}"]} as w',
            "finish ${c.job_id} ${w.jobs.0.status}",
        )
        (answer,) = await operator.outcome(lead)
        job, status = answer["result"].split()
        assert status == "done"
        assert (await operator.call("get_job", job_id=job))["interactive"] is True
    assert kept(server, job, "screen")


async def leave(person: Viewer) -> None:
    """Type Ctrl-B D as people do: keys that come within a millisecond are a paste to tmux."""
    with anyio.fail_after(40):
        while not person.sees("detached"):
            person.types("\x02")
            await anyio.sleep(0.1)
            person.types("d")
            with anyio.move_on_after(3):
                await until(lambda: person.sees("detached"))


async def test_a_person_attaches_types_and_leaves_and_the_agent_goes_on(
    server: RunningServer,
) -> None:
    job = created(server, "print please say", LISTEN, UNTIL_GO, "finish heard it")
    agent = await server.agent_of(job)
    with viewer(server, job) as person:
        await until(lambda: person.sees("please say"))
        person.types("it's me\r")
        await until((server.work_dir / "heard").exists)
        await leave(person)
        assert person.process.wait(10) == 0
    assert (server.work_dir / "heard").read_text() == "it's me"
    assert agent.is_running()
    (server.work_dir / "go").touch()
    assert outcome(server, job)["result"] == "heard it"


async def test_whoever_only_looks_cannot_type(server: RunningServer) -> None:
    job = created(server, "print please say", LISTEN, "finish heard it")
    with viewer(server, job, "--read-only") as spectator, viewer(server, job) as person:
        await until(lambda: spectator.sees("please say") and person.sees("please say"))
        spectator.types("no\r")
        person.types("yes\r")
        await until(lambda: spectator.sees("yes"))
        assert outcome(server, job)["status"] == "done"
    assert (server.work_dir / "heard").read_text() == "yes"


@pytest.mark.parametrize("fault", ["a killed viewer", "a terminal that tmux does not know"])
async def test_a_viewer_that_fails_leaves_the_agent_alone(
    server: RunningServer, fault: str
) -> None:
    job = created(server, "print here", UNTIL_GO, "finish unharmed")
    agent = await server.agent_of(job)
    if fault == "a killed viewer":
        with viewer(server, job) as person:
            await until(lambda: person.sees("here"))
            os.killpg(person.process.pid, signal.SIGKILL)
    else:
        with viewer(server, job, TERM="no-such-terminal") as person:
            await until(lambda: person.sees("no-such-terminal") or person.sees("terminal"))
            assert person.process.wait(10) != 0
    assert agent.is_running()
    (server.work_dir / "go").touch()
    answer = outcome(server, job)
    assert (answer["result"], answer["attempt"]) == ("unharmed", 1)


async def test_attach_says_why_there_is_nothing_to_attach_to(server: RunningServer) -> None:
    hurlicane = Command(server.data_dir, server.work_dir)
    with server.rest() as rest:
        body = {"description": task("finish x")}
        plain = rest.post("/api/jobs", json=body).json()["job_id"]
    done = created(server, "finish x")
    blocked = created(server, "finish x", depends_on=[created(server, "hang")])
    outcome(server, done)
    await until(lambda: "terminal" not in attempts(server, done)[0])
    for job, code, words in (
        (plain, 2, "is not interactive"),
        (done, 1, "its terminal is gone"),
        (blocked, 1, "no agent of it runs yet"),
        ("job_0000000000", 1, "no job"),
    ):
        refused = hurlicane("attach", job)
        assert refused.returncode == code, refused.stderr
        (line,) = refused.stderr.splitlines()
        assert words in line


async def test_attach_without_a_terminal_or_without_tmux_says_so(
    server: RunningServer, tmp_path: Path
) -> None:
    hurlicane = Command(server.data_dir, server.work_dir)
    job = created(server, "hang")
    await until(lambda: attempts(server, job) != [] and "terminal" in attempts(server, job)[0])
    assert "A terminal is needed" in hurlicane("attach", job).stderr
    assert "apt-get install tmux" in hurlicane("attach", job, PATH=str(tmp_path)).stderr


async def test_a_message_is_typed_into_the_terminal_and_not_told_again(
    server: RunningServer,
) -> None:
    status = 'call report_status {"text": "listening"} as s'
    job = created(server, status, LISTEN, status, "finish x")
    with server.rest() as rest:
        await until(lambda: rest.get(f"/api/jobs/{job}").json().get("progress"))
    await until(lambda: "report_status" in kept(server, job, "screen"))
    sent = Command(server.data_dir, server.work_dir)("send", job, 'mind the "gap";')
    assert sent.returncode == 0, sent.stderr
    await until((server.work_dir / "heard").exists)
    outcome(server, job)
    heard = (server.work_dir / "heard").read_text()
    assert heard.startswith("[message from operator, ")
    assert heard.endswith('UTC] mind the "gap";')
    assert kept(server, job, "screen").count("mind the") == 1  # its echo, and no tool's answer
    with server.rest() as rest:
        (message,) = rest.get(f"/api/jobs/{job}/messages").json()["messages"]
    assert message["attempt"] == 1
    assert message["acknowledged_at"]


async def test_a_cancelled_interactive_job_is_stopped(server: RunningServer) -> None:
    job = created(server, "hang")
    agent, tmux_server = await server.agent_of(job), await tmux_of(server, job)
    with server.rest() as rest:
        rest.post(f"/api/jobs/{job}/cancel", json={}).raise_for_status()
    agent.wait(10)
    tmux_server.wait(10)
    assert outcome(server, job)["status"] == "cancelled"


async def test_a_killed_worker_adopts_the_agent_and_its_terminal(server: RunningServer) -> None:
    job = created(server, "print here", LISTEN, "finish went on")
    agent, worker = await server.agent_of(job), server.worker_pid
    os.kill(worker, signal.SIGKILL)
    await until(lambda: server.worker_pid != worker)
    with viewer(server, job) as person:
        await until(lambda: person.sees("here"))
        person.types("go\r")
        answer = outcome(server, job)
    assert (answer["result"], answer["attempt"]) == ("went on", 1)
    agent.wait(10)


async def test_the_end_of_tmux_is_a_crash_that_is_heard_at_once(server: RunningServer) -> None:
    other = created(server, UNTIL_GO, "finish untouched")
    job = created(server, "say step one", UNTIL_GO, "finish after all")
    unharmed, agent = await server.agent_of(other), await server.agent_of(job)
    await until(lambda: "step one" in kept(server, job, "screen"))
    (await tmux_of(server, job)).kill()
    agent.wait(2)
    await until(lambda: "ended_at" in attempts(server, job)[0], 1)
    assert attempts(server, job)[0]["outcome"] == "crashed"
    await server.agent_of(job, 2)  # started again, in a terminal of its own
    (server.work_dir / "go").touch()
    answer = outcome(server, job)
    assert (answer["result"], answer["attempt"]) == ("after all", 2)
    first, second = attempts(server, job)
    assert first["session_id"] == second["session_id"]
    assert "step one" not in kept(server, job, "screen", 2)
    assert outcome(server, other)["attempt"] == 1
    unharmed.wait(10)


def test_without_tmux_the_job_fails_with_how_to_install_it(tmp_path: Path) -> None:
    server = running_server(tmp_path / "data", tmp_path, {}, {"PATH": "/nowhere", "HOME": "/"})
    try:
        answer = outcome(server, created(server, "finish x"))
    finally:
        server.stop()
    assert answer["status"] == "failed"
    assert answer["failure"]["kind"] == "launch"
    assert "apt-get install tmux" in answer["failure"]["reason"]


async def test_no_secret_is_in_any_command_line(server: RunningServer) -> None:
    job = created(server, "hang")
    token, tmux_server = await server.token_of(job), await tmux_of(server, job)
    seen = json.dumps([one.cmdline() for one in (tmux_server, *tmux_server.children(True))])
    assert f"{job}.1" in seen
    assert token not in seen + json.dumps(tmux_server.environ())
    assert server.token not in seen
