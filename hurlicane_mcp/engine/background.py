"""What a new attempt has to know of the ones before it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.store import jobs, locks, messages, questions, waits
from hurlicane_mcp.store.tables import AttemptRow, JobRow, MessageRow, QuestionRow

#: Messages and questions of earlier attempts that a new session is told; the newest ones.
RETOLD = 20


@dataclass(frozen=True, slots=True)
class Background:
    """Read when the attempt is about to start, so that it is as new as can be."""

    children: Sequence[JobRow] = field(default_factory=tuple[JobRow, ...])  #: oldest first
    #: What the last attempt was waiting for when it was stopped; all final by now.
    awaited: Sequence[JobRow] = field(default_factory=tuple[JobRow, ...])
    handover: str = ""  #: what an agent has done whose session cannot go on
    diagnosis: str = ""  #: why the last attempt failed, as a model that read it thinks
    #: What was said to the agent, and what it asked: all of it for a new session, and for one that
    #: goes on what it may not know. Oldest first.
    messages: Sequence[MessageRow] = field(default_factory=tuple[MessageRow, ...])
    questions: Sequence[QuestionRow] = field(default_factory=tuple[QuestionRow, ...])
    locks: Sequence[str] = ()  #: paths that the job holds


def background_of(
    session: Session, job: JobRow, previous: AttemptRow | None, *, resumed: bool
) -> Background:
    """The background of the attempt of *job* after *previous*, whose session it goes on with or
    not."""
    said = messages.of_job(session, job.id, RETOLD)
    asked = questions.of_job(session, job.id)[-RETOLD:]
    if resumed:
        said = [one for one in said if one.acknowledged_at is None]
        since = previous.claimed_at if previous else job.created_at
        asked = [one for one in asked if one.told_at is None or one.told_at >= since]
    if previous is None:
        return Background(messages=said, questions=asked)
    children = [one for one in jobs.children(session, job.id) if one.id != job.analysis_id]
    broken_off = waits.broken_off(session, previous)
    awaited: Sequence[JobRow] = ()
    if broken_off is not None and broken_off.kind == "jobs":
        found = jobs.many(session, broken_off.targets)
        awaited = [found[one] for one in broken_off.targets if one in found]
    return Background(
        children,
        awaited,
        diagnosis=_diagnosis(session, job),
        messages=said,
        questions=asked,
        locks=[row.path for row in locks.held(session, job.id)],
    )


def _diagnosis(session: Session, job: JobRow) -> str:
    if job.analysis_id is None:
        return ""
    analysis = jobs.many(session, [job.analysis_id])[job.analysis_id]
    return analysis.result if analysis.status == JobStatus.DONE else ""
