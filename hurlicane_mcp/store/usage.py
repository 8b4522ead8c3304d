"""What jobs have used: the book by day and model, and the sums that budgets are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import case, update
from sqlalchemy import select as sql_select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from hurlicane_mcp.domain.budgets import NOTHING, Account, Accounts
from hurlicane_mcp.domain.jobs import OPEN
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.limit_tables import UsageRow
from hurlicane_mcp.store.tables import AttemptRow, JobRow, insert_rows


class Grouping(StrEnum):
    """What usage can be summed up by."""

    DAY = "day"
    MODEL = "model"
    JOB = "job"
    PROJECT = "project"
    TREE = "tree"  #: all that grew out of one job without a parent


@dataclass(frozen=True, slots=True)
class Used:
    """What one group used of one model."""

    group: str  #: a day, a model, a job's id or a project
    provider: str
    model: str
    has_cost: bool  #: False: no cost is booked for these tokens
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: Decimal


def add(
    session: Session,
    day: str,
    job_id: str,
    provider: str,
    model: str,
    *,
    turns: int = 0,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    cost_usd: Decimal = NOTHING,
) -> None:
    """Add to what the job has used of *model* (its resolved id) on *day* (ISO date, UTC).

    Less than 0 takes back: a CLI's final figure replaces an estimate. That may have been booked on
    the day before, so a row alone can be negative; the sums of a job never are.
    """
    more: dict[str, Any] = {
        "turns": turns,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read_tokens,
        "cache_write_tokens": cache_write_tokens,
        "cost_usd": cost_usd,
    }
    if not any(more.values()):
        return
    key = {"day": day, "job_id": job_id, "provider": provider, "model": model}
    statement = (
        update(UsageRow)
        .where(*(getattr(UsageRow, name) == value for name, value in key.items()))
        .values({name: getattr(UsageRow, name) + value for name, value in more.items()})
        .execution_options(synchronize_session=False)
    )
    # There is one writer, so nobody inserts the row in between.
    if session.exec(statement).rowcount == 0:
        insert_rows(session, UsageRow, key | more)


def sums(
    session: Session, by: Grouping, *, since: str | None = None, under: str | None = None
) -> Sequence[Used]:
    """What was used by each group and model, from the day *since* on, in no order.

    *under* keeps that job and its descendants.
    """
    keys = (
        _column_of(by),
        col(UsageRow.provider),
        col(UsageRow.model),
        col(UsageRow.cost_usd) != NOTHING,
    )
    figures = (
        func.sum(UsageRow.turns),
        func.sum(UsageRow.input_tokens),
        func.sum(UsageRow.output_tokens),
        func.sum(UsageRow.cache_read_tokens),
        func.sum(UsageRow.cache_write_tokens),
        func.sum(UsageRow.cost_usd),
    )
    joined = col(JobRow.id) == UsageRow.job_id
    query = sql_select(*keys, *figures).join_from(UsageRow, JobRow, joined)
    if since is not None:
        query = query.where(col(UsageRow.day) >= since)
    if under is not None:
        query = query.where(col(UsageRow.job_id).in_(sql_select(_tree(under).c.id)))
    return [Used(*row) for row in session.connection().execute(query.group_by(*keys))]


def cost_of_day(session: Session, day: str, project: str | None = None) -> Decimal:
    """US dollars that all jobs, or those of *project*, have cost on *day* (ISO date, UTC)."""
    query = select(func.sum(UsageRow.cost_usd)).where(col(UsageRow.day) == day)
    if project is not None:
        in_project = select(JobRow.id).where(col(JobRow.project) == project)
        query = query.where(col(UsageRow.job_id).in_(in_project))
    return session.exec(query).one() or NOTHING


def cost_of_tree(session: Session, job_id: str) -> Decimal:
    """US dollars that the job and all its descendants have cost so far."""
    # Every booking below a budget asks this, so the costs are picked up on the way.
    return session.exec(select(func.sum(_tree(job_id).c.cost_usd))).one() or NOTHING


def accounts_over(session: Session, payer_id: str) -> Sequence[JobRow]:
    """The account *payer_id* and all those above it, nearest first."""
    above = jobs.many(session, jobs.ancestors(session, payer_id))
    found = [job for job in above.values() if job.stop_mode == StopMode.BUDGET]
    return sorted(found, key=lambda job: -job.depth)


def accounts_within(session: Session, account_id: str) -> Accounts:
    """The account and all those below it, with what was drawn from each."""
    tree = select(_tree(account_id).c.id)
    is_live = case((col(JobRow.status).in_(OPEN), 1), else_=0)
    drawn = (
        select(JobRow.payer_id, func.sum(JobRow.cost_usd), func.max(is_live))
        .where(col(JobRow.id).in_(tree))
        .group_by(col(JobRow.payer_id))
    )
    parent = aliased(JobRow)
    budgets = (
        select(col(JobRow.id), col(JobRow.stop_value), col(parent.payer_id))
        .join(parent, col(parent.id) == JobRow.parent_id, isouter=True)
        .where(col(JobRow.id).in_(tree), col(JobRow.payer_id) == JobRow.id)
    )
    by_payer = {payer: (spent, bool(live)) for payer, spent, live in session.exec(drawn)}
    return Accounts(
        Account(name, budget or NOTHING, above, *by_payer[name])
        for name, budget, above in session.exec(budgets)
    )


def open_in_tree(session: Session, job_id: str) -> Sequence[str]:
    """The job and its descendants, as far as they are not final: the deepest first."""
    query = (
        select(JobRow.id)
        .where(col(JobRow.id).in_(select(_tree(job_id).c.id)), col(JobRow.status).in_(OPEN))
        .order_by(col(JobRow.depth).desc(), col(JobRow.seq))
    )
    return session.exec(query).all()


def models_used(session: Session, job_id: str) -> Sequence[str]:
    """The models that have answered the job, the first one first, each as `provider:model`.

    Codex does not tell its model: then it is the one that was asked for.
    """
    has_answered = (col(AttemptRow.turns) > 0) | col(AttemptRow.called_at).is_not(None)
    asked = case((has_answered, col(AttemptRow.model)), else_=None)
    model = func.coalesce(col(AttemptRow.model_used), asked)
    query = (
        select(AttemptRow.provider, model)
        .where(col(AttemptRow.job_id) == job_id, model.is_not(None))
        .order_by(col(AttemptRow.number))
    )
    return list(dict.fromkeys(f"{provider}:{model}" for provider, model in session.exec(query)))


def _column_of(by: Grouping) -> Any:
    match by:
        case Grouping.DAY:
            return col(UsageRow.day)
        case Grouping.MODEL:
            return col(UsageRow.model)
        case Grouping.JOB:
            return col(UsageRow.job_id)
        case Grouping.PROJECT:
            return col(JobRow.project)
        case Grouping.TREE:
            return col(JobRow.root_id)


def _tree(job_id: str) -> Any:
    """The job and everything below it, as a recursive query with columns `id` and `cost_usd`."""
    columns = (col(JobRow.id), col(JobRow.cost_usd))
    base = sql_select(*columns).where(col(JobRow.id) == job_id).cte(recursive=True)
    return base.union_all(sql_select(*columns).where(col(JobRow.parent_id) == base.c.id))
