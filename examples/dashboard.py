"""A dashboard in ten lines: the state of all jobs, then every change as it happens."""

import json
import os

import httpx2

headers = {"Authorization": f"Bearer {os.environ['HURLICANE_TOKEN']}"}
url = os.environ.get("HURLICANE_URL", "http://127.0.0.1:7717")
with httpx2.Client(base_url=url, headers=headers, timeout=None) as http:
    snapshot = http.get("/api/snapshot").raise_for_status().json()
    for job in snapshot["jobs"]:
        print(job["status"], job["job_id"], job["title"], flush=True)
    query = {"after": snapshot["as_of"], "kind": "job.*"}
    with http.stream("GET", "/events", params=query) as feed:
        for event in (json.loads(line[5:]) for line in feed.iter_lines() if line[:5] == "data:"):
            print(event["kind"], event["job_id"], flush=True)
