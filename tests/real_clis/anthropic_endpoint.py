"""The Anthropic Messages API on loopback, answered by a script: what Claude Code talks to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.real_clis.model_endpoint import (
    ScriptedModel,
    event_stream,
    new_id,
    refusal,
    serving_model,
)
from tests.real_clis.model_script import (
    Called,
    CallTool,
    Conversation,
    HttpError,
    Returned,
    Said,
    Say,
    Script,
    Told,
    Turn,
)


def anthropic_endpoint(script: Script) -> AbstractContextManager[ScriptedModel]:
    """A model for `ANTHROPIC_BASE_URL`, at its `url`."""
    return serving_model(script, _routes)


def _routes(model: ScriptedModel) -> Sequence[Route]:
    async def messages(request: Request) -> Response:
        body = await request.json()
        move = await model.next_move(request, body, read_conversation(body))
        if isinstance(move, HttpError):
            return refusal(move)
        message = _message(body["model"], move)
        return event_stream(_events(message)) if body.get("stream") else JSONResponse(message)

    async def count_tokens(request: Request) -> Response:
        return JSONResponse({"input_tokens": len(await request.body()) // 4})

    return (
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    )


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """The turns in a Messages request."""
    turns = tuple(turn for message in body["messages"] for turn in _turns_of(message))
    return Conversation(turns, body["model"])


def _turns_of(message: Mapping[str, Any]) -> Iterator[Turn]:
    for block in _blocks(message["content"]):
        match block["type"]:
            case "text" if message["role"] == "assistant":
                yield Said(block["text"])
            case "text":
                yield Told(block["text"])
            case "tool_use":
                yield Called(block["id"], block["name"].rpartition("__")[2])
            case "tool_result":
                yield Returned(block["tool_use_id"], _text_of(block.get("content", "")))
            case _:
                pass  # pictures, documents and thinking are nothing to a script


def _text_of(content: str | list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in _blocks(content) if block["type"] == "text")


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _message(model: str, move: Say | CallTool) -> dict[str, Any]:
    if isinstance(move, Say):
        block: dict[str, Any] = {"type": "text", "text": move.text}
        stop = "end_turn"
    else:
        name = f"mcp__{move.server}__{move.name}" if move.server else move.name
        arguments = dict(move.arguments)
        block = {"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": arguments}
        stop = "tool_use"
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": move.spent.input,
            "cache_creation_input_tokens": move.spent.cache_write,
            "cache_read_input_tokens": move.spent.cache_read,
            "output_tokens": move.spent.output,
        },
    }


def _events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The stream that builds *message*, as the API's documentation orders it."""
    (block,) = message["content"]
    started: dict[str, Any] = {**message, "content": [], "stop_reason": None}
    if block["type"] == "text":
        empty: dict[str, Any] = {**block, "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    spent = {"output_tokens": message["usage"]["output_tokens"]}
    return [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": spent},
        {"type": "message_stop"},
    ]
