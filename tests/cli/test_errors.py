"""Whatever is wrong, a command says in one line what to do, and never shows a traceback."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import START, Command


def one_line(done: "subprocess.CompletedProcess[str]", *codes: int) -> str:
    assert done.returncode in codes, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def hurlicane(tmp_path: Path) -> Command:
    return Command(tmp_path / "data", tmp_path)


@pytest.mark.parametrize("job", ["a\nb", "x/../../jobs", "..", ""])
@pytest.mark.parametrize("command", ["show", "logs", "cancel"])
def test_what_is_no_job_id_is_refused_before_anything_is_asked(
    hurlicane: Command, command: str, job: str
) -> None:
    assert "hurlicane ps" in one_line(hurlicane(command, job), 2)


def test_a_url_that_is_none_is_named(hurlicane: Command) -> None:
    done = hurlicane("ps", HURLICANE_URL="nonsense", HURLICANE_TOKEN="x")
    assert "nonsense" in one_line(done, 1, 2)


def test_a_task_that_is_not_utf_8_is_refused(hurlicane: Command) -> None:
    done = subprocess.run(
        [*START, "run", b"caf\xe9"],
        cwd=hurlicane.cwd,
        env={
            **hurlicane.environment,
            "HURLICANE_URL": "http://127.0.0.1:9",
            "HURLICANE_TOKEN": "x",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    one_line(done, 1, 2)


def test_a_data_folder_that_is_a_file_is_refused(hurlicane: Command) -> None:
    hurlicane.data_dir.write_text("")
    assert str(hurlicane.data_dir) in last_line(hurlicane("serve"))


def test_a_file_that_is_no_database_is_refused(hurlicane: Command) -> None:
    hurlicane.data_dir.mkdir()
    (hurlicane.data_dir / "hurlicane.db").write_text("junk " * 1000)
    assert "not a database" in last_line(hurlicane("serve"))


@pytest.mark.parametrize("url", ["bogus", "nosuch://x"])
def test_a_database_url_that_is_none_is_refused(hurlicane: Command, url: str) -> None:
    assert "HURLICANE_DATABASE_URL" in last_line(hurlicane("serve", "--database-url", url))


def test_a_database_that_does_not_answer_is_tried_again_and_then_told(hurlicane: Command) -> None:
    done = hurlicane("serve", "--database-url", "postgresql+psycopg://x@127.0.0.1:9/x")
    assert "No worker gets ready" in last_line(done)
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--leave-grace", "-1"), ("--slots", "0"), ("--port", "x")]
)
def test_a_setting_out_of_bounds_is_named(hurlicane: Command, option: str, value: str) -> None:
    assert option.removeprefix("--")[:4] in one_line(hurlicane("serve", option, value), 2)


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode in (1, 2, os.EX_CONFIG), done
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--provider", "nosuch"), "no provider 'nosuch'", id="provider"),
        pytest.param(("--work-dir", "/nowhere"), "/nowhere is no folder", id="folder"),
        pytest.param(("--models-file", "models.json"), "wrong at models", id="catalog"),
    ],
)
def test_a_setting_that_names_nothing_usable_is_refused_at_the_start(
    hurlicane: Command, options: tuple[str, ...], words: str
) -> None:
    (hurlicane.cwd / "models.json").write_text('{"models": 5}', encoding="utf-8")
    assert words in last_line(hurlicane("serve", "--port", "0", *options))
