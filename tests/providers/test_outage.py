"""When a CLI's output proves that it cannot reach us, and when it only speaks of that."""

import json
from collections.abc import Sequence

import pytest

from hurlicane_mcp.engine.access import Role
from hurlicane_mcp.mcp_server.jobs import AttemptTools, JobTools
from hurlicane_mcp.mcp_server.notes import NoteTools
from hurlicane_mcp.mcp_server.server import tools_of
from hurlicane_mcp.mcp_server.talk import TalkTools
from hurlicane_mcp.providers.base import ConnectionLost, Provider
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.outage import AGENT_TOOLS, CUT_OFF, NOT_CONNECTED
from tests.providers.recordings import DATA, recordings, replay

CLAUDE, CODEX = ClaudeProvider(), CodexProvider()
UNKNOWN = "<tool_use_error>Error: No such tool available: {}</tool_use_error>"
SEND_ERROR, CLOSED = "Transport send error", "Transport closed"


@pytest.mark.parametrize(
    ("provider", "name", "said"),
    [
        (CLAUDE, "restart_v1_between_calls", [NOT_CONNECTED]),
        (CLAUDE, "restart_v1_in_flight", [CUT_OFF]),
        (CLAUDE, "restart_v1_down_at_call_then_back", 2 * [NOT_CONNECTED]),
        (CLAUDE, "restart_v2_down_at_call_then_back", 2 * [NOT_CONNECTED]),
        (CLAUDE, "restart_v2_never_back", 2 * [NOT_CONNECTED]),
        (
            CLAUDE,
            "restart_v1_serial_down25s",
            3 * [NOT_CONNECTED] + 2 * [UNKNOWN.format("mcp__hurlicane__create_job")],
        ),
        (
            CLAUDE,
            "restart_v2_serial_down25s",
            4 * [NOT_CONNECTED] + 2 * [UNKNOWN.format("mcp__hurlicane__create_job")],
        ),
        (
            CLAUDE,
            "restart_v2_outage90s",
            2 * [NOT_CONNECTED] + 9 * [UNKNOWN.format("mcp__hurlicane__create_job")],
        ),
        (CODEX, "restart_v1_down15s", 3 * [SEND_ERROR]),
        (CODEX, "restart_v1_in_flight", [CLOSED]),
        (CODEX, "restart_v2_in_flight", [CLOSED]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_call_that_an_outage_failed_is_a_lost_connection(
    provider: Provider, name: str, said: Sequence[str]
) -> None:
    run = replay(provider, name)

    assert len(run.losses) == len(said)
    assert all(part in text for part, text in zip(said, run.losses, strict=True))
    assert len(run.failed_calls) >= len(said)


LOST = {
    "restart_v1_between_calls", "restart_v1_down15s", "restart_v1_down_at_call_then_back",
    "restart_v1_in_flight", "restart_v1_serial_down25s", "restart_v2_down_at_call_then_back",
    "restart_v2_in_flight", "restart_v2_never_back", "restart_v2_outage90s",
    "restart_v2_serial_down25s",
}  # fmt: skip


@pytest.mark.parametrize("provider", [CLAUDE, CODEX], ids=["claude", "codex"])
def test_no_other_recording_has_one(provider: Provider) -> None:
    """Neither timeouts, denials and failed hooks, nor broken connections to the model."""
    others = [path.stem for path in recordings(provider.name) if path.stem not in LOST]

    assert len(others) > 15
    assert {name: replay(provider, name).losses for name in others} == dict.fromkeys(others, ())


def test_a_reset_that_does_not_name_us_is_no_proof() -> None:
    """It could be any tool's: Claude Code 2.1 says no more when a call of 2026-07-28 breaks off."""
    run = replay(CLAUDE, "restart_v2_in_flight")

    assert "ECONNRESET" in run.failed_calls[0]
    assert run.losses == ()


def answered(content: object, *, is_error: bool = True, kind: str = "user") -> bytes:
    """A line of Claude Code's with the answer to a tool call."""
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": is_error}
    return json.dumps({"type": kind, "message": {"id": "m", "content": [block]}}).encode()


def losses(provider: Provider, line: bytes) -> list[ConnectionLost]:
    return [one for one in provider.parse_line(line) if isinstance(one, ConnectionLost)]


@pytest.mark.parametrize(
    "text",
    [
        NOT_CONNECTED,
        CUT_OFF,
        'MCP server "hurlicane" connection closed before the tool call ran',
        'MCP server "hurlicane" session expired',
        UNKNOWN.format("mcp__hurlicane__finish_job"),
        UNKNOWN.format("mcp__hurlicane__ask_user. It is still listed, but\nnothing provides it."),
    ],
)
def test_claude_says_it_in_these_words(text: str) -> None:
    assert len(losses(CLAUDE, answered(text))) == 1
    assert len(losses(CLAUDE, answered([{"type": "text", "text": text}]))) == 1
    assert losses(CLAUDE, answered(text, is_error=False)) == []
    assert losses(CLAUDE, answered(text, kind="assistant")) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Exit code 1\n{NOT_CONNECTED}", id="a shell that printed it"),
        pytest.param(f"{NOT_CONNECTED}\nmake: *** [test] Error 1", id="a log that begins with it"),
        pytest.param(f"File has not been read yet: {NOT_CONNECTED}", id="another tool's error"),
        pytest.param('MCP server "github" is not connected', id="another server"),
        pytest.param('MCP server "hurlicane2" is not connected', id="a server of a longer name"),
        pytest.param(
            'MCP server "hurlicane" tool "wait_for_jobs" timed out after 3s', id="a timeout"
        ),
        pytest.param(UNKNOWN.format("mcp__github__finish_job"), id="another server's tool"),
        pytest.param(UNKNOWN.format("mcp__hurlicane__launch_rocket"), id="an invented tool"),
        pytest.param(UNKNOWN.format("finish_job"), id="a tool without its server"),
        pytest.param("not_found: There is no job 'x'.", id="our own refusal"),
        pytest.param(NOT_CONNECTED + ". " + "x" * 10_000_000, id="ten megabytes"),
    ],
)
def test_other_errors_of_claudes_tools_are_no_proof(text: str) -> None:
    assert losses(CLAUDE, answered(text)) == []


@pytest.mark.parametrize("text", [NOT_CONNECTED, CUT_OFF, f"Oh no: {NOT_CONNECTED}"])
def test_what_claude_or_a_person_says_is_no_proof(text: str) -> None:
    content = [{"type": "text", "text": text}]
    for kind in ("assistant", "user"):
        said = json.dumps({"type": kind, "message": {"id": "m", "content": content}}).encode()
        assert losses(CLAUDE, said) == []
    result = json.dumps({"type": "result", "is_error": True, "result": text}).encode()
    assert losses(CLAUDE, result) == []


@pytest.mark.parametrize(
    ("name", "status", "is_lost"),
    [
        ("hurlicane", "failed", True),
        ("hurlicane", "connected", False),
        ("hurlicane", "pending", False),
        ("github", "failed", False),
    ],
)
def test_claude_may_not_have_found_us_when_it_started(
    name: str, status: str, is_lost: bool
) -> None:
    servers = [{"name": name, "status": status, "source": "dynamic"}]
    line = json.dumps({"type": "system", "subtype": "init", "mcp_servers": servers}).encode()

    assert bool(losses(CLAUDE, line)) == is_lost


def codex_call(message: str, **changed: object) -> bytes:
    """A line of Codex's about a call of an MCP tool that failed."""
    item = {
        "id": "item_1",
        "type": "mcp_tool_call",
        "server": "hurlicane",
        "tool": "finish_job",
        "result": None,
        "error": {"message": message},
        "status": "failed",
    }
    return json.dumps({"type": "item.completed", "item": item | changed}).encode()


CAUSE = "tool call error: tool call failed for `hurlicane/finish_job`\n\nCaused by:\n    "


@pytest.mark.parametrize("cause", ["Transport closed", "Transport send error: Transport [x] y"])
def test_codex_says_it_of_the_call_itself(cause: str) -> None:
    text = f"{CAUSE}{cause}"

    expected = ConnectionLost(" ".join(text.split()), is_lasting=False)
    assert losses(CODEX, codex_call(text)) == [expected]
    assert losses(CODEX, codex_call(text, server="github")) == []
    assert losses(CODEX, codex_call(text, type="command_execution")) == []
    assert losses(CODEX, codex_call(text, type="agent_message", text=text)) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{CAUSE}timed out awaiting tools/call after 10s",
        "MCP tool call requires approval, but approval policy is never",
        "user cancelled MCP tool call: Transport closed",
        "",
    ],
)
def test_other_errors_of_codexs_calls_are_no_proof(text: str) -> None:
    assert losses(CODEX, codex_call(text)) == []


def test_the_recordings_are_those_that_this_file_speaks_of() -> None:
    names = {path.stem for path in DATA.rglob("restart_*.ndjson")}

    assert names - LOST == {"restart_v1_back_before_call", "restart_v1_serial_back_before_call",
                            "restart_v2_back_before_call", "restart_v2_between_calls",
                            "restart_v2_serial_back_before_call"}  # fmt: skip


def test_the_tools_named_are_those_that_agents_have() -> None:
    parts = (JobTools.__new__(JobTools), NoteTools.__new__(NoteTools))
    others = (AttemptTools.__new__(AttemptTools), TalkTools.__new__(TalkTools))
    tools = tools_of(Role.AGENT, *parts, *others)

    assert set(AGENT_TOOLS) == {getattr(tool, "__name__", "") for tool in tools}
