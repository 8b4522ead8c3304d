"""What the tests of faults ask a server, and how they wait for it."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2

from tests.stories.server import RunningServer

T = TypeVar("T")

UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


def create(server: RunningServer, *steps: str, padding: int = 0, **values: Any) -> httpx2.Response:
    """The answer to the creation of a job whose scripted agent follows *steps*."""
    lines = ("A rehearsal.", *(f"! {step}" for step in steps), "x" * padding)
    with server.rest() as rest:
        return rest.post("/api/jobs", json={"description": "\n".join(lines), **values})


def created(server: RunningServer, *steps: str, **values: Any) -> str:
    """The id of a new job."""
    return create(server, *steps, **values).raise_for_status().json()["job_id"]


def get(server: RunningServer, path: str, **params: Any) -> dict[str, Any]:
    """The JSON at *path*."""
    with server.rest() as rest:
        return rest.get(path, params=params).raise_for_status().json()


def outcome(server: RunningServer, job_id: str, timeout_s: float = 30) -> dict[str, Any]:
    """The job once it is final."""
    with server.rest() as rest:
        params: dict[str, Any] = {"job_id": job_id, "timeout_s": timeout_s}
        answer = rest.get("/api/wait", params=params, timeout=timeout_s + 10).raise_for_status()
    assert answer.json()["pending"] == [], answer.json()
    return answer.json()["jobs"][0]


def readiness(server: RunningServer) -> httpx2.Response:
    """What a monitor is told."""
    with server.rest() as rest:
        return rest.get("/readyz")


def events(server: RunningServer, job_id: str) -> list[dict[str, Any]]:
    """All that the log tells of a job."""
    return get(server, "/api/events", job=job_id, limit=500)["events"]


def eventually(condition: Callable[[], T | None], timeout_s: float = 20) -> T:
    """What *condition* answers as soon as that is true."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found
