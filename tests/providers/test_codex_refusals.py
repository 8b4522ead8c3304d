"""What Codex's errors say of its models: every recording, and every sentence that was printed."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope, WallTime
from hurlicane_mcp.providers.base import ErrorSeen, Reading, Refused
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.wall_clock import local_moment, local_zone
from tests.providers.recordings import DATA, recordings

CODEX = CodexProvider()
K = FailureKind
WAITING, FINAL = False, True
TOLD = {
    "401": (4 + 2) * [(K.AUTH, FINAL)],
    "404_model": 2 * [(K.UNKNOWN_MODEL, FINAL)],
    "429_3_then_ok": 3 * [(K.RATE_LIMIT, WAITING)],
    "429_forever_default": 2 * [(K.RATE_LIMIT, FINAL)],
    "429_forever_few": 2 * [(K.RATE_LIMIT, FINAL)],
    "429_insufficient_quota": 2 * [(K.BILLING, FINAL)],
    "429_retry_after_1_forever": 5 * [(K.RATE_LIMIT, WAITING)] + 2 * [(K.RATE_LIMIT, FINAL)],
    "429_retry_after_3600": [(K.RATE_LIMIT, WAITING)],
    "429_usage_limit": 2 * [(K.USAGE_LIMIT, FINAL)],
    "500_few": 2 * [(K.SERVER_ERROR, FINAL)],
    "503_overloaded_few": 2 * [(K.OVERLOADED, FINAL)],
    "failed_rate_limit_2_then_ok": 2 * [(K.RATE_LIMIT, WAITING)],
    "failed_rate_limit_few": [(K.RATE_LIMIT, WAITING)] + 2 * [(K.RATE_LIMIT, FINAL)],
}
LIMIT = "You\u2019ve hit your usage limit. "
RETRY = "Reconnecting... 1/5 ({})"
REFUSED_429 = "exceeded retry limit, last status: 429 Too Many Requests"
TOKENS = "rate limit exceeded: Rate limit reached for gpt-5 on tokens per min (TPM). Please "


def readings(name: str) -> list[Reading]:
    lines = (DATA / "codex" / f"{name}.ndjson").read_bytes().splitlines()
    return [reading for line in lines for reading in CODEX.parse_line(line)]


def refusals(told: Sequence[Reading]) -> list[Refusal]:
    return [reading.refusal for reading in told if isinstance(reading, Refused)]


def error(message: str) -> Sequence[Reading]:
    return CODEX.parse_line(json.dumps({"type": "error", "message": message}).encode())


def refusal(message: str) -> Refusal:
    """The one refusal that *message* tells, as an error and as the end of a turn alike."""
    failed = {"type": "turn.failed", "error": {"message": message}}
    assert CODEX.parse_line(json.dumps(failed).encode()) == error(message)
    (one,) = refusals(error(message))
    return one


@pytest.mark.parametrize("name", [path.stem for path in recordings("codex")])
def test_each_recording_tells_its_refusals_and_no_others(name: str) -> None:
    told = [(one.kind, one.is_final) for one in refusals(readings(name))]

    assert told == TOLD.get(name, [])


def test_a_refusal_comes_right_behind_the_error_that_it_is_about() -> None:
    told = readings("429_usage_limit")
    at = next(number for number, one in enumerate(told) if isinstance(one, Refused))

    seen = told[at - 1]
    assert isinstance(seen, ErrorSeen)
    assert seen.text.startswith("You\u2019ve hit your usage limit.")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (REFUSED_429, K.RATE_LIMIT),
        ("rate limit exceeded: Slow down", K.RATE_LIMIT),
        ("unexpected status 429 Too Many Requests: no, url: http://x/v1/responses", K.RATE_LIMIT),
        (LIMIT + "Try again later.", K.USAGE_LIMIT),
        ("You hit your spend cap set in your workspace. Increase it.", K.SPEND_LIMIT),
        ("You hit your spend cap set by the owner of your workspace.", K.SPEND_LIMIT),
        ("Your workspace is out of credits. Add credits to continue.", K.BILLING),
        ("Quota exceeded. Check your plan and billing details.", K.BILLING),
        ("To use Codex with your ChatGPT plan, upgrade to Plus: https://x.", K.BILLING),
        ("unexpected status 402 Payment Required: no, url: http://x", K.BILLING),
        ("Selected model is at capacity. Please try a different model.", K.OVERLOADED),
        ("Policy-restricted capacity is unavailable. Please try again later.", K.OVERLOADED),
        ("unexpected status 529 <unknown status code>: no, url: http://x", K.OVERLOADED),
        ("unexpected status 401 Unauthorized: Incorrect API key", K.AUTH),
        ("unexpected status 403 Forbidden: Country not supported", K.AUTH),
        ("Your access token could not be refreshed. Please log out and sign in again.", K.AUTH),
        ("Missing environment variable: `OPENAI_API_KEY`.", K.AUTH),
        ("The model does not exist", K.UNKNOWN_MODEL),
        ("The model `gpt-99` does not exist or you do not have access to it.", K.UNKNOWN_MODEL),
        (
            '{"detail":"The \'gpt-99\' model is not supported when using Codex with a ChatGPT '
            'account."}',
            K.UNKNOWN_MODEL,
        ),
        ("unexpected status 404 Not Found: The model `x` does not exist", K.UNKNOWN_MODEL),
        ("Codex ran out of room in the model's context window. Start a new", K.CONTEXT_OVERFLOW),
        ('{"error":{"message":"context_length_exceeded"}}', K.CONTEXT_OVERFLOW),
        ("Your input exceeds the context window of this model.", K.CONTEXT_OVERFLOW),
        ("unexpected status 413 Payload Too Large: too large", K.CONTEXT_OVERFLOW),
        ("We\u2019re currently experiencing high demand, which may cause", K.SERVER_ERROR),
        ("unexpected status 502 Bad Gateway: bad gateway", K.SERVER_ERROR),
        ("exceeded retry limit, last status: 503 Service Unavailable", K.SERVER_ERROR),
        ("stream disconnected before completion: An error occurred", K.NETWORK),
        ("Connection failed: error sending request", K.NETWORK),
        ("error sending request for url (http://x)", K.NETWORK),
    ],
)
def test_an_error_that_ends_a_turn_is_told_apart(message: str, kind: FailureKind) -> None:
    one = refusal(message)

    assert (one.kind, one.is_final, one.cli_waits) == (kind, True, None)
    assert one.ends_at(datetime(2026, 11, 24, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "message",
    [
        "bad input",
        "flagged",
        "Invalid prompt",
        "interrupted",
        "Reconnecting...",
        "Reconnecting... 3/5",
        RETRY.format("We\u2019re currently experiencing high demand, which may cause errors."),
        RETRY.format("unexpected status 502 Bad Gateway: bad gateway, url: http://x"),
        RETRY.format("stream disconnected before completion: stream closed"),
        RETRY.format("unexpected status 401 Unauthorized: Incorrect API key"),
        "stream disconnected before completion: Incomplete response returned, reason: filter",
        "Agents say: You've hit your usage limit. Try again at 3:05 PM.",
    ],
)
def test_any_other_error_is_an_error_only(message: str) -> None:
    assert error(message) == (ErrorSeen(message),)


def test_what_an_agent_says_or_is_warned_of_is_no_refusal() -> None:
    for kind in ("error", "agent_message", "reasoning"):
        item = {"id": "i", "type": kind, "text": REFUSED_429, "message": REFUSED_429}
        line = json.dumps({"type": "item.completed", "item": item}).encode()
        assert refusals(CODEX.parse_line(line)) == []


@pytest.mark.parametrize(
    ("cause", "waits"),
    [
        (REFUSED_429, None),
        ("rate limit exceeded: Slow down", None),
        (TOKENS + "try again in 1.5s.", timedelta(seconds=1.5)),
        (TOKENS + "try again in 20ms.", timedelta(milliseconds=20)),
        (TOKENS + "try again in 1 second.", timedelta(seconds=1)),
        (TOKENS + "try again in 2m.", timedelta(minutes=2)),
        (TOKENS + "try again in 2m30s.", timedelta(minutes=2, seconds=30)),
    ],
)
def test_a_limit_that_the_cli_waits_out_says_how_long_if_the_endpoint_did(
    cause: str, waits: timedelta | None
) -> None:
    one = refusal(RETRY.format(cause))

    assert (one.kind, one.is_final) == (K.RATE_LIMIT, False)
    assert one.cli_waits == one.retry_after == waits


WARNING = (
    "2026-11-24T19:55:13.029060Z  WARN codex_core::responses_retry: stream disconnected - retrying "
    "sampling request ({}/5 in {})... turn_id=01a20f20-6b9f-7bc2-9612-99fc460d622a retries=1 "
    "max_retries=5 sampling_error=exceeded retry limit, last status: 429 Too Many Requests\n"
)


@pytest.mark.parametrize(
    ("complaints", "seconds"),
    [
        (WARNING.format(1, "3599.9964325s"), 3600),
        (WARNING.format(1, "0.998277925s"), 1),
        (WARNING.format(1, "1.997964343s") + WARNING.format(2, "30s"), 2),
        (WARNING.format(1, "60s") + "A word.\n" + WARNING.format(1, "4.9s"), 5),
        (WARNING.format(1, "214.5ms"), None),  # its own pause, that nobody asked for
        (WARNING.format(1, "0.4s"), None),
        (WARNING.format(2, "60s"), None),  # of another try
        (WARNING.format(1, "9" * 30 + "s"), None),
        ("", None),
    ],
)
def test_how_long_a_retry_after_is_obeyed_is_told_on_standard_error(
    complaints: str, seconds: int | None
) -> None:
    """Printed by 0.169.0 with `RUST_LOG` as it is set, 2026-11-24."""
    told = CODEX.announced_wait(refusal(RETRY.format(REFUSED_429)), complaints)
    assert told == (None if seconds is None else timedelta(seconds=seconds))
    waiting = refusal("Reconnecting... waiting for network")
    assert CODEX.announced_wait(waiting, complaints) is None


@given(st.text(), st.text())
def test_any_complaints_are_borne(text: str, complaints: str) -> None:
    one = Refusal(K.RATE_LIMIT, f"Reconnecting... 1/5 ({text})", is_final=False)
    CODEX.announced_wait(one, complaints)


@pytest.mark.parametrize("status", ["401 Unauthorized", "402 Payment Required", "404 Not Found"])
def test_what_does_not_mend_itself_is_final_at_the_second_try(status: str) -> None:
    message = f"Reconnecting... {{}}/5 (unexpected status {status}: no, url: http://x)"

    assert refusals(error(message.format(1))) == []
    assert refusal(message.format(2)).is_final


def test_without_network_the_cli_waits_for_ever_and_does_not_say_for_how_long() -> None:
    one = refusal("Reconnecting... waiting for network (Connection failed: error sending request)")

    assert (one.kind, one.is_final, one.cli_waits) == (K.NETWORK, False, None)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "Upgrade to Pro (https://x), visit https://y to purchase more credits or ",
        "Visit https://chatgpt.com/settings/usage to purchase more credits or ",
        "Upgrade to Plus to continue using Codex (https://chatgpt.com/explore/plus), or ",
        "To get more access now, send a request to your admin or ",
        "Get more with a promo, or ",
    ],
)
def test_a_usage_limit_is_the_accounts_and_ends_when_it_says(words: str) -> None:
    today, later = refusal(LIMIT + words + "try again at 3:05 PM."), datetime(2026, 11, 29, 22, 22)
    far = refusal(LIMIT + words + "try again at Nov 29th, 2026 10:22 PM.")

    assert (today.kind, today.scope) == (K.USAGE_LIMIT, Scope.ACCOUNT)
    assert today.resets_at == WallTime(time(15, 5, 59), local_zone())
    assert far.resets_at == later.replace(second=59).astimezone()


def test_a_usage_limit_of_one_model_is_that_models() -> None:
    text = "You\u2019ve hit your usage limit for GPT-6 Sol. Switch to another model now, or try "
    one = refusal(text + "again at 12:00 AM.")

    assert (one.kind, one.scope) == (K.USAGE_LIMIT, Scope.MODEL)
    assert one.resets_at == WallTime(time(0, 0, 59), local_zone())


def test_a_usage_limit_may_say_how_long_it_lasts() -> None:
    one = refusal(LIMIT + "Try again in 2 hours 5 minutes.")

    assert one.retry_after == timedelta(hours=2, minutes=5)


@pytest.mark.parametrize("moment", ["13:05 PM", "0:05 AM", "3:75 PM", "Foo 1st, 2026 3:05 PM"])
def test_a_moment_that_does_not_exist_is_no_end(moment: str) -> None:
    assert refusal(f"{LIMIT}Try again at {moment}.").resets_at is None


def test_a_day_that_does_not_exist_is_no_end() -> None:
    assert refusal(LIMIT + "Try again at Feb 30th, 2026 3:05 PM.").resets_at is None
    assert local_moment(0, 1, 1, time(1)) is None


@pytest.mark.parametrize(
    ("named", "zone"), [("Asia/Dhaka", "Asia/Dhaka"), (":Asia/Dhaka", "Asia/Dhaka")]
)
def test_times_are_in_the_zone_of_this_machine(
    named: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", named)
    one = refusal(LIMIT + "Try again at 11:22 PM.")

    assert one.resets_at == WallTime(time(23, 22, 59), zone)
    assert one.ends_at(datetime(2026, 11, 24, 16, tzinfo=UTC)) == datetime(
        2026, 11, 24, 17, 22, 59, tzinfo=UTC
    )


def test_a_zone_that_nobody_knows_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Nowhere/At/All")

    assert local_zone() != "Nowhere/At/All"


@given(st.text(alphabet="try again in at0123456789.msh, PMNov(:"))
def test_any_words_about_times_are_borne(words: str) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for message in (LIMIT + "try again in 9" + words, LIMIT + "try again at 1" + words):
        refusal(message).ends_at(now)


def test_an_endless_error_is_borne() -> None:
    for text in (LIMIT, "model ", "try again in 1s ", RETRY.format("x")):
        error(LIMIT + text * 200_000)
        error(text * 200_000)
