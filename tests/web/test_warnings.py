"""Health warnings over HTTP."""

from typing import Any

import httpx2
import pytest

from hurlicane_mcp.engine.health import LOOK
from hurlicane_mcp.store import attempts
from tests.fakes import BEGINNING, FakeClock
from tests.web.site import Site

pytestmark = pytest.mark.anyio

TEXT = "At least 1 tool call was not allowed by the agent's permissions."
WARNED = {"kind": "permission_denied", "since": "2026-01-01T12:00:00Z", "text": TEXT}


async def denied(site: Site) -> str:
    """A running job whose agent was not allowed something, after a look."""
    job, attempt = await site.running_job()
    await site.db.write(lambda s: attempts.start(s, attempt.id, BEGINNING))
    await site.db.write(lambda s: attempts.write(s, attempt.id, denials=1))
    await site.services.health.look()
    return job.id


async def warned_kinds(operator: httpx2.AsyncClient) -> list[str]:
    page: dict[str, Any] = (await operator.get("/api/events?kind=job.warn*")).json()
    return [one["kind"] for one in page["events"]]


async def test_a_warning_is_on_the_job_in_the_list_and_in_the_snapshot_until_it_is_dismissed(
    site: Site, operator: httpx2.AsyncClient, clock: FakeClock
) -> None:
    job = await denied(site)
    (listed,) = (await operator.get("/api/warnings")).json()["warnings"]
    assert listed == {**WARNED, "job_id": job, "title": "A job"}
    paths = {"/api/jobs": "jobs", "/api/snapshot": "jobs"}
    for path, name in paths.items():
        (line,) = (await operator.get(path)).json()[name]
        assert line["warnings"] == [WARNED]
    assert (await operator.get(f"/api/jobs/{job}")).json()["warnings"] == [WARNED]

    path = f"/api/jobs/{job}/warnings/permission_denied"
    for _ in range(2):  # whoever did not hear the answer asks again
        dismissed = await operator.delete(path)
        assert (dismissed.status_code, dismissed.json()) == (200, WARNED)
    clock.move(LOOK)
    await site.services.health.look()
    assert (await operator.get("/api/warnings")).json() == {"warnings": []}
    assert "warnings" not in (await operator.get(f"/api/jobs/{job}")).json()
    assert await warned_kinds(operator) == ["job.warned", "job.warning_dismissed"]


async def test_a_dismissed_warning_comes_again_once_it_has_not_held_for_a_while(
    site: Site, operator: httpx2.AsyncClient, clock: FakeClock
) -> None:
    job = await denied(site)
    await operator.delete(f"/api/jobs/{job}/warnings/permission_denied")
    for denials in (0, 1):
        clock.move(LOOK)
        await site.db.write(lambda s, n=denials: attempts.write(s, f"{job}.1", denials=n))
        await site.services.health.look()
    (again,) = (await operator.get("/api/warnings")).json()["warnings"]
    assert again["since"] == "2026-01-01T12:00:20Z"
    assert await warned_kinds(operator) == [
        *("job.warned", "job.warning_dismissed", "job.warning_cleared", "job.warned")
    ]


async def test_only_what_holds_can_be_dismissed(site: Site, operator: httpx2.AsyncClient) -> None:
    job = await denied(site)
    tried = {
        f"/api/jobs/{job}/warnings/turns": (404, "not_found"),
        f"/api/jobs/{job}/warnings/noise": (422, "invalid"),
        "/api/jobs/job_none/warnings/turns": (404, "not_found"),
    }
    for path, expected in tried.items():
        refused = await operator.delete(path)
        assert (refused.status_code, refused.json()["error"]) == expected
    assert "stalled_output, turns" in refusal_of(await operator.delete(list(tried)[1]))
    await operator.post(f"/api/jobs/{job}/cancel")
    late = await operator.delete(f"/api/jobs/{job}/warnings/permission_denied")
    assert (late.status_code, late.json()["error"]) == (404, "not_found")
    assert (await operator.get("/api/warnings")).json() == {"warnings": []}


def refusal_of(response: httpx2.Response) -> str:
    return response.json()["message"]


async def test_warnings_are_for_operators(site: Site) -> None:
    async with site.client(await site.agent_token()) as agent:
        assert (await agent.get("/api/warnings")).status_code == 403
        assert (await agent.delete("/api/jobs/job_x/warnings/turns")).status_code == 403
