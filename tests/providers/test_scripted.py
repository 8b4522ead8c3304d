"""The scripted provider's adapter: how it starts the agent, and how it reads its stream."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    MessageSeen,
    ModelSeen,
    Provider,
    Reading,
    Refused,
    RequestUsage,
    SessionSeen,
    SessionUsage,
    Stopped,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.scripted import READERS, ScriptedProvider

PROVIDER: Provider = ScriptedProvider()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = (
    "session_id", "model", "id", "text", "name", "detail", "phase", "is_error", "input", "output",
    "cost_usd", "line", "kind", "final", "scope", "wait_s", "resets_at",
)  # fmt: skip


def request(model: str | None = None, resume: str | None = None) -> LaunchRequest:
    """A launch with the usual values."""
    return LaunchRequest(
        prompt="# Job\n! say hello",
        work_dir=Path("/srv/tree"),
        run_dir=Path("/srv/runs/job_1.1"),
        model=model,
        mcp_url="http://127.0.0.1:7717/mcp",
        token="secret",
        resume=resume,
        wait_limit=timedelta(minutes=30),
    )


def test_a_launch_hides_the_token_in_the_environment_and_the_prompt_in_stdin() -> None:
    spec = PROVIDER.launch(request())

    assert spec.argv == (sys.executable, "-P", "-m", "hurlicane_mcp.providers.scripted_agent")
    assert spec.stdin == "# Job\n! say hello"
    assert spec.env == {
        "HURLICANE_MCP_URL": "http://127.0.0.1:7717/mcp",
        "HURLICANE_TOKEN": "secret",
        "SCRIPTED_SESSIONS": "/srv/runs/scripted-sessions",
        "SCRIPTED_CALL_LIMIT_S": "1860",
    }
    assert "secret" not in " ".join(spec.argv)


def test_a_launch_names_the_model_and_the_session_to_go_on_with() -> None:
    spec = ScriptedProvider("/opt/python").launch(request(model="sonnet", resume="s-1"))

    assert spec.argv[0] == "/opt/python"
    assert spec.argv[-4:] == ("--model", "sonnet", "--resume", "s-1")


def test_a_launch_says_after_how_many_turns_to_stop() -> None:
    argv = PROVIDER.launch(replace(request(), max_turns=7)).argv

    assert argv[-2:] == ("--max-turns", "7")


@pytest.mark.parametrize("model", ["scripted", "claude-opus-5-5[1m]", "a" * 64])
def test_any_plain_name_is_a_model(model: str) -> None:
    PROVIDER.check_model(model)


@pytest.mark.parametrize("model", ["", "two words", "opus\n", "--resume x", "a" * 65])
def test_a_strange_name_is_no_model(model: str) -> None:
    with pytest.raises(Invalid, match="1 to 64 letters"):
        PROVIDER.check_model(model)


@pytest.mark.parametrize(
    ("event", "readings"),
    [
        pytest.param(
            {"event": "session", "session_id": "s", "model": "m"},
            [SessionSeen("s"), ModelSeen("m")],
            id="session",
        ),
        pytest.param({"event": "turn", "id": "s:1"}, [TurnSeen("s:1")], id="turn"),
        pytest.param({"event": "message", "text": "hi"}, [MessageSeen("hi")], id="message"),
        pytest.param(
            {"event": "tool", "name": "t", "phase": "end", "detail": "a\n b" + "x" * 300,
             "is_error": True},
            [ToolSeen("t", "a b" + "x" * 196 + "…", finished=True, is_error=True)],
            id="a tool's detail is one line of at most 200 characters",
        ),
        pytest.param(
            {"event": "usage", "input": 3, "output": True, "cost_usd": 0.1},
            [SessionUsage(Tokens(input=3), Decimal("0.1"))],
            id="usage",
        ),
        pytest.param(
            {"event": "usage", "cost_usd": float("nan")},
            [SessionUsage(Tokens(), None)],
            id="no money",
        ),
        pytest.param(
            {"event": "disconnected", "text": "gone\n"}, [ConnectionLost("gone")], id="disconnected"
        ),
        pytest.param(
            {"event": "request", "id": "s:1", "model": "m", "input": 5, "output": 2},
            [RequestUsage("s:1", "m", Tokens(5, 2))],
            id="request",
        ),
        pytest.param({"event": "denied", "text": "Bash\n"}, [Denied("Bash")], id="denied"),
        pytest.param({"event": "stopped", "mode": "turns"}, [Stopped(StopMode.TURNS)],
                     id="stopped"),
        pytest.param({"event": "answered"}, [ErrorCleared()], id="answered"),
        pytest.param(
            {"event": "refused", "kind": "usage_limit", "text": "No more", "scope": "account",
             "final": True, "wait_s": None, "resets_at": 1764000000},
            [
                ErrorSeen("No more"),
                Refused(
                    Refusal(
                        FailureKind.USAGE_LIMIT, "No more", Scope.ACCOUNT,
                        resets_at=datetime.fromtimestamp(1764000000, UTC),
                    )
                ),
            ],
            id="refused for good",
        ),
        pytest.param(
            {"event": "refused", "kind": "rate_limit", "text": "Later", "final": False,
             "wait_s": 1.5},
            [Refused(Refusal(FailureKind.RATE_LIMIT, "Later", is_final=False,
                             cli_waits=timedelta(seconds=1.5)))],
            id="refused for a while",
        ),
        pytest.param({"event": "refused", "kind": "tired"}, [], id="refused for no known reason"),
        pytest.param({"event": "warning", "text": "w"}, [WarningSeen("w")], id="warning"),
        pytest.param({"event": "error", "text": "e"}, [ErrorSeen("e")], id="error"),
        pytest.param({"event": "result", "turns": 2}, [ErrorCleared()], id="result"),
        pytest.param(
            {"event": "foreign", "cli": "claude",
             "line": {"type": "result", "subtype": "success", "is_error": True, "result": "429"}},
            [ErrorSeen("429")],
            id="claude gives up",
        ),
        pytest.param(
            {"event": "foreign", "cli": "codex",
             "line": {"type": "turn.failed", "error": {"message": "limit"}}},
            [ErrorSeen("limit")],
            id="codex gives up",
        ),
        pytest.param(
            {"event": "foreign", "cli": "claude",
             "line": {"type": "system", "subtype": "api_retry", "error_status": 429}},
            [],
            id="a retry is no final error",
        ),
        pytest.param({"event": "message", "text": "\ud800"}, [MessageSeen("?")], id="surrogate"),
        pytest.param({"event": "of the future"}, [], id="unknown event"),
        pytest.param({"text": "no event"}, [], id="no event"),
    ],
)  # fmt: skip
def test_an_event_is_read(event: dict[str, object], readings: Sequence[Reading]) -> None:
    assert list(PROVIDER.parse_line(json.dumps(event).encode() + b"\n")) == readings


@settings(deadline=None)
@given(st.binary())
def test_no_line_is_too_strange_to_read(line: bytes) -> None:
    PROVIDER.parse_line(line)
    PROVIDER.parse_line(b'{"event": "message", "text": ' + line)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(sorted(READERS))}, optional=dict.fromkeys(KEYS, JSON)
    )
)
def test_no_event_is_too_strange_to_read(event: dict[str, object]) -> None:
    for reading in PROVIDER.parse_line(json.dumps(event).encode()):
        assert "\ud800" not in str(reading)


@pytest.mark.parametrize(
    "line",
    [
        b"{" * 100_000,
        b'{"event": ' * 50_000,
        b'{"input": ' + b"9" * 10_000 + b"}",
        b"x" * 10_000_000,
    ],
    ids=["deep garbage", "deep JSON", "an endless number", "a huge line"],
)
def test_a_hostile_line_means_nothing(line: bytes) -> None:
    assert list(PROVIDER.parse_line(line)) == []
