"""Workflows of the real CLIs: one implements, the other one reviews; only their models are scripted."""

from pathlib import Path
from typing import Any

import pytest

from tests.gh import StubGh
from tests.git.checkouts import git
from tests.real_clis.model_script import Limit
from tests.real_clis.trial import Trial, trial
from tests.real_clis.workflow_script import TASK, TWO_CYCLES, by_phase
from tests.stories.server import until
from tests.stories.workflow_task import repository, subjects

pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(180)]

FINAL = ("complete", "incomplete", "cancelled", "blocked")


async def test_claude_implements_codex_reviews(tmp_path: Path) -> None:
    gh = StubGh(tmp_path / "gh")
    places = repository(tmp_path, "https://github.com/acme/thing.git")
    settings = {"gh_bin": gh.program, "provider": "claude"}
    with trial(tmp_path, by_phase(TWO_CYCLES), **settings) as on:
        body = {
            "task": TASK, "title": "Two files", "work_dir": str(places.folder), "verify": True,
            "publish": "pull_request",
        }
        with on.server.rest() as rest:
            answer = rest.post("/api/workflows", json=body)
            assert answer.status_code == 201, answer.text
            workflow_id = answer.json()["workflow_id"]
        await until(lambda: on.get(f"/api/workflows/{workflow_id}")["state"] in FINAL, 120)
        view = on.get(f"/api/workflows/{workflow_id}")
        import json
        print(json.dumps(view, indent=1))
        for r in on.codex.requests + on.claude.requests:
            last = r.conversation.turns[-1]
            print("==", r.conversation.model, r.conversation.calls, str(last)[:1500])
        print(gh.pulls)
        assert 0
