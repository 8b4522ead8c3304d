"""The tool about health warnings."""

import pytest
from sqlmodel import Session

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.mcp_server.endpoint import McpEndpoint
from hurlicane_mcp.store import warnings
from hurlicane_mcp.store.database import Database
from tests.factories import running
from tests.fakes import BEGINNING
from tests.mcp_server.wire import an_agent, call, post

pytestmark = pytest.mark.anyio


async def test_an_operator_reads_warnings_of_a_job_and_dismisses_them(
    db: Database, endpoint: McpEndpoint
) -> None:
    def change(session: Session) -> str:
        job, _ = running(session)
        warnings.warn(session, job.id, "turns", BEGINNING, "Many.", BEGINNING)
        return job.id

    job = await db.write(change)
    told = {"kind": "turns", "since": "2026-01-01T12:00:00Z", "text": "Many."}
    seen = await post(endpoint, OPERATOR, call("get_job", job_id=job))
    assert seen.result["structuredContent"]["warnings"] == [told]
    listed = await post(endpoint, OPERATOR, call("list_jobs"))
    assert listed.result["structuredContent"]["jobs"][0]["warnings"] == [told]
    dismissal = call("dismiss_warning", job_id=job, kind="turns")
    for _ in range(2):
        assert (await post(endpoint, OPERATOR, dismissal)).result["structuredContent"] == told
    after = await post(endpoint, OPERATOR, call("get_job", job_id=job))
    assert "warnings" not in after.result["structuredContent"]


async def test_an_agent_cannot_dismiss(db: Database, endpoint: McpEndpoint) -> None:
    agent = await an_agent(db)
    refused = await post(
        endpoint, agent, call("dismiss_warning", job_id=agent.job_id, kind="turns")
    )
    assert b"dismiss_warning" in refused.body
    assert b"error" in refused.body.lower()
