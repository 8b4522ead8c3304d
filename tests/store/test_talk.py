"""Messages and questions in the store, on each kind of database."""

from datetime import timedelta

import pytest
from sqlmodel import Session

from hurlicane_mcp.store import jobs, messages, questions
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.questions import ClosedBy
from tests.factories import add_job, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

LATER = BEGINNING + timedelta(hours=1)


async def test_a_message_goes_from_sent_over_delivered_to_acknowledged(store: Database) -> None:
    def change(session: Session) -> list[object]:
        job, attempt = running(session)
        first = messages.add(session, job.id, "operator", "one", BEGINNING)
        messages.add(session, job.id, "operator", "two", BEGINNING)
        seen: list[object] = [[row.text for row in messages.to_tell(session, attempt.id)]]
        messages.deliver(session, attempt.id, [first.seq], BEGINNING)
        seen.append([row.text for row in messages.to_tell(session, attempt.id)])
        seen.append(messages.acknowledge(session, attempt.id, LATER))
        seen.append(list(messages.jobs_with_open(session)) == [job.id])
        seen.append([row.acknowledged_at for row in messages.of_job(session, job.id, 10)])
        return seen

    assert await store.write(change) == [["one", "two"], ["two"], 1, True, [LATER, None]]


async def test_messages_of_jobs_that_have_ended_are_on_no_way_any_more(store: Database) -> None:
    def change(session: Session) -> tuple[object, int]:
        job, attempt = running(session)
        messages.add(session, job.id, "operator", "one", BEGINNING)
        jobs.set_values(session, job.id, status="done")
        left = messages.acknowledge(session, attempt.id, BEGINNING)
        return list(messages.jobs_with_open(session)), left

    assert await store.write(change) == ([], 0)


async def test_a_question_is_open_until_it_is_closed_once(store: Database) -> None:
    def change(session: Session) -> list[object]:
        job = add_job(session)
        first, second = [
            questions.ask(session, job.id, text, ["a"], LATER, BEGINNING) for text in "xy"
        ]
        seen: list[object] = [questions.open_of(session, [job.id])[job.id].id == first.id]
        seen.append([row.id for row in questions.overdue(session, BEGINNING)])
        seen.append([row.id for row in questions.overdue(session, LATER)] == [first.id, second.id])
        seen.append(questions.close(session, first, ClosedBy.ANSWERED, LATER, "a", "operator"))
        seen.append(questions.close(session, first, ClosedBy.DEADLINE, LATER))
        seen.append([row.id for row in questions.listing(session)] == [second.id])
        questions.mark_told(session, first.id, LATER)
        questions.mark_told(session, second.id, LATER)  # nothing to tell yet
        seen.append([row.id for row in questions.untold(session, job.id)] == [second.id])
        questions.close_of_job(session, job.id, LATER)
        seen.append([row.closed_by for row in questions.of_job(session, job.id)])
        return seen

    assert await store.write(change) == [
        True,
        [],
        True,
        True,
        False,
        True,
        True,
        ["answered", "settled"],
    ]
