"""Rows as callers read them: jobs and attempts, with what their agents are doing now."""

from collections.abc import Sequence
from pathlib import Path

from sqlmodel import Session

from hurlicane_mcp.domain.jobs import JobKind
from hurlicane_mcp.engine.blocks import open_blocks
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.views import AttemptView, JobLine, QuestionView, TerminalView
from hurlicane_mcp.engine.warnings import open_warnings
from hurlicane_mcp.store import attempts, jobs, questions, waits
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.supervision.tmux_host import terminal_of


def job_lines(session: Session, presences: Presences, rows: Sequence[JobRow]) -> list[JobLine]:
    """A line for each job, with its open question and its agent's presence while it runs."""
    last = attempts.last_of(session, [job.id for job in rows])
    verdicts = presences.of(session, list(last.values()))
    asked = open_questions(session, [job.id for job in rows])
    warned = open_warnings(session, [job.id for job in rows])
    flows = [job.id for job in rows if job.kind == JobKind.WORKFLOW]
    blocked = open_blocks(session, flows) if flows else {}
    lines: list[JobLine] = []
    for job in rows:
        attempt = last.get(job.id)
        verdict = verdicts.get(attempt.id) if attempt else None
        lines.append(JobLine.of(job, attempt, verdict))
        lines[-1].question = asked.get(job.id)
        lines[-1].warnings = warned.get(job.id)
        lines[-1].blocked = blocked.get(job.id)
    return lines


def open_questions(session: Session, job_ids: Sequence[str]) -> dict[str, QuestionView]:
    """The oldest open question of each of *job_ids* that has one, by job."""
    rows = questions.open_of(session, job_ids)
    return {job_id: QuestionView.of(row) for job_id, row in rows.items()}


def attempt_views(
    session: Session, presences: Presences, rows: Sequence[AttemptRow]
) -> list[AttemptView]:
    """A view of each attempt, with its agent's presence and terminal while that may be alive."""
    open_waits = waits.open_waits(session)
    waiting = {wait.attempt_id for wait in open_waits if wait.kind != waits.CHECKS}
    verdicts = presences.of(session, rows)
    of_jobs = jobs.many(session, [row.job_id for row in rows])
    views: list[AttemptView] = []
    for row in rows:
        views.append(AttemptView.of(row, row.id in waiting, verdicts.get(row.id)))
        if of_jobs[row.job_id].interactive and row.started_at and not row.ended_at:
            views[-1].terminal = TerminalView.of(terminal_of(Path(row.run_dir)))
    return views
