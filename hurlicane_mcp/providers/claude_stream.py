"""Claude Code's `stream-json`, line by line: what each event means.

Measured with version 2.1.330 in November 2026.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    Denied,
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Reading,
    Refused,
    RequestUsage,
    SessionBase,
    SessionSeen,
    SessionUsage,
    Stopped,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.claude_refusals import (
    USAGE_LIMIT,
    refusal_of_error,
    refusal_of_limit,
    refusal_of_retry,
)
from hurlicane_mcp.providers.outage import SERVER, claude_says_so
from hurlicane_mcp.providers.output import Json, content_line, content_text, one_line

# The "model" of messages that the CLI itself writes into the conversation, such as API errors.
SYNTHETIC: Final = "<synthetic>"
# A tool's result names the call, not the tool.
UNNAMED_TOOL: Final = "tool"
# Most lines, by far: the pieces of an answer. They are not worth the parsing of their JSON.
PIECE: Final = b'{"type":"stream_event","event":{"type":"content_block_'
WENT_ON: Final = (ErrorCleared(),)
STOPS: Mapping[str, StopMode] = MappingProxyType(
    {"error_max_turns": StopMode.TURNS, "error_max_budget_usd": StopMode.BUDGET}
)


def readings_of(line: bytes) -> Sequence[Reading]:
    """What *line* means; nothing for a line that is not of the stream."""
    if line.startswith(PIECE):
        return WENT_ON
    event = Json.parse(line)
    read = READERS.get(event["type"].text)
    return tuple(read(event)) if read is not None else ()


def _system(event: Json) -> Iterator[Reading]:
    match event["subtype"].text:
        case "init":
            yield from _init(event)
        case "status" if event["status"].text == "requesting":
            # Once for each request, before its first try: whatever was refused before is past.
            yield ErrorCleared()
        case "api_retry":
            yield WarningSeen(_describe_retry(event))
            if refusal := refusal_of_retry(event):
                yield Refused(refusal)
        case "model_fallback":
            yield WarningSeen(event["content"].brief)
            if model := event["fallback_model"].text:
                yield ModelSeen(model)
        case "permission_denied":
            why = event["message"].text.partition(" IMPORTANT: ")[0]  # that is for the model
            yield Denied(one_line(f"{event['tool_name'].brief}: {why}"))
        case _:
            pass


def _init(event: Json) -> Iterator[Reading]:
    if session := event["session_id"].text:
        yield SessionSeen(session)
    if model := event["model"].text:
        yield ModelSeen(model)
    for server in event["mcp_servers"]:
        if server["name"].text == SERVER and server["status"].text == "failed":
            yield ConnectionLost("The MCP server did not answer when the CLI started.")


def _describe_retry(event: Json) -> str:
    status = event["error_status"].count
    answer = f"answered {status}" if status else "did not answer"
    return (
        f"The model's endpoint {answer} ({event['error'].brief}): "
        f"retry {event['attempt'].count} of {event['max_retries'].count} "
        f"in {event['retry_delay_ms'].count / 1000:.1f} s"
    )


def _rate_limit(event: Json) -> Iterator[Reading]:
    """How the limits of a subscription stand; told when that changes."""
    info = event["rate_limit_info"]
    limit = info["rateLimitType"].brief or "one"
    if refusal := refusal_of_limit(info):
        yield Refused(refusal)
    elif info["status"].text == "allowed_warning":
        used = info["utilization"].amount
        share = f"{used:.0%} used" if used is not None else "almost used up"
        yield WarningSeen(f"A usage limit is near: {limit}, {share}")
    elif info["isUsingOverage"].is_true:
        yield WarningSeen(f"A usage limit is reached: {limit}. Extra usage is being paid for")


def _stream(event: Json) -> Iterator[Reading]:
    """A part of an answer, as it comes. Those of subagents are not told."""
    yield ErrorCleared()
    part = event["event"]
    match part["type"].text:
        case "message_start":
            message = part["message"]
            tokens = _request_tokens(message["usage"])
            yield RequestUsage(message["id"].text, message["model"].text, tokens)
        case "message_delta":
            # What went in was told with the start, and need not be repeated here.
            tokens = Tokens(output=part["usage"]["output_tokens"].count)
            yield RequestUsage(event["api_message_id"].text, "", tokens)
        case _:
            pass


def _assistant(event: Json) -> Iterator[Reading]:
    """One block of a model's answer; the blocks of one answer share its id."""
    message = event["message"]
    is_subagent = event["parent_tool_use_id"].text != ""
    if message["model"].text == SYNTHETIC:
        # A subagent may have another model, and its end is not the run's.
        if not is_subagent and (refusal := _synthetic_refusal(event)):
            yield Refused(refusal)
        return
    if answer := message["id"].text:
        yield TurnSeen(answer)
        if is_subagent and message["usage"].entries:
            yield RequestUsage(answer, message["model"].text, _request_tokens(message["usage"]))
    for block in message["content"]:
        match block["type"].text:
            case "text" if block["text"].text and not is_subagent:
                yield MessageSeen(block["text"].text)
            case "tool_use":
                yield ToolSeen(block["name"].brief, block["input"].brief, finished=False)
            case _:
                pass


def _synthetic_refusal(event: Json) -> Refusal | None:
    """The error that ends the run, before its result, which may not come any more."""
    if not event["error"].text:
        return None
    return refusal_of_error(event, content_text(event["message"]["content"]))


def _user(event: Json) -> Iterator[Reading]:
    # Denials by anything but a hook have an event of their own.
    denied = {
        meta["id"].text
        for meta in event["tool_result_meta"]
        if meta["permission_decision"]["source"].text == "hook"
        and meta["permission_decision"]["decision"].text == "reject"
    }
    for block in event["message"]["content"]:
        if block["type"].text == "tool_result":
            is_error = block["is_error"].is_true
            answer = content_line(block["content"])
            yield ToolSeen(UNNAMED_TOOL, answer, finished=True, is_error=is_error)
            if is_error and claude_says_so(text := content_text(block["content"])):
                yield ConnectionLost(one_line(text))
            if block["tool_use_id"].text in denied:
                yield Denied(answer)


def _result(event: Json) -> Iterator[Reading]:
    # Its `permission_denials` have all been told when they happened.
    # `usage` misses requests that the last answer ended and counts dropped ones; `modelUsage` is
    # what the cost is made of. Both are of the whole session. Without a request both are empty,
    # and say nothing of the session's earlier runs.
    used, latest = event["modelUsage"].entries, event["model_usage_since_last_result"].entries
    if used:
        if latest and event["result_index"].count == 0:
            yield _base(event)
        yield SessionUsage(_tokens(usage for _, usage in used), event["total_cost_usd"].usd)
    if newest := latest or used:
        yield ModelSeen(max(newest, key=lambda entry: entry[1]["outputTokens"].count)[0])
    if mode := STOPS.get(event["subtype"].text):
        yield Stopped(mode)
    # A failure of the API is a "success" with `is_error`.
    elif event["is_error"].is_true:
        yield ErrorSeen(_describe_error(event))
        # The message before it has told a reached limit to the second; here it is rounded.
        if event["api_error"].text != USAGE_LIMIT and (
            refusal := refusal_of_error(event, _words_of(event))
        ):
            yield Refused(refusal)
    else:
        yield ErrorCleared()
        if text := event["result"].text:
            yield MessageSeen(text)


def _request_tokens(usage: Json) -> Tokens:
    return Tokens(
        input=usage["input_tokens"].count,
        output=usage["output_tokens"].count,
        cache_read=usage["cache_read_input_tokens"].count,
        cache_write=usage["cache_creation_input_tokens"].count,
    )


def _base(result: Json) -> SessionBase:
    """What the session had used before this process, whose first result this is.

    A run that was ended with SIGTERM is a part of it, one that was killed with SIGKILL is not.
    """
    whole = _tokens(usage for _, usage in result["modelUsage"].entries)
    own = tuple(usage for _, usage in result["model_usage_since_last_result"].entries)
    part = _tokens(iter(own))
    own_usd = sum((usage["costUSD"].usd or Decimal(0) for usage in own), Decimal(0))
    tokens = Tokens(
        input=max(0, whole.input - part.input),
        output=max(0, whole.output - part.output),
        cache_read=max(0, whole.cache_read - part.cache_read),
        cache_write=max(0, whole.cache_write - part.cache_write),
    )
    # Not from the models' costs: these are rounded, and must not come out above the total.
    total_usd = result["total_cost_usd"].usd or Decimal(0)
    return SessionBase(tokens, max(Decimal(0), total_usd - own_usd))


def _tokens(usages: Iterator[Json]) -> Tokens:
    each = tuple(usages)
    return Tokens(
        input=sum(usage["inputTokens"].count for usage in each),
        output=sum(usage["outputTokens"].count for usage in each),
        cache_read=sum(usage["cacheReadInputTokens"].count for usage in each),
        cache_write=sum(usage["cacheCreationInputTokens"].count for usage in each),
    )


def _words_of(event: Json) -> str:
    errors = "; ".join(error.text for error in event["errors"] if error.text)
    return event["result"].text or errors


def _describe_error(event: Json) -> str:
    text = _words_of(event) or f"Claude Code ended with {event['subtype'].brief!r}."
    status = event["api_error_status"].count
    return f"{text} (HTTP status {status})" if status and str(status) not in text else text


READERS: Mapping[str, Callable[[Json], Iterator[Reading]]] = MappingProxyType(
    {
        "system": _system,
        "rate_limit_event": _rate_limit,
        "stream_event": _stream,
        "assistant": _assistant,
        "user": _user,
        "result": _result,
    }
)
