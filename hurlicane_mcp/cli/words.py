"""Limits, stops, checks and workflows in words: what events tell, and what a person can do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from hurlicane_mcp.cli.render import brief
from hurlicane_mcp.cli.workflow_words import event_in_words
from hurlicane_mcp.clock import SystemClock

_TEXT: Final = 200  #: characters of a CLI's own words
#: What ends a limit that lasts, by kind of failure.
_REMEDIES: Final = (
    ("auth", "log in with its CLI"),
    ("billing", "pay what is due"),
    ("spend_limit", "raise the limit of the account"),
    ("unknown_model", "get access to it, or name another model"),
)


def in_words(event: Mapping[str, Any]) -> str | None:
    """What *event* tells about one of these, in one line; None if it is about none."""
    kind, data = event["kind"], event["data"]
    if kind.startswith("workflow."):
        return event_in_words(kind.removeprefix("workflow."), data)
    match kind:
        case "model.limited":
            return _limited(data)
        case "model.available":
            return f"{_model(data)} may be used again: {brief(data['why'], _TEXT)}"
        case "model.probed":
            return f"tries {_model(data)} again, from which others stay away until then"
        case "attempt.refused":
            return _refused(data)
        case "attempt.settled":
            return _settled(data)
        case "job.parked":
            return _parked(data)
        case "job.checks_failed":
            told = brief(" ".join(data["told"].split()), _TEXT)
            return f"checks failed ({data['failed']} of {data['tries']}): {told}"
        case "job.nearly_stopped":
            return f"has used {data['used']}; at the limit it is stopped"
        case "cap.nearly_reached":
            return f"most of it is used: {brief(data['text'], _TEXT)}"
        case _:
            return None


def until(moment: str | None) -> str:
    """`until 18:00:05`, with the day if that is not today, or `until it is cleared`."""
    if not moment:
        return "until it is cleared"
    then, now = datetime.fromisoformat(moment).astimezone(), SystemClock().now().astimezone()
    return f"until {then:%H:%M:%S}" if then.date() == now.date() else f"until {then:%b %d, %H:%M}"


def limit_in_words(limit: Mapping[str, Any]) -> str:
    """A limit as the API tells it: how long, why, and what ends one that lasts."""
    told = f"{limit['name']} is limited {until(limit.get('until'))} ({cause(limit)})"
    return told if limit.get("until") else f"{told}: {remedy(limit)}"


def cause(limit: Mapping[str, Any]) -> str:
    """Why there is a limit: `auth: Invalid API key`, or what a person wrote."""
    kind = "by hand" if limit["manual"] else limit["kind"]
    return f"{kind}: {brief(limit['evidence'], _TEXT)}"


def remedy(limit: Mapping[str, Any]) -> str:
    """What a person does to end a limit that lasts."""
    clear = _cleared(limit["name"])
    first = None if limit["manual"] else dict(_REMEDIES).get(limit["kind"])
    return f"{first}, then {clear}" if first else f"{clear} ends it"


def named(by: str) -> str:
    """A model as it is listed, from what a job is parked for: `claude/*` is `claude:*`."""
    return by.replace("/", ":", 1)


def _cleared(name: str) -> str:
    """The command that ends a limit. Without a star, which a shell might take for a pattern."""
    return f"`hurlicane models clear {name.removesuffix(':*')}`"


def _limited(data: Mapping[str, Any]) -> str:
    kind = "by hand" if data["manual"] else data["failure_kind"]
    again = f", strike {data['strikes']}" if data["strikes"] > 1 else ""
    told = f"{_model(data)} is limited {until(data.get('until'))} ({kind}{again})"
    return f"{told}: {brief(data['evidence'], _TEXT)}"


def _parked(data: Mapping[str, Any]) -> str:
    told = f"parked {until(data.get('not_before'))}: {brief(data['why'], _TEXT)}"
    return told if data.get("not_before") else f"{told} {_cleared(named(data['by']))}"


def _refused(data: Mapping[str, Any]) -> str:
    waits = "" if data["final"] else "; its CLI tries again"
    return f"its model refuses ({data['failure_kind']}{waits}): {brief(data['text'], _TEXT)}"


def _settled(data: Mapping[str, Any]) -> str | None:
    if data.get("stopped_by"):
        return stopped(data["stopped_by"])
    if data["outcome"] != "limited":
        return None
    if data.get("failure_kind") == "budget":
        return f"stopped, to go on when there is budget again: {brief(data.get('reason'), _TEXT)}"
    return f"stopped, to go on with the next model, or later ({data.get('failure_kind')})"


def stopped(by: str) -> str:
    """What it means that a limit of a job ended it."""
    return f"stopped by its limit ({by}), with the work that there is"


def _model(data: Mapping[str, Any]) -> str:
    return f"{data['provider']}:{data['model'] or 'default'}"
