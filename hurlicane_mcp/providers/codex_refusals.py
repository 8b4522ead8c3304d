"""The words in which Codex says that a model refuses to answer.

There is no code, only text: the CLI's own sentences, which are looked for from their beginning, and
a few of the endpoint's, which it passes on. Version 0.169.0 printed them in November 2026, but for
those about tokens to renew, logins, missing variables and restricted capacity, which are only read
in its program, and spans in minutes and hours, which an endpoint may say.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Refusal, Scope, WallTime
from hurlicane_mcp.providers.output import one_line
from hurlicane_mcp.providers.wall_clock import MONTHS, local_moment, local_zone, time_of_day

_Rule: TypeAlias = tuple[re.Pattern[str], FailureKind]

# Its longest sentence has some 200 characters; an endpoint's answer in it may have megabytes.
_LONGEST: Final = 4_000
_RETRY = re.compile(
    r"Reconnecting\.\.\. (?:(?P<number>\d{1,4})/\d+|(?P<network>waiting for network))"
    r"(?: \((?P<cause>.*)\))?",
    re.DOTALL,
)
_WAIT = re.compile(r"retrying [a-z ]+\((\d{1,4})/\d+ in (\d{1,9}(?:\.\d{1,12})?)s\)")
_STATUS = re.compile(
    r"(?:unexpected status|exceeded retry limit, last status:) (?P<code>\d{3})\b", re.IGNORECASE
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


def _begins(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{text})", re.IGNORECASE)


def _contains(text: str) -> re.Pattern[str]:
    return re.compile(rf".*?(?:{text})", re.IGNORECASE | re.DOTALL)


#: In this order: what comes later is the endpoint's own text, which is trusted less.
_RULES: Final[tuple[_Rule, ...]] = (
    (_begins("You've (?:hit|reached) your usage limit"), FailureKind.USAGE_LIMIT),
    # With a workspace's credits and caps a reset may be known; the CLI does not print it.
    (_begins("You hit your spend cap"), FailureKind.SPEND_LIMIT),
    (_begins("Your workspace is out of credits|You're out of credits"), FailureKind.BILLING),
    # Also what an organization's spend limit comes to: nothing tells the two apart.
    (_begins("Quota exceeded"), FailureKind.BILLING),
    (_begins("To use Codex with your ChatGPT plan, upgrade"), FailureKind.BILLING),
    (_begins("Selected model is at capacity"), FailureKind.OVERLOADED),
    (_begins("Policy-restricted capacity is unavailable"), FailureKind.OVERLOADED),
    (_begins("rate limit exceeded"), FailureKind.RATE_LIMIT),
    (_begins("Codex ran out of room in the model's context"), FailureKind.CONTEXT_OVERFLOW),
    (_begins("We're currently experiencing high demand"), FailureKind.SERVER_ERROR),
    (_begins("Your access token could not be refreshed"), FailureKind.AUTH),
    (_begins("Your authentication session could not be refreshed"), FailureKind.AUTH),
    (_begins("Not logged in|Missing environment variable"), FailureKind.AUTH),
    # A stream that the endpoint ended on purpose says this as well, with the reason.
    (
        _begins("stream disconnected before completion(?!: Incomplete response returned)"),
        FailureKind.NETWORK,
    ),
    (_begins("Connection (?:failed|refused)|error sending request"), FailureKind.NETWORK),
    (_contains("context_length_exceeded|maximum context length"), FailureKind.CONTEXT_OVERFLOW),
    (_contains("context window"), FailureKind.CONTEXT_OVERFLOW),
    (_contains(r"model\b.{0,200} does not exist"), FailureKind.UNKNOWN_MODEL),
    (_contains(r"model\b.{0,200} is not supported"), FailureKind.UNKNOWN_MODEL),
)
#: What trying again does not mend, although the CLI does so.
_VAIN = frozenset({FailureKind.AUTH, FailureKind.BILLING, FailureKind.UNKNOWN_MODEL})
_OTHER_MODEL = _contains("usage limit for .{1,200} Switch to another model")
_SPAN = re.compile(r"try again in ((?:\d{1,9}(?:\.\d{1,9})?\s*[a-z]+[\s,]*(?:and )?)+)", re.I)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.I)
_MOMENT = re.compile(
    r"try again at (?:(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?,? "
    r"(?P<year>\d{4}) )?(?P<hour>\d{1,2}):(?P<minute>\d{2}) (?P<half>[ap]m)\b",
    re.IGNORECASE,
)
_UNITS: Mapping[str, Callable[[float], timedelta]] = MappingProxyType(
    {
        "ms": lambda number: timedelta(milliseconds=number),
        "s": lambda number: timedelta(seconds=number),
        "m": lambda number: timedelta(minutes=number),
        "h": lambda number: timedelta(hours=number),
        "d": lambda number: timedelta(days=number),
    }
)
_LONGEST_SPAN = timedelta(days=366)
_OWN_PAUSE_S: Final = 0.9


def refusal_in(message: str) -> Refusal | None:
    """The refusal that *message*, of an `error` event or a failed turn, tells; else None.

    Of the errors that the CLI answers by trying again only those count that last: a limit, no
    network, and from the second time on what will not mend itself, which is final then.
    """
    retry = _RETRY.match(message[:_LONGEST])
    return _final(message) if retry is None else _retried(retry, message)


def announced_wait(message: str, complaints: str) -> timedelta | None:
    """How long the CLI waits before it tries again, as *message* says without a time.

    It tells that on standard error, if it is asked to warn. Full seconds, since that is what a
    Retry-After has and a little of them has passed; what is below one is the CLI's own pause.
    """
    retry = _RETRY.match(message)
    if retry is None:
        return None
    told = [wait for number, wait in _WAIT.findall(complaints) if number == retry["number"]]
    seconds = math.ceil(float(told[-1])) if told and float(told[-1]) > _OWN_PAUSE_S else 0
    return min(timedelta(seconds=seconds), _LONGEST_SPAN) if seconds else None


def _final(message: str) -> Refusal | None:
    text = _plain(message)
    kind = _kind(text)
    if kind is None:
        return None
    is_wide = kind is FailureKind.USAGE_LIMIT and not _OTHER_MODEL.match(text)
    return Refusal(
        kind,
        one_line(message),
        Scope.ACCOUNT if is_wide else Scope.MODEL,
        retry_after=_span(text),
        resets_at=_moment(text),
    )


def _retried(retry: re.Match[str], message: str) -> Refusal | None:
    cause = _plain(retry["cause"] or "")
    kind = FailureKind.NETWORK if retry["network"] else _kind(cause)
    if kind is FailureKind.RATE_LIMIT:
        # A Retry-After is obeyed, be it an hour, and told on standard error only. What the endpoint
        # says in its text is told here; the CLI itself obeys seconds and milliseconds of that.
        span = _span(cause)
        return Refusal(kind, one_line(message), retry_after=span, is_final=False, cli_waits=span)
    if retry["network"]:  # after 5, 10, 20 s and so on, for ever
        return Refusal(FailureKind.NETWORK, one_line(message), is_final=False)
    if kind is None or kind not in _VAIN or int(retry["number"]) == 1:
        return None
    return Refusal(kind, one_line(message))


def _plain(message: str) -> str:
    """The part that is looked at, with typewriter apostrophes."""
    return message[:_LONGEST].replace("\u2019", "'").strip()


def _kind(text: str) -> FailureKind | None:
    if (status := _STATUS.match(text)) is not None:
        code = int(status["code"])
        return _STATUSES.get(code) or (FailureKind.SERVER_ERROR if code >= 500 else None)
    return next((kind for rule, kind in _RULES if rule.match(text)), None)


def _span(text: str) -> timedelta | None:
    """How long it is until one may try again, `1.5s`, `20ms` or `2 hours 5 minutes`, if it says."""
    found = _SPAN.search(text)
    if found is None:
        return None
    span = timedelta()
    for number, unit in _PART.findall(found[1]):
        name = unit.lower()
        measure = _UNITS.get("ms" if name.startswith(("ms", "milli")) else name[0])
        if measure is None:
            break
        span += min(measure(min(float(number), 1e8)), _LONGEST_SPAN)
    return min(span, _LONGEST_SPAN) or None


def _moment(text: str) -> datetime | WallTime | None:
    """When one may try again: `3:05 PM`, today, or `Nov 29th, 2026 10:22 PM`; None if unsaid."""
    found = _MOMENT.search(text)
    if found is None:
        return None
    at = time_of_day(found["hour"], found["minute"], found["half"])
    if at is None:
        return None
    at = at.replace(second=59)  # what is printed leaves the seconds out
    if found["year"] is None:
        return WallTime(at, local_zone())
    month = MONTHS.get(found["month"].lower())
    moment = local_moment(int(found["year"]), month, int(found["day"]), at) if month else None
    return moment.astimezone(UTC) if moment else None
