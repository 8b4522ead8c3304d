"""Models and their limits over HTTP."""

from urllib.parse import quote

import httpx2
import pytest

from tests.web.site import Site

pytestmark = pytest.mark.anyio

LIMITS = "/api/models/rate-limits"


def limit_of(name: str) -> str:
    return f"{LIMITS}/{quote(name, safe='')}"


async def test_models_are_listed_limited_and_cleared(operator: httpx2.AsyncClient) -> None:
    new = {"model": "opus", "for_s": 90, "reason": "Too dear."}
    limited = await operator.post(LIMITS, json=new)
    assert limited.status_code == 200
    assert limited.json() == {
        "name": "claude:claude-opus-5-5",
        "provider": "claude",
        "model": "claude-opus-5-5",
        "gate": "open",
        "kind": "rate_limit",
        "since": "2026-01-01T12:00:00Z",
        "until": "2026-01-01T12:01:30Z",
        "strikes": 1,
        "manual": True,
        "evidence": "Too dear.",
        "parked": 0,
    }
    assert (await operator.get(LIMITS)).json() == {"limits": [limited.json()]}
    found = (await operator.get("/api/models")).json()
    opus = next(one for one in found["models"] if one["model"] == "claude-opus-5-5")
    assert (opus["gate"], opus["limit"], opus["prices"]["input"]) == ("open", limited.json(), "4")
    assert found["chains"][0][0] == "claude:opus"
    cleared = await operator.delete(limit_of("opus"))
    assert (cleared.status_code, cleared.json()) == (200, limited.json())
    assert (await operator.get(LIMITS)).json() == {"limits": []}


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("sonnet[1m]", "claude:claude-sonnet-5-5"),
        ("claude:*", "claude:*"),
        ("claude/claude-haiku-5-5", "claude:claude-haiku-5-5"),
        ("codex:default", "codex:default"),
        ("scripted:a.b:c", "scripted:a.b:c"),
    ],
)
async def test_a_name_in_a_path_may_have_slashes_brackets_and_stars(
    operator: httpx2.AsyncClient, name: str, stored: str
) -> None:
    assert (await operator.post(LIMITS, json={"model": name})).json()["name"] == stored
    assert (await operator.delete(limit_of(name))).json()["name"] == stored


async def test_a_name_with_slashes_needs_no_escaping_and_a_provider_may_stand_apart(
    operator: httpx2.AsyncClient,
) -> None:
    await operator.post(LIMITS, json={"model": "*", "provider": "codex"})
    again = await operator.delete(f"{LIMITS}/*", params={"provider": "codex"})
    assert again.json()["name"] == "codex:*"
    await operator.post(LIMITS, json={"model": "codex:*"})
    assert (await operator.delete(f"{LIMITS}/codex/*")).json()["name"] == "codex:*"


async def test_what_cannot_be_is_refused_with_what_can(operator: httpx2.AsyncClient) -> None:
    unknown = await operator.post(LIMITS, json={"model": "claude:gpt"})
    assert (unknown.status_code, unknown.json()["error"]) == (422, "invalid")
    assert "claude has no model 'gpt'. Known: opus" in unknown.json()["message"]
    past = await operator.post(LIMITS, json={"model": "opus", "until": "2025-12-31T00:00:00Z"})
    assert past.status_code == 422
    naive = await operator.post(LIMITS, json={"model": "opus", "until": "2026-01-02T00:00:00"})
    assert "needs a time zone" in naive.json()["message"]
    misspelt = await operator.post(LIMITS, json={"model": "opus", "for": 5})
    assert (misspelt.status_code, "`for`" in misspelt.json()["message"]) == (422, True)
    none = await operator.delete(limit_of("opus"))
    assert (none.status_code, none.json()["error"]) == (404, "not_found")
    assert "Nothing is limited now." in none.json()["message"]


async def test_agents_may_neither_see_nor_set_limits(site: Site) -> None:
    async with site.client(await site.agent_token()) as agent:
        assert (await agent.get("/api/models")).status_code == 403
        assert (await agent.get(LIMITS)).status_code == 403
        assert (await agent.post(LIMITS, json={"model": "opus"})).status_code == 403
        assert (await agent.delete(limit_of("opus"))).status_code == 403
