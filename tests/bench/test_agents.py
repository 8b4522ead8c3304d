"""What the bench's agents and the bench have to agree upon with the server and each other."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from bench import agent
from bench.control import Control, HeldAgent
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Patience, Refusal, Scope
from hurlicane_mcp.providers.base import ConnectionLost, Refused, TurnSeen
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


@pytest.fixture
def launch(control: Control, tmp_path: Path) -> Generator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts agents of the bench with a prompt and flags; what they print goes to `output`."""
    config = tmp_path / "mcp.json"
    config.write_text(
        '{"url": "http://127.0.0.1:1/mcp", "Authorization": "Bearer hca_token"}', encoding="utf-8"
    )
    program = (sys.executable, "-c", "from bench import agent; agent.main(7)")
    processes: list[subprocess.Popen[bytes]] = []

    def start(told: str, *flags: str) -> subprocess.Popen[bytes]:
        prompt = tmp_path / "prompt"
        prompt.write_text(told, encoding="utf-8")
        with prompt.open() as stdin, (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(
                (*program, "--mcp-config", str(config), *flags),
                cwd=Path(__file__).parents[2],
                env={
                    **os.environ,
                    agent.CONTROL: str(control.path),
                    "HURLICANE_ATTEMPT": "job_a.2",
                },
                stdin=stdin,
                stdout=output,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def shown(held: HeldAgent, output: Path, order: str) -> list[str]:
    """All that an agent has printed once it has been given *order*."""
    held.order(order)
    held.shown_ns()
    held.leave()
    return output.read_text(encoding="utf-8").splitlines()


def refusal_in(line: str) -> Refusal:
    (refusal,) = [
        reading.refusal
        for reading in ClaudeProvider().parse_line(line.encode())
        if isinstance(reading, Refused)
    ]
    return refusal


def test_an_agent_whose_prompt_names_nothing_to_do_says_hello_and_hangs(
    control: Control, launch: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = launch("Your process ended in the middle of job job_a.")
    held = control.agent()
    held.leave()  # the line does not survive the exec
    assert held.token == "hca_token"
    assert psutil.Process(process.pid).name() == "sleep"


def test_the_first_refusal_of_a_bench_agent_is_one_that_is_not_left_to_its_cli(
    control: Control, launch: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    launch("bench: refuse", "--model", "claude-bench-1")
    init, line = shown(control.agent(), tmp_path / "output", "now")
    assert '"model":"claude-bench-1"' in init
    refusal, now = refusal_in(line), datetime.now(UTC)
    assert (refusal.kind, refusal.scope) == (FailureKind.RATE_LIMIT, Scope.MODEL)
    assert not Patience().covers(refusal, now, now)


def test_a_bench_agent_meets_a_limit_of_its_account_that_ends_when_the_bench_says(
    control: Control, launch: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    launch("bench: limit")
    init, line = shown(control.agent(), tmp_path / "output", "1795546001")
    assert '"session_id":"bench-answer"' in init
    refusal = refusal_in(line)
    assert (refusal.kind, refusal.scope) == (FailureKind.USAGE_LIMIT, Scope.ACCOUNT)
    assert refusal.resets_at == datetime.fromtimestamp(1795546001, UTC)


def test_whoever_goes_on_with_a_session_that_met_a_limit_answers_when_the_bench_says(
    control: Control, launch: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    launch("The model that you ran on could not answer.", "--resume", "bench-answer")
    _, line = shown(control.agent(), tmp_path / "output", "now")
    readings = ClaudeProvider().parse_line(line.encode())
    assert any(isinstance(reading, TurnSeen) for reading in readings)


def test_the_bench_sees_that_an_agent_says_hello_and_that_none_does(
    control: Control, launch: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert not control.is_anyone_there(0)
    launch("bench: hang")
    assert control.is_anyone_there(60)
    control.agent().leave()
    assert not control.is_anyone_there(0)
