"""The OpenAI Responses API on loopback, answered by a script: what Codex talks to."""

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


def openai_endpoint(script: Script) -> AbstractContextManager[ScriptedModel]:
    """A model for a Codex model provider, whose `base_url` is its `url` and `/v1`."""
    return serving_model(script, _routes)


def _routes(model: ScriptedModel) -> Sequence[Route]:
    async def responses(request: Request) -> Response:
        body = await request.json()
        move = await model.next_move(request, body, read_conversation(body))
        return refusal(move) if isinstance(move, HttpError) else event_stream(_events(move))

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [], "models": []})

    return (
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
    )


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """The turns in a Responses request; developer messages count as told."""
    turns = tuple(turn for item in body["input"] for turn in _turns_of(item))
    return Conversation(turns, body["model"])


def _turns_of(item: Mapping[str, Any]) -> Iterator[Turn]:
    match item["type"]:
        case "message" if item["role"] == "assistant":
            yield Said(_text_of(item["content"]))
        case "message" | "agent_message":  # the latter between Codex's own agents
            yield Told(_text_of(item["content"]))
        case "function_call":
            yield Called(item["call_id"], item["name"])
        case "function_call_output":
            yield Returned(item["call_id"], _text_of(item["output"]))
        case _:
            pass  # reasoning is nothing to a script


def _text_of(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    texts = (part.get("text") or part.get("encrypted_content") for part in content)
    return "\n".join(text for text in texts if text)


def _item(move: Say | CallTool) -> dict[str, Any]:
    if isinstance(move, Say):
        return {
            "type": "message",
            "id": new_id("msg_"),
            "role": "assistant",
            "content": [{"type": "output_text", "text": move.text, "annotations": []}],
        }
    namespace = f"mcp__{move.server}" if move.server else move.group
    return {
        "type": "function_call",
        "id": new_id("fc_"),
        "call_id": new_id("call_"),
        "name": move.name,
        "arguments": json.dumps(dict(move.arguments)),
        **({"namespace": namespace} if namespace else {}),
    }


def _events(move: Say | CallTool) -> list[dict[str, Any]]:
    response = {"id": new_id("resp_"), "object": "response", "status": "in_progress"}
    item = {**_item(move), "status": "completed"}
    spent = move.spent
    sent = spent.input + spent.cache_write + spent.cache_read
    usage = {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": spent.cache_read},
        "output_tokens": spent.output,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": sent + spent.output,
    }
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
