"""Workflows on the command line, against one running server with scripted agents."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Command, task
from tests.git.checkouts import Checkout, git
from tests.stories.server import RunningServer, running_server
from tests.stories.workflow_task import repository
from tests.stories.workflow_task import task as two_cycles

WAITING = task("hang")
USED = 'usage {"input": 1200, "output": 34, "cost_usd": "0.5"}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("workflows")
    Checkout.beside(folder)
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    """Called from inside of a repository."""
    return Command(shared.data_dir, shared.work_dir / "repo")


def phases(**steps: list[object]) -> str:
    """A task whose scripted agents do these steps in each phase."""
    return f"Build it.\n\n```json script\n{json.dumps({'phases': steps})}\n```\n"


def planned(*boxes: str) -> list[object]:
    note = {"key": "workflow/${phase.workflow}/plan", "value": "\n".join(("# Plan", *boxes))}
    finish = {"name": "finish_job", "args": {"result": "Planned."}}
    return [{"call": {"name": "write_note", "args": note}}, {"call": finish}]


def finished(result: str) -> list[object]:
    return [{"call": {"name": "finish_job", "args": {"result": result}}}]


@dataclass(frozen=True)
class Followed:
    """A workflow that was followed as far as it went by itself."""

    code: int
    out: str
    told: str

    @property
    def workflow_id(self) -> str:
        return self.told.partition(":")[0]


def follow(hurlicane: Command, *arguments: str, text: str = "") -> Followed:
    process = hurlicane.start("workflow", "start", *arguments, "--wait")
    out, told = process.communicate(text, timeout=100)
    return Followed(process.returncode, out, told)


def shown(hurlicane: Command, workflow_id: str) -> dict[str, Any]:
    return json.loads(hurlicane("workflow", "show", workflow_id, "--json").stdout)


def test_a_workflow_is_started_looked_at_and_cancelled(hurlicane: Command) -> None:
    bounds = ("--stop", "implement=turns:50", "--stop", "review=time:20", "--check", "true")
    crew = ("--implementer", "scripted:big", "--reviewer", "scripted:small")
    started = hurlicane(
        *("workflow", "start", WAITING, "--title", "Wait", "--budget", "2.5", "--max-cycles", "3"),
        *(*bounds, *crew),
    )
    assert started.returncode == 0, started.stderr
    workflow_id = started.stdout.strip()
    assert workflow_id.startswith("wf_")
    assert f"{workflow_id}: scripted:big implements." in started.stderr
    assert "scripted:small reviews. It was asked for." in started.stderr
    assert "Branch hurlicane/wait-" in started.stderr
    assert f"hurlicane workflow show {workflow_id}" in started.stderr

    listed = hurlicane("workflow", "ps").stdout
    (line,) = (one for one in listed.splitlines() if one.startswith(workflow_id))
    assert line.split()[1:6] == ["running", "0/3", "assess", "0/0", "$0.00"]
    look = hurlicane("workflow", "show", workflow_id)
    assert look.stdout.splitlines()[0] == f"{workflow_id} running  Wait"
    assert "cycle 0 of 3, assess · 0 of 0 milestones · $0.00 of $2.5" in look.stdout
    assert hurlicane("workflow", "show", workflow_id, "--plan").stdout == ""

    early = hurlicane("workflow", "resume", workflow_id)
    assert early.returncode == 1
    assert "nothing to resume" in early.stderr
    cancelled = hurlicane("workflow", "cancel", workflow_id, "--reason", "Enough.")
    assert cancelled.returncode == 0
    assert f"{workflow_id} is cancelled; its work is on hurlicane/wait-" in cancelled.stderr
    again = hurlicane("workflow", "cancel", workflow_id, "--json")
    assert json.loads(again.stdout)["failure"]["reason"] == "Cancelled by an operator: Enough."
    everything = json.loads(hurlicane("workflow", "ps", "--all", "--json").stdout)["workflows"]
    assert workflow_id in [one["workflow_id"] for one in everything if one["state"] == "cancelled"]


@pytest.mark.timeout(150)
def test_a_followed_workflow_tells_its_phases_and_ends_with_its_result(
    hurlicane: Command, tmp_path: Path
) -> None:
    places = repository(tmp_path)
    (tmp_path / "task.md").write_text(two_cycles(), encoding="utf-8")
    wish = (f"@{tmp_path / 'task.md'}", "--work-dir", str(places.folder), "--verify")
    followed = follow(hurlicane, *wish)
    assert followed.code == 0, followed.told
    assert "The workflow is complete." in followed.out
    workflow_id, lines = followed.workflow_id, followed.told.splitlines()
    assert f"{workflow_id} cycle 1, review; 0 of 2 milestones" in lines
    assert f"{workflow_id} cycle 3, verify; 3 of 3 milestones" in lines
    assert lines[-1] == f"{workflow_id} is complete."
    branch = shown(hurlicane, workflow_id)["branch"]
    assert branch in git(places.remote, "branch", "--list", branch)

    look = hurlicane("workflow", "show", workflow_id).stdout
    assert "3 of 3 milestones" in look
    assert "[x] Fix: one.txt lacks its second line" in look
    assert "published    " in look
    assert look.count("  implement  ") == 2, look
    plan = hurlicane("workflow", "show", workflow_id, "--plan").stdout
    assert plan.startswith("# Plan\n\n- [x] Write one.txt\n")
    happened = hurlicane("events", "--kind", "workflow.*", "--job", workflow_id, "--after", "0")
    assert "scripted implements, scripted reviews, 10 cycles at most" in happened.stdout


@pytest.mark.timeout(150)
def test_what_blocks_a_followed_workflow_ends_the_waiting_with_a_code_of_its_own(
    hurlicane: Command,
) -> None:
    blocked = follow(hurlicane, task(USED, "finish No plan."))
    assert (blocked.code, blocked.out) == (3, ""), blocked.told
    workflow_id, told = blocked.workflow_id, blocked.told.splitlines()
    assert told[-2].startswith(f"{workflow_id} is blocked: no_plan for ")
    assert f"hurlicane workflow resume {workflow_id}" in told[-1]
    look = hurlicane("workflow", "show", workflow_id).stdout
    assert "blocked      no_plan" in look
    assert look.count("  repair  ") == 2, look
    listed = hurlicane("workflow", "ps").stdout
    assert "also after 2 repairs" in listed

    view = shown(hurlicane, workflow_id)
    key, project = f"{view['notes']}plan", view["project"]
    assert f"notes        workflow/{workflow_id}/… of project {project}" in look
    written = hurlicane("note", "set", key, "-", "--project", project, text="- [ ] Do it\n")
    assert written.returncode == 0, written.stderr
    assert hurlicane("workflow", "show", workflow_id, "--plan").stdout == "- [ ] Do it\n"
    resumed = hurlicane("workflow", "resume", workflow_id, "--from", "assess")
    assert (resumed.returncode, resumed.stderr) == (
        *(0, f"{workflow_id} goes on: assess, cycle 0.\n"),
    )
    hurlicane("workflow", "cancel", workflow_id)
    used = json.loads(hurlicane("usage", "--by", "workflow", "--json").stdout)
    (line,) = (one for one in used["lines"] if one["key"] == workflow_id)
    assert line["turns"] > 0
    assert float(line["cost_usd"]) > 0


@pytest.mark.timeout(150)
def test_a_followed_workflow_that_comes_to_its_last_cycle_is_incomplete(
    hurlicane: Command,
) -> None:
    text = phases(
        assess=planned("- [ ] One", "- [ ] Two"),
        review=finished("Good."),
        implement=[
            {"commit": {"path": "one.txt", "append": "one\n", "message": "One"}},
            *planned("- [x] One", "  - [x] Its half", "- [ ] Two"),
        ],
    )
    bounds = ("--max-cycles", "1", "--publish", "none")
    ended = follow(hurlicane, "-", *bounds, "--json", text=text)
    view = json.loads(ended.out)
    assert (ended.code, view["state"]) == (1, "incomplete"), ended.told
    look = hurlicane("workflow", "show", view["workflow_id"]).stdout
    assert "[x] One\n  [x] Its half\n[ ] Two\n" in look
    assert "failure      incomplete: 2 of 3 milestones" in look


def test_interrupting_the_waiting_leaves_the_workflow_at_work(hurlicane: Command) -> None:
    process = hurlicane.start("workflow", "start", WAITING, "--wait")
    assert process.stderr is not None
    workflow_id = process.stderr.readline().partition(":")[0]
    while " running" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"hurlicane workflow cancel {workflow_id}" in told
    assert shown(hurlicane, workflow_id)["state"] == "running"
    hurlicane("workflow", "cancel", workflow_id)


def test_without_a_worktree_it_works_in_the_folder_itself(
    hurlicane: Command, tmp_path: Path
) -> None:
    started = hurlicane(
        "workflow", "start", WAITING, "--no-worktree", "--dir", str(tmp_path), "--json"
    )
    view = json.loads(started.stdout)
    assert (view["work_dir"], view["publish"], view.get("branch")) == (str(tmp_path), "none", None)
    hurlicane("workflow", "cancel", view["workflow_id"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("start", " "), "The task is empty"),
        (("start", "@nowhere.md"), "cannot be read from nowhere.md"),
        (("start", "x", "--stop", "implement"), "is not like implement=turns:50"),
        (("start", "x", "--stop", "rest=turns:5"), "no phase"),
        (("start", "x", "--max-cycles", "51"), "--max-cycles"),
        (("start", "x", "--no-worktree", "--publish", "branch"), "set `publish` to none"),
        (("start", "x", "--dir", "/"), "repository"),
        (("show", "../jobs"), "is no workflow's id"),
        (("resume", "wf_x", "--from", "publish"), "`from_phase` must be one of"),
    ],
)
def test_what_cannot_be_is_wrong_usage(
    hurlicane: Command, arguments: tuple[str, ...], message: str
) -> None:
    refused = hurlicane("workflow", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr


def test_an_unknown_workflow_is_told_in_one_line(hurlicane: Command) -> None:
    unknown = hurlicane("workflow", "show", "wf_none")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    (line,) = unknown.stderr.splitlines()
    assert "'wf_none'" in line
