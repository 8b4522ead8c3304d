"""Completion checks, with real git and real processes."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.engine.checks import TOLD, CheckResult, Checks, Place
from hurlicane_mcp.errors import LaunchFailed
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.one_shot import OneShots
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.engine.checking import checked, commit, git, no_beat, pid_in, real_checks
from tests.fakes import BEGINNING, FakeClock
from tests.stories.server import until
from tests.supervision.agents import is_gone

pytestmark = pytest.mark.anyio


@pytest.fixture
async def checks(db: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[Checks]:
    async with real_checks(db, clock, tmp_path / "running") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one commit."""
    made = tmp_path / "work"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch", "main")
    commit(made, "first")
    return made


async def run(checks: Checks, folder: Path, *written: Any, **place: Any) -> list[CheckResult]:
    there = Place(folder, place.pop("base_sha", None), **place)
    return list(await checks.run(there, parse_checks(list(written)), no_beat))


async def one(checks: Checks, folder: Path, written: Any, **place: Any) -> tuple[bool, str]:
    (result,) = await run(checks, folder, written, **place)
    return result.passed, result.told


async def test_a_tree_is_clean_when_nothing_but_ignored_files_is_uncommitted(
    checks: Checks, folder: Path
) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    passed, told = await one(checks, folder, "clean_tree")
    assert (passed, "?? .gitignore" in told) == (False, True)
    git(folder, "add", ".gitignore")
    git(folder, "commit", "--message", "ignore")
    (folder / "a.log").write_text("x")
    assert (await one(checks, folder, "clean_tree"))[0]
    (folder / "first").write_text("changed")
    passed, told = await one(checks, folder, "clean_tree")
    assert (passed, " M first" in told) == (False, True)


async def test_of_very_many_uncommitted_files_some_are_named(checks: Checks, folder: Path) -> None:
    for number in range(500):
        (folder / f"a rather long name of a file {number}").touch()
    passed, told = await one(checks, folder, "clean_tree")
    assert not passed
    assert told.endswith("and more")
    assert len(told.splitlines()) == 22


async def test_work_shows_as_a_commit_or_as_an_uncommitted_change(
    checks: Checks, folder: Path
) -> None:
    base = git(folder, "rev-parse", "HEAD")
    passed, told = await one(checks, folder, "diff_not_empty", base_sha=base)
    assert (passed, f"There is no commit since {base[:12]}" in told) == (False, True)
    (folder / "untracked").touch()
    assert (await one(checks, folder, "diff_not_empty", base_sha=base))[0]
    commit(folder, "untracked")
    assert (await one(checks, folder, "diff_not_empty", base_sha=base))[0]


async def test_work_that_began_without_a_commit_shows_as_any_commit(
    checks: Checks, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "--quiet")
    assert not (await one(checks, fresh, "diff_not_empty"))[0]
    commit(fresh, "first")
    assert (await one(checks, fresh, "diff_not_empty"))[0]


async def test_a_base_that_history_has_lost_means_that_there_is_work(
    checks: Checks, folder: Path
) -> None:
    assert (await one(checks, folder, "diff_not_empty", base_sha="1" * 40))[0]


async def test_where_there_is_no_repository_nothing_about_one_holds(
    checks: Checks, tmp_path: Path
) -> None:
    results = await run(checks, tmp_path, "clean_tree", "diff_not_empty")
    assert [result.passed for result in results] == [False, False]
    assert all("not a git repository" in result.told for result in results)


@pytest.mark.parametrize(
    ("command", "passed", "told"),
    [
        (["true"], True, "Exit code 0. It printed nothing."),
        ("exit 3", False, "Exit code 3. It printed nothing."),
        (
            "echo one; echo two >&2; echo three; exit 1",
            False,
            "Exit code 1.\nThe end of its output:\none\ntwo\nthree",
        ),
        (["sh", "-c", 'echo "$0 $1" >&2', "a b", "$HOME"], True, "a b $HOME"),
        (["no-such-program"], False, "no-such-program"),
        ("kill -9 $$", False, "It was ended by SIGKILL."),
        ("if", False, "Exit code 2."),
    ],
)
async def test_a_command_holds_if_it_exits_with_0(
    checks: Checks, folder: Path, command: Any, passed: bool, told: str
) -> None:
    found = await one(checks, folder, {"command": command})
    assert found[0] is passed
    assert told in found[1]


async def test_a_command_runs_in_the_folder_of_the_work(checks: Checks, folder: Path) -> None:
    assert (await one(checks, folder, {"command": "pwd"}))[1].endswith(str(folder))
    passed, told = await one(checks, folder / "gone", {"command": "pwd"})
    assert not passed
    assert "cannot be entered" in told


async def test_a_command_gets_no_secrets_of_the_server(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = (
        *("HURLICANE_DATABASE_URL", "GITHUB_TOKEN", "OPENAI_API_KEY", "PGPASSWORD", "A_SECRET"),
        *("SECRET_KEY_BASE", "MYSQL_PWD", "SSH_PASSPHRASE", "GITHUB_PAT", "REDISCLI_AUTH"),
    )
    for name in (*hidden, "KEYBOARD"):
        monkeypatch.setenv(name, "in the open")
    (told,) = [result.told for result in await run(checks, folder, {"command": ["env"]})]
    assert "KEYBOARD=in the open" in told
    assert not [name for name in hidden if name in told]


async def test_a_command_is_ended_when_its_time_is_up(checks: Checks, folder: Path) -> None:
    command = "echo $$ > pid; echo begun; sleep 60"
    passed, told = await one(checks, folder, {"command": command, "time_limit_s": 1})
    assert not passed
    assert told == "It was not done after 1 s and was ended.\nThe end of its output:\nbegun"
    assert is_gone(int((folder / "pid").read_text()))


async def test_a_command_that_prints_without_end_is_ended(checks: Checks, folder: Path) -> None:
    passed, told = await one(
        checks, folder, {"command": "head -c 70000000 /dev/zero | tr '\\0' '\\n'; sleep 60"}
    )
    assert not passed
    assert told.startswith("It printed more than 64 MiB and was ended.")


async def test_of_a_long_output_the_end_is_told(
    checks: Checks, folder: Path, tmp_path: Path
) -> None:
    passed, told = await one(checks, folder, {"command": "seq 100000; exit 1"})
    assert not passed
    assert told.endswith("\n100000")
    assert len(told) <= TOLD + 100
    assert list((tmp_path / "running").iterdir()) == []


async def test_all_checks_run_even_after_one_that_fails(checks: Checks, folder: Path) -> None:
    results = await run(checks, folder, {"command": "false"}, "clean_tree", {"command": "touch x"})
    assert [result.passed for result in results] == [False, True, True]
    assert (folder / "x").exists()


async def test_what_runs_is_told_every_20_s(checks: Checks, folder: Path, clock: FakeClock) -> None:
    heard: list[tuple[float, str]] = []

    async def beat(waited_s: float, what: str) -> None:
        heard.append((waited_s, what))

    async def run_all() -> None:
        written = ["clean_tree", {"command": "touch begun; until [ -e go ]; do sleep 0.05; done"}]
        await checks.run(Place(folder, None), parse_checks(written), beat)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_all)
        await until((folder / "begun").exists)
        await clock.advance(timedelta(seconds=40))
        (folder / "go").touch()
    what = "check 2 of 2 runs: `touch begun; until [ -e go ]; do sleep 0.05; done`"
    assert heard == [(20, what), (40, what)]


async def test_whoever_stops_listening_ends_what_runs(
    checks: Checks, folder: Path, tmp_path: Path
) -> None:
    command = "(trap '' TERM; sh -c 'echo $$ > pid; sleep 60') & wait"
    pid = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, checks, folder, {"command": command})
        pid = await pid_in(folder / "pid")
        tasks.cancel_scope.cancel()
    assert is_gone(pid)
    assert list((tmp_path / "running").iterdir()) == []


async def test_a_command_that_cannot_be_started_is_not_a_check_that_fails(
    db: Database, clock: FakeClock, folder: Path
) -> None:
    async with Watcher() as watcher:
        checks = Checks(db, clock, OneShots(ShimHost(), watcher, folder / "first"))
        with pytest.raises(LaunchFailed, match="`true` cannot be run"):
            await one(checks, folder, {"command": ["true"]})


async def test_an_error_counts_while_it_is_the_last_word_of_the_agents_cli(
    db: Database, checks: Checks, folder: Path
) -> None:
    agent = await checked(db, folder)

    async def found(**values: Any) -> tuple[bool, str]:
        await db.write(lambda session: attempts.write(session, agent.attempt_id, **values))
        return await one(checks, folder, "no_error_in_output", attempt_id=agent.attempt_id)

    assert (await found(provider_error=None))[0]
    assert await found(provider_error="No API key.") == (False, "No API key.")
    refusal = {"kind": "rate_limit", "text": "Too many requests."}
    refused = await found(provider_error=None, refused_at=BEGINNING, refusal=refusal)
    assert refused == (False, "Too many requests.")
    # What the agent says is prose, and what it has tried is its own business.
    assert (await found(refused_at=None, last_message="Error: fatal", tool_failures=9))[0]


async def test_an_error_that_a_later_line_takes_back_does_not_count(
    db: Database, clock: FakeClock, checks: Checks, folder: Path
) -> None:
    agent = await checked(db, folder)
    (folder / "stdout").write_text("12345\n")
    error = {"provider_error": "Overloaded.", "offset": 3}
    await db.write(lambda session: attempts.write(session, agent.attempt_id, **error))
    found: list[tuple[bool, str]] = []

    async def look() -> None:
        place = {"attempt_id": agent.attempt_id, "run_dir": folder}
        found.append(await one(checks, folder, "no_error_in_output", **place))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await anyio.sleep(0.2)
        assert found == []
        read = {"provider_error": None, "offset": 6}
        await db.write(lambda session: attempts.write(session, agent.attempt_id, **read))
        await clock.advance(timedelta(seconds=1))
    assert found[0][0]


async def test_work_of_no_agent_has_no_output_that_could_hold_an_error(
    checks: Checks, folder: Path
) -> None:
    assert (await one(checks, folder, "no_error_in_output"))[0]
