"""Worktrees and diffs in the store, on each kind of database."""

from datetime import timedelta

import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.store import attempts, diffs, jobs, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.store.workflow_tables import WorktreeRow
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, add_worktree_and_diff, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
LATER = BEGINNING + HOUR


def in_worktree(session: Session) -> tuple[JobRow, AttemptRow, WorktreeRow]:
    """A job at work in a worktree of its own."""
    job, attempt = running(session)
    add_worktree_and_diff(session, job)
    job = jobs.get(session, job.id)
    return job, attempt, worktrees.get(session, str(job.worktree_id))


def end(session: Session, attempt: AttemptRow) -> None:
    settlement.settle(session, attempt.id, Outcome(OutcomeKind.DONE, "Done."), BEGINNING)


async def test_it_is_over_when_the_last_process_in_it_is_gone(store: Database) -> None:
    def change(session: Session) -> list[bool]:
        _, attempt, row = in_worktree(session)
        seen = [worktrees.is_over(session, row, LATER)]
        end(session, attempt)
        seen.append(worktrees.is_over(session, row, LATER))
        settlement.mark_ended(session, attempt.id, Exit(0), BEGINNING)
        seen.append(worktrees.is_over(session, row, BEGINNING - HOUR))
        seen.append(worktrees.is_over(session, row, BEGINNING))
        assert worktrees.ended(session, BEGINNING - HOUR) == []
        assert [one.id for one in worktrees.ended(session, BEGINNING)] == [row.id]
        return seen

    assert await store.write(change) == [False, False, False, True]


@pytest.mark.parametrize("inside", ["", "/deep/er"])
async def test_jobs_that_work_below_it_keep_it_and_others_do_not(
    store: Database, inside: str
) -> None:
    def change(session: Session) -> tuple[bool, bool]:
        _, attempt, row = in_worktree(session)
        end(session, attempt)
        settlement.mark_ended(session, attempt.id, Exit(0), BEGINNING)
        add_job(session, work_dir=f"{row.path}-another")
        first = worktrees.is_over(session, row, BEGINNING)
        add_job(session, work_dir=f"{row.path}{inside}")
        return first, worktrees.is_over(session, row, BEGINNING)

    assert await store.write(change) == (True, False)


async def test_a_diff_is_kept_once_and_found_by_its_number(store: Database) -> None:
    def change(session: Session) -> None:
        job, attempt, _ = in_worktree(session)
        known = diffs.of_job(session, job.id)
        assert known is not None
        assert not diffs.add(session, known)
        assert diffs.of_job(session, job.id, 1) == known
        assert diffs.of_job(session, job.id, 2) is None
        other, running_now = running(session)
        attempts.write(session, running_now.id, base_sha="1" * 40)
        assert diffs.missing(session, BEGINNING) == []
        settlement.mark_ended(session, running_now.id, Exit(0), BEGINNING)
        settlement.mark_ended(session, attempt.id, Exit(0), BEGINNING)
        assert [one.job_id for one in diffs.missing(session, BEGINNING)] == [other.id]
        assert diffs.missing(session, LATER) == []

    await store.write(change)


async def test_those_that_are_gone_are_listed_only_if_asked_for(store: Database) -> None:
    def change(session: Session) -> None:
        _, _, first = in_worktree(session)
        _, _, second = in_worktree(session)
        worktrees.write(session, first.id, removed_at=BEGINNING)
        assert [one.id for one in worktrees.listing(session, removed=False, limit=9)] == [second.id]
        both = worktrees.listing(session, removed=True, limit=9)
        assert [one.id for one in both] == [second.id, first.id]

    await store.write(change)
