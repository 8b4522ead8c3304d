"""Health warnings on the command line, of agents that really work, over a death of the worker."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server

FAILING = ("on_error continue", *('call get_job {"job_id": "job_none"}',) * 5)
SENTENCE = "At least 5 tool calls in a row have failed."


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("warnings")
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def warned(hurlicane: Command) -> list[dict[str, str]]:
    return json.loads(hurlicane("warnings", "--json").stdout)["warnings"]


def test_warnings_are_seen_everywhere_dismissed_and_cleared(
    shared: RunningServer, hurlicane: Command
) -> None:
    assert hurlicane("warnings").stderr == "No job has a warning.\n"
    job = hurlicane("run", "-d", task(*FAILING, "hang")).stdout.strip()
    other = hurlicane("run", "-d", task(*FAILING, "sleep 120")).stdout.strip()
    until(lambda: len(warned(hurlicane)) == 2)
    killed = shared.worker_pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: shared.worker_pid != killed)
    found = {one["job_id"]: one for one in warned(hurlicane)}
    assert found.keys() == {job, other}
    assert (found[job]["kind"], found[job]["text"]) == ("tool_failures", SENTENCE)
    listed = hurlicane("warnings")
    assert job in listed.stdout
    assert SENTENCE in listed.stdout
    assert listed.stderr == "hurlicane warnings dismiss JOB KIND\n"
    assert "! tool_failures" in hurlicane("ps").stdout
    assert SENTENCE in hurlicane("show", job).stdout

    told = hurlicane("warnings", "dismiss", job, "tool_failures")
    assert told.stderr == f"{job} is no longer shown with tool_failures.\n"
    again = hurlicane("warnings", "dismiss", job, "tool_failures", "--json")
    assert json.loads(again.stdout)["kind"] == "tool_failures"
    assert [one["job_id"] for one in warned(hurlicane)] == [other]
    assert SENTENCE not in hurlicane("show", job).stdout

    for one in (job, other):
        hurlicane("cancel", one)
    assert warned(hurlicane) == []

    def kinds() -> list[str]:
        events = hurlicane("events", "--job", job, "--kind", "job.warn*", "--after", "0", "--json")
        return [json.loads(line)["kind"] for line in events.stdout.splitlines()]

    until(lambda: len(kinds()) == 3)
    assert kinds() == ["job.warned", "job.warning_dismissed", "job.warning_cleared"]
    late = hurlicane("warnings", "dismiss", job, "tool_failures")
    assert (late.returncode, "It holds no longer." in late.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dismiss", "job_x", "../../jobs"), "'../../jobs' is no name"),
        (("dismiss", "job_x", "noise"), "Unknown warning 'noise'. Known: stalled_output,"),
        (("--json", "dismiss", "job_x", "turns"), "Options go behind 'dismiss'."),
    ],
)
def test_what_cannot_be_dismissed_is_wrong_usage(
    hurlicane: Command, arguments: tuple[str, ...], message: str
) -> None:
    refused = hurlicane("warnings", *arguments)
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, message in line) == (2, True)
