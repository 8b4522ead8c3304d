"""What jobs have used: the book by day and model, and the sums that budgets are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, case, cast, exists, label, update
from sqlalchemy import select as sql_select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from hurlicane_mcp.domain.budgets import NOTHING, Account, Accounts
from hurlicane_mcp.domain.jobs import OPEN, JobKind
from hurlicane_mcp.domain.stops import StopMode
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.limit_tables import UsageRow
from hurlicane_mcp.store.tables import AttemptRow, JobRow, insert_rows
from hurlicane_mcp.store.workflow_tables import WorkflowRow


class Grouping(StrEnum):
    """What usage can be summed up by."""

    DAY = "day"
    MODEL = "model"
    JOB = "job"
    PROJECT = "project"
    TREE = "tree"  #: all that grew out of one job without a parent
    WORKFLOW = "workflow"  #: all that has this one as the nearest workflow above it


@dataclass(frozen=True, slots=True)
class Used:
    """What one group used of one model."""

    group: str  #: a day, a model, a job's or a workflow's id, or a project
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

    Less than 0 takes back: a CLI's final figure replaces an estimate. What *day* has too little of
    is taken from the days before it, on which the estimate was booked. Only what none of them has
    makes a row negative, so that the sums of a job stay exact.
    """
    more: dict[str, Any] = {
        "turns": turns,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read_tokens,
        "cache_write_tokens": cache_write_tokens,
        "cost_usd": cost_usd,
    }
    key = {"job_id": job_id, "provider": provider, "model": model}
    if any(figure < 0 for figure in more.values()):
        more = _take_back(session, day, key, more)
    _put(session, {"day": day} | key, more)


def _take_back(
    session: Session, day: str, key: Mapping[str, str], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Take what is negative in *more* from what was booked up to *day*, the newest first.

    What comes back is left to book: the rest of *more*.
    """
    columns = (col(UsageRow.day), *(getattr(UsageRow, name) for name in more))
    query = sql_select(*columns).where(*_of_key(key), col(UsageRow.day) <= day)
    rows = session.connection().execute(query.order_by(col(UsageRow.day).desc())).all()
    left = dict(more)
    for one_day, *figures in rows:
        had = dict(zip(more, figures, strict=True))
        taken = {name: max(less, -max(0, had[name])) for name, less in left.items() if less < 0}
        left = {name: figure - taken.get(name, 0) for name, figure in left.items()}
        _put(session, {"day": one_day, **key}, taken)
    return left


def _of_key(key: Mapping[str, str]) -> list[Any]:
    return [getattr(UsageRow, name) == value for name, value in key.items()]


def _put(session: Session, key: Mapping[str, str], more: Mapping[str, Any]) -> None:
    """Add *more* to the row with *key*, which need not be there yet."""
    if not any(more.values()):
        return
    statement = (
        update(UsageRow)
        .where(*_of_key(key))
        .values({name: getattr(UsageRow, name) + value for name, value in more.items()})
        .execution_options(synchronize_session=False)
    )
    # There is one writer, so nobody inserts the row in between.
    if session.exec(statement).rowcount == 0:
        insert_rows(session, UsageRow, {**key, **more})


def sums(
    session: Session, by: Grouping, *, since: str | None = None, under: str | None = None
) -> Sequence[Used]:
    """What was used by each group and model, from the day *since* on, in no order.

    *under* keeps that job and its descendants. By workflow, other jobs are not counted at all. What
    was booked and all taken back is left out.
    """
    nearest = _nearest_workflows()
    keys = (
        _column_of(by, nearest),
        col(UsageRow.provider),
        col(UsageRow.model),
        col(UsageRow.cost_usd) != NOTHING,
    )
    figures = (
        _total(UsageRow.turns),
        _total(UsageRow.input_tokens),
        _total(UsageRow.output_tokens),
        _total(UsageRow.cache_read_tokens),
        _total(UsageRow.cache_write_tokens),
        func.sum(UsageRow.cost_usd),
    )
    joined = col(JobRow.id) == UsageRow.job_id
    query = sql_select(*keys, *figures).join_from(UsageRow, JobRow, joined)
    if by is Grouping.WORKFLOW:
        query = query.join(nearest, nearest.c.id == UsageRow.job_id)
    if since is not None:
        query = query.where(col(UsageRow.day) >= since)
    if under is not None:
        query = query.where(col(UsageRow.job_id).in_(sql_select(_tree(under).c.id)))
    rows = session.connection().execute(query.group_by(*keys))
    return [Used(*row) for row in rows if any(row[len(keys) :])]


def costs(session: Session, job_ids: Sequence[str]) -> dict[str, Decimal]:
    """US dollars that each of *job_ids* and all below it have cost so far, by its id."""
    first = sql_select(col(JobRow.id), label("top", col(JobRow.id)))
    base = first.where(col(JobRow.id).in_(job_ids)).cte(recursive=True)
    below = sql_select(col(JobRow.id), base.c.top).where(col(JobRow.parent_id) == base.c.id)
    trees = base.union_all(below)
    joined = col(UsageRow.job_id) == trees.c.id
    query = sql_select(trees.c.top, func.sum(UsageRow.cost_usd)).join_from(trees, UsageRow, joined)
    found = session.connection().execute(query.group_by(trees.c.top))
    return {top: cost for top, cost in found}  # noqa: C416  (rows, which dict() has no type for)


def cost_of_day(session: Session, day: str, project: str | None = None) -> Decimal:
    """US dollars that all jobs, or those of *project*, have cost on *day* (ISO date, UTC).

    What one job has too little of does not make room for another one.
    """
    query = select(func.sum(UsageRow.cost_usd)).where(
        col(UsageRow.day) == day, col(UsageRow.cost_usd) > NOTHING
    )
    if project is not None:
        # From the rows of the day to their jobs: a project may have very many.
        query = query.join(JobRow, col(JobRow.id) == UsageRow.job_id)
        query = query.where(col(JobRow.project) == project)
    return session.exec(query).one() or NOTHING


def accounts_over(session: Session, payer_id: str) -> Sequence[JobRow]:
    """The account *payer_id* and all those above it, nearest first."""
    above = jobs.many(session, jobs.ancestors(session, payer_id))
    found = [job for job in above.values() if job.stop_mode == StopMode.BUDGET]
    return sorted(found, key=lambda job: -job.depth)


def spent_over(session: Session, payer_id: str) -> Sequence[tuple[JobRow, Decimal]]:
    """The same, each with the US dollars that it and everything below it have cost so far."""
    over = accounts_over(session, payer_id)
    accounts = accounts_around(session, payer_id)
    return [(account, accounts.spent(account.id)) for account in over]


def accounts_around(session: Session, account_id: str) -> Accounts:
    """All accounts of the tree that this account is in, with what was drawn from each."""
    # Every booking below a budget asks this. Whoever was created below an account draws from it or
    # from one below it, so the few accounts are read instead of the many jobs of the tree.
    account, parent, drawing = JobRow, aliased(JobRow), aliased(JobRow)
    root = select(JobRow.root_id).where(col(JobRow.id) == account_id).correlate(None)
    draws = col(drawing.payer_id) == account.id
    spent = sql_select(func.sum(drawing.cost_usd)).where(draws).scalar_subquery()
    is_open = exists().where(draws, col(drawing.status).in_(OPEN))
    query = (
        sql_select(col(account.id), col(account.stop_value), col(parent.payer_id), spent, is_open)
        .join(parent, col(parent.id) == account.parent_id, isouter=True)
        .where(col(account.root_id) == root.scalar_subquery(), col(account.payer_id) == account.id)
    )
    return Accounts(
        Account(name, budget or NOTHING, above, cost, has_open)
        for name, budget, above, cost, has_open in session.connection().execute(query)
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

    Codex tells its model late: until then it is the one that was asked for.
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


def _total(column: Any) -> Any:
    # PostgreSQL adds whole numbers of 64 bits up to a decimal one.
    return cast(func.sum(column), BigInteger)


def _column_of(by: Grouping, nearest: Any) -> Any:
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
        case Grouping.WORKFLOW:
            return nearest.c.workflow_id


def _nearest_workflows() -> Any:
    """All workflows and what is below them, with the nearest one of each, as a recursive query.

    Columns `id` and `workflow_id`.
    """
    own = sql_select(col(WorkflowRow.id), label("workflow_id", col(WorkflowRow.id)))
    base = own.cte(recursive=True)
    is_child = col(JobRow.parent_id) == base.c.id
    below = sql_select(col(JobRow.id), base.c.workflow_id)
    return base.union_all(below.where(is_child, col(JobRow.kind) != JobKind.WORKFLOW))


def _tree(job_id: str) -> Any:
    """The ids of the job and of everything below it, as a recursive query."""
    base = sql_select(col(JobRow.id)).where(col(JobRow.id) == job_id).cte(recursive=True)
    return base.union_all(sql_select(col(JobRow.id)).where(col(JobRow.parent_id) == base.c.id))
