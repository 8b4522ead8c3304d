"""Those who call the server through the chaos: an operator, and a reader of the feed."""

import contextlib
import json
from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import httpx2

from tests.chaos.agent import TASK
from tests.chaos.checker import Record, Told
from tests.chaos.plan import Task
from tests.chaos.processes import Site


class Operator:
    """Creates jobs, waits for them and cancels them; repeats what a broken connection cut off."""

    def __init__(self, site: Site, record: Record) -> None:
        self._site = site
        self._record = record
        self._client = httpx2.AsyncClient(
            base_url=site.url,
            headers={"Authorization": f"Bearer {site.token}"},
            timeout=httpx2.Timeout(30, read=None),
            limits=httpx2.Limits(max_connections=None),
        )

    async def create(self, task: Task) -> str:
        """The id of a new job for *task*."""
        created = self._record.created
        body = {
            "title": task.name,
            "description": f"{TASK}{json.dumps(task.as_json())}",
            "depends_on": [created[name] for name in task.depends_on],
            "idempotency_key": task.name,
        }
        if task.models:
            body |= {"model": task.models[0], "fallback": task.models[1:]}
        job_id: str = (await self.call("POST", "/api/jobs", json=body))["job_id"]
        created[task.name] = job_id
        self._record.waiting.add(job_id)
        return job_id

    async def outcome(self, job_id: str) -> None:
        """Return when the job is final, and note what was told."""
        answer: dict[str, Any] = {"pending": [job_id]}
        while answer["pending"]:
            answer = await self.call("GET", "/api/wait", params={"job_id": job_id})
        job = answer["jobs"][0]
        self._record.told.append(Told(job_id, job["status"], job.get("result", "")))
        self._record.waiting.discard(job_id)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job and all below it."""
        await self.call("POST", f"/api/jobs/{job_id}/cancel", json={"reason": "frozen"})

    async def has_work(self) -> bool:
        """Whether a job is not final, or an attempt's process may be alive."""
        params = {"status": ("blocked", "queued", "running")}
        jobs = (await self.call("GET", "/api/jobs", params=params))["jobs"]
        return bool(jobs or (await self.call("GET", "/api/agents"))["agents"])

    async def last_event(self) -> int:
        """The number of the newest event."""
        return (await self.call("GET", "/api/snapshot"))["as_of"]

    async def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The answer, however often the call has to be made for it."""
        while True:
            with contextlib.suppress(httpx2.TransportError):
                response = await self._client.request(method, path, **arguments)
                if response.status_code < 500:
                    return response.raise_for_status().json()
            await anyio.sleep(0.1)

    async def close(self) -> None:
        await self._client.aclose()


class FeedReader:
    """Follows the feed from the first event on, and hangs up now and then."""

    def __init__(self, site: Site, record: Record, random: Random, hear: Callable[[Any], None]):
        self._site = site
        self._record = record
        self._random = random
        self._hear = hear
        self._last: str | None = None

    async def run(self) -> None:
        """Read for ever, going on after the last event that came whole."""
        while True:
            headers = {"Authorization": f"Bearer {self._site.token}"}
            if self._last is not None:
                headers["Last-Event-ID"] = self._last
            with (
                contextlib.suppress(httpx2.TransportError),
                anyio.move_on_after(self._random.uniform(0.5, 10)),
            ):
                async with (
                    httpx2.AsyncClient(headers=headers, timeout=30) as client,
                    client.stream("GET", f"{self._site.url}/events?after=0") as response,
                ):
                    await self._read(response)
            await anyio.sleep(0.05)

    async def _read(self, response: httpx2.Response) -> None:
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "id" in fields:
                self._last = fields["id"]
                self._record.feed.append(int(fields["id"]))
                self._hear(json.loads(fields["data"]))
            fields = {}
