"""The OpenAPI document and the server say the same."""

from pathlib import Path
from typing import Any, cast

import httpx2
import jsonschema
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from hurlicane_mcp.store import events
from tests.factories import add_branch_job, add_job, add_worktree_and_diff
from tests.fakes import BEGINNING
from tests.git.places import new_place
from tests.web.site import Site, streamed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def document(operator: httpx2.AsyncClient) -> dict[str, Any]:
    return (await operator.get("/api/openapi.json")).json()


async def test_every_route_is_in_the_document_and_no_other(
    site: Site, document: dict[str, Any]
) -> None:
    routes = [cast("Route", route) for route in cast("Starlette", site.app).routes]
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in routes
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(path, method) for path, of in document["paths"].items() for method in of}
    assert served == described
    assert document["openapi"].startswith("3.1")


async def test_every_operation_is_described_and_has_a_name_of_its_own(
    document: dict[str, Any],
) -> None:
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert all(one["description"] for one in operations)
    assert len({one["operationId"] for one in operations}) == len(operations)


def references(part: object) -> set[str]:
    """Every `$ref` below *part*."""
    if isinstance(part, list):
        return set[str]().union(*map(references, cast("list[object]", part)))
    if not isinstance(part, dict):
        return set()
    fields = cast("dict[str, object]", part)
    own = {str(value) for name, value in fields.items() if name == "$ref"}
    return own.union(*map(references, fields.values()))


async def test_every_reference_leads_to_a_valid_schema(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    names = {name.removeprefix("#/components/schemas/") for name in references(document)}
    assert names <= schemas.keys()
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """*value* is what *schema* says."""
    validator = jsonschema.Draft202012Validator(
        {**schema, "components": document["components"]},
        format_checker=jsonschema.FormatChecker(),
    )
    validate = cast("Any", validator).validate
    validate(value)


def schema_of(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, Any]:
    answer = document["paths"][path][method]["responses"][status]
    return answer["content"]["application/json"]["schema"]


async def test_answers_are_what_their_schemas_say(
    site: Site, operator: httpx2.AsyncClient, document: dict[str, Any], tmp_path: Path
) -> None:
    job, _ = await site.running_job()
    await site.db.write(lambda s: add_job(s, depends_on=(job.id,), context={"a": "b"}))
    await operator.put("/api/notes/k", json={"value": "v"})
    place = new_place(tmp_path)
    place.begin("work")
    merged = await site.db.write(lambda s: add_branch_job(s, place, "work"))
    await site.db.write(lambda s: add_worktree_and_diff(s, job))
    wish = {"task": "Build it.", "work_dir": str(place.folder)}
    workflow_id = (await operator.post("/api/workflows", json=wish)).json()["workflow_id"]
    tried = {
        "/api/jobs": "",
        "/api/jobs/{job_id}": f"/api/jobs/{job.id}",
        "/api/jobs/{job_id}/why": f"/api/jobs/{job.id}/why",
        "/api/jobs/{job_id}/attempts": f"/api/jobs/{job.id}/attempts",
        "/api/jobs/{job_id}/transcript": f"/api/jobs/{job.id}/transcript",
        "/api/jobs/{job_id}/messages": f"/api/jobs/{job.id}/messages",
        "/api/jobs/{job_id}/merge-preview": f"/api/jobs/{merged}/merge-preview",
        "/api/jobs/{job_id}/diff": f"/api/jobs/{job.id}/diff",
        "/api/worktrees": "/api/worktrees?removed=true",
        "/api/workflows": "",
        "/api/workflows/{workflow_id}": f"/api/workflows/{workflow_id}",
        "/api/locks": "",
        "/api/questions": "",
        "/api/warnings": "",
        "/api/wait": f"/api/wait?job_id={job.id}&timeout_s=0",
        "/api/agents": "",
        "/api/notes": "",
        "/api/models": "",
        "/api/models/rate-limits": "",
        "/api/notes/{key}": "/api/notes/k",
        "/api/usage": f"/api/usage?by=job&job_id={job.id}",
        "/api/events": "",
        "/api/snapshot": "",
        "/api/server": "",
        "/api/openapi.json": "",
        "/healthz": "",
        "/readyz": "",
    }
    for path, asked in tried.items():
        answer = await operator.get(asked or path)
        assert answer.status_code == 200, path
        check(document, schema_of(document, path, "get", "200"), answer.json())
    described = {
        path
        for path, of in document["paths"].items()
        if "get" in of and "application/json" in of["get"]["responses"]["200"]["content"]
    }
    assert described == tried.keys()


async def test_writes_are_what_their_schemas_say(
    operator: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    made = await operator.post("/api/jobs", json={"description": "x"})
    check(document, schema_of(document, "/api/jobs", "post", "201"), made.json())
    path = "/api/jobs/{job_id}/cancel"
    ended = await operator.post(path.format(job_id=made.json()["job_id"]))
    check(document, schema_of(document, path, "post", "200"), ended.json())
    note = await operator.put("/api/notes/k", json={"value": "v"})
    check(document, schema_of(document, "/api/notes/{key}", "put", "200"), note.json())


async def test_problems_and_inputs_are_described_as_they_are_checked(
    operator: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    refused = await operator.post("/api/jobs", json={"urgent": True})
    check(document, schema_of(document, "/api/jobs", "post", "default"), refused.json())
    body = document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]
    check(document, body["schema"], {"description": "x"})
    with pytest.raises(jsonschema.ValidationError):
        check(document, body["schema"], {"urgent": True})
    (offset,) = document["paths"]["/api/jobs/{job_id}"]["get"]["parameters"][1:]
    assert (offset["name"], offset["in"], offset["schema"]["default"]) == ("offset", "query", 0)


async def test_the_data_of_a_streamed_event_is_what_its_schema_says(
    site: Site, operator: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    answer = document["paths"]["/events"]["get"]["responses"]["200"]
    schema = answer["content"]["text/event-stream"]["schema"]["contentSchema"]
    async with streamed(operator, "/events") as stream:
        await site.db.write(lambda s: events.record(s, BEGINNING, "x", "job_x", 1, why=None))
        told = await stream.next()
    assert told is not None
    check(document, schema, told.data)
