"""Makers of rows with sensible defaults: name only what the test is about."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.ledger import Ledger
from hurlicane_mcp.engine.models import Models
from hurlicane_mcp.engine.stops import Stops
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.git.worktrees import Base
from hurlicane_mcp.ids import attempt_id, new_id, token_hash
from hurlicane_mcp.parts import models_of, providers_of
from hurlicane_mcp.providers.base import Provider
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import attempts, diffs, jobs, queue, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.store.workflow_tables import AttemptDiffRow, WorktreeRow
from tests.fakes import BEGINNING
from tests.git.places import Place


def add_job(
    session: Session,
    *,
    parent: JobRow | None = None,
    depends_on: tuple[str, ...] = (),
    now: datetime = BEGINNING,
    **values: Any,
) -> JobRow:
    """A stored job, QUEUED unless it depends on others."""
    job_id = values.pop("id", None) or new_id("job")
    row: dict[str, Any] = {
        "id": job_id,
        "status": "blocked" if depends_on else "queued",
        "root_id": parent.root_id if parent else job_id,
        "parent_id": parent.id if parent else None,
        "depth": parent.depth + 1 if parent else 0,
        "project": "/project",
        "work_dir": "/project",
        "provider": "scripted",
        "completion": "finish_job",
        "title": "A job",
        "description": "Do something.",
        "created_at": now,
    }
    jobs.add(session, row | values, depends_on, now)
    return jobs.get(session, job_id)


def add_branch_job(
    session: Session, place: Place, branch: str, base_branch: str | None = "main"
) -> str:
    """A job whose work is on *branch* of a repository; its worktree itself is gone already."""
    job = add_job(session)
    row = WorktreeRow(
        id=f"wt_{job.id}",
        owner_id=job.id,
        repo=str(place.folder),
        path=str(place.beside / job.id),
        branch=branch,
        base_branch=base_branch,
        base_sha=place.sha("main"),
        created_at=BEGINNING,
    )
    worktrees.add(session, row)
    jobs.set_values(session, job.id, worktree_id=row.id)
    return job.id


def booking(*others: Provider) -> Booking:
    """What writes readings down, with scripted agents, no chains, no caps, and no luck."""
    known: dict[str, Provider] = {name: ScriptedProvider() for name in ("scripted", "other")}
    providers = Providers(known | {one.name: one for one in others})
    ledger = Ledger(Chains(providers), luck=lambda: 0.0)
    return Booking(providers, ledger, Stops())


def models(db: Database, clock: Clock) -> Models:
    """The models of all providers, with the chain that is the default."""
    settings = Settings.model_validate({})
    chains = Chains.load(settings.chains, providers_of(settings))
    return models_of(settings, db, clock, chains)


def claim_due(session: Session, now: datetime, limit: int) -> Sequence[JobRow]:
    """Claim up to *limit* jobs that are due, whatever model they want."""
    return queue.claim(session, [job.id for job in queue.due(session, now, limit)], now)


def claim(session: Session, job_id: str, now: datetime = BEGINNING) -> AttemptRow:
    """The new attempt of a queued job, as the dispatcher makes it; other due jobs stay queued."""
    claimed = {job.id: job for job in claim_due(session, now, 1)}
    job = claimed[job_id]
    name = attempt_id(job.id, job.attempt)
    values = {
        "id": name,
        "job_id": job.id,
        "number": job.attempt,
        "token_hash": token_hash(f"token of {name}"),
        "provider": job.provider,
        "run_dir": f"/runs/{name}",
        "claimed_at": now,
    }
    attempts.add(session, values)
    return attempts.get(session, name)


def running(session: Session, **values: Any) -> tuple[JobRow, AttemptRow]:
    """A job whose first attempt has just been claimed."""
    job = add_job(session, priority=10, **values)
    attempt = claim(session, job.id)
    return jobs.get(session, job.id), attempt


def add_worktree_and_diff(session: Session, job: JobRow) -> None:
    """The worktree of *job*, and what its current attempt changed there."""
    base = Base(Path("/repo"), PurePath(), "main", "1" * 40, ("draft",))
    row = Worktrees.plan(session, base, job.id, job.title, BEGINNING)
    worktrees.write(session, row.id, salvaged=["refs/hurlicane/salvage/x/1"], trouble="Locked.")
    diff = AttemptDiffRow(
        attempt_id=attempt_id(job.id, job.attempt), base_sha="1" * 40, head_sha="2" * 40,
        files=1, insertions=1, commits=1, at=BEGINNING, stat="a | +1 -0", patch="+1",
    )  # fmt: skip
    diffs.add(session, diff)
