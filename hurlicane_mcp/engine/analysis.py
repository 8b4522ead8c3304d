"""Asking a cheap model why an attempt failed, as a job like any other."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome
from hurlicane_mcp.domain.jobs import Completion, JobStatus
from hurlicane_mcp.engine.chains import Step, chain_of
from hurlicane_mcp.ids import attempt_id, new_id
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store.tables import JobRow

#: The model that reads failures. A provider that is not named here uses its own default.
CHEAP_MODELS: Mapping[str, str] = MappingProxyType({"claude": "haiku"})
MAX_QUOTED = 8000

_TASK = """\
An attempt at another job has failed, and it is about to be tried again. Find out why it failed.
Read only: change no file and run nothing that changes anything.

How it ended: {reason}

What the agent said last:
{last}

Its whole output is in {run_dir} (stdout, stderr).

The job was:
{task}

Answer in at most ten sentences: the cause, and what the next attempt should do differently.
"""


def begin_analysis(session: Session, job: JobRow, outcome: Outcome, now: datetime) -> str:
    """Create the job that reads how *job*'s last attempt failed; its id.

    It is a child of *job*, so it is cancelled with it and its cost is seen there.
    """
    attempt = attempts.get(session, attempt_id(job.id, job.attempt))
    task = _TASK.format(
        reason=outcome.failure.reason if outcome.failure else outcome.kind,
        last=_quoted(outcome.result or attempt.last_message or "Nothing."),
        run_dir=attempt.run_dir,
        task=_quoted(jobs.get(session, job.id).description),
    )
    cheap = CHEAP_MODELS.get(job.provider)
    values: dict[str, Any] = {
        "id": new_id("job"),
        "created_at": now,
        "status": JobStatus.QUEUED,
        "title": f"Why did attempt {job.attempt} of {job.id} fail?",
        "description": task,
        "context": {},
        "priority": job.priority,
        "work_dir": job.work_dir,
        "project": job.project,
        "provider": job.provider,
        "model": cheap,
        # If that one is limited, whatever the job itself may run on will do.
        "chain": [str(step) for step in dict.fromkeys((Step(job.provider, cheap), *chain_of(job)))],
        "completion": Completion.EXIT,
        "parent_id": job.id,
        "payer_id": job.payer_id,
        "root_id": job.root_id,
        "depth": job.depth + 1,
    }
    jobs.add(session, values, (), now)
    return values["id"]


def _quoted(text: str) -> str:
    """At most `MAX_QUOTED` characters, marked as somebody else's words."""
    shown = text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
    return "\n".join(f"> {line}" for line in shown.splitlines())
