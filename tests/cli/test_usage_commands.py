"""Budgets and usage on the command line, against one running server."""

import json
from collections.abc import Iterator

import pytest

from hurlicane_mcp.cli.usage import cost_shown
from tests.cli.command import Command, task
from tests.stories.server import RunningServer, running_server

USED = 'usage {"input": 1200, "output": 34, "cost_usd": "0.5"}'


@pytest.mark.parametrize(
    ("cost", "unpriced", "shown"),
    [
        ("0", None, "$0.00"),
        ("0", 10, "price unknown"),
        ("0.01234", None, "$0.0123"),
        ("1234.5", 10, "$1,234.50 + price unknown"),
    ],
)
def test_what_has_no_price_is_not_shown_as_free(
    cost: str, unpriced: int | None, shown: str
) -> None:
    assert cost_shown({"cost_usd": cost, "unpriced_tokens": unpriced}) == shown


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("usage")
    server = running_server(folder / "data", folder, {})
    yield server
    server.stop()


@pytest.fixture
def hurlicane(shared: RunningServer) -> Command:
    return Command(shared.data_dir, shared.work_dir)


def test_a_budget_is_given_to_run_and_shown_with_the_job(hurlicane: Command) -> None:
    bound = ("--stop-mode", "budget", "--stop-value", "2.5", "--model", "a", "--fallback", "b, c")
    done = hurlicane("run", "--json", *bound, task("finish ok"))
    job = json.loads(done.stdout)
    assert (job["stop_mode"], job["stop_value"], job["result"]) == ("budget", "2.5", "ok")
    assert job["chain"] == ["scripted:a", "scripted:b", "scripted:c"]
    shown = hurlicane("show", job["job_id"]).stdout
    assert "stop value   2.5" in shown
    assert "chain        scripted:a, scripted:b, scripted:c" in shown
    assert "budget " in shown
    alone = hurlicane("run", "--json", "--model", "a", "--fallback", "", task("finish ok"))
    assert json.loads(alone.stdout)["chain"] == ["scripted:a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stop-mode", "budget"), "how many US dollars"),
        (("--stop-mode", "budget", "--stop-value", "much"), "stop_value"),
        (("--stop-mode", "budget", "--stop-value", "5", "--provider", "codex"), "models_file"),
    ],
)
def test_a_bound_that_cannot_be_is_wrong_usage(
    hurlicane: Command, arguments: tuple[str, ...], message: str
) -> None:
    refused = hurlicane("run", "x", *arguments)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert message in line


def test_usage_is_shown_by_day_and_by_job(hurlicane: Command) -> None:
    done = hurlicane("run", "--json", task(USED, "finish ok"))
    job = json.loads(done.stdout)["job_id"]
    days = hurlicane("usage")
    assert days.returncode == 0
    assert days.stdout.split()[:2] == ["DAY", "TURNS"]
    told = json.loads(hurlicane("usage", job, "--json").stdout)
    assert (told["by"], told["job_id"], told["lines"][0]["key"]) == ("job", job, job)
    assert told["total"]["input_tokens"] == 1200
    (_, line) = hurlicane("usage", job).stdout.splitlines()
    assert line.startswith(job)
    assert "1,200" in line
    assert line.endswith("$0.5000")
    wrong = hurlicane("usage", "--by", "colour")
    assert (wrong.returncode, wrong.stdout) == (2, "")
