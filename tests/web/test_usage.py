"""Budgets and usage over HTTP."""

from datetime import timedelta
from decimal import Decimal

import httpx2
import pytest
from sqlmodel import Session

from hurlicane_mcp.store import attempts, jobs, usage
from tests.factories import add_job
from tests.fakes import BEGINNING
from tests.web.site import Site

pytestmark = pytest.mark.anyio

DAY, WEEKS_AGO = BEGINNING.date(), BEGINNING.date() - timedelta(days=30)


async def test_a_budget_and_its_figures_are_shown_with_the_job(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    asked = {
        "description": "x",
        "model": "big",
        "fallback": ["small"],
        "stop_mode": "budget",
        "stop_value": 2.5,
    }
    made = (await operator.post("/api/jobs", json=asked)).json()
    path = f"/api/jobs/{made['job_id']}"

    def change(session: Session) -> None:
        values = {"cost_usd": Decimal("0.5"), "limited_by": "daily_budget", "stopped_by": "budget"}
        jobs.set_values(session, made["job_id"], **values)

    await site.db.write(change)
    job = (await operator.get(path)).json()
    assert (job["stop_mode"], job["stop_value"]) == ("budget", "2.5")
    assert {name: float(usd) for name, usd in job["budget"].items()} == {
        "spent_usd": 0.5,
        "reserved_usd": 0,
        "free_usd": 2,
    }
    assert job["chain"] == ["scripted:big", "scripted:small"]
    assert (job["limited_by"], job["stopped_by"]) == ("daily_budget", "budget")
    (waited,) = (await operator.get(f"/api/wait?job_id={job['job_id']}&timeout_s=0")).json()["jobs"]
    assert (waited["limited_by"], waited["stopped_by"]) == ("daily_budget", "budget")
    (line,) = (await operator.get("/api/jobs")).json()["jobs"]
    assert line["limited_by"] == "daily_budget"


async def test_the_models_that_a_job_has_run_on_are_shown(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    job, attempt = await site.running_job()
    await site.db.write(lambda s: attempts.write(s, attempt.id, model_used="small"))
    told = (await operator.get(f"/api/jobs/{job.id}")).json()
    assert told["models_used"] == ["scripted:small"]
    assert "stop_mode" not in told


@pytest.mark.parametrize(
    ("bound", "named"),
    [
        ({"stop_mode": "budget"}, "US dollars"),
        ({"stop_mode": "turns", "stop_value": 0}, "more than 0"),
        ({"stop_mode": "never"}, "stop_mode"),
        ({"stop_mode": "time", "stop_value": "soon"}, "stop_value"),
        ({"stop_value": 3}, "completion"),
    ],
)
async def test_a_bound_that_cannot_be_is_refused(
    operator: httpx2.AsyncClient, bound: dict[str, object], named: str
) -> None:
    refused = await operator.post("/api/jobs", json={"description": "x", **bound})
    assert (refused.status_code, refused.json()["error"]) == (422, "invalid")
    assert named in refused.json()["message"]


@pytest.fixture
async def used(site: Site) -> tuple[str, str]:
    """A job and its child, with what they have used."""

    def change(session: Session) -> tuple[str, str]:
        root = add_job(session, title="Garden", project="/garden")
        child = add_job(session, parent=root, title="Lawn", project="/garden")
        add_job(session, id="job_other", project="/house")
        today, old = DAY.isoformat(), WEEKS_AGO.isoformat()
        usage.add(session, today, root.id, "claude", "opus", turns=2, cost_usd=Decimal("1.5"))
        usage.add(session, today, child.id, "codex", "sol", turns=1, input_tokens=90)
        usage.add(session, old, child.id, "codex", "sol", turns=1, output_tokens=10)
        # An agent that follows a script has used tokens that are known to cost nothing.
        usage.add(session, today, "job_other", "scripted", "", turns=1, input_tokens=5)
        return root.id, child.id

    return await site.db.write(change)


async def test_usage_of_the_last_days_is_summed_up_by_day(
    operator: httpx2.AsyncClient, used: tuple[str, str]
) -> None:
    told = (await operator.get("/api/usage")).json()
    assert (told["by"], told["since"]) == ("day", "2025-12-26")
    (line,) = told["lines"]
    assert (line["key"], line["turns"], line["cost_usd"]) == ("2026-01-01", 4, "1.5")
    assert line["unpriced_tokens"] == 90
    longer = (await operator.get("/api/usage?days=31")).json()
    assert [line["key"] for line in longer["lines"]] == ["2026-01-01", "2025-12-02"]
    assert longer["total"]["unpriced_tokens"] == 100


async def test_usage_of_a_job_counts_all_below_it_and_all_its_days(
    operator: httpx2.AsyncClient, used: tuple[str, str]
) -> None:
    root, child = used
    told = (await operator.get(f"/api/usage?by=job&job_id={root}")).json()
    assert [(one["key"], one["title"]) for one in told["lines"]] == [
        (root, "Garden"),
        (child, "Lawn"),
    ]
    assert (told["total"]["turns"], told["total"]["output_tokens"]) == (4, 10)
    assert "since" not in told
    part = (await operator.get(f"/api/usage?by=job&job_id={root}&limit=1")).json()
    assert (len(part["lines"]), part["left_out"]) == (1, 1)
    assert part["total"] == told["total"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("model", [("opus", "claude"), ("sol", "codex"), ("unknown", "scripted")]),
        ("project", [("/garden", None), ("/house", None)]),
    ],
)
async def test_usage_is_summed_up_the_most_expensive_first(
    operator: httpx2.AsyncClient,
    used: tuple[str, str],
    by: str,
    expected: list[tuple[str, str | None]],
) -> None:
    told = (await operator.get(f"/api/usage?by={by}")).json()
    assert [(one["key"], one.get("provider")) for one in told["lines"]] == expected
    by_tree = (await operator.get("/api/usage?by=tree")).json()
    assert by_tree["lines"][0]["title"] == "Garden"


async def test_what_cannot_be_summed_up_is_refused(
    site: Site, operator: httpx2.AsyncClient
) -> None:
    unknown = await operator.get("/api/usage?by=colour")
    assert (unknown.status_code, "`by`" in unknown.json()["message"]) == (422, True)
    assert (await operator.get("/api/usage?job_id=job_none")).status_code == 404
    async with site.client(await site.agent_token()) as agent:
        assert (await agent.get("/api/usage")).status_code == 403
