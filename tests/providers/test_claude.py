"""Claude Code: how it is started, and what its recorded output means."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.errors import Invalid, LaunchFailed
from hurlicane_mcp.providers.base import (
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    MessageSeen,
    ModelSeen,
    Refused,
    RequestUsage,
    SessionBase,
    SessionSeen,
    SessionUsage,
    Tokens,
    ToolSeen,
    TurnSeen,
)
from hurlicane_mcp.providers.claude import ClaudeProvider, Permissions
from hurlicane_mcp.providers.claude_stream import PIECE
from tests.providers.noise import check_storable, lines_with, spoiled
from tests.providers.recordings import DATA, recordings, replay

CLAUDE = ClaudeProvider()
LINES = tuple(line for path in recordings("claude") for line in path.read_bytes().splitlines())


def line(**event: object) -> bytes:
    return json.dumps(event).encode()


# --- How it is started


def test_a_fresh_run_gets_its_prompt_by_stdin_and_everything_else_by_flags(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = ClaudeProvider(search_path=str(programs)).launch(asked)

    assert spec.argv == (
        str(programs / "claude"),
        *("--print", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
        *("--mcp-config", str(asked.run_dir / "mcp.json"), "--strict-mcp-config"),
        *("--permission-mode", "acceptEdits", "--allowedTools", "mcp__hurlicane", "Bash"),
    )
    assert spec.stdin == "Do it."


def test_below_its_own_worktree_an_agent_may_edit_all_of_it(
    asked: LaunchRequest, programs: Path, tmp_path: Path
) -> None:
    provider = ClaudeProvider(str(programs / "claude"))
    argv = provider.launch(replace(asked, top=tmp_path / "tree")).argv
    assert argv[argv.index("--add-dir") + 1] == str(tmp_path / "tree")
    assert "--add-dir" not in provider.launch(asked).argv


def test_a_model_and_a_session_are_named_by_flags(asked: LaunchRequest, programs: Path) -> None:
    spec = ClaudeProvider(str(programs / "claude")).launch(
        replace(asked, model="sonnet[1m]", resume="0a64c6d7")
    )

    assert spec.argv[-4:] == ("--model", "sonnet[1m]", "--resume", "0a64c6d7")


@pytest.mark.parametrize(
    ("interactive", "flags"),
    [(False, {"--max-turns": "7", "--max-budget-usd": "0.0000001"}), (True, {})],
)
def test_bounds_are_named_by_flags_where_the_cli_knows_them(
    interactive: bool, flags: dict[str, str], asked: LaunchRequest, programs: Path
) -> None:
    bounded = replace(asked, max_turns=7, max_budget_usd=Decimal("1E-7"), interactive=interactive)
    argv = ClaudeProvider(search_path=str(programs)).launch(bounded).argv

    found = {flag: argv[argv.index(flag) + 1] for flag in argv if flag.startswith("--max-")}
    assert found == flags
    assert ("--include-partial-messages" in argv) is not interactive


def test_the_server_and_its_token_are_in_a_file_of_the_run(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = ClaudeProvider(search_path=str(programs)).launch(asked)

    (text,) = spec.files.values()
    assert json.loads(text) == {
        "mcpServers": {
            "hurlicane": {
                "type": "http",
                "url": "http://127.0.0.1:7717/mcp",
                "headers": {"Authorization": "Bearer hca_secret"},
                "timeout": 1_860_000,
            }
        }
    }
    assert "hca_secret" not in " ".join((*spec.argv, *spec.env.values()))


def test_without_an_address_for_them_there_are_no_hooks(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = ClaudeProvider(search_path=str(programs)).launch(asked)

    assert "--settings" not in spec.argv


@pytest.mark.parametrize("interactive", [False, True])
def test_hooks_are_settings_in_a_file_of_the_run(
    interactive: bool, asked: LaunchRequest, programs: Path
) -> None:
    url = "http://127.0.0.1:7717/hooks/claude"
    request = replace(asked, hooks_url=url, interactive=interactive)
    spec = ClaudeProvider(search_path=str(programs)).launch(request)

    file = Path(spec.argv[spec.argv.index("--settings") + 1])
    assert file.parent == asked.run_dir
    settings = json.loads(spec.files[file])
    assert settings.keys() == {"hooks"}  # the user's own settings stay as they are
    assert {"Stop", "PostToolUse"} <= settings["hooks"].keys()
    assert ("PreToolUse" in settings["hooks"]) == interactive
    hooks = [hook for each in settings["hooks"].values() for one in each for hook in one["hooks"]]
    assert hooks == len(hooks) * [
        {
            "type": "http",
            "url": url,
            "headers": {"Authorization": "Bearer hca_secret"},
            "timeout": 3,
        }
    ]
    assert "hca_secret" not in " ".join((*spec.argv, *spec.env.values()))


def test_the_cli_waits_a_minute_longer_for_our_tools_than_they_may_take(
    asked: LaunchRequest, programs: Path
) -> None:
    request = replace(asked, wait_limit=timedelta(minutes=4))
    spec = ClaudeProvider(search_path=str(programs)).launch(request)

    assert spec.env == {
        "MCP_TOOL_TIMEOUT": "300000",
        "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT": "300000",
        "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS": "0",
        "ENABLE_TOOL_SEARCH": "false",
    }


def test_the_marks_of_a_surrounding_session_go_but_the_users_login_stays(
    asked: LaunchRequest, programs: Path
) -> None:
    spec = ClaudeProvider(search_path=str(programs)).launch(asked)

    assert {"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID"} <= spec.unset
    login = {"CLAUDE_CONFIG_DIR", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "HOME"}
    assert not login & (spec.unset | spec.env.keys())


@pytest.mark.parametrize(
    ("permissions", "mode", "allowed"),
    [
        pytest.param("edit", "acceptEdits", {"Bash"}, id="edits and shell commands"),
        pytest.param("full", "acceptEdits", {"Bash", "WebFetch", "Write"}, id="every tool"),
        pytest.param(("Bash(git *)", "Edit"), "dontAsk", {"Bash(git *)", "Edit"}, id="a list"),
        pytest.param((), "dontAsk", set[str](), id="nothing but our tools"),
    ],
)
def test_permissions_become_a_mode_and_a_list(
    permissions: Permissions, mode: str, allowed: set[str], asked: LaunchRequest, programs: Path
) -> None:
    argv = ClaudeProvider(permissions=permissions, search_path=str(programs)).launch(asked).argv

    assert argv[argv.index("--permission-mode") + 1] == mode
    assert {"mcp__hurlicane", *allowed} <= set(argv[argv.index("--allowedTools") + 1 :])
    # Root may use neither.
    assert "bypassPermissions" not in argv
    assert "--dangerously-skip-permissions" not in argv


def test_a_missing_program_is_refused_with_the_way_to_mend_it(
    asked: LaunchRequest, tmp_path: Path
) -> None:
    with pytest.raises(LaunchFailed) as refused:
        ClaudeProvider("claude", search_path=str(tmp_path)).launch(asked)

    assert str(refused.value) == (
        "The program 'claude' was not found. Install Claude Code (npm install -g "
        "@anthropic-ai/claude-code) and log in once, or name its program in HURLICANE_CLAUDE_BIN."
    )


@pytest.mark.parametrize(
    "model",
    ["opus", "sonnet", "sonnet[1m]", "haiku", "claude-opus-5-5", "claude-opus-9", "claude-x-1[1m]"],
)
def test_a_model_of_this_vendor_is_accepted(model: str) -> None:
    CLAUDE.check_model(model)


@pytest.mark.parametrize("model", ["", "gpt-6-sol", "claude", "opus --help", "claude-", "--help"])
def test_another_model_is_refused_with_a_list_of_what_is_known(model: str) -> None:
    with pytest.raises(Invalid, match=r"Known: opus, .*claude-haiku-5-5"):
        CLAUDE.check_model(model)


@pytest.mark.parametrize(
    ("name", "full_id"),
    [
        ("haiku", "claude-haiku-5-5"),
        ("sonnet[1m]", "claude-sonnet-5-5"),
        ("claude-sonnet-5-5[1m]", "claude-sonnet-5-5"),
        ("claude-haiku-5-5-20260901", "claude-haiku-5-5"),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5[1m]"),  # there it means something
        ("claude-opus-9", "claude-opus-9"),
        (None, ""),
    ],
)
def test_a_model_is_known_by_one_id(name: str | None, full_id: str) -> None:
    assert CLAUDE.resolve_model(name) == full_id


def test_a_request_costs_the_same_under_every_name_of_its_model() -> None:
    tokens = Tokens(input=1000, output=1000)

    names = ("haiku", "claude-haiku-5-5", "claude-haiku-5-5-20260901", "claude-haiku-5-5[1m]")
    assert {CLAUDE.cost(name, tokens) for name in names} == {Decimal("0.0006")}
    assert CLAUDE.cost("claude-opus-9", tokens) is None


# --- What its output means


def used(requests: int, price: str = "0.00606") -> SessionUsage:
    """What the recorded model's answers come to: each has the same counts."""
    tokens = Tokens(1000 * requests, 50 * requests, 300 * requests, 200 * requests)
    return SessionUsage(tokens, requests * Decimal(price))


@pytest.mark.parametrize(
    ("name", "session", "calls", "message", "turns", "usage"),
    [
        ("happy", "0a64c6d7", "create finish", "All done.", 3, used(3)),
        ("resume_a_first", "e4da7dac", "", "first answer", 1, used(1)),
        ("resume_b_resumed", "e4da7dac", "", "second answer", 1, used(2)),
        ("resume_c_fork", "cdd35e3f", "", "fork answer", 1, used(3)),
        ("429_retry_after", "469f83c5", "", "recovered", 1, used(1)),
        ("500", "99fe2ad7", "", "recovered", 1, used(1)),
        ("sse_error_overloaded", "3eb8d186", "", "recovered", 1, used(1)),
        ("partial_messages", "0cb11ed3", "", "partial text", 1, used(1)),
        ("fallback_404", "db61d57b", "", "ok from claude-sonnet-5-5", 1, used(1, "0.00303")),
        ("fallback_529", "928d0a5f", "", "ok from claude-sonnet-5-5", 1, used(1, "0.00303")),
        ("dontAsk_denied", "d14540d8", "create finish", "All done.", 3, used(3)),
        ("hook_command_deny", "d4074482", "create", "end", 2, used(2)),
        ("hook_http", "7b3a7435", "create", "end", 2, used(2)),
        ("restart_v1_in_flight", "10142e95", "wait create", "end", 3, used(3)),
        ("restart_v1_serial_down25s", "16e65a49", 10 * "create ", "end", 11, used(11)),
        ("restart_v2_between_calls", "dfca88dd", "create create finish", "end", 4, used(4)),
        ("restart_v2_in_flight", "fac667f2", "wait create", "end", 3, used(3)),
        ("restart_v2_never_back", "ed7efb6c", "create create finish", "end", 4, used(4)),
        ("wait400_default", "631c9e26", "wait", "after wait", 2, used(2)),
    ],
)
def test_a_run_that_ended_well(
    name: str, session: str, calls: str, message: str, turns: int, usage: SessionUsage
) -> None:
    run = replay(CLAUDE, name)

    tools = {"create": "create_job", "finish": "finish_job", "wait": "wait_for_jobs"}
    assert run.session is not None
    assert run.session.startswith(session)
    assert run.calls == tuple(f"mcp__hurlicane__{tools[call]}" for call in calls.split())
    assert (run.message, run.error, run.turns) == (message, None, turns)
    assert run.usage is not None
    assert run.usage.tokens == usage.tokens
    assert run.usage.cost_usd == pytest.approx(usage.cost_usd, abs=Decimal("1e-12"))


def test_a_resumed_run_tells_what_its_session_had_used_before() -> None:
    lines = (DATA / "claude" / "resume_b_resumed.ndjson").read_bytes().splitlines()
    readings = [one for line in lines for one in CLAUDE.parse_line(line)]
    (before,) = [one for one in readings if isinstance(one, SessionBase)]
    assert before == SessionBase(Tokens(1000, 50, 300, 200), Decimal("0.00606"))


@pytest.mark.parametrize(
    ("name", "session", "error", "usage"),
    [
        ("400", "8c68ae82", "API Error: 400 messages: bad", None),
        ("400_credit", "aae2cdc1", "Credit balance is too low (HTTP status 400)", None),
        ("403", "ff6fb7a6", "Failed to authenticate. API Error: 403 forbidden", None),
        ("404_model", "048c099a", "selected model (claude-nope-9)", None),
        ("413", "49bd1e85", "compact the conversation. (HTTP status 413)", None),
        ("429_forever_default", "2e252598", "Request rejected (429)", None),
        ("429_retry_after_3600_retries2", "d67e33ff", "Request rejected (429)", None),
        ("429_unified_rejected", "5c69d67c", "Request rejected (429)", None),
        ("500_forever_retries2", "6942872f", "API Error: 500 Internal Server Error", None),
        ("529_forever_default", "86ac7844", "Repeated 529 Overloaded errors", None),
        ("conn_refused_retries2", "1e3039b6", "Connection refused", None),
        ("true_drop_retries2", "a6835f82", "Connection dropped (ECONNRESET)", None),
        ("resume_f_unknown", "", "No conversation found with session ID: d400d389", None),
    ],
)
def test_a_run_that_failed(name: str, session: str, error: str, usage: SessionUsage | None) -> None:
    run = replay(CLAUDE, name)

    assert (run.session or "").startswith(session)
    assert run.error is not None
    assert error in run.error
    assert (run.message, run.usage) == (None, usage)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("restart_v1_in_flight", ["connection closed"], id="connection lost"),
        pytest.param("restart_v2_in_flight", ["ECONNRESET"], id="connection reset"),
        pytest.param(
            "restart_v1_serial_down25s",
            3 * ["is not connected"] + 2 * ["No such tool available"],
            id="server away for long",
        ),
        pytest.param("wait400_default", ["no response or progress for 300s"], id="silent call"),
        pytest.param("hook_command_deny", ["hook error: scripted deny"], id="hook"),
    ],
)
def test_a_call_that_failed_is_told_with_its_reason(name: str, said: list[str]) -> None:
    failed = replay(CLAUDE, name).failed_calls

    assert len(failed) == len(said)
    assert all(part in answer for part, answer in zip(said, failed, strict=True))


def test_each_denial_is_told_once_and_when_it_happens() -> None:
    denied = (
        "Permission to use {0} has been denied because Claude Code is running in don't ask mode."
    )
    tools = ("mcp__hurlicane__create_job", "mcp__hurlicane__finish_job")
    run = replay(CLAUDE, "dontAsk_denied")

    assert run.denials == tuple(f"{tool}: {denied.format(tool)}" for tool in tools)
    assert run.warnings == ()  # the result's list of them adds nothing


def test_a_hook_that_denies_is_told_once() -> None:
    denials = replay(CLAUDE, "hook_command_deny").denials

    assert denials == ("PreToolUse:mcp__hurlicane__create_job hook error: scripted deny",)


@pytest.mark.parametrize(
    ("name", "mode", "requests"),
    [("max_turns1", StopMode.TURNS, 1), ("max_budget", StopMode.BUDGET, 2)],
)
def test_a_run_that_reached_its_bound_has_not_failed(
    name: str, mode: StopMode, requests: int
) -> None:
    run = replay(CLAUDE, name)

    assert (run.stopped, run.error, run.refusals) == (mode, None, ())
    assert run.usage == used(requests)


def test_what_a_request_uses_is_told_while_it_is_answered() -> None:
    run = replay(CLAUDE, "partial_messages")

    name = "msg_52011b0396c844e7bab7cd2a"
    assert run.live == (
        RequestUsage(name, "claude-opus-5-5", Tokens(1000, 1, cache_read=300, cache_write=200)),
        RequestUsage(name, "", Tokens(output=50)),
    )
    assert run.usage == used(1)


def test_what_a_subagent_uses_is_told_with_its_answers() -> None:
    usage = {"input_tokens": 2000, "output_tokens": 1}
    message = {"id": "m", "model": "claude-haiku-5-5", "usage": usage}

    told = (TurnSeen("m"), RequestUsage("m", "claude-haiku-5-5", Tokens(2000, 1)))
    event = line(type="assistant", parent_tool_use_id="toolu_1", message=message)
    assert CLAUDE.parse_line(event) == told
    assert CLAUDE.parse_line(line(type="assistant", message=message)) == told[:1]


@pytest.mark.parametrize("path", recordings("claude"), ids=lambda path: path.stem)
def test_the_pieces_of_an_answer_only_say_that_it_comes(path: Path) -> None:
    pieces = [one for one in path.read_bytes().splitlines() if b'"content_block_' in one]

    assert {CLAUDE.parse_line(piece) for piece in pieces} <= {(ErrorCleared(),)}
    assert all(piece.startswith(PIECE) for piece in pieces)
    # Another order of the keys costs time and changes nothing.
    turned = [json.dumps(dict(reversed(json.loads(piece).items()))).encode() for piece in pieces]
    assert {CLAUDE.parse_line(piece) for piece in turned} <= {(ErrorCleared(),)}


def test_an_answer_that_begins_takes_back_what_was_refused_before() -> None:
    started = line(type="stream_event", event={"type": "message_start", "message": {"id": "m"}})

    assert CLAUDE.parse_line(started) == (ErrorCleared(), RequestUsage("m", "", Tokens()))
    asked = line(type="system", subtype="status", status="requesting")
    assert CLAUDE.parse_line(asked) == (ErrorCleared(),)


def test_limits_that_are_near_or_paid_for_are_warnings() -> None:
    near, paid = replay(CLAUDE, "plan_allowed_warning"), replay(CLAUDE, "plan_paid_overage")

    assert near.warnings == ("A usage limit is near: five_hour, 93% used",)
    assert paid.warnings == ("A usage limit is reached: five_hour. Extra usage is being paid for",)
    assert near.refusals == paid.refusals == ()
    assert near.message == paid.message == "ok"


def test_each_retry_and_a_change_of_model_become_warnings() -> None:
    run = replay(CLAUDE, "fallback_529")

    assert run.warnings == (
        "The model's endpoint answered 529 (overloaded): retry 1 of 10 in 0.6 s",
        "The model's endpoint answered 529 (overloaded): retry 2 of 10 in 1.2 s",
        "Switched to Sonnet 5.5 due to high demand for Opus 5.5",
    )
    assert run.model == "claude-sonnet-5-5"


def test_an_endpoint_that_cannot_be_reached_has_no_status() -> None:
    assert replay(CLAUDE, "conn_refused_retries2").warnings[0] == (
        "The model's endpoint did not answer (unknown): retry 1 of 2 in 0.6 s"
    )


def test_a_run_that_was_killed_while_it_retried_has_no_verdict_of_its_own() -> None:
    run = replay(CLAUDE, "fallback_both_529")

    assert (run.error, run.message, run.turns) == (None, None, 0)
    assert run.model == "claude-sonnet-5-5"


def test_the_cost_of_a_turn_is_booked_though_the_budget_cut_it_off() -> None:
    # Its `usage` has one request, its cost two.
    assert replay(CLAUDE, "max_budget").usage == used(2)


def test_one_answer_in_two_events_is_one_turn() -> None:
    turns = [
        reading
        for recorded in LINES
        if b"msg_41386c83dce64b888e5dfb3b" in recorded
        for reading in CLAUDE.parse_line(recorded)
        if isinstance(reading, TurnSeen)
    ]

    assert turns == 2 * [TurnSeen("msg_41386c83dce64b888e5dfb3b")]


def test_a_tool_call_is_told_with_its_arguments_and_then_its_answer() -> None:
    content = [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls\n-l"}}]
    answers = [{"type": "tool_result", "tool_use_id": "t1", "content": "a\nb"}]
    blocks = [{**answers[0], "content": [{"type": "text", "text": "c d"}], "is_error": True}]

    called = CLAUDE.parse_line(line(type="assistant", message={"id": "m", "content": content}))
    assert called == (TurnSeen("m"), ToolSeen("Bash", '{"command": "ls\\n-l"}', finished=False))
    answered = CLAUDE.parse_line(line(type="user", message={"content": answers + blocks}))
    assert answered == (
        ToolSeen("tool", "a b", finished=True),
        ToolSeen("tool", "c d", finished=True, is_error=True),
    )


def test_a_subagents_words_are_not_the_agents_last_message() -> None:
    event = line(
        type="assistant",
        parent_tool_use_id="toolu_1",
        message={"id": "m", "content": [{"type": "text", "text": "from below"}]},
    )

    assert CLAUDE.parse_line(event) == (TurnSeen("m"),)


def test_what_the_cli_itself_says_in_the_models_name_is_no_turn() -> None:
    synthetic = [recorded for recorded in LINES if b'"<synthetic>"' in recorded]

    assert synthetic
    for recorded in synthetic:
        assert all(isinstance(reading, Refused) for reading in CLAUDE.parse_line(recorded))


def test_the_model_of_a_run_is_the_one_that_wrote_most_since_it_began() -> None:
    event = line(
        type="result",
        is_error=False,
        modelUsage={"claude-opus-5-5": {"outputTokens": 900}, "claude-haiku-5-5": {}},
        model_usage_since_last_result={
            "claude-haiku-5-5": {"outputTokens": 5},
            "claude-sonnet-5-5": {"outputTokens": 70},
        },
    )

    assert ModelSeen("claude-sonnet-5-5") in CLAUDE.parse_line(event)


def test_an_answer_without_text_ends_well_and_says_nothing() -> None:
    assert CLAUDE.parse_line(line(type="result", is_error=False, result="")) == (ErrorCleared(),)


def test_an_error_without_words_is_told_by_its_kind() -> None:
    event = line(type="result", is_error=True, subtype="error_during_execution")

    assert CLAUDE.parse_line(event) == (
        ErrorSeen("Claude Code ended with 'error_during_execution'."),
    )


def test_the_type_may_stand_anywhere_in_a_line() -> None:
    event = b'{"session_id": "s", "subtype": "init", "type": "system"}'

    assert CLAUDE.parse_line(event) == (SessionSeen("s"),)


@pytest.mark.parametrize("path", recordings("claude", ".err"), ids=lambda path: path.stem)
def test_what_it_prints_as_an_error_before_it_starts_means_nothing(path: Path) -> None:
    for printed in path.read_bytes().splitlines():
        assert CLAUDE.parse_line(printed) == ()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b'{"type": "assist', id="half a line"),
        pytest.param(b'{"type": "news"}', id="unknown event"),
        pytest.param(b'{"type": ["assistant"]}', id="type of the wrong type"),
        pytest.param(b"null", id="no object"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"type": "result", "n": 1' + b"0" * 5_000 + b"}", id="huge number"),
    ],
)
def test_garbage_means_nothing(garbage: bytes) -> None:
    assert CLAUDE.parse_line(garbage) == ()


def test_a_line_of_ten_megabytes_is_read_and_its_detail_is_short() -> None:
    text = "x" * 10_000_000
    content = [{"type": "text", "text": text}, {"type": "tool_use", "name": "Write", "input": text}]

    turn, message, call = CLAUDE.parse_line(
        line(type="assistant", message={"id": "m", "content": content})
    )

    assert (turn, message) == (TurnSeen("m"), MessageSeen(text))
    assert isinstance(call, ToolSeen)
    assert len(call.detail) == 200


@given(st.binary())
def test_any_bytes_are_borne(noise: bytes) -> None:
    check_storable(CLAUDE.parse_line(noise))


@given(lines_with(LINES))
def test_any_json_is_borne(noise: bytes) -> None:
    check_storable(CLAUDE.parse_line(noise))


@given(spoiled(LINES))
def test_a_spoiled_recording_is_borne(noise: bytes) -> None:
    check_storable(CLAUDE.parse_line(noise))
