"""Errors as HTTP answers: a status for programs and a sentence for readers."""

from typing import Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hurlicane_mcp.errors import (
    Conflict,
    Forbidden,
    GitFailed,
    HurlicaneError,
    IllegalTransition,
    Invalid,
    JobFinished,
    LimitReached,
    NotFound,
    StaleAttempt,
    StoreClosed,
    StoreUnavailable,
    Unauthorized,
)

#: The first class that fits decides; what is not here is a fault of ours.
STATUSES: Final[tuple[tuple[type[HurlicaneError], int], ...]] = (
    (NotFound, 404),
    (Invalid, 422),
    (LimitReached, 429),
    (Conflict, 409),
    (StaleAttempt, 409),
    (JobFinished, 409),
    (IllegalTransition, 409),
    (GitFailed, 409),  # the repository is not as it would have to be
    (Unauthorized, 401),
    (Forbidden, 403),
    (StoreClosed, 503),
    (StoreUnavailable, 503),
)
_HEADERS: Final = (
    (401, ("WWW-Authenticate", "Bearer")),
    (503, ("Retry-After", "1")),
)


class Problem(BaseModel):
    """Why a request was refused: a stable word, and what to do."""

    error: str
    message: str


def problem(status: int, error: str, message: str) -> JSONResponse:
    """The answer for a request that was refused."""
    headers = dict(header for code, header in _HEADERS if code == status)
    body = Problem(error=error, message=message).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)


def of_error(_request: Request, error: Exception) -> Response:
    """The answer for one of our errors, or for a fault, which tells nothing of itself."""
    if isinstance(error, HurlicaneError):
        for kind, status in STATUSES:
            if isinstance(error, kind):
                return problem(status, error.code, str(error))
    return problem(500, "unexpected", "The server failed; its log has the cause.")


def of_router(request: Request, error: Exception) -> Response:
    """The answer for what the router refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"There is no {request.url.path}. GET /api/openapi.json lists what there is."
        return problem(404, "not_found", message)
    allowed = (error.headers or {}).get("Allow", "")
    message = f"{request.method} is not possible here; allowed: {allowed}."
    answer = problem(error.status_code, "method_not_allowed", message)
    answer.headers["Allow"] = allowed
    return answer
