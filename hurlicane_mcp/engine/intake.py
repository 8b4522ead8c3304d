"""Taking jobs in: inheritance, checks and idempotency. Refused means that nothing was written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.dag import refuse_ancestors
from hurlicane_mcp.domain.jobs import JobSpec, JobStatus, RetryPolicy, check_spec, title_of
from hurlicane_mcp.domain.stops import check_stop
from hurlicane_mcp.engine import budgets, settlement
from hurlicane_mcp.engine.access import Caller, check_visible
from hurlicane_mcp.engine.admission import (
    Created,
    Creations,
    Limits,
    Request,
    check_tree,
    fingerprint_of,
)
from hurlicane_mcp.engine.chains import Chains, Step, chain_of
from hurlicane_mcp.engine.classification import can_classify
from hurlicane_mcp.engine.worktrees import Worktrees, not_in_it
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.git import repository
from hurlicane_mcp.git.worktrees import Base, base_of
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.providers.base import Provider
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a job of an operator gets where nothing is named."""

    work_dir: Path
    project: str
    provider: str
    classify: bool = False  #: without a model a job waits until one is chosen by how hard it looks


class Intake:
    """Creates jobs for operators and agents."""

    def __init__(
        self, db: Database, clock: Clock, chains: Chains, defaults: Defaults, limits: Limits
    ) -> None:
        self._db = db
        self._clock = clock
        self._chains = chains
        self._defaults = defaults
        self._limits = limits
        self.creations = Creations(db)

    async def create(self, caller: Caller, spec: JobSpec) -> Created:
        """Store the job that *spec* asks for, or return the one that it asked for before.

        Raises:
            Invalid, NotFound, LimitReached, Conflict, StaleAttempt, JobFinished: why not.
        """
        check_spec(spec)
        spec = replace(spec, depends_on=tuple(dict.fromkeys(spec.depends_on)))
        if spec.work_dir is not None:
            spec = await anyio.to_thread.run_sync(_with_folder, spec, spec.work_dir, caller)
        base = await self._base(caller, spec) if spec.use_worktree else None
        job_id = new_id("job")
        create = partial(
            self._create,
            caller=caller,
            spec=spec,
            job_id=job_id,
            now=self._clock.now(),
            base=base,
        )
        return await self.creations.make(caller, job_id, create)

    async def _base(self, caller: Caller, spec: JobSpec) -> Base:
        """Where a worktree for *spec* begins; a child's by default where its parent works now."""
        folder = spec.work_dir or str(self._defaults.work_dir)
        if caller.is_agent and spec.work_dir is None:
            parent = await self._db.read(lambda session: jobs.get(session, caller.job_id))
            folder = parent.work_dir
        return await anyio.to_thread.run_sync(base_of, Path(folder), spec.base_branch)

    def _create(
        self,
        session: Session,
        answering: Sequence[str],
        *,
        caller: Caller,
        spec: JobSpec,
        job_id: str,
        now: datetime,
        base: Base | None,
    ) -> Created:
        request = Request(caller, spec.idempotency_key, _fingerprint(spec), answering)
        if caller.is_agent:
            attempts.fence(session, caller.attempt_id, now)
        earlier = request.earlier(session)
        if earlier is not None:
            return Created(earlier.id, earlier.title, earlier.status, fresh=False)
        parent = jobs.get(session, caller.job_id) if caller.is_agent else None
        values: dict[str, Any] = {
            "id": job_id,
            "created_at": now,
            **self._values(session, spec, parent),
        }
        values |= self._bounds(session, spec, parent, values)
        values["root_id"] = parent.root_id if parent else job_id
        values["fingerprint"] = request.fingerprint if caller.is_agent else None
        if spec.depends_on:
            self._check_dependencies(session, caller, spec)
        status = self._first_status(session, spec)
        values["status"] = status
        jobs.add(session, values, spec.depends_on, now)
        if base is not None:
            Worktrees.plan(session, base, job_id, values["title"], now)
        request.remember(session, job_id)
        if spec.depends_on:
            status = settlement.fail_if_hopeless(session, job_id, now)
        notes = filter(None, (self._note(values), not_in_it(base) if base else None))
        note = " ".join(notes) or None
        return Created(job_id, values["title"], status, fresh=True, note=note)

    def _note(self, values: Mapping[str, Any]) -> str | None:
        """What a job that enforces file locks cannot have of some of its CLIs."""
        if not values["enforce_locks"]:
            return None
        steps = (Step.stored(text) for text in values["chain"])
        names = dict.fromkeys(step.provider for step in steps)
        free = [name for name in names if not self._chains.providers.get(name).gates_edits]
        if not free:
            return None
        return (
            f"{', '.join(free)} cannot be made to ask before it edits: its agent is told to lock "
            "files, but an edit without a lock is not refused."
        )

    def _values(self, session: Session, spec: JobSpec, parent: JobRow | None) -> dict[str, Any]:
        """The columns of the new job: what was given, else the parent's, else the default."""
        provider = spec.provider or (parent.provider if parent else self._defaults.provider)
        adapter = self._chains.providers.get(provider)
        same_provider = parent is not None and parent.provider == provider
        model = spec.model or (parent.model if parent and same_provider else None)
        if model is not None:
            adapter.check_model(model)
        inherits = parent is not None and same_provider and spec.model is None
        if inherits and spec.fallback is None and parent is not None:
            chain = chain_of(parent)
        else:
            chain = self._chains.of_new(provider, model, spec.fallback)
        work_dir = spec.work_dir or (parent.work_dir if parent else str(self._defaults.work_dir))
        values: dict[str, Any] = {
            "title": title_of(spec),
            "description": spec.description,
            "context": dict(spec.context),
            "priority": spec.priority,
            "work_dir": work_dir,
            "provider": provider,
            "model": model,
            "chain": [str(step) for step in chain],
            "is_unclassified": model is None and self._is_to_be_classified(adapter),
            "completion": spec.completion,
            "interactive": spec.interactive,
            "retry_policy": spec.retry_policy,
            "max_retries": spec.max_retries if spec.retry_policy != RetryPolicy.NONE else 0,
            "checks": [check.stored() for check in spec.checks],  # its own, never its parent's
            "check_tries": spec.check_tries,
            "enforce_locks": spec.enforce_locks or (parent is not None and parent.enforce_locks),
        }
        if parent is None:
            project = spec.project or self._defaults.project
            return values | {"project": project, "depth": 0, "parent_id": None}
        check_tree(session, parent, self._limits)
        return values | {
            "parent_id": parent.id,
            "depth": parent.depth + 1,
            "project": spec.project or parent.project,
            "worktree_id": Worktrees.inherited(session, parent, work_dir),
        }

    def _is_to_be_classified(self, adapter: Provider) -> bool:
        """Whether a model is to be chosen for a job that names none."""
        return self._defaults.classify and can_classify(adapter)

    def _bounds(
        self,
        session: Session,
        spec: JobSpec,
        parent: JobRow | None,
        values: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The columns about what the job of *values* may use, and whose budget pays for it."""
        stop = check_stop(spec.stop_mode, spec.stop_value)
        payer_id = budgets.payer_of_new(session, parent, stop, values["id"])
        if payer_id is not None:
            chain = [Step.stored(text) for text in values["chain"]]
            budgets.check_prices(self._chains.providers, chain, interactive=spec.interactive)
        return {"stop_mode": stop.mode, "stop_value": stop.value, "payer_id": payer_id}

    def _check_dependencies(self, session: Session, caller: Caller, spec: JobSpec) -> None:
        if caller.is_agent:
            refuse_ancestors(spec.depends_on, jobs.ancestors(session, caller.job_id))
        check_visible(session, caller, *spec.depends_on)

    def _first_status(self, session: Session, spec: JobSpec) -> JobStatus:
        if not spec.depends_on:
            return JobStatus.QUEUED
        known = jobs.many(session, spec.depends_on)
        waits = any(
            job.status != JobStatus.DONE or attempts.has_open(session, job.id)
            for job in known.values()
        )
        return JobStatus.BLOCKED if waits else JobStatus.QUEUED


def _with_folder(spec: JobSpec, given: str, caller: Caller) -> JobSpec:
    """*spec* with its folder checked and, for an operator, the project that it implies."""
    path = work_folder(given)
    implied = None if caller.is_agent else project_of(path)
    return replace(spec, work_dir=str(path), project=spec.project or implied)


def work_folder(given: str) -> Path:
    """The folder that *given* names.

    Raises:
        Invalid: it is not absolute, or no folder.
    """
    try:
        path = Path(given).expanduser()
        exists = path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown ~user
        raise Invalid(f"`work_dir` {given[:200]!r} cannot be used: {error}.") from None
    if not path.is_absolute():
        raise Invalid(f"`work_dir` must be an absolute path, not {given!r}.")
    if not exists:
        raise Invalid(f"`work_dir` {given} is no folder on the server's machine. Create it first.")
    return path


def project_of(folder: Path) -> str:
    """The project that work in *folder* belongs to: its repository's top level, or itself."""
    return str(repository.top_level(folder) or folder)


def _fingerprint(spec: JobSpec) -> str:
    """The same for the same request, whatever its key."""
    return fingerprint_of(asdict(replace(spec, idempotency_key=None)))
