"""No job is ever without an answer to why it is where it is."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import anyio
import pytest

from tests.stories.server import Agent, Refused, RunningServer, until

pytestmark = pytest.mark.anyio

UNTIL_GO = "run sh -c 'until [ -e go ]; do sleep 0.05; done'"


async def chain(operator: Agent, job: str) -> list[dict[str, Any]]:
    return (await operator.call("why", job_id=job))["chain"]


def working(agents: list[dict[str, Any]]) -> list[bool]:
    """Of each agent that was started, whether it waits."""
    return [one["waiting"] for one in agents if "started_at" in one]


async def test_the_chain_leads_through_dependencies_and_waits_to_the_one_that_works(
    server: RunningServer,
) -> None:
    child = f"Works.\\n! {UNTIL_GO}\\n! finish x"
    async with server.operator() as operator:
        lead = await operator.create(
            f'call create_job {{"description": "{child}"}} as c',
            'call wait_for_jobs {"job_ids": ["${c.job_id}"]}',
            "finish y",
        )
        last = await operator.create("finish z", depends_on=[lead])
        with server.rest() as rest:
            await until(lambda: working(rest.get("/api/agents").json()["agents"]) == [True, False])
            links = rest.get(f"/api/jobs/{last}/why").json()["chain"]
        assert links == await chain(operator, last)
        await anyio.Path(server.work_dir / "go").touch()
        await operator.outcome(last)
        (end,) = await chain(operator, last)
    assert [link["status"] for link in links] == ["blocked", "running", "running"]
    assert [link["job_id"] for link in links[:2]] == [last, lead]
    assert links[0]["because"] == f"It depends on {lead}."
    assert links[1]["because"] == f"Its agent waits for {links[2]['job_id']}."
    assert links[2]["because"].startswith("Its agent works")
    assert (end["because"], end["next"]) == ("It is done.", "Nothing: final is final.")


async def test_a_job_without_a_slot_says_how_many_are_before_it(
    start: Callable[..., RunningServer],
) -> None:
    server = start(slots="1")
    async with server.operator() as operator:
        await operator.create(UNTIL_GO, "finish a")
        await operator.create("finish b")
        third = await operator.create("finish c")
        with server.rest() as rest:
            await until(lambda: len(rest.get("/api/agents").json()["agents"]) == 1)
        (link,) = await chain(operator, third)
        await operator.call("cancel_job", job_id=third)
        (cancelled,) = await chain(operator, third)
        await anyio.Path(server.work_dir / "go").touch()
    assert link["because"] == "All 1 slots are taken, and 1 jobs are before it."
    assert cancelled["because"].startswith("It is cancelled: cancelled: Cancelled by an operator")


async def test_a_parked_job_says_until_when_and_after_what(server: RunningServer) -> None:
    async with server.operator() as operator:
        job = await operator.create("exit 3", "on_resume", "exit 3")
        with server.rest() as rest:
            await until(lambda: rest.get(f"/api/jobs/{job}").json().get("not_before"))
        (link,) = await chain(operator, job)
        await operator.call("cancel_job", job_id=job)
    assert "exited with code 3" in link["because"]
    parked = datetime.fromisoformat(link["until"]) - datetime.fromisoformat(
        await _settled(server, job)
    )
    assert 9 < parked.total_seconds() <= 10


async def _settled(server: RunningServer, job: str) -> str:
    with server.rest() as rest:
        return rest.get(f"/api/jobs/{job}/attempts").json()["attempts"][1]["settled_at"]


async def test_an_agent_may_ask_about_what_it_created_and_about_nothing_else(
    server: RunningServer,
) -> None:
    async with server.operator() as operator:
        other = await operator.create("finish x")
        job = await operator.create(UNTIL_GO, "finish y")
        async with server.client(await server.token_of(job)) as agent:
            (own,) = await chain(agent, job)
            with pytest.raises(Refused, match="not_found"):
                await chain(agent, other)
        await anyio.Path(server.work_dir / "go").touch()
    assert own["status"] == "running"
