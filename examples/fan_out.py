"""Have several agents work side by side, and print each result as soon as it is there.

    python examples/fan_out.py "Write a haiku about rain" "Write a haiku about snow"

The server: HURLICANE_URL (default http://127.0.0.1:7717). The token: HURLICANE_TOKEN, the content
of operator.token in the server's data folder.
"""

import os
import sys
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("HURLICANE_URL", "http://127.0.0.1:7717")
HEADERS = {"Authorization": f"Bearer {os.environ.get('HURLICANE_TOKEN', '')}"}


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The tool's answer as data."""
    answer = await client.call_tool(tool, arguments)
    if answer.is_error:
        raise SystemExit(str(answer.content[0]))
    return answer.structured_content or {}


async def main(tasks: list[str]) -> None:
    """Create a job for each task, then wait until none is left."""
    timeout = httpx2.Timeout(30, read=300)  # a wait is silent for up to 20 s, and lasts up to 240
    async with (
        httpx2.AsyncClient(headers=HEADERS, timeout=timeout) as http,
        Client(streamable_http_client(f"{URL}/mcp", http_client=http)) as client,
    ):
        created = [await call(client, "create_job", description=task) for task in tasks]
        pending = [job["job_id"] for job in created]
        while pending:
            answer = await call(client, "wait_for_jobs", job_ids=pending, any=True)
            for job in answer["jobs"]:
                if job["job_id"] not in answer["pending"]:
                    text = job.get("result") or job.get("failure", {}).get("reason", "")
                    print(f"{job['title']}: {job['status']}\n  {text}\n")
            pending = answer["pending"]


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    anyio.run(main, sys.argv[1:])
