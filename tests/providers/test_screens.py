"""What the CLIs' screens say of their models: every recording, and what only looks like a limit."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope, WallTime
from hurlicane_mcp.providers.base import Provider
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.providers.wall_clock import local_zone
from tests.providers.recordings import DATA

SCREENS = {path.stem: path.read_text("utf-8") for path in sorted((DATA / "tmux").glob("*.txt"))}
K = FailureKind
WAITING, FINAL = False, True
TOLD = {
    "cc_401_retrying": (K.AUTH, FINAL),
    "cc_404_gave_up": (K.UNKNOWN_MODEL, FINAL),
    "cc_429_gave_up": (K.RATE_LIMIT, FINAL),
    "cc_429_retry_after_3600": (K.RATE_LIMIT, FINAL),
    "cc_429_retrying": (K.RATE_LIMIT, WAITING),
    "cc_529_gave_up": (K.OVERLOADED, FINAL),
    "cc_credit_gave_up": (K.BILLING, FINAL),
    "cc_five_hour_retrying": (K.USAGE_LIMIT, FINAL),
    "cx_401_gave_up": (K.AUTH, FINAL),
    "cx_401_retrying": (K.AUTH, FINAL),
    "cx_404_gave_up": (K.UNKNOWN_MODEL, FINAL),
    "cx_429_gave_up": (K.RATE_LIMIT, FINAL),
    "cx_429_retrying": (K.RATE_LIMIT, WAITING),
    "cx_capacity": (K.OVERLOADED, FINAL),
    "cx_context_gave_up": (K.CONTEXT_OVERFLOW, FINAL),
    "cx_no_network": (K.NETWORK, WAITING),
    "cx_quota": (K.BILLING, FINAL),
    "cx_rate_limit_text_retrying": (K.RATE_LIMIT, WAITING),
    "cx_usage_limit": (K.USAGE_LIMIT, FINAL),
    "cx_usage_limit_far": (K.USAGE_LIMIT, FINAL),
}
LINES = sorted({line for screen in SCREENS.values() for line in screen.splitlines()})
PROVIDERS: tuple[Provider, ...] = (ClaudeProvider(), CodexProvider(), ScriptedProvider())
CLAUDE, CODEX, SCRIPTED = PROVIDERS
RULE = "─" * 80


def read(name: str) -> Refusal | None:
    return (CLAUDE if name.startswith("cc_") else CODEX).read_screen(SCREENS[name])


def claudes(*lines: str) -> str:
    """A screen of Claude Code with these lines above its input box."""
    return "\n".join([*lines, RULE, "\u276f\xa0", RULE, "  ⏵⏵ accept edits on"])


def codexs(*lines: str) -> str:
    """A screen of Codex with these lines above its input."""
    return "\n".join([*lines, "", "\u203a Ask Codex to do anything", "", "  gpt-5 default · /x"])


@pytest.mark.parametrize("name", SCREENS)
def test_each_screen_tells_its_refusal_or_none(name: str) -> None:
    refusal = read(name)

    assert (refusal and (refusal.kind, refusal.is_final)) == TOLD.get(name)


def test_claudes_countdown_is_how_long_it_waits_and_no_part_of_the_text() -> None:
    refusal = read("cc_429_retrying")

    assert refusal == Refusal(
        K.RATE_LIMIT,
        "429 Number of requests has exceeded your rate limit",
        is_final=False,
        cli_waits=timedelta(seconds=1),
    )


def test_codexs_tries_are_no_part_of_the_text_and_it_does_not_say_how_long_it_waits() -> None:
    text = "Exceeded retry limit, last status: 429 Too Many Requests"

    assert read("cx_429_retrying") == Refusal(K.RATE_LIMIT, text, is_final=False)


def test_a_limit_of_the_account_tells_its_end() -> None:
    five_hours, codex = read("cc_five_hour_retrying"), read("cx_usage_limit")
    far = read("cx_usage_limit_far")

    assert five_hours is not None
    assert five_hours.scope is Scope.ACCOUNT
    assert five_hours.resets_at == WallTime(time(18, 28, 59), local_zone())
    assert codex is not None
    assert codex.scope is Scope.ACCOUNT
    assert codex.resets_at == WallTime(time(17, 25, 59), local_zone())
    assert far is not None
    assert far.resets_at == datetime(2026, 11, 29, 16, 25, 59).astimezone()


def test_words_that_the_screen_breaks_are_read_as_one_line() -> None:
    refusal = read("cx_rate_limit_text_retrying")

    assert refusal is not None
    assert refusal.cli_waits == timedelta(seconds=9.5)
    assert "Limit 30000, Used 22999, Requested" in refusal.text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("You've hit your weekly limit · resets Nov 28, 1pm (Asia/Dhaka)", K.USAGE_LIMIT),
        ("Claude usage limit reached. Your limit resets 1:30am (Asia/Dhaka)", K.USAGE_LIMIT),
        ("You've hit your monthly spend limit · /usage-credits to raise it", K.SPEND_LIMIT),
        ("Prompt is too long", K.CONTEXT_OVERFLOW),
        ("Context limit reached · /compact or /clear to continue", K.CONTEXT_OVERFLOW),
        ("Please run /login · API Error: 401 invalid token", K.AUTH),
        ("API Error: 500 Internal Server Error. This is a server-side issue", K.SERVER_ERROR),
        ("API Error: Connection refused — a firewall or proxy may be blocking it", K.NETWORK),
    ],
)
def test_what_claude_gave_up_for_is_told_apart(text: str, kind: FailureKind) -> None:
    refusal = CLAUDE.read_screen(claudes("\u276f go", "", f"● {text}", ""))

    assert refusal is not None
    assert (refusal.kind, refusal.is_final) == (kind, True)


def test_the_end_of_claudes_limit_is_read_in_its_zone() -> None:
    text = "● You've hit your weekly limit · resets Nov 28, 1pm (Asia/Dhaka)"
    refusal = CLAUDE.read_screen(claudes(text))

    assert refusal is not None
    assert refusal.ends_at(datetime(2026, 11, 24, tzinfo=UTC)) == datetime(
        2026, 11, 28, 7, 0, 59, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["● I looked at the spending limit of the account."], id="prose"),
        pytest.param(["● 429 tests passed."], id="a number"),
        pytest.param(["● API Error: Request rejected (429)", "", "● Well."], id="scrolled up"),
        pytest.param(
            ["● API Error: Request rejected (429)", "", "✻ Baked for 2s · done 1:02 AM"],
            id="said by an agent that is done",
        ),
        pytest.param(
            ["● API Error: Request rejected (429)", "", "✶ Thinking… (3s · esc to interrupt)"],
            id="said by an agent at work",
        ),
        pytest.param(
            ["● Read(log)", "  ⎿  ✻ 429 x · retrying in 1s · attempt 4/5"], id="read in a log"
        ),
        pytest.param(["● ✻ 429 x · retrying in 1s · attempt 4/5"], id="quoted"),
        pytest.param(["\u276f API Error: Request rejected (429)"], id="said by a person"),
    ],
)
def test_what_only_looks_like_a_refusal_of_claude_is_none(lines: list[str]) -> None:
    assert CLAUDE.read_screen(claudes(*lines, "")) is None


def test_a_wait_of_claude_counts_above_its_tip_and_in_minutes() -> None:
    line = "✢ 429 Too many · retrying in 2m 5s · attempt 9/10"
    refusal = CLAUDE.read_screen(claudes(line, "  ⎿  Tip: say less", ""))

    assert refusal is not None
    assert refusal.cli_waits == timedelta(minutes=2, seconds=5)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(
            ["■ " + "Quota exceeded.", "", "\u203a go on", "", "• Yes."], id="scrolled up"
        ),
        pytest.param(["• Quota exceeded. Check your plan and billing details."], id="prose"),
        pytest.param(["• It said:", "  ■ Quota exceeded."], id="quoted"),
        pytest.param(["• Reconnecting... 2/5 is what it printed"], id="prose about a try"),
        pytest.param(["■ Conversation interrupted - tell the model what to do"], id="interrupted"),
    ],
)
def test_what_only_looks_like_a_refusal_of_codex_is_none(lines: list[str]) -> None:
    assert CODEX.read_screen(codexs(*lines)) is None


def test_a_wait_of_codex_counts_above_messages_that_are_queued() -> None:
    busy = "◦ Server is busy, reconnecting 1/5 (9s • esc to interrupt)"
    refusal = CODEX.read_screen(codexs(busy, "", "• Queued follow-up messages", "  ↳ hello"))

    assert refusal is not None
    assert (refusal.kind, refusal.is_final) == (K.RATE_LIMIT, False)


def test_a_scripted_agents_last_event_tells() -> None:
    refused = '{"event": "refused", "kind": "overloaded", "text": "Full", "final": false}'

    assert SCRIPTED.read_screen(f"x\n{refused}\n\n") == Refusal(
        K.OVERLOADED, "Full", is_final=False
    )
    assert SCRIPTED.read_screen(f'{refused}\n{{"event": "answered"}}\n') is None
    assert SCRIPTED.read_screen("") is None


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=20), max_size=12))
def test_any_screen_is_borne(lines: list[str]) -> None:
    for provider in PROVIDERS:
        provider.read_screen("\n".join(lines))
