"""What the bench's agents and the bench have to agree upon with the server and each other."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from bench import agent
from bench.control import Control
from hurlicane_mcp.providers.base import ConnectionLost
from hurlicane_mcp.providers.claude import ClaudeProvider

SAY_HELLO = """
import socket, sys, time
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(b"12 job_a.3 hca_token\\n")
time.sleep(60)
"""


@pytest.fixture
def control(tmp_path: Path) -> Generator[Control]:
    control = Control(tmp_path / "control")
    yield control
    control.close()


def test_the_server_understands_that_a_bench_agent_has_lost_it() -> None:
    readings = ClaudeProvider().parse_line(agent.LOST.encode())
    assert any(isinstance(reading, ConnectionLost) for reading in readings)


def test_to_kill_a_held_agent_kills_the_process_that_said_hello(control: Control) -> None:
    process = subprocess.Popen((sys.executable, "-c", SAY_HELLO, str(control.path)))
    try:
        held = control.agent()
        assert (held.born_ns, held.attempt, held.job_id) == (12, "job_a.3", "job_a")
        assert held.pid == process.pid
        held.kill()
        assert process.wait(10) == -signal.SIGKILL
        held.leave()
    finally:
        process.kill()
        process.wait()


def test_an_agent_whose_prompt_names_nothing_to_do_says_hello_and_hangs(
    control: Control, tmp_path: Path
) -> None:
    config = tmp_path / "mcp.json"
    config.write_text(
        '{"url": "http://127.0.0.1:1/mcp", "Authorization": "Bearer hca_token"}', encoding="utf-8"
    )
    program = (sys.executable, "-c", "from bench import agent; agent.main(7)")
    environment = {
        **os.environ,
        agent.CONTROL: str(control.path),
        "HURLICANE_ATTEMPT": "job_a.2",
    }
    prompt = tmp_path / "prompt"
    prompt.write_text("Your process ended in the middle of job job_a.", encoding="utf-8")
    with prompt.open() as stdin:
        process = subprocess.Popen(
            (*program, "--mcp-config", str(config)),
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
        )
    try:
        held = control.agent()
        held.leave()  # the line does not survive the exec
        assert held.token == "hca_token"
        assert psutil.Process(process.pid).name() == "sleep"
    finally:
        process.kill()
        process.wait()
