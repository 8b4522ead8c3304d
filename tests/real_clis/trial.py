"""A server whose agents are the real CLIs and whose models refuse, or cost what a test says."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from hurlicane_mcp.providers.base import Tokens
from hurlicane_mcp.providers.catalog import Catalog
from tests.real_clis.anthropic_endpoint import anthropic_endpoint
from tests.real_clis.model_endpoint import ModelRequest, ScriptedModel
from tests.real_clis.model_script import HttpError, Script
from tests.real_clis.openai_endpoint import openai_endpoint
from tests.real_clis.sandbox import Sandbox, make_sandbox
from tests.stories.server import RunningServer, running_server

OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5-5"


@dataclass(frozen=True, slots=True)
class Trial:
    """The server and the models behind its agents."""

    server: RunningServer
    claude: ScriptedModel
    codex: ScriptedModel
    catalog: Catalog  #: the server's
    sandbox: Sandbox  #: where a person would start the CLIs

    def create(self, description: str, **values: Any) -> str:
        """The id of a new job of Claude Code, unless *values* say otherwise."""
        body = {"description": description, "provider": "claude", **values}
        with self.server.rest() as rest:
            return rest.post("/api/jobs", json=body).raise_for_status().json()["job_id"]

    def outcome(self, job_id: str) -> dict[str, Any]:
        """The job once it is final."""
        with self.server.rest() as rest:
            params: dict[str, Any] = {"job_id": job_id, "timeout_s": 60}
            answer = rest.get("/api/wait", params=params, timeout=httpx2.Timeout(70)).json()
        assert answer["pending"] == [], (answer, self.events(job_id))
        return answer["jobs"][0]

    def get(self, path: str, **params: Any) -> Any:
        """The answer of the REST interface to the operator."""
        with self.server.rest() as rest:
            return rest.get(path, params=params).raise_for_status().json()

    def job(self, job_id: str) -> dict[str, Any]:
        """All that is told of the job."""
        return self.get(f"/api/jobs/{job_id}")

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's attempts, first to last."""
        return self.get(f"/api/jobs/{job_id}/attempts")["attempts"]

    def events(self, job_id: str, kind: str = "*") -> list[dict[str, Any]]:
        """The job's events of this *kind*, oldest first."""
        found = self.get("/api/events", job=job_id, after=0)["events"]
        return [event for event in found if kind in ("*", event["kind"])]

    def has_ended(self, job_id: str) -> bool:
        """Whether the processes of all its attempts are gone, and their figures final."""
        return all("ended_at" in attempt for attempt in self.attempts(job_id))

    def clear(self, model: str) -> None:
        """Drop the limit of *model*, as an operator does."""
        with self.server.rest() as rest:
            rest.delete(f"/api/models/rate-limits/{model}").raise_for_status()

    def price_of(self, requests: Sequence[ModelRequest]) -> Decimal:
        """What *requests* cost by the figures that the endpoints gave; refused ones are free."""
        return sum((self._price_of(request) for request in requests), Decimal(0))

    def _price_of(self, request: ModelRequest) -> Decimal:
        if isinstance(request.move, HttpError):
            return Decimal(0)
        spent, model = request.move.spent, request.conversation.model
        if request in self.claude.requests:
            tokens = Tokens(spent.input, spent.output, spent.cache_read, spent.cache_write)
            cost = self.catalog.cost("claude", model, tokens)
        else:
            tokens = Tokens(spent.input + spent.cache_write, spent.output, spent.cache_read)
            cost = self.catalog.cost("codex", model, tokens)
        assert cost is not None, f"{model} has no price"
        return cost


@contextmanager
def trial(
    root: Path,
    claude: Script,
    codex: Script | None = None,
    *,
    plan: bool = False,
    models: Sequence[Mapping[str, object]] = (),
    **settings: str,
) -> Generator[Trial]:
    """Everything that the agents of these scripts need, on loopback and below *root*.

    With a *plan*, Claude Code takes itself for a subscriber's: only then does it read what the API
    says about such limits. *models* are laid over the catalog.
    """
    with anthropic_endpoint(claude) as anthropic, openai_endpoint(codex or claude) as openai:
        sandbox = make_sandbox(root / "sandbox", anthropic.url, openai.url)
        environment = dict(sandbox.environment)
        if plan:
            del environment["ANTHROPIC_API_KEY"]
            environment["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-dummy"
        catalog = Catalog.load()
        if models:
            file = root / "models.json"
            file.write_text(json.dumps({"models": list(models)}), encoding="utf-8")
            settings |= {"models_file": str(file)}
            catalog = Catalog.load(file)
        server = running_server(root / "data", sandbox.work_dir, settings, environment)
        try:
            yield Trial(server, anthropic, openai, catalog, sandbox)
        finally:
            server.stop()
