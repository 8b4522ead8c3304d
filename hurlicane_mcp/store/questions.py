"""Questions that agents ask the people: open until answered, overdue, or their job is final."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import QuestionRow, insert_rows


class ClosedBy(StrEnum):
    """What ended a question."""

    ANSWERED = "answered"
    DEADLINE = "deadline"
    SETTLED = "settled"  #: its job is final


def ask(
    session: Session,
    job_id: str,
    text: str,
    choices: Sequence[str],
    deadline: datetime,
    now: datetime,
) -> QuestionRow:
    """Store a new question."""
    question_id = new_id("q")
    values = {
        "id": question_id,
        "job_id": job_id,
        "text": text,
        "choices": list(choices),
        "asked_at": now,
        "deadline": deadline,
    }
    insert_rows(session, QuestionRow, values)
    events.record(
        session,
        now,
        "question.asked",
        job_id,
        question=question_id,
        text=text,
        choices=list(choices),
        deadline=deadline.isoformat(),
    )
    return get(session, question_id)


def get(session: Session, question_id: str) -> QuestionRow:
    """The question.

    Raises:
        NotFound: there is none with this id.
    """
    query = _rows().where(col(QuestionRow.id) == question_id)
    question = session.exec(query).one_or_none()
    if question is None:
        raise NotFound("question", question_id, hint="`hurlicane questions` lists the open ones.")
    return question


def untold(session: Session, job_id: str) -> Sequence[QuestionRow]:
    """The job's questions whose end its agents were not told yet, open ones included."""
    query = _rows().where(col(QuestionRow.job_id) == job_id, col(QuestionRow.told_at).is_(None))
    return session.exec(query.order_by(col(QuestionRow.seq))).all()


def of_job(session: Session, job_id: str) -> Sequence[QuestionRow]:
    """All questions of the job, oldest first."""
    query = _rows().where(col(QuestionRow.job_id) == job_id)
    return session.exec(query.order_by(col(QuestionRow.seq))).all()


def listing(session: Session) -> Sequence[QuestionRow]:
    """All open questions, oldest first."""
    query = _rows().where(col(QuestionRow.closed_at).is_(None))
    return session.exec(query.order_by(col(QuestionRow.seq))).all()


def open_of(session: Session, job_ids: Sequence[str]) -> dict[str, QuestionRow]:
    """The oldest open question of each of *job_ids* that has one, by job id."""
    query = _rows().where(
        col(QuestionRow.closed_at).is_(None), col(QuestionRow.job_id).in_(job_ids)
    )
    newest_first = session.exec(query.order_by(col(QuestionRow.seq).desc())).all()
    return {question.job_id: question for question in newest_first}


def overdue(session: Session, now: datetime) -> Sequence[QuestionRow]:
    """The open questions whose time is up."""
    query = _rows().where(col(QuestionRow.closed_at).is_(None), col(QuestionRow.deadline) <= now)
    return session.exec(query.order_by(col(QuestionRow.seq))).all()


def close(
    session: Session,
    question: QuestionRow,
    by: ClosedBy,
    now: datetime,
    answer: str | None = None,
    author: str | None = None,
) -> bool:
    """End a question, with *answer* if it got one; False, and nothing written, if it had ended."""
    statement = (
        update(QuestionRow)
        .where(col(QuestionRow.id) == question.id, col(QuestionRow.closed_at).is_(None))
        .values(closed_at=now, closed_by=by, answer=answer)
        .execution_options(synchronize_session=False)
    )
    if session.exec(statement).rowcount == 0:
        return False
    kind, told = "question.closed", {"by": str(by)}
    if by is ClosedBy.ANSWERED:
        kind, told = "question.answered", {"by": author or "", "answer": answer or ""}
    data: dict[str, Any] = {"question": question.id, **told}
    events.record(session, now, kind, question.job_id, **data)
    return True


def close_of_job(session: Session, job_id: str, now: datetime) -> None:
    """End the open questions of a job that has become final."""
    for question in untold(session, job_id):
        close(session, question, ClosedBy.SETTLED, now)


def mark_told(session: Session, question_id: str, now: datetime) -> None:
    """The agent was told how it ended: the same question again is another one."""
    session.exec(
        update(QuestionRow)
        .where(col(QuestionRow.id) == question_id, col(QuestionRow.closed_at).is_not(None))
        .values(told_at=now)
        .execution_options(synchronize_session=False)
    )


def _rows() -> SelectOfScalar[QuestionRow]:
    """All of them, as they are: what changed earlier in the transaction is not read from memory."""
    return select(QuestionRow).execution_options(populate_existing=True)
