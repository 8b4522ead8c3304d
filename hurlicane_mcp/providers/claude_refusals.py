"""How Claude Code says that a model refuses to answer.

Three of its events do: a retry that is about to come, a limit of a plan, and an error that ends the
run, which is told twice, as a message in the model's name and as the result. Each has fields, which
are asked before its words. Printed by version 2.1.330 in November 2026, but for the texts of older
versions.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope, WallTime
from hurlicane_mcp.providers.output import Json, one_line
from hurlicane_mcp.providers.wall_clock import MONTHS, local_zone, time_of_day

USAGE_LIMIT: Final = "usage_limit_reached"
# Its own sentences are short; an endpoint's answer in one may have megabytes.
_LONGEST: Final = 4_000
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_MILLISECONDS: Final = 100_000_000_000  # as seconds, this is the year 5138

# Limits of the whole account. The others are a model's: `seven_day_opus`, `seven_day_sonnet`, and
# `seven_day_overage_included`, which is Fable's.
_ACCOUNTS = frozenset({"five_hour", "seven_day", "overage"})
# The ends of a run that an error of the API can have; older versions do not say.
_ERRORS = frozenset({"", "api_error", "prompt_too_long", "image_error"})

#: By `api_error`, the exact cause, which only some errors have.
_CAUSES: Mapping[str, FailureKind] = MappingProxyType(
    {
        USAGE_LIMIT: FailureKind.USAGE_LIMIT,
        "model_requires_usage_credits": FailureKind.USAGE_LIMIT,
        "long_context_credits_required": FailureKind.USAGE_LIMIT,
        "message_over_context_limit": FailureKind.CONTEXT_OVERFLOW,
        "autocompact_thrashing": FailureKind.CONTEXT_OVERFLOW,
        "api_key_auth_disabled": FailureKind.AUTH,
        "gateway_session_expired": FailureKind.AUTH,
        "gateway_signin_required": FailureKind.AUTH,
        "invalid_credential_header": FailureKind.AUTH,
        "org_disabled_credential": FailureKind.AUTH,
        "provider_credentials": FailureKind.AUTH,
        "stored_login_refused": FailureKind.AUTH,
        "connection_failed": FailureKind.NETWORK,
        "network_edge_blocked": FailureKind.NETWORK,
        "no_response": FailureKind.NETWORK,
        "stream_idle_timeout": FailureKind.NETWORK,
        "tls_cert_signature_failure": FailureKind.NETWORK,
        "tls_untrusted_ca": FailureKind.NETWORK,
    }
)
#: By `error`, which only the message in the model's name has, and by the API's own type.
_TYPES: Mapping[str, FailureKind] = MappingProxyType(
    {
        "account_on_hold": FailureKind.AUTH,
        "authentication_failed": FailureKind.AUTH,
        "cloud_credential_error": FailureKind.AUTH,
        "oauth_org_not_allowed": FailureKind.AUTH,
        "verification_required": FailureKind.AUTH,
        "billing_error": FailureKind.BILLING,
        "model_not_found": FailureKind.UNKNOWN_MODEL,
        "overloaded": FailureKind.OVERLOADED,
        "overloaded_error": FailureKind.OVERLOADED,
        "rate_limit": FailureKind.RATE_LIMIT,
        "rate_limit_error": FailureKind.RATE_LIMIT,
        "request_too_large": FailureKind.CONTEXT_OVERFLOW,
    }
)
_STATUSES: Mapping[int, FailureKind] = MappingProxyType(
    {
        401: FailureKind.AUTH,
        402: FailureKind.BILLING,
        403: FailureKind.AUTH,
        404: FailureKind.UNKNOWN_MODEL,
        413: FailureKind.CONTEXT_OVERFLOW,
        429: FailureKind.RATE_LIMIT,
        529: FailureKind.OVERLOADED,
    }
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_MODEL = _words(r"\b(?:opus|sonnet|haiku|fable|mythos)\b|switch to another model")
_OWN_LIMIT = (
    r"(?:Claude (?:AI )?)?usage limit reached\b|You've (?:hit|reached) your \b.{0,60}?\blimit\b"
    r"|You're out of (?:extra )?usage\b|(?:5-hour|Session|Weekly) limit reached\b"
    r"|(?:Opus|Sonnet|Haiku|Fable|Mythos)\b.{0,40}\b(?:limit\b|requires usage credits\.)"
)
#: The CLI's own sentences, matched at their beginning, and a few that an API's answer may hold.
_TEXTS: Final = (
    (_words(r".*?(?<![a-z])spend(?:ing)?[ _]limit"), FailureKind.SPEND_LIMIT),
    (_words(r".*?\byour specified API usage limits\b"), FailureKind.SPEND_LIMIT),
    (_words(_OWN_LIMIT), FailureKind.USAGE_LIMIT),
    (_words(r".*?\bcredit balance is too low\b"), FailureKind.BILLING),
    (_words(r"Prompt is too long\b"), FailureKind.CONTEXT_OVERFLOW),
    (_words(r"Invalid API key\b|Not logged in\b|Failed to authenticate\b"), FailureKind.AUTH),
    (_words(r".*?\bPlease run /login\b"), FailureKind.AUTH),
    (_words(r"There's an issue with the selected model\b"), FailureKind.UNKNOWN_MODEL),
    (_words(r"(?:API Error: )?Repeated 529 Overloaded\b"), FailureKind.OVERLOADED),
)
#: Errors without a status. Any other one names the status, whatever else is in its text.
_NETWORK = _words(
    r"(?:API Error: )?(?:Connection (?:error|refused|dropped|closed|reset)|Request timed out"
    r"|fetch failed|Unable to connect|.{0,200}?(?:\bE(?:CONN[A-Z]+|HOSTUNREACH|NETUNREACH|NOTFOUND"
    r"|TIMEDOUT|AI_AGAIN|PIPE)\b|\bsocket (?:hang up|connection was closed)))"
)

_EPOCH = re.compile(r"\|(\d{10,13})\b")
_RESET = re.compile(
    r"\bresets (?:at )?(?:(?P<month>[a-z]{3}) (?P<day>\d{1,2}),? (?:\d{4},? )?(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))? ?(?P<half>[ap]m)\b(?: \((?P<zone>[\w/+-]{1,64})\))?",
    re.IGNORECASE,
)
_REGAINED = re.compile(r"\bregain access on (\d{4}-\d{2}-\d{2}) at (\d{2}:\d{2}) UTC\b")
_SPAN = re.compile(
    r"\b(?:try again|retry)(?:-| )(?:in|after):? (\d{1,9}(?:\.\d{1,9})?) ?"
    r"(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?)\b",
    re.IGNORECASE,
)


def refusal_of_retry(event: Json) -> Refusal | None:
    """What `api_retry`, an answer that the CLI is about to ask for again, says of the model.

    A server that fails or cannot be reached is left to the CLI. A refused login is not believed at
    once, since the CLI may have a token to renew, but from the second time on nobody waits for it:
    the CLI would try ten times, for three minutes.
    """
    status, error = event["error_status"].count, event["error"].text
    wait = event["retry_delay_ms"].amount
    cli_waits = timedelta(milliseconds=float(wait)) if wait is not None and wait < 1e9 else None
    kind = _TYPES.get(error) or _STATUSES.get(status)
    text = one_line(f"The API answered {status} ({error})" if status else f"The API: {error}")
    match kind:
        case FailureKind.RATE_LIMIT | FailureKind.OVERLOADED:
            return Refusal(kind, text, is_final=False, cli_waits=cli_waits)
        case FailureKind.AUTH if event["attempt"].count > 1:
            return Refusal(kind, text)
        case _:
            return None


def refusal_of_limit(info: Json) -> Refusal | None:
    """What a `rate_limit_info` says, if its limit is reached and nothing pays for going on.

    It has neither a type nor an end when a request was refused for another reason.
    """
    limit, resets_at = info["rateLimitType"].text, _moment(info["resetsAt"].count)
    if info["status"].text in ("", "allowed", "allowed_warning") or not limit:
        return None
    if info["isUsingOverage"].is_true:
        return None
    scope = Scope.ACCOUNT if limit in _ACCOUNTS else Scope.MODEL
    text = one_line(f"The usage limit {limit} is reached")
    return Refusal(FailureKind.USAGE_LIMIT, text, scope, resets_at=resets_at)


def refusal_of_error(event: Json, text: str) -> Refusal | None:
    """What an error that ends the run, with the words *text*, says of the model.

    None if it says nothing of it, or is not the API's.
    """
    text = text[:_LONGEST].replace("\u2019", "'").strip()
    kind = _kind(event, text) if _is_of_api(event) else None
    if kind is None:
        return None
    line = one_line(text)
    told = refusal_of_limit(event["api_error_params"]["rate_limit_info"])
    if kind is FailureKind.USAGE_LIMIT and told is not None:  # to the second, unlike the text
        return Refusal(kind, line, told.scope, resets_at=told.resets_at)
    scope = Scope.MODEL
    if kind is FailureKind.USAGE_LIMIT and not _is_of_model(event, text):
        scope = Scope.ACCOUNT
    return Refusal(kind, line, scope, retry_after=_span(text), resets_at=_reset(text))


def _is_of_api(event: Json) -> bool:
    named = ("api_error", "api_error_code", "api_error_type")
    return (
        event["terminal_reason"].text in _ERRORS
        or event["api_error_status"].count > 0
        or any(event[name].text for name in named)
    )


def _is_of_model(event: Json, text: str) -> bool:
    return event["api_error"].text not in ("", USAGE_LIMIT) or _MODEL.search(text) is not None


def _kind(event: Json, text: str) -> FailureKind | None:
    if event["api_error_code"].text.endswith("_spend_limit_reached"):
        return FailureKind.SPEND_LIMIT
    if cause := _CAUSES.get(event["api_error"].text):
        return cause
    if told := next((kind for words, kind in _TEXTS if words.match(text)), None):
        return told
    for name in (event["error"].text, event["api_error_type"].text):
        if named := _TYPES.get(name):
            return named
    if status := event["api_error_status"].count:
        return _STATUSES.get(status) or (FailureKind.SERVER_ERROR if status >= 500 else None)
    if _NETWORK.match(text):
        return FailureKind.NETWORK
    return FailureKind.SERVER_ERROR if event["error"].text == "server_error" else None


def _reset(text: str) -> datetime | WallTime | None:
    """When a limit ends, as a text says it: `|1764000000`, `resets Nov 28, 1pm (Asia/Dhaka)`."""
    if epoch := _EPOCH.search(text):
        return _moment(int(epoch[1]))
    if regained := _REGAINED.search(text):
        return _of_iso(f"{regained[1]}T{regained[2]}:00+00:00")
    found = _RESET.search(text)
    at = time_of_day(found["hour"], found["minute"], found["half"]) if found else None
    if found is None or at is None:
        return None
    # What is printed leaves the seconds out, and may be up to a minute early.
    at, zone = at.replace(second=59), found["zone"] or local_zone()
    month = MONTHS.get((found["month"] or "").lower())
    return WallTime(at, zone, month, int(found["day"]) if month else None)


def _of_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _moment(epoch: int) -> datetime | None:
    seconds = epoch // 1000 if epoch > _MILLISECONDS else epoch
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < _LAST_SECOND else None


def _span(text: str) -> timedelta | None:
    """How long it is until one may try again, if *text* says."""
    found = _SPAN.search(text)
    if found is None:
        return None
    number, unit = min(float(found[1]), 1e6), found[2].lower()
    if unit.startswith("mi") or unit == "m":
        is_milli = unit.startswith("mil")
        return timedelta(milliseconds=number) if is_milli else timedelta(minutes=number)
    if unit == "ms":
        return timedelta(milliseconds=number)
    return timedelta(hours=number) if unit.startswith("h") else timedelta(seconds=number)
