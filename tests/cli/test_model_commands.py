"""Models and their limits on the command line, with jobs that wait for them."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    chains = "scripted:first > second, opus > haiku"
    server = running_server(folder / "data", folder, {"chains": chains})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Iterator[Command]:
    command = Command(shared.data_dir, shared.work_dir)
    yield command
    for limit in limits(command):
        command("models", "clear", limit["name"])


def limits(hurlicane: Command) -> list[dict[str, str]]:
    found = json.loads(hurlicane("models", "--json").stdout)["models"]
    return [one["limit"] for one in found if one.get("limit", {}).get("name") == one["name"]]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def status(hurlicane: Command, job: str) -> str:
    return json.loads(hurlicane("show", job, "--json").stdout)["status"]


def test_models_are_listed_with_their_state_and_price(hurlicane: Command) -> None:
    hurlicane("models", "limit", "claude:*", "--reason", "Not this week.")
    lines = hurlicane("models").stdout.splitlines()
    assert lines[0].split()[:3] == ["MODEL", "ALIASES", "STATE"]
    (opus,) = (line for line in lines if line.startswith("claude:claude-opus-5-5"))
    assert "opus, opus[1m]" in opus
    assert "limited until it is cleared" in opus
    assert "4, 20 (2026-11-24)" in opus
    assert opus.endswith("claude:*, by hand: Not this week.")
    assert any(line.startswith("scripted:second") and "available" in line for line in lines)
    assert lines[-2:] == [
        "falls back: scripted:first > scripted:second",
        "falls back: claude:opus > claude:haiku",
    ]


def test_a_limit_has_a_length_a_moment_or_no_end(hurlicane: Command) -> None:
    said = hurlicane("models", "limit", "opus", "--for", "1h30m", "--json").stdout
    limited = json.loads(said)
    since, end = (datetime.fromisoformat(limited[name]) for name in ("since", "until"))
    assert (end - since).total_seconds() == 5400
    told = hurlicane("models", "limit", "opus", "--forever")
    assert told.stderr == "claude:claude-opus-5-5 is limited until it is cleared.\n"
    day = datetime.fromtimestamp(time.time() + 86400 * 3).date()
    at = hurlicane("models", "limit", "opus", "--until", f"{day}T18:00", TZ="Asia/Dhaka")
    assert at.stderr == f"claude:claude-opus-5-5 is limited until {day:%b %d}, 18:00.\n"
    (limit,) = limits(hurlicane)
    assert limit["until"] == f"{day}T12:00:00Z"
    cleared = hurlicane("models", "clear", "opus")
    assert cleared.stderr == "claude:claude-opus-5-5 may be used again.\n"
    assert limits(hurlicane) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("limit", "gpt"), 2, "There is no model 'gpt'"),
        (("limit", "opus", "--for", "soon"), 2, "write 90, 30m or 1h30m"),
        (("limit", "opus", "--for", ""), 2, "write 90, 30m or 1h30m"),
        (("limit", "opus", "--for", "0"), 2, "`for_s` must be more than 0"),
        (("limit", "opus", "--until", "tomorrow"), 2, "write 2026-11-24T18:00"),
        (("limit", "opus", "--until", "2001-01-01"), 2, "`until` must be later than now"),
        (("limit", "opus", "--for", "5", "--forever"), 2, "Give one of"),
        (("clear", "opus"), 1, "Nothing is limited now."),
        (("clear", "../jobs"), 2, "There is no model '../jobs'"),
        (("--json", "clear", "opus"), 2, "Options go behind 'clear'."),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    hurlicane: Command, arguments: tuple[str, ...], code: int, message: str
) -> None:
    refused = hurlicane("models", *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    (line,) = refused.stderr.splitlines()
    assert message in line


def test_an_agent_that_runs_on_a_model_goes_on_when_it_is_limited(hurlicane: Command) -> None:
    job = hurlicane("run", "-d", "--model", "first", task("sleep 2", "finish ok")).stdout.strip()
    until(lambda: status(hurlicane, job) == "running")
    hurlicane("models", "limit", "scripted:first")
    assert hurlicane("wait", job).stdout == "ok\n"
    other = json.loads(hurlicane("run", "--json", "--model", "first", task("finish ok")).stdout)
    assert other["models_used"] == ["scripted:second"]


def test_run_says_for_what_a_job_is_parked_and_goes_on_when_that_is_cleared(
    hurlicane: Command,
) -> None:
    hurlicane("models", "limit", "scripted:*", "--reason", "Rest.")
    following = hurlicane.start("run", "--model", "first", task("finish ok"))
    assert following.stderr is not None
    parked = explained = ""
    while not explained:
        line = following.stderr.readline()
        assert line
        parked = line if " parked " in line else parked
        explained = line if "by hand: Rest." in line else ""
    job = parked.split()[0]
    assert "parked until it is cleared: scripted/* is limited" in parked
    assert "`hurlicane models clear scripted`" in parked
    assert explained.strip() == (
        "scripted:* is limited until it is cleared (by hand: Rest.): "
        "`hurlicane models clear scripted` ends it"
    )
    assert "parked: scripted/*" in hurlicane("ps").stdout
    doctor = hurlicane("doctor").stdout
    assert "scripted:* is limited until it is cleared, 1 jobs parked for it" in doctor
    assert "`hurlicane models clear scripted` ends it" in doctor
    cleared = hurlicane("models", "clear", "scripted")
    assert cleared.stderr == "scripted:* may be used again. Parked for it: 1.\n"
    output, _ = following.communicate(timeout=60)
    assert (following.returncode, output) == (0, "ok\n")
    told = hurlicane("events", "--after", "0", "--kind", "model.*", "--kind", "job.parked").stdout
    assert "scripted:* is limited until it is cleared (by hand): Rest." in told
    assert "scripted:* may be used again: Cleared by operator." in told
    assert f"job.parked         {job}" in told
    assert "none is limited until somebody clears it" in hurlicane("doctor").stdout
