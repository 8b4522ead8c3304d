"""The outbox: events are written with the change that they tell of, and ring its bells."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_
from sqlmodel import Session, col, func, select

from hurlicane_mcp.store.tables import EventRow, insert_rows

#: After one of these a slot may be free or a job may be ready.
_WAKES_THE_QUEUE = frozenset(
    {
        *("job.created", "job.queued", "job.woken", "attempt.settled", "attempt.ended"),
        *("wait.opened", "watchdog.paused", "model.available", "model.limited"),
        "job.classified",
    }
)
_FINAL = frozenset({"job.done", "job.failed", "job.cancelled"})
_DECIDES_A_LOCK = frozenset({"lock.taken", "lock.refused"})
_ENDS_A_QUESTION = frozenset({"question.answered", "question.closed"})

CHECKS_FAILED = "job.checks_failed"
#: The topic that rings for every event.
ANY = "events"
QUEUE = "queue"
#: Rings when a workflow may have something to do: a job has become final, its process is gone.
WORKFLOWS = "workflows"


def final_topic(job_id: str) -> str:
    """Rings once: when the job has become final. A workflow's rings when it is blocked as well."""
    return f"final:{job_id}"


def settled_topic(attempt_id: str) -> str:
    """Rings once: when the attempt's outcome is decided."""
    return f"settled:{attempt_id}"


def session_topic(attempt_id: str) -> str:
    """Rings when the attempt's CLI has named its session."""
    return f"session:{attempt_id}"


def note_topic(project: str) -> str:
    """Rings when a note of the project is written."""
    return f"note:{project}"


def message_topic(job_id: str) -> str:
    """Rings when a message is sent to the job's agent."""
    return f"message:{job_id}"


def question_topic(question_id: str) -> str:
    """Rings once: when the question is answered or closed."""
    return f"question:{question_id}"


def lock_topic(job_id: str) -> str:
    """Rings when locks that the job waits for are granted or refused."""
    return f"lock:{job_id}"


def record(
    session: Session,
    at: datetime,
    kind: str,
    job_id: str | None = None,
    attempt: int | None = None,
    **data: Any,
) -> None:
    """Add an event to the caller's transaction; its bells ring after the commit."""
    values = {"at": at, "kind": kind, "job_id": job_id, "attempt": attempt, "data": data}
    insert_rows(session, EventRow, values)
    topics: set[str] = session.info.setdefault("topics", set[str]())
    topics.add(ANY)
    if kind in _WAKES_THE_QUEUE:
        topics.add(QUEUE)
    if job_id is not None and (kind in _FINAL or kind == "workflow.blocked"):
        topics.add(final_topic(job_id))
    if kind in _FINAL or kind == "attempt.ended" or kind.startswith("workflow."):
        topics.add(WORKFLOWS)
    if kind == "attempt.settled":
        topics.add(settled_topic(f"{job_id}.{attempt}"))
    if kind == "attempt.session":
        topics.add(session_topic(f"{job_id}.{attempt}"))
    if kind == "note.written":
        topics.add(note_topic(data["project"]))
    if kind == "message.sent":
        topics.add(message_topic(f"{job_id}"))
    if kind in _DECIDES_A_LOCK:
        topics.add(lock_topic(f"{job_id}"))
    if kind in _ENDS_A_QUESTION:
        topics.add(question_topic(data["question"]))


def ring(session: Session, topic: str) -> None:
    """Ring a bell after the commit, for a change that no event tells of."""
    topics: set[str] = session.info.setdefault("topics", set[str]())
    topics.add(topic)


def after(
    session: Session,
    seq: int,
    *,
    limit: int,
    job_ids: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> Sequence[EventRow]:
    """Up to *limit* events later than *seq*, oldest first. Empty filters let everything through.

    A kind that ends with `.` or `*` stands for all that begin so: `job.*`.
    """
    query = select(EventRow).where(col(EventRow.seq) > seq).order_by(col(EventRow.seq))
    if job_ids:
        query = query.where(col(EventRow.job_id).in_(job_ids))
    exact = [kind for kind in kinds if not kind.endswith(("*", "."))]
    prefixes = [kind.rstrip("*") for kind in kinds if kind.endswith(("*", "."))]
    if kinds:
        matches = [col(EventRow.kind).startswith(prefix, autoescape=True) for prefix in prefixes]
        matches.append(col(EventRow.kind).in_(exact))
        query = query.where(or_(*matches))
    return session.exec(query.limit(limit)).all()


def last_of_kind(session: Session, job_id: str, kind: str) -> EventRow | None:
    """The newest event of this kind about the job."""
    query = select(EventRow).where(col(EventRow.job_id) == job_id, col(EventRow.kind) == kind)
    return session.exec(query.order_by(col(EventRow.seq).desc()).limit(1)).one_or_none()


def last_seq(session: Session) -> int:
    """The number of the newest event; 0 before the first."""
    return session.exec(select(func.coalesce(func.max(col(EventRow.seq)), 0))).one()
