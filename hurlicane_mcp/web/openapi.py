"""The OpenAPI document, made from the operations themselves."""

import inspect
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse, Response

from hurlicane_mcp.web.operations import (
    EVENT_STREAM,
    JSON,
    Call,
    Input,
    Nothing,
    Operation,
    Operations,
)
from hurlicane_mcp.web.problems import Problem

References = Mapping[type[BaseModel], Mapping[str, Any]]


class DocumentRoutes:
    """The route of the document, which lists itself too."""

    def __init__(self, operations: Operations) -> None:
        self._others = operations

    @property
    def operations(self) -> Operations:
        """What this route can do."""
        path = "/api/openapi.json"
        return (Operation("GET", path, self.document, Nothing, Nothing, None, (JSON,)),)

    async def document(self, _call: Call[Nothing, Nothing]) -> Response:
        """This document."""
        return JSONResponse(document_of((*self._others, *self.operations)))


def document_of(operations: Operations) -> dict[str, Any]:
    """OpenAPI 3.1 for *operations*."""
    models = {Problem: None}
    for one in operations:
        models |= dict.fromkeys(_models(one))
    # One schema for a model, the one of its input: answers leave out what is empty, as inputs may.
    found, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    references = {model: found[model, "validation"] for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        path = paths.setdefault(one.path.replace(":path", ""), {})
        path[one.method.lower()] = _operation(one, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "hurlicane", "version": version("hurlicane-mcp")},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(operation: Operation[Any, Any]) -> list[type[BaseModel]]:
    answer = [] if operation.answer is None else [operation.answer]
    return answer if operation.body is Nothing else [*answer, operation.body]


def _operation(operation: Operation[Any, Any], references: References) -> dict[str, Any]:
    description: dict[str, Any] = {
        "operationId": operation.handler.__qualname__,
        "description": inspect.getdoc(operation.handler),
        "parameters": [*_in_path(operation.path), *_in_query(operation.query)],
        "responses": {
            str(operation.status): {
                "description": HTTPStatus(operation.status).phrase,
                "content": {
                    media: {"schema": _schema(operation, media, references)}
                    for media in operation.media
                },
            },
            "default": {
                "description": "Why it was refused",
                "content": {JSON: {"schema": references[Problem]}},
            },
        },
    }
    if operation.body is not Nothing:
        body = {JSON: {"schema": references[operation.body]}}
        description["requestBody"] = {"content": body}
    return description


def _schema(
    operation: Operation[Any, Any], media: str, references: References
) -> Mapping[str, Any]:
    """What one answer looks like; of an event stream, the data of each event."""
    if operation.answer is None:
        return {"type": "object"} if media == JSON else {"type": "string"}
    reference = references[operation.answer]
    if media != EVENT_STREAM:
        return reference
    return {"type": "string", "contentMediaType": JSON, "contentSchema": reference}


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part.strip("{}").partition(":")[0] for part in path.split("/") if "{" in part]
    text = {"type": "string"}
    return [{"name": name, "in": "path", "required": True, "schema": text} for name in names]


def _in_query(query: type[Input]) -> list[dict[str, Any]]:
    schema = query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": of}
        for name, of in schema.get("properties", {}).items()
    ]
