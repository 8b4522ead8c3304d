"""An operation of the REST interface: what it takes, what it answers, and how it is called.

The routes and the OpenAPI document are both made from these, so neither can drift.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hurlicane_mcp.engine.access import CALLER_KEY, Caller
from hurlicane_mcp.errors import Forbidden, Invalid
from hurlicane_mcp.web.problems import problem

MAX_BODY = 1024 * 1024
JSON = "application/json"
EVENT_STREAM = "text/event-stream"


class Input(BaseModel, extra="forbid"):
    """Base of query and body models: a misspelt name is an error, not a default."""


class Nothing(Input):
    """No parameters, or no body."""


Q = TypeVar("Q", bound=Input)
B = TypeVar("B", bound=Input)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request that was understood."""

    request: Request
    query: Q
    body: B

    @property
    def caller(self) -> Caller:
        """Whom the guard found behind the token."""
        return self.request.scope[CALLER_KEY]

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.path_params[name]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, B]):
    """One method of one path. The handler's docstring is its description."""

    method: str
    path: str
    handler: Callable[[Call[Q, B]], Awaitable[BaseModel | Response]]
    query: type[Q]
    body: type[B]
    answer: type[BaseModel] | None  #: None if it is not JSON
    media: tuple[str, ...] = (JSON,)
    status: int = 200
    for_agents: bool = False


Operations = Sequence[Operation[Any, Any]]


def routes_of(operations: Operations) -> list[Route]:
    """A route for each path, with all its methods."""
    paths = dict.fromkeys(operation.path for operation in operations)
    return [_route([one for one in operations if one.path == path]) for path in paths]


def reply(answer: BaseModel, status: int = 200) -> Response:
    """*answer* as JSON, without its empty fields."""
    return Response(answer.model_dump_json(exclude_none=True), status, media_type=JSON)


def _route(operations: Operations) -> Route:
    by_method = {one.method: one for one in operations}

    async def endpoint(request: Request) -> Response:
        return await _respond(
            by_method["GET" if request.method == "HEAD" else request.method], request
        )

    return Route(operations[0].path, endpoint, methods=list(by_method))


async def _respond(operation: Operation[Any, Any], request: Request) -> Response:
    caller: Caller = request.scope[CALLER_KEY]
    if caller.is_agent and not operation.for_agents:
        raise Forbidden("This is for operators. Agents use the tools at /mcp.")
    try:
        query = operation.query.model_validate(_parameters(operation.query, request))
        body = Nothing()
        if operation.body is not Nothing:
            raw = await _body(request)
            if raw is None:
                return problem(413, "too_large", f"A body may have {MAX_BODY:,} bytes.")
            body = operation.body.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise Invalid(_sentence(error)) from None
    answer = await operation.handler(Call(request, query, body))
    return reply(answer) if isinstance(answer, BaseModel) else answer


def _parameters(model: type[Input], request: Request) -> dict[str, Any]:
    """The query's values by name; lists where the model may have several."""
    given = request.query_params
    several = {
        name for name, field in model.model_fields.items() if get_origin(field.annotation) is tuple
    }
    return {name: given.getlist(name) if name in several else given[name] for name in given}


async def _body(request: Request) -> bytes | None:
    """The whole body, or None if it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, with its name."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"`{where}`: {first['msg']}." if where else f"The body cannot be read: {first['msg']}."
