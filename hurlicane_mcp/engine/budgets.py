"""Budgets and caps at work: who pays for a job, what is left, and who has to stop.

Everything works in the caller's transaction. The one writer makes reservations atomic: what is
read here cannot change before the job that it was read for is stored.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlmodel import Session

from hurlicane_mcp.domain.budgets import NOTHING, Cap, Room, dollars, next_midnight
from hurlicane_mcp.domain.stops import Stop, Verdict
from hurlicane_mcp.engine.chains import Step
from hurlicane_mcp.errors import Invalid, LimitReached
from hurlicane_mcp.providers.base import Tokens
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store import events, usage
from hurlicane_mcp.store.tables import JobRow, MetaRow

DAILY = "daily_budget"  #: the setting, which is also what a job is parked for
PROJECT = "project_budget"


@dataclass(frozen=True, slots=True)
class Caps:
    """US dollars that jobs may cost on one day (UTC); None for no cap."""

    daily: Decimal | None = None  #: all jobs together
    project: Decimal | None = None  #: the jobs of each project


def payer_of_new(session: Session, parent: JobRow | None, stop: Stop, job_id: str) -> str | None:
    """Whose budget the new job *job_id* draws from: its own, else the nearest one above, else none.

    Its own is reserved from the nearest one above.

    Raises:
        LimitReached: more is asked for than is free there, or nothing is left; with the figures.
    """
    above = parent.payer_id if parent is not None else None
    if above is not None:
        accounts = usage.accounts_around(session, above)
        for account in usage.accounts_over(session, above):
            found = accounts.room(account.id)
            if found.is_exhausted:
                raise _refused(account.id, found, stop.budget_usd)
        found = accounts.room(above)
        if not found.has_room_for(stop.budget_usd):
            raise _refused(above, found, stop.budget_usd)
    return above if stop.budget_usd is None else job_id


def check_prices(providers: Providers, chain: Sequence[Step], *, interactive: bool) -> None:
    """Refuse what nobody can tell the costs of, for a job that draws from a budget.

    Raises:
        Invalid: it is to run on a terminal, or one of *chain* has no price in the catalog and its
            CLI tells no costs either.
    """
    if interactive:
        raise Invalid(
            "A budget would not hold: a CLI on a terminal does not tell what it costs. Leave "
            "`interactive` out, or bound the job with stop_mode time."
        )
    for step in chain:
        provider = providers.get(step.provider)
        if provider.tells_cost or provider.cost(step.model or "", Tokens(output=1)) is not None:
            continue
        model = f"the model {step.model!r}" if step.model else "the default model"
        raise Invalid(
            f"A budget would not hold: nobody can tell what {model} of {step.provider} costs. Give "
            "its prices in the catalog of the setting `models_file`, or name other models with "
            "`model` and `fallback`."
        )


def room(session: Session, account_id: str) -> Room:
    """What has become of the budget of this job, which must have one."""
    return usage.accounts_around(session, account_id).room(account_id)


def exhausted(session: Session, job: JobRow) -> JobRow | None:
    """The nearest account that *job* draws from and whose whole budget is spent, if there is one.

    What counts is what was really spent below it; reservations stop nobody.
    """
    return next((account for account, rest in rests(session, job) if rest <= 0), None)


def rests(session: Session, job: JobRow) -> Sequence[tuple[JobRow, Decimal]]:
    """The accounts that *job* draws from, the nearest first, each with the US dollars that are not
    really spent of it; 0 or less when all is."""
    found = usage.spent_over(session, job.payer_id) if job.payer_id is not None else ()
    return [(account, (account.stop_value or NOTHING) - spent) for account, spent in found]


def remaining_for_launch(session: Session, job: JobRow) -> Decimal | None:
    """US dollars that the next process of *job* may cost at most; None if nothing bounds it.

    It is the least that is not really spent of all accounts that it draws from. With 0 or less
    nothing may be started: `exhausted` names the account then.
    """
    return min((rest for _, rest in rests(session, job)), default=None)


def drawing(session: Session, account_id: str) -> Sequence[str]:
    """The jobs that are not final and whose costs count for this account, the deepest first.

    They draw from it or from an account below it.
    """
    return usage.open_in_tree(session, account_id)


def cap_reached(session: Session, caps: Caps, project: str, now: datetime) -> Cap | None:
    """The cap that keeps jobs of *project* from being started or going on now, if there is one."""
    return reached(caps_now(session, caps, project, now))


def reached(found: Iterable[Cap]) -> Cap | None:
    """The first of these caps that is spent, if there is one."""
    return next((cap for cap in found if cap.verdict is Verdict.STOP), None)


def caps_now(session: Session, caps: Caps, project: str, now: datetime) -> Iterator[Cap]:
    """The caps for jobs of *project*, with what was spent on the day of *now* (UTC)."""
    day, resets_at = now.date().isoformat(), next_midnight(now)
    for name, limit, whose in ((DAILY, caps.daily, None), (PROJECT, caps.project, project)):
        if limit is not None:
            yield Cap(name, limit, usage.cost_of_day(session, day, whose), resets_at, whose)


def warn_of_caps(session: Session, found: Iterable[Cap], now: datetime) -> None:
    """Tell once a day of each of these caps of which 80 % are spent, but not all."""
    for cap in found:
        if cap.verdict is not Verdict.WARN:
            continue
        day, key = now.date().isoformat(), f"warned of {cap.name} {cap.project or ''}"
        told = session.get(MetaRow, key)
        if told is not None and told.value == day:
            continue
        session.merge(MetaRow(key=key, value=day))
        events.record(
            session,
            now,
            "cap.nearly_reached",
            cap=cap.name,
            project=cap.project,
            text=cap.why,
            resets_at=cap.resets_at.isoformat(),
        )


def _refused(account_id: str, found: Room, asked: Decimal | None) -> LimitReached:
    free = max(NOTHING, found.free)
    wish = "draws from it" if asked is None else f"asks for {dollars(asked)}"
    figures = (
        f"The budget of job {account_id} is {dollars(found.budget)}: {dollars(found.spent)} are "
        f"spent, {dollars(found.reserved)} are reserved for jobs below it and {dollars(free)} are "
        f"free. This job {wish}, so it was not created. "
    )
    if free > 0:
        return LimitReached(f"{figures}Ask for {dollars(free)} at most, or do the work yourself.")
    if found.rest > 0:
        return LimitReached(
            f"{figures}What jobs do not spend of their budgets comes back when they are finished: "
            "wait for some with wait_for_jobs, cancel some, or do the work yourself."
        )
    return LimitReached(f"{figures}Nothing is left: call finish_job with what you have.")
