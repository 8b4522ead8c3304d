"""Codex: how it is started, and what its recorded output means."""

import json
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.errors import Invalid, LaunchFailed
from hurlicane_mcp.git.worktrees import Wanted, base_of, make, place_for
from hurlicane_mcp.providers.base import (
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    SessionUsage,
    Tokens,
    ToolSeen,
    TurnSeen,
)
from hurlicane_mcp.providers.codex import CodexProvider, Sandbox
from tests.providers.noise import check_storable, lines_with, spoiled
from tests.providers.recordings import recordings, replay

CODEX = CodexProvider()
LINES = tuple(line for path in recordings("codex") for line in path.read_bytes().splitlines())


def line(**event: object) -> bytes:
    return json.dumps(event).encode()


def config(argv: Sequence[str]) -> dict[str, Any]:
    """The configuration that the `-c` overrides of *argv* come to, read as Codex reads it: TOML."""
    values = (value for flag, value in pairwise(argv) if flag == "-c")
    return tomllib.loads("\n".join(values))


# --- How it is started


def test_a_fresh_run_gets_its_prompt_by_stdin_and_everything_else_by_flags(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = CodexProvider(search_path=str(programs)).launch(asked)

    assert spec.argv[:4] == (
        str(programs / "codex"),
        *("exec", "--json", "--skip-git-repo-check"),
    )
    assert spec.argv[-1] == "-"
    assert spec.stdin == "Do it."
    assert config(spec.argv) == {
        "approval_policy": "never",
        "sandbox_mode": "workspace-write",
        "mcp_servers": {
            "hurlicane": {
                "url": "http://127.0.0.1:7717/mcp",
                "bearer_token_env_var": "HURLICANE_AGENT_TOKEN",
                "tool_timeout_sec": 1860,
                "default_tools_approval_mode": "approve",
                "required": True,
            }
        },
    }


def test_a_model_and_a_session_come_after_the_overrides(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = CodexProvider(str(programs / "codex")).launch(
        replace(asked, model="gpt-6-sol", resume="01a20ae8")
    )

    assert spec.argv[-5:] == ("-m", "gpt-6-sol", "resume", "01a20ae8", "-")


def test_the_token_is_in_the_environment_only(asked: LaunchRequest, programs: Path) -> None:
    spec = CodexProvider(search_path=str(programs)).launch(asked)

    assert spec.env == {
        "HURLICANE_AGENT_TOKEN": "hca_secret",
        "RUST_LOG": "error,codex_core::responses_retry=warn",
    }
    assert "hca_secret" not in " ".join(spec.argv)
    assert not spec.files


def test_the_cli_waits_a_minute_longer_for_our_tools_than_they_may_take(
    asked: LaunchRequest, programs: Path
) -> None:
    request = replace(asked, wait_limit=timedelta(minutes=4))
    argv = CodexProvider(search_path=str(programs)).launch(request).argv

    assert config(argv)["mcp_servers"]["hurlicane"]["tool_timeout_sec"] == 300


def test_the_marks_of_a_surrounding_session_go_but_the_users_login_stays(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = CodexProvider(search_path=str(programs)).launch(asked)

    assert {"CODEX_THREAD_ID", "CODEX_SESSION_ID"} <= spec.unset
    assert not {"CODEX_HOME", "OPENAI_API_KEY", "HOME"} & (spec.unset | spec.env.keys())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_address_survives_the_way_through_toml(url: str) -> None:
    request = LaunchRequest(
        "", Path("/nowhere"), Path("/nowhere"), None, url, "", None, timedelta(minutes=1)
    )

    argv = CodexProvider("/bin/sh").launch(request).argv

    assert config(argv)["mcp_servers"]["hurlicane"]["url"] == url


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.invalid")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "Begin")
    return folder


def writable(work_dir: Path, asked: LaunchRequest, programs: Path, sandbox: Sandbox) -> set[Path]:
    """The folders that a run in *work_dir* may write to besides."""
    provider = CodexProvider(sandbox=sandbox, search_path=str(programs))
    argv = provider.launch(replace(asked, work_dir=work_dir)).argv
    return {Path(value) for flag, value in pairwise(argv) if flag == "--add-dir"}


def test_an_agent_in_a_repository_may_commit(
    asked: LaunchRequest, programs: Path, repository: Path
) -> None:
    below = repository / "src"
    below.mkdir()

    assert writable(repository, asked, programs, "workspace-write") == {repository / ".git"}
    assert writable(below, asked, programs, "workspace-write") == {repository / ".git"}


def test_an_agent_in_a_worktree_may_commit(
    asked: LaunchRequest, programs: Path, repository: Path, tmp_path: Path
) -> None:
    worktree = tmp_path / "tree"
    git(repository, "worktree", "add", "--quiet", str(worktree))

    assert writable(worktree, asked, programs, "workspace-write") == {
        repository / ".git",
        repository / ".git" / "worktrees" / "tree",
    }


def test_below_its_own_worktree_an_agent_may_write_to_all_of_it(
    asked: LaunchRequest, programs: Path, repository: Path
) -> None:
    below = repository / "src"
    below.mkdir()
    folders = writable(below, replace(asked, top=repository), programs, "workspace-write")
    assert folders == {repository, repository / ".git"}


@pytest.mark.parametrize("sandbox", ["read-only", "danger-full-access"])
def test_another_sandbox_needs_no_more_folders(
    sandbox: Sandbox, asked: LaunchRequest, programs: Path, repository: Path
) -> None:
    assert writable(repository, asked, programs, sandbox) == set()


@pytest.mark.parametrize("link", [b"gitdir: nowhere/at/all\n", b"\xff\xff", b"gitdir: \0"])
def test_a_broken_link_to_a_repository_opens_nothing(
    link: bytes, asked: LaunchRequest, programs: Path, tmp_path: Path
) -> None:
    (tmp_path / ".git").write_bytes(link)

    assert writable(tmp_path, asked, programs, "workspace-write") == set()


def test_a_link_that_an_agent_made_opens_no_other_folder(
    asked: LaunchRequest, programs: Path, repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    elsewhere = repository / ".git" / "worktrees" / "tree"
    forged, symbolic = tmp_path / "forged", tmp_path / "symbolic"
    for folder in (forged, symbolic):
        folder.mkdir()
    (forged / ".git").write_text(f"gitdir: {elsewhere}\n", encoding="utf-8")
    (symbolic / ".git").symlink_to(repository / ".git")

    assert writable(forged, asked, programs, "workspace-write") == set()
    assert writable(symbolic, asked, programs, "workspace-write") == set()


def test_a_missing_program_is_refused_with_the_way_to_mend_it(
    asked: LaunchRequest, tmp_path: Path
) -> None:
    with pytest.raises(LaunchFailed) as refused:
        CodexProvider(str(tmp_path / "codex")).launch(asked)

    assert "npm install -g @openai/codex" in str(refused.value)
    assert "HURLICANE_CODEX_BIN" in str(refused.value)


@pytest.mark.parametrize("model", ["gpt-6.1-sol", "gpt-5-codex", "gpt-99", "codex-mini", "o3"])
def test_a_model_of_this_vendor_is_accepted(model: str) -> None:
    CODEX.check_model(model)


@pytest.mark.parametrize("model", ["", "opus", "claude-opus-5-5", "sol", "gpt-6 --help", "o"])
def test_another_model_is_refused_with_a_list_of_what_is_known(model: str) -> None:
    with pytest.raises(Invalid, match=r"Known: gpt-6\.1-sol, "):
        CODEX.check_model(model)


# --- What its output means


def used(requests: int) -> SessionUsage:
    """What the recorded model's answers come to: 1500 tokens each, 300 of them from the cache."""
    return SessionUsage(Tokens(1200 * requests, 50 * requests, 300 * requests, 0))


@pytest.mark.parametrize(
    ("name", "session", "calls", "message", "turns", "usage"),
    [
        ("happy", "01a20ae5-4e33", "create finish", "All done.", 3, used(3)),
        ("resume_a_first", "01a20ae8-fa29", "", "first answer", 1, used(1)),
        ("resume_b", "01a20ae8-fa29", "", "second answer", 1, used(2)),
        ("429_3_then_ok", "01a20ae5-515f", "", "recovered", 1, used(1)),
        ("drop_mid_2_then_ok", "01a20ae5-95d8", "", "recovered", 1, used(1)),
        ("failed_rate_limit_2_then_ok", "01a20ae5-946c", "", "recovered", 1, used(1)),
        ("mcp_needs_approval", "01a20ae4-40e4", "create finish", "All done.", 3, used(3)),
        ("restart_v1_back_before_call", "01a20ae9", "create create finish", "end", 4, used(4)),
        ("restart_v1_down15s", "01a20ae9", 7 * "create ", "end", 8, used(8)),
        ("restart_v1_in_flight", "01a20ae9-e780", "wait create", "end", 3, used(3)),
        ("restart_v2_in_flight", "01a20aea-1b9d", "wait create", "end", 3, used(3)),
        ("wait330_default", "01a20ae5-5221", "wait", "after wait", 2, used(2)),
    ],
)
def test_a_run_that_ended_well(
    name: str, session: str, calls: str, message: str, turns: int, usage: SessionUsage
) -> None:
    run = replay(CODEX, name)

    tools = {"create": "create_job", "finish": "finish_job", "wait": "wait_for_jobs"}
    assert run.session is not None
    assert run.session.startswith(session)
    assert run.calls == tuple(f"mcp__hurlicane__{tools[call]}" for call in calls.split())
    assert (run.message, run.error, run.turns, run.usage) == (message, None, turns, usage)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("400", "bad input"),
        ("401", "unexpected status 401 Unauthorized: Incorrect API key"),
        ("404_model", "The model does not exist"),
        ("429_forever_default", "exceeded retry limit, last status: 429 Too Many Requests"),
        ("429_insufficient_quota", "Quota exceeded. Check your plan and billing details."),
        ("429_retry_after_3600", "Reconnecting... 1/5 (exceeded retry limit, last status: 429"),
        ("429_usage_limit", "You\u2019ve hit your usage limit."),
        ("500_few", "We\u2019re currently experiencing high demand"),
        ("503_overloaded_few", "Selected model is at capacity."),
        ("failed_rate_limit_few", "rate limit exceeded: Rate limit reached."),
    ],
)
def test_a_run_that_failed(name: str, error: str) -> None:
    run = replay(CODEX, name)

    assert run.session is not None
    assert run.error is not None
    assert run.error.startswith(error)
    assert (run.message, run.usage, run.turns) == (None, None, 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("mcp_needs_approval", 2 * ["requires approval"], id="no approval"),
        pytest.param("restart_v1_in_flight", ["Transport closed"], id="connection lost"),
        pytest.param("restart_v1_down15s", 3 * ["tool call failed"], id="server away"),
        pytest.param("wait330_default", ["timed out awaiting tools/call after 300s"], id="silent"),
    ],
)
def test_a_call_that_failed_is_told_with_its_reason(name: str, said: list[str]) -> None:
    failed = replay(CODEX, name).failed_calls

    assert len(failed) == len(said)
    assert all(part in answer for part, answer in zip(said, failed, strict=True))


def test_an_item_of_type_error_is_only_a_warning() -> None:
    (warning,) = replay(CODEX, "happy").warnings

    assert warning.startswith("Model metadata for `gpt-5-codex` not found.")


def test_a_broken_connection_is_an_error_until_the_model_answers() -> None:
    broken = [recorded for recorded in LINES if b"Reconnecting" in recorded]

    assert broken
    assert all(isinstance(CODEX.parse_line(recorded)[0], ErrorSeen) for recorded in broken)
    answer = line(type="item.completed", item={"id": "i", "type": "agent_message", "text": "ok"})
    assert ErrorCleared() in CODEX.parse_line(answer)


def test_a_shell_command_is_told_with_its_output() -> None:
    command = {"id": "item_1", "type": "command_execution", "command": "bash -lc 'exit 3'"}
    begun = {**command, "aggregated_output": "", "exit_code": None, "status": "in_progress"}
    ended = {**command, "aggregated_output": "no\nluck\n", "exit_code": 3, "status": "failed"}

    assert CODEX.parse_line(line(type="item.started", item=begun)) == (
        ErrorCleared(),
        ToolSeen("shell", "bash -lc 'exit 3'", finished=False),
    )
    assert CODEX.parse_line(line(type="item.completed", item=ended)) == (
        TurnSeen("item_1"),
        ErrorCleared(),
        ToolSeen("shell", "no luck", finished=True, is_error=True),
    )


@pytest.mark.parametrize(
    ("item", "seen"),
    [
        pytest.param(
            {"type": "file_change", "changes": [{"path": "a", "kind": "add"}]},
            ToolSeen("file_change", '[{"path": "a", "kind": "add"}]', finished=True),
            id="file change",
        ),
        pytest.param(
            {"type": "web_search", "query": "why"},
            ToolSeen("web_search", "why", finished=True),
            id="web search",
        ),
    ],
)
def test_what_codex_does_itself_is_told_as_a_tool(item: dict[str, Any], seen: ToolSeen) -> None:
    event = line(type="item.completed", item={"id": "item_1", "status": "completed", **item})

    assert CODEX.parse_line(event) == (TurnSeen("item_1"), ErrorCleared(), seen)


@pytest.mark.parametrize("kind", ["reasoning", "todo_list", "agent_message", "something_new"])
def test_an_item_without_words_or_tools_means_nothing(kind: str) -> None:
    assert CODEX.parse_line(line(type="item.completed", item={"id": "i", "type": kind})) == ()


def test_an_error_without_words_is_still_an_error() -> None:
    assert CODEX.parse_line(line(type="turn.failed")) == (
        ErrorSeen("Codex failed and did not say why."),
    )


def test_tokens_written_to_a_cache_are_no_plain_input() -> None:
    usage = {
        "input_tokens": 100,
        "cached_input_tokens": 30,
        "cache_write_input_tokens": 50,
        "output_tokens": 7,
        "reasoning_output_tokens": 5,
    }

    assert CODEX.parse_line(line(type="turn.completed", usage=usage)) == (
        SessionUsage(Tokens(input=20, output=7, cache_read=30, cache_write=50)),
        ErrorCleared(),
    )


@pytest.mark.parametrize("path", recordings("codex", ".err"), ids=lambda path: path.stem)
def test_what_it_prints_to_standard_error_means_nothing(path: Path) -> None:
    for printed in path.read_bytes().splitlines():
        assert CODEX.parse_line(printed) == ()


@given(st.binary())
def test_any_bytes_are_borne(noise: bytes) -> None:
    check_storable(CODEX.parse_line(noise))


@given(lines_with(LINES))
def test_any_json_is_borne(noise: bytes) -> None:
    check_storable(CODEX.parse_line(noise))


@given(spoiled(LINES))
def test_a_spoiled_recording_is_borne(noise: bytes) -> None:
    check_storable(CODEX.parse_line(noise))


def test_an_agent_in_a_worktree_of_ours_may_commit(
    repository: Path, asked: LaunchRequest, programs: Path, tmp_path: Path
) -> None:
    base = base_of(repository, None)
    path = place_for(repository, "abc123")
    made = make(Wanted(repository, path, "hurlicane/mend-it", base.sha, is_new=True))
    inside = made.path / "deep" / "er"
    inside.mkdir(parents=True)
    record = repository / ".git" / "worktrees" / "abc123"
    linked = tmp_path / "by another name"
    linked.symlink_to(made.path)
    for folder in (made.path, inside, linked):
        found = writable(folder, asked, programs, "workspace-write")
        assert {one.resolve() for one in found} == {repository / ".git", record}
