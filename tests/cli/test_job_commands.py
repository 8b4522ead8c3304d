"""What a person does with jobs on the command line, against one running server."""

import json
import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server

LEAD = task(
    'call create_job {"description": "Left.\\n! finish left"} as a',
    'call wait_for_jobs {"job_ids": ["${a.job_id}"]} as all',
    "finish ${all.jobs.0.result} and right",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("jobs")
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def test_run_prints_the_result_alone_on_standard_output(hurlicane: Command) -> None:
    done = hurlicane("run", LEAD)
    assert (done.returncode, done.stdout) == (0, "left and right\n")
    assert re.search(r"job_\w+ created: Left\.", done.stderr)
    assert "→ wait_for_jobs" in done.stderr


def test_run_reads_the_task_from_standard_input_and_works_in_the_folder_given(
    hurlicane: Command,
) -> None:
    (hurlicane.cwd / "elsewhere").mkdir()
    done = hurlicane(
        "run", "-", "--dir", "elsewhere", "--title", "T", "--json", text=task("finish y")
    )
    job = json.loads(done.stdout)
    assert (job["result"], job["title"]) == ("y", "T")
    assert job["work_dir"] == str(hurlicane.cwd / "elsewhere")


def test_run_of_a_job_that_fails_exits_with_1_and_says_why(hurlicane: Command) -> None:
    failed = hurlicane(
        "run", task('call finish_job {"result": "It does not build.", "outcome": "failed"}')
    )
    assert (failed.returncode, failed.stdout) == (1, "It does not build.\n")
    assert "failed: agent: It does not build." in failed.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("x", "--provider", "nope"), "There is no provider 'nope'", id="provider"),
        pytest.param(("x", "--dir", "/nope"), "/nope", id="folder"),
        pytest.param((" ",), "The task is empty", id="no task"),
        pytest.param(("x", "--priority", "11"), "--priority", id="priority"),
    ],
)
def test_a_job_that_cannot_be_is_wrong_usage(
    hurlicane: Command, arguments: tuple[str, ...], message: str
) -> None:
    refused = hurlicane("run", *arguments)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_ctrl_c_leaves_the_job_running(hurlicane: Command) -> None:
    following = hurlicane.start("run", task("hang"))
    with following:
        assert following.stderr is not None
        job = following.stderr.readline().split()[0]
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
        assert f"{job} goes on: `hurlicane logs -f {job}`" in following.stderr.read()
    assert json.loads(hurlicane("show", job, "--json").stdout)["status"] == "running"
    assert hurlicane("cancel", job).returncode == 0


def test_a_job_is_followed_over_the_death_of_the_worker(
    hurlicane: Command, shared: RunningServer
) -> None:
    following = hurlicane.start("run", task("say before", "sleep 1.5", "say after", "finish ok"))
    assert following.stderr is not None
    shown: list[str] = []
    while not any("before" in line for line in shown):
        shown.append(following.stderr.readline())
    os.kill(shared.worker_pid, signal.SIGKILL)
    output, errors = following.communicate(timeout=20)
    lines = [line.strip() for line in "".join((*shown, errors)).splitlines()]
    assert (following.returncode, output) == (0, "ok\n")
    assert (lines.count("before"), lines.count("after")) == (1, 1)


def test_run_with_checks_is_done_when_they_hold(hurlicane: Command) -> None:
    refused = 'call finish_job {"result": "x"} expect_error checks_failed'
    steps = task(refused, 'edit "the fix" x', "finish mended")
    options = ("--check", "test -e 'the fix'", "--check", "no_error_in_output")
    done = hurlicane("run", steps, *options, "--check-tries", "2", "--json")
    assert "checks failed (1 of 2): 1 of 2 checks failed. `test -e 'the fix'` failed" in done.stderr
    job = json.loads(done.stdout)
    assert (job["result"], job["checks_failed"]) == ("mended", "1 of 2")
    assert job["checks"] == ["`test -e 'the fix'`", "no_error_in_output"]
    shown = hurlicane("show", job["job_id"]).stdout
    assert "checks       `test -e 'the fix'`, no_error_in_output" in shown
    assert "1 of 2 checks failed" in shown


def test_wait_prints_results_and_exits_as_the_jobs_ended(hurlicane: Command) -> None:
    good = hurlicane("run", "-d", task("finish good")).stdout.strip()
    bad = hurlicane("run", "-d", task("exit 1")).stdout.strip()
    hung = hurlicane("run", "-d", task("hang")).stdout.strip()
    assert hurlicane("wait", good).stdout == "good\n"
    both = hurlicane("wait", good, bad)
    assert both.returncode == 1
    assert f"== {bad} failed" in both.stdout
    first = hurlicane("wait", "--any", good, hung, "--json")
    assert first.returncode == 0
    assert json.loads(first.stdout)["pending"] == [hung]
    late = hurlicane("wait", hung, "--timeout", "0.1")
    assert (late.returncode, late.stderr) == (124, f"Time is up; not finished: {hung}.\n")
    assert hurlicane("cancel", hung, "--reason", "Enough.").returncode == 0
    cancelled = hurlicane("wait", hung)
    assert (cancelled.returncode, cancelled.stdout) == (130, "")
    assert "Enough." in cancelled.stderr


def test_a_result_longer_than_an_answer_is_printed_whole(hurlicane: Command) -> None:
    long = "x" * 40_000
    assert hurlicane("run", task(f"finish {long}")).stdout == f"{long}\n"


def test_jobs_are_listed_and_shown(hurlicane: Command) -> None:
    job = hurlicane("run", "-d", task('call report_status {"text": "half"}', "hang")).stdout.strip()
    table = hurlicane("ps").stdout.splitlines()
    assert table[0].split()[:2] == ["JOB", "STATUS"]
    assert any(line.startswith(job) for line in table)
    listed = json.loads(hurlicane("ps", "--all", "--json").stdout)["jobs"]
    assert job in [one["job_id"] for one in listed]
    hurlicane("cancel", job)
    shown = hurlicane("show", job).stdout
    assert "status       cancelled" in shown
    assert "attempt 1" in shown
    missing = hurlicane("show", "job_none")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "error: There is no job 'job_none' that you may see.\n"


def test_logs_show_every_attempt_until_the_job_is_final(hurlicane: Command) -> None:
    job = hurlicane(
        "run", "-d", task("say first", "sleep 5", "on_resume", "say second", "finish ok")
    ).stdout.strip()
    followed = hurlicane("logs", "-f", job, "--json")
    said = [json.loads(line) for line in followed.stdout.splitlines()]
    messages = [(one["attempt"], one["text"]) for one in said if one["kind"] == "message"]
    assert messages == [(1, "first"), (2, "second")]
    assert "first" in hurlicane("logs", job, "--attempt", "1").stdout
    assert json.loads(hurlicane("logs", job, "--raw").stdout.splitlines()[0])
    assert hurlicane("logs", job, "--raw", "-f").returncode == 2


def test_events_are_lines_that_can_be_filtered_and_followed(hurlicane: Command) -> None:
    job = hurlicane("run", "--json", task("finish ok"))
    job_id = json.loads(job.stdout)["job_id"]
    listed = hurlicane("events", "--job", job_id, "--kind", "job.*", "--after", "0", "--json")
    events = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [one["kind"] for one in events] == ["job.created", "job.running", "job.done"]
    following = hurlicane.start("events", "-f", "--job", job_id, "--after", str(events[1]["seq"]))
    with following:
        assert following.stdout is not None
        assert job_id in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130


def test_notes_are_written_listed_and_read(hurlicane: Command) -> None:
    assert hurlicane("note", "set", "plan/ä b", "-", text="one\ntwo\n").returncode == 0
    assert hurlicane("note", "get", "plan/ä b").stdout == "one\ntwo\n"
    assert hurlicane("note", "list", "plan/").stdout.startswith("plan/ä b")
    assert json.loads(hurlicane("note", "list", "--json").stdout)["notes"][0]["version"] == 1
    assert hurlicane("note", "get", "none").returncode == 1


def test_a_server_can_be_named_by_its_url(hurlicane: Command, shared: RunningServer) -> None:
    elsewhere = {"HURLICANE_URL": shared.url, "HURLICANE_DATA_DIR": "/nowhere"}
    assert hurlicane("ps", HURLICANE_TOKEN=shared.token, **elsewhere).returncode == 0
    refused = hurlicane("ps", HURLICANE_TOKEN="wrong", **elsewhere)
    assert refused.returncode == 1
    assert "does not know your token" in refused.stderr
    assert "set both" in hurlicane("ps", **elsewhere).stderr


def test_doctor_finds_a_healthy_server(hurlicane: Command, shared: RunningServer) -> None:
    healthy = hurlicane("doctor", "--json")
    found = {one["subject"]: one for one in json.loads(healthy.stdout)["findings"]}
    assert healthy.returncode == 0
    assert {found[one]["level"] for one in ("git", "data folder", "database", "server")} == {"ok"}
    assert f"pid {shared.worker_pid}" in found["server"]["text"]
