"""Talking with agents on the command line, against one running server."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("talk")
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def ask(question: str, **arguments: object) -> str:
    return f"call ask_user {json.dumps({'question': question, **arguments})} as a"


def begun(hurlicane: Command, *steps: str) -> str:
    return hurlicane("run", "-d", task(*steps)).stdout.strip()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def open_questions(hurlicane: Command) -> list[dict[str, str]]:
    return json.loads(hurlicane("questions", "--json").stdout)["questions"]


def test_a_question_is_seen_and_answered_by_the_name_of_its_job(hurlicane: Command) -> None:
    assert hurlicane("questions").stderr == "No agent waits for an answer.\n"
    job = begun(hurlicane, ask("Which?", choices=["left", "right"]), "finish ${a.answer}")
    until(lambda: bool(open_questions(hurlicane)))
    (question,) = open_questions(hurlicane)
    line = hurlicane("questions").stdout
    assert line.startswith(f"{question['question_id']}  {job}")
    assert "Which? (left, right)" in line
    assert "waiting for you: Which?" in hurlicane("ps").stdout
    shown = hurlicane("show", job).stdout
    assert f"{question['question_id']} waits for you: Which? (left, right)" in shown
    refused = hurlicane("answer", job, "up")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: `answer` must be one of: left, right.\n",
    )
    assert hurlicane("answer", job, "left").stderr == f"{job} is told: left\n"
    assert hurlicane("wait", job).stdout == "left\n"
    late = hurlicane("answer", question["question_id"], "right")
    assert (late.returncode, "answered already: left" in late.stderr) == (1, True)
    assert "has no open question" in hurlicane("answer", job, "left").stderr
    assert hurlicane("answer", "../jobs", "left").returncode == 2


def test_of_several_questions_one_has_to_be_named(hurlicane: Command) -> None:
    asking = [{"call": {"name": "ask_user", "args": {"question": one}}} for one in ("A?", "B?")]
    job = begun(hurlicane, f"parallel {json.dumps(asking)}")
    until(lambda: len(open_questions(hurlicane)) == 2)
    refused = hurlicane("answer", job, "x")
    assert (refused.returncode, "has 2 open questions, name one: q_" in refused.stderr) == (2, True)
    name = open_questions(hurlicane)[1]["question_id"]
    assert json.loads(hurlicane("answer", name, "-", "--json", text="x").stdout)["answer"] == "x"
    hurlicane("cancel", job)
    assert open_questions(hurlicane) == []


def test_run_shows_that_the_agent_asks(hurlicane: Command) -> None:
    following = hurlicane.start("run", task(ask("Shall I?"), "finish ${a.answer}"))
    assert following.stderr is not None
    line = ""
    while "asks: Shall I?" not in line:
        line = following.stderr.readline()
        assert line
    question = line.partition("(hurlicane answer ")[2].split()[0]
    assert hurlicane("answer", question, "Do.").returncode == 0
    output, _ = following.communicate(timeout=20)
    assert output == "Do.\n"


def test_a_message_is_sent(hurlicane: Command) -> None:
    job = begun(hurlicane, 'call watch_notes {"prefix": ""} as n', "finish ${n.messages.0}")
    until(lambda: '"waiting": true' in hurlicane("show", job, "--json").stdout)
    sent = hurlicane("send", job, "-", text="Use tabs.")
    assert sent.stderr.startswith("Message 1 is on its way to")
    assert hurlicane("wait", job).stdout.endswith("UTC] Use tabs.\n")
    late = hurlicane("send", job, "Too late.")
    assert late.returncode == 1
    assert "is done already" in late.stderr
    events = hurlicane("events", "--job", job, "--kind", "message.*", "--after", "0", "--json")
    kinds = [json.loads(line)["kind"] for line in events.stdout.splitlines()]
    assert kinds == ["message.sent", "message.delivered", "message.acknowledged"]
