"""How Claude Code says that a model refuses to answer: its recordings, and older words of it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

import pytest

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope, WallTime
from hurlicane_mcp.providers.base import ErrorSeen, Reading, Refused
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.wall_clock import local_zone
from tests.providers.recordings import recordings, replay

CLAUDE = ClaudeProvider()
ACCOUNT = Scope.ACCOUNT
RESET = datetime(2026, 11, 24, 18, 46, 41, tzinfo=UTC)  # of the recorded limits


def told(
    kind: str,
    scope: Scope = Scope.MODEL,
    resets_at: datetime | WallTime | None = None,
    *,
    waits_ms: int | None = None,
    retry_after: timedelta | None = None,
) -> Refusal:
    """A refusal without its words; final if the CLI does not wait."""
    waits = timedelta(milliseconds=waits_ms) if waits_ms is not None else None
    return Refusal(FailureKind(kind), "", scope, retry_after, resets_at, waits is None, waits)


def waiting(kind: str, *waits_ms: int) -> list[Refusal]:
    """One refusal for each retry that the CLI announced."""
    return [told(kind, waits_ms=wait) for wait in waits_ms]


def final(
    kind: str, scope: Scope = Scope.MODEL, resets_at: datetime | None = None
) -> list[Refusal]:
    """The error that ended the run, in the model's name and as the result."""
    return 2 * [told(kind, scope, resets_at)]


LIMITED = (527, 1207, 2368, 4485, 8143, 16522, 34846, 36864, 34468, 34751)
OVERLOADED = (548, 1071, 535, 1071, 2010, 4968, 8611, 17098, 36966, 33565)
REFUSALS = {
    "400_api_usage_limits": final("spend_limit", resets_at=datetime(2026, 12, 1, tzinfo=UTC)),
    "400_credit": final("billing"),
    "400_org_disabled": final("auth"),
    "400_prompt_too_long": final("context_overflow"),
    "401": 7 * [told("auth")],  # the first of eight may have been about an old token
    "401_retries1": final("auth"),
    "402": final("billing"),
    "403": final("auth"),
    "404_model": final("unknown_model"),
    "413": final("context_overflow"),
    "429_forever_default": waiting("rate_limit", *LIMITED) + final("rate_limit"),
    "429_forever_retries0": final("rate_limit"),
    "429_forever_retries2": waiting("rate_limit", 598, 1009) + final("rate_limit"),
    "429_no_retry_after": waiting("rate_limit", 531, 1181, 2494),
    "429_retry_after": waiting("rate_limit", 2106, 2111, 2319),
    # An hour's Retry-After and a plan's headers leave no trace when the CLI has an API key.
    "429_retry_after_3600_retries2": final("rate_limit"),
    "429_unified_rejected": final("rate_limit"),
    "429_spend_limit": waiting("rate_limit", 503) + final("spend_limit"),
    "500_forever_retries2": final("server_error"),
    "500_overloaded": waiting("overloaded", 615) + final("overloaded"),
    "503": final("server_error"),
    "529": waiting("overloaded", 514, 1039) + final("overloaded"),
    "529_forever_default": waiting("overloaded", 603, 1116) + final("overloaded"),
    "529_forever_retries2": waiting("overloaded", 579, 1249) + final("overloaded"),
    "conn_refused_retries2": final("network"),
    "fallback_429": waiting("rate_limit", 503, 1156, 2113) + final("rate_limit"),
    "fallback_529": waiting("overloaded", 622, 1199),
    "fallback_both_529": waiting("overloaded", *OVERLOADED),
    "not_logged_in": final("auth"),
    "plan_401": final("auth"),
    "plan_403_org": final("auth"),
    "plan_fable": final("usage_limit", resets_at=RESET),
    "plan_five_hour": final("usage_limit", ACCOUNT, RESET),
    "plan_not_its_limit": final("rate_limit"),
    "plan_out_of_credits": final("usage_limit", ACCOUNT, RESET),
    "plan_seven_day": final("usage_limit", ACCOUNT, RESET.replace(day=27, hour=16)),
    "plan_seven_day_opus": final("usage_limit", resets_at=RESET.replace(day=27, hour=16)),
    "true_drop_retries2": final("network"),
}


def silent(refusal: Refusal) -> Refusal:
    """*refusal* as `told` makes them."""
    return Refusal(
        refusal.kind,
        "",
        refusal.scope,
        refusal.retry_after,
        refusal.resets_at,
        refusal.is_final,
        refusal.cli_waits,
    )


@pytest.mark.parametrize("name", [path.stem for path in recordings("claude")])
def test_a_recording_holds_these_refusals_and_no_others(name: str) -> None:
    run = replay(CLAUDE, name)

    assert [silent(refusal) for refusal in run.refusals] == REFUSALS.get(name, [])
    assert all(refusal.text for refusal in run.refusals)


def test_every_recording_that_is_spoken_of_exists() -> None:
    assert REFUSALS.keys() <= {path.stem for path in recordings("claude")}


def test_the_words_of_a_refusal_are_the_clis_own() -> None:
    limit, words = replay(CLAUDE, "plan_five_hour").refusals

    assert limit.text == "The usage limit five_hour is reached"  # an event that has no words
    assert words.text == "You've hit your 5-hour limit · resets 12:46am (Asia/Dhaka)"


def line(**event: object) -> bytes:
    return json.dumps(event).encode()


def refusals(readings: Sequence[Reading]) -> list[Refusal]:
    return [silent(one.refusal) for one in readings if isinstance(one, Refused)]


def result(text: str, **fields: object) -> bytes:
    """A result as older versions print it, or with the *fields* of newer ones."""
    return line(type="result", subtype="success", is_error=True, result=text, **fields)


def at(
    hour: int, minute: int, zone: str, month: int | None = None, day: int | None = None
) -> object:
    """What a printed moment stands for: it leaves the seconds out, so the minute's last one."""
    return WallTime(time(hour, minute, 59), zone, month, day)


@pytest.mark.parametrize(
    ("text", "scope", "resets_at"),
    [
        (
            "Claude AI usage limit reached|1764000000",
            ACCOUNT,
            datetime(2025, 11, 24, 16, tzinfo=UTC),
        ),
        (
            "Claude usage limit reached|1764000000000",
            ACCOUNT,
            datetime(2025, 11, 24, 16, tzinfo=UTC),
        ),
        ("You've hit your limit · resets 1:30am (Asia/Dhaka)", ACCOUNT, at(1, 30, "Asia/Dhaka")),
        (
            "You\u2019ve hit your limit · resets 1:30am (Asia/Dhaka)",
            ACCOUNT,
            at(1, 30, "Asia/Dhaka"),
        ),
        (
            "You've hit your session limit · resets 12:50am (America/Los_Angeles)",
            ACCOUNT,
            at(0, 50, "America/Los_Angeles"),
        ),
        (
            "You've hit your weekly limit · resets Nov 28, 1pm (Asia/Dhaka)",
            ACCOUNT,
            at(13, 0, "Asia/Dhaka", 11, 28),
        ),
        (
            "You've hit your 5-hour limit · resets Apr 7, 2028, 4:19pm (UTC)",
            ACCOUNT,
            at(16, 19, "UTC", 4, 7),
        ),
        ("You're out of extra usage · resets 5pm (UTC)", ACCOUNT, at(17, 0, "UTC")),
        ("You're out of usage credits · resets 12pm (UTC)", ACCOUNT, at(12, 0, "UTC")),
        ("5-hour limit reached ∙ resets 3pm", ACCOUNT, at(15, 0, local_zone())),
        ("Weekly limit reached ∙ resets 12am (No/Where)", ACCOUNT, at(0, 0, "No/Where")),
        (
            "Opus weekly limit reached ∙ resets Oct 10, 1pm",
            Scope.MODEL,
            at(13, 0, local_zone(), 10, 10),
        ),
        ("You've hit your Opus limit · resets 2am (UTC)", Scope.MODEL, at(2, 0, "UTC")),
        ("You've hit your limit · resets 13:00pm (UTC)", ACCOUNT, None),
        ("You've hit your limit · resets 1:61pm (UTC)", ACCOUNT, None),
        (
            "Claude AI usage limit reached|9999999999999",
            ACCOUNT,
            datetime(2286, 11, 20, 17, 46, 39, tzinfo=UTC),
        ),
        ("You've hit your limit", ACCOUNT, None),
        ("Fable 5 requires usage credits.", Scope.MODEL, None),
    ],
)
def test_a_usage_limit_may_be_told_by_words_alone(
    text: str, scope: Scope, resets_at: datetime | WallTime | None
) -> None:
    readings = CLAUDE.parse_line(result(text))

    assert isinstance(readings[0], ErrorSeen)
    assert refusals(readings) == [told("usage_limit", scope, resets_at)]


def test_a_printed_reset_is_never_before_the_real_one() -> None:
    """At 18:46:10, "resets 6:46pm" means 18:46:41 today, and not tomorrow."""
    (refusal,) = refusals(CLAUDE.parse_line(result("You've hit your limit · resets 6:46pm (UTC)")))

    assert refusal.ends_at(RESET.replace(second=10)) == RESET.replace(second=59)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("Spend limit reached", {"api_error_status": 429}, told("spend_limit")),
        ("enforced_spend_limit_reached", {}, told("spend_limit")),
        ("x", {"api_error_code": "contract_spend_limit_reached"}, told("spend_limit")),
        ("API Error: 529 Overloaded", {"api_error_status": 529}, told("overloaded")),
        ("API Error: 502", {"api_error_status": 502}, told("server_error")),
        ("Invalid API key · Please run /login", {}, told("auth")),
        ("OAuth token revoked · Please run /login", {"api_error_status": 401}, told("auth")),
        ("Your credit balance is too low to use the API", {}, told("billing")),
        ("Prompt is too long", {}, told("context_overflow")),
        ("API Error: Connection error.", {}, told("network")),
        ("API Error: fetch failed", {}, told("network")),
        ("API Error: getaddrinfo ENOTFOUND api.example.com", {}, told("network")),
        ("API Error: socket hang up", {}, told("network")),
        ("API Error: Request timed out.", {}, told("network")),
        (
            "no route",
            {"api_error": "network_edge_blocked", "api_error_status": 403},
            told("network"),
        ),
        ("x", {"api_error": "model_requires_usage_credits"}, told("usage_limit")),
        (
            "API Error: 429 Please try again in 1.5s.",
            {"api_error_status": 429},
            told("rate_limit", retry_after=timedelta(seconds=1.5)),
        ),
        (
            "API Error: 429 retry-after: 20 minutes",
            {"api_error_status": 429},
            told("rate_limit", retry_after=timedelta(minutes=20)),
        ),
        (
            "API Error: 429 try again in 250ms",
            {"api_error_status": 429},
            told("rate_limit", retry_after=timedelta(milliseconds=250)),
        ),
    ],
)
def test_the_kinds_are_told_apart(text: str, fields: dict[str, object], expected: Refusal) -> None:
    assert refusals(CLAUDE.parse_line(result(text, **fields))) == [expected]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("API Error: 400 messages: bad", {"api_error_status": 400}),
        ("No conversation found with session ID: d400d389", {}),
        ("A mod's hook stopped this request", {"api_error": "hook_denied"}),
        ("The tests say: You've hit your limit · resets 1am (UTC)", {}),
        ("Claude AI usage limit reached|1764000000", {"terminal_reason": "stopped"}),
        ("", {}),
    ],
)
def test_any_other_error_is_no_refusal(text: str, fields: dict[str, object]) -> None:
    readings = CLAUDE.parse_line(result(text, **fields))

    assert refusals(readings) == []
    assert isinstance(readings[0], ErrorSeen)


SAID = "429 usage limit reached|1764000000"


@pytest.mark.parametrize(
    "text",
    [SAID, "Claude AI usage limit reached|1764000000", "You've hit your limit · resets 1am (UTC)",
     "API Error: 529 Overloaded", "Invalid API key · Please run /login"],
)  # fmt: skip
def test_what_an_agent_says_or_reads_is_no_refusal(text: str) -> None:
    said = [{"type": "text", "text": text}]
    read = [{"type": "tool_result", "tool_use_id": "t", "content": text, "is_error": True}]
    events = (
        line(type="assistant", message={"id": "m", "model": "claude-opus-5-5", "content": said}),
        line(type="assistant", error="rate_limit", message={"id": "m", "content": said}),
        line(type="user", message={"content": read}),
        line(type="user", message={"content": said}),
        line(type="result", subtype="success", is_error=False, result=text),
        line(type="stream_event", event={"type": "content_block_delta", "delta": {"text": text}}),
    )

    assert [refusals(CLAUDE.parse_line(event)) for event in events] == [[]] * len(events)


def synthetic(**fields: object) -> bytes:
    """An error that the CLI tells in the model's name."""
    content = [{"type": "text", "text": "You've hit your limit · resets 1am (UTC)"}]
    message = {"id": "m", "model": "<synthetic>", "content": content}
    return line(type="assistant", message=message, **fields)


def test_a_subagents_end_is_not_the_runs() -> None:
    """It may have another model, and the agent above it goes on."""
    assert len(refusals(CLAUDE.parse_line(synthetic(error="rate_limit")))) == 1
    below = synthetic(error="rate_limit", parent_tool_use_id="toolu_1")
    assert CLAUDE.parse_line(below) == ()


def test_other_words_of_the_cli_in_the_models_name_are_no_error() -> None:
    assert CLAUDE.parse_line(synthetic()) == ()


def retry(**fields: object) -> list[Refusal]:
    event = {"attempt": 1, "max_retries": 10, "retry_delay_ms": 600, **fields}
    readings = CLAUDE.parse_line(line(type="system", subtype="api_retry", **event))
    assert len(readings) == 1 + len(refusals(readings))  # people are told of each
    return refusals(readings)


@pytest.mark.parametrize(
    ("status", "attempt", "expected"),
    [
        (429, 1, [told("rate_limit", waits_ms=600)]),
        (529, 9, [told("overloaded", waits_ms=600)]),
        (401, 1, []),
        (401, 2, [told("auth")]),
        (403, 2, [told("auth")]),
        (500, 5, []),
        (None, 5, []),
        (404, 1, []),
    ],
)
def test_a_retry_is_a_refusal_if_waiting_may_not_help(
    status: int | None, attempt: int, expected: list[Refusal]
) -> None:
    assert retry(error_status=status, attempt=attempt, error="x") == expected


def test_a_retry_may_not_say_how_long_it_waits() -> None:
    (refusal,) = retry(error_status=429, retry_delay_ms=None)

    assert (refusal.is_final, refusal.cli_waits) == (False, None)


def limit(**info: object) -> list[Refusal]:
    return refusals(CLAUDE.parse_line(line(type="rate_limit_event", rate_limit_info=info)))


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("five_hour", ACCOUNT),
        ("seven_day", ACCOUNT),
        ("overage", ACCOUNT),
        ("seven_day_opus", Scope.MODEL),
        ("seven_day_sonnet", Scope.MODEL),
        ("seven_day_overage_included", Scope.MODEL),
        ("thirty_day_fable", Scope.MODEL),  # an unknown one is not made everybody's
    ],
)
def test_whose_a_limit_is_follows_from_its_type(kind: str, scope: Scope) -> None:
    epoch = int(RESET.timestamp())

    assert limit(status="rejected", rateLimitType=kind, resetsAt=epoch) == [
        told("usage_limit", scope, RESET)
    ]
    assert limit(status="rejected", rateLimitType=kind) == [told("usage_limit", scope)]


@pytest.mark.parametrize(
    "info",
    [
        {"status": "allowed", "rateLimitType": "five_hour"},
        {"status": "allowed_warning", "rateLimitType": "five_hour", "utilization": 0.9},
        {"status": "rejected", "rateLimitType": "five_hour", "isUsingOverage": True},
        {"status": "rejected", "isUsingOverage": False},  # beside any other 429
        {},
    ],
)
def test_a_limit_that_stops_nobody_is_no_refusal(info: dict[str, object]) -> None:
    assert limit(**info) == []
