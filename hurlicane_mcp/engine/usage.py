"""What was used: turns, tokens and money, by day, model, job, project, tree or workflow."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.engine.access import Caller, check_visible
from hurlicane_mcp.engine.views import View
from hurlicane_mcp.errors import Forbidden
from hurlicane_mcp.providers.base import Tokens
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.usage import Grouping, Used, sums

#: Days that are summed up if nobody says otherwise, today included.
RECENT = 7


class UsageFigures(View):
    """What was used."""

    turns: int = 0
    input_tokens: int = 0  #: without those that were read from a cache or written to it
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: Decimal = Decimal(0)  #: of what has a price
    unpriced_tokens: int | None = None  #: tokens that nobody knows a price for

    def add(self, used: Used, *, is_priced: bool) -> None:
        """Count *used* in."""
        self.turns += used.turns
        self.input_tokens += used.input_tokens
        self.output_tokens += used.output_tokens
        self.cache_read_tokens += used.cache_read_tokens
        self.cache_write_tokens += used.cache_write_tokens
        self.cost_usd += used.cost_usd
        if not is_priced:
            self.unpriced_tokens = (self.unpriced_tokens or 0) + _all_tokens(used)


class UsageLine(UsageFigures):
    """What one day, model, job, project, tree or workflow has used."""

    key: str  #: the day, the project, or the id of the model, job, workflow or tree's root
    provider: str | None = None  #: of a model
    title: str | None = None  #: of a job


class UsageView(View):
    """Usage in lines: the newest day first, anything else the most expensive first."""

    by: Grouping
    since: str | None = None  #: the first day (UTC); None for all days
    job_id: str | None = None  #: only this job and those below it
    lines: list[UsageLine]
    left_out: int | None = None  #: lines beyond those asked for; the total counts them too
    total: UsageFigures


class Usage:
    """Sums up what jobs have used."""

    def __init__(self, db: Database, clock: Clock, providers: Providers) -> None:
        self._db = db
        self._clock = clock
        self._providers = providers

    async def of(
        self,
        caller: Caller,
        by: Grouping,
        *,
        days: int | None = None,
        job_id: str | None = None,
        limit: int = 200,
    ) -> UsageView:
        """At most *limit* lines about the last *days* days (UTC), today included.

        *job_id* keeps that job and those below it. Without *days*, all days of the job are
        counted, or the last 7 of all jobs.

        Raises:
            Forbidden: the caller is an agent.
            NotFound: there is no such job.
        """
        if caller.is_agent:
            raise Forbidden("Only an operator may see what was used.")
        span = days if days is not None or job_id is not None else RECENT
        today = self._clock.now().date()
        since = (today - timedelta(days=span - 1)).isoformat() if span is not None else None

        def query(session: Session) -> UsageView:
            if job_id is not None:
                check_visible(session, caller, job_id)
            used = sums(session, by, since=since, under=job_id)
            lines = self._lines(used, by)
            view = UsageView(
                by=by,
                since=since,
                job_id=job_id,
                lines=lines[:limit],
                left_out=max(0, len(lines) - limit) or None,
                total=self._total(used),
            )
            if by in (Grouping.JOB, Grouping.TREE, Grouping.WORKFLOW):
                _name(session, view.lines)
            return view

        return await self._db.read(query)

    def _lines(self, used: Iterable[Used], by: Grouping) -> list[UsageLine]:
        lines: dict[tuple[str, str | None], UsageLine] = {}
        for one in used:
            provider = one.provider if by is Grouping.MODEL else None
            key = one.group or "unknown"
            line = lines.setdefault((key, provider), UsageLine(key=key, provider=provider))
            line.add(one, is_priced=self._is_priced(one))
        if by is Grouping.DAY:
            return sorted(lines.values(), key=lambda line: line.key, reverse=True)
        return sorted(lines.values(), key=lambda line: (-line.cost_usd, -line.turns, line.key))

    def _total(self, used: Iterable[Used]) -> UsageFigures:
        total = UsageFigures()
        for one in used:
            total.add(one, is_priced=self._is_priced(one))
        return total

    def _is_priced(self, used: Used) -> bool:
        """Whether the cost of *used* is known, be it nothing."""
        if used.has_cost or not _all_tokens(used):
            return True
        provider = self._providers.by_name.get(used.provider)
        return provider is not None and provider.cost(used.model, Tokens(output=1)) is not None


def _all_tokens(used: Used) -> int:
    kept = used.cache_read_tokens + used.cache_write_tokens
    return used.input_tokens + used.output_tokens + kept


def _name(session: Session, lines: Sequence[UsageLine]) -> None:
    known = jobs.many(session, [line.key for line in lines])
    for line in lines:
        line.title = known[line.key].title
