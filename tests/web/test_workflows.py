"""Workflows over HTTP, and in what dashboards begin with."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import event
from sqlmodel import Session

from hurlicane_mcp.engine.workflow_views import lines_of
from hurlicane_mcp.store import jobs, usage, workflows
from hurlicane_mcp.store.database import Database
from tests.factories import add_job
from tests.fakes import BEGINNING
from tests.git.checkouts import Checkout
from tests.web.site import Site

pytestmark = pytest.mark.anyio

PATH = "/api/workflows"


@pytest.fixture
def wish(tmp_path: Path) -> dict[str, Any]:
    """A workflow in a repository."""
    return {"task": "Build it.", "work_dir": str(Checkout.beside(tmp_path).top)}


async def created(operator: httpx2.AsyncClient, wish: dict[str, Any], **more: Any) -> str:
    answer = await operator.post(PATH, json=wish | more)
    assert answer.status_code == 201, answer.text
    return answer.json()["workflow_id"]


async def test_a_workflow_is_created_once_for_each_key(
    operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    bounds = {"implement": {"stop_mode": "turns", "stop_value": 50}}
    body = wish | {"stops": bounds, "checks": ["clean_tree"], "idempotency_key": "k"}
    first = await operator.post(PATH, json=body)
    made = first.json()
    assert first.status_code == 201
    assert first.headers["location"] == f"{PATH}/{made['workflow_id']}"
    assert (made["state"], made["phase"], made["cycle"]) == ("running", "assess", 0)
    assert made["reviewer_why"]
    again = await operator.post(PATH, json=body)
    assert (again.status_code, again.json()["workflow_id"]) == (200, made["workflow_id"])
    other = await operator.post(PATH, json=body | {"max_cycles": 3})
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    read = await operator.get(first.headers["location"])
    assert read.json() == made


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"task": " "}, "`task` is empty"),
        ({"max_cycles": 51}, "from 1 to 50"),
        ({"stops": {"rest": {"stop_mode": "turns", "stop_value": 1}}}, "no phase"),
        ({"stops": {"review": {"stop_mode": "moons"}}}, "stops.review.stop_mode"),
        ({"publish": "press"}, "`publish`"),
        ({"use_worktree": False}, "set `publish` to none"),
        ({"base_branch": "nowhere"}, "nowhere"),
        ({"colour": "red"}, "`colour`"),
        ({"work_dir": "/"}, "repository"),
    ],
)
async def test_what_cannot_be_is_refused_with_what_is_wrong(
    operator: httpx2.AsyncClient, wish: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    answer = await operator.post(PATH, json=wish | more)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
    assert message in answer.json()["message"]
    assert (await operator.get(PATH)).json() == {"workflows": []}


async def test_workflows_are_listed_by_state_and_page(
    operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    first, second, third = [await created(operator, wish, title=title) for title in "abc"]
    page = (await operator.get(PATH, params={"limit": 2})).json()["workflows"]
    assert [one["workflow_id"] for one in page] == [third, second]
    page = (await operator.get(PATH, params={"before": second})).json()["workflows"]
    assert [one["workflow_id"] for one in page] == [first]
    await operator.post(f"{PATH}/{second}/cancel", json={})
    state = {"state": ["running", "blocked"]}
    page = (await operator.get(PATH, params=state)).json()["workflows"]
    assert [one["title"] for one in page] == ["c", "a"]
    unknown = await operator.get(PATH, params={"state": "tired"})
    assert (unknown.status_code, unknown.json()["error"]) == (422, "invalid")


async def test_a_blocked_workflow_goes_on_and_a_running_one_cannot_be_resumed(
    site: Site, operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    workflow_id = await created(operator, wish)
    resume = f"{PATH}/{workflow_id}/resume"
    running = await operator.post(resume, json={})
    assert (running.status_code, running.json()["error"]) == (409, "conflict")

    def block(session: Session) -> None:
        row = workflows.get(session, workflow_id)
        told = {"blocked_reason": "No plan.", "blocked_advice": "Write one."}
        values = {"state": "blocked", "blocked_kind": "no_plan", "blocked_at": BEGINNING, **told}
        workflows.change(session, row, "blocked", BEGINNING, **values)

    await site.db.write(block)
    view = (await operator.get(f"{PATH}/{workflow_id}")).json()
    assert view["blocked"]["advice"] == "Write one."
    wrong = await operator.post(resume, json={"from_phase": "publish"})
    assert (wrong.status_code, wrong.json()["error"]) == (422, "invalid")
    again = await operator.post(resume, json={"from_phase": "assess"})
    assert again.status_code == 200
    assert (again.json()["state"], again.json()["try_number"]) == ("running", 2)
    kinds = {"kind": "workflow.*", "job": workflow_id}
    page = (await operator.get("/api/events", params=kinds)).json()["events"]
    assert [one["kind"] for one in page][-2:] == ["workflow.blocked", "workflow.phase"]


async def test_a_worktree_that_cannot_be_made_is_told_as_a_conflict_with_git(
    site: Site, operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    workflow_id = await created(operator, wish)

    def block(session: Session) -> None:
        row = workflows.get(session, workflow_id)
        values = {"state": "blocked", "blocked_kind": "worktree", "blocked_at": BEGINNING}
        workflows.change(session, row, "blocked", BEGINNING, **values)

    await site.db.write(block)
    git_dir = Path(wish["work_dir"]) / ".git"
    git_dir.rename(git_dir.with_name("moved"))
    answer = await operator.post(f"{PATH}/{workflow_id}/resume", json={})
    assert (answer.status_code, answer.json()["error"]) == (409, "git")


async def test_cancelling_keeps_a_final_workflow_as_it_is(
    operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    workflow_id = await created(operator, wish)
    for _ in range(2):
        answer = await operator.post(f"{PATH}/{workflow_id}/cancel", json={"reason": "Enough."})
        assert answer.json() == {"workflow_id": workflow_id, "status": "cancelled"}
    view = (await operator.get(f"{PATH}/{workflow_id}")).json()
    assert view["failure"]["reason"] == "Cancelled by an operator: Enough."
    for path in (PATH, f"{PATH}/wf_none", f"{PATH}/wf_none/cancel"):
        method = "GET" if path != f"{PATH}/wf_none/cancel" else "POST"
        expected = 200 if path == PATH else 404
        assert (await operator.request(method, path)).status_code == expected


async def test_agents_use_their_tools_instead(site: Site, wish: dict[str, Any]) -> None:
    async with site.client(await site.agent_token()) as agent:
        assert (await agent.get(PATH)).status_code == 403
        assert (await agent.post(PATH, json=wish)).status_code == 403


async def test_a_snapshot_has_the_open_workflows(
    operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    first, second = [await created(operator, wish, title=title) for title in "ab"]
    found = (await operator.get("/api/snapshot")).json()["workflows"]
    assert [one["workflow_id"] for one in found] == [second, first]
    lines = (await operator.get(PATH)).json()["workflows"]
    assert found == lines
    await operator.post(f"{PATH}/{second}/cancel", json={})
    found = (await operator.get("/api/snapshot")).json()["workflows"]
    assert [one["workflow_id"] for one in found] == [first]


async def test_a_list_takes_as_many_queries_for_many_workflows_as_for_one(
    site: Site, operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    await created(operator, wish)
    few = await queries(site.db, 1)
    for _ in range(4):
        await created(operator, wish)
    assert await queries(site.db, 5) == few


async def queries(db: Database, count: int) -> int:
    """How many statements it takes to tell of *count* workflows."""
    statements: list[str] = []

    def note(*told: Any) -> None:
        statements.append(told[2])

    def look(session: Session) -> None:
        rows = workflows.listing(session)
        event.listen(session.connection(), "before_cursor_execute", note)
        assert len(lines_of(session, rows)) == count

    await db.read(look)
    return len(statements)


async def test_usage_is_summed_up_by_the_nearest_workflow(
    site: Site, operator: httpx2.AsyncClient, wish: dict[str, Any]
) -> None:
    outer, inner = [await created(operator, wish, title=title) for title in ("Outer", "Inner")]

    def book(session: Session) -> str:
        """The inner workflow was created by an agent of the outer one."""
        phase = workflows.phases(session, outer)[0].job_id
        jobs.set_values(session, inner, parent_id=phase)
        phase_of_inner = workflows.phases(session, inner)[0].job_id
        helper = add_job(session, parent=jobs.get(session, phase_of_inner))
        costs = ((phase, "1"), (phase_of_inner, "0.5"), (helper.id, "0.25"))
        for job_id, cost in (*costs, (add_job(session).id, "8")):
            day = BEGINNING.date().isoformat()
            usage.add(session, day, job_id, "scripted", "m", turns=1, cost_usd=Decimal(cost))
        return phase

    phase = await site.db.write(book)
    told = (await operator.get("/api/usage?by=workflow")).json()
    lines = [(one["key"], one["title"], float(one["cost_usd"])) for one in told["lines"]]
    assert lines == [(outer, "Outer", 1), (inner, "Inner", 0.75)]
    assert (float(told["total"]["cost_usd"]), told["total"]["turns"]) == (1.75, 3)
    below = (await operator.get(f"/api/usage?by=workflow&job_id={inner}")).json()
    assert [one["key"] for one in below["lines"]] == [inner]
    view = (await operator.get(f"{PATH}/{outer}")).json()
    assert float(view["cost_usd"]) == 1.75, "what it cost includes what its agents had done"
    assert [(one["job_id"], float(one["cost_usd"])) for one in view["phases"]] == [(phase, 1.75)]
