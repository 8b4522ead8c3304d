"""The ledger of limits for people: what is listed, what is limited by hand, and what that wakes."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hurlicane_mcp.domain.cooldowns import Cooldown, Key, Park, probing
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.ledger import Chosen, Ledger
from hurlicane_mcp.engine.models import LimitView, Models, ModelView
from hurlicane_mcp.errors import Forbidden, Invalid, NotFound
from hurlicane_mcp.parts import providers_of
from hurlicane_mcp.providers.catalog import Catalog
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import cooldowns, events, jobs, queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from tests import factories
from tests.factories import add_job
from tests.fakes import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio

OPUS = Key("claude", "claude-opus-5-5")
SONNET = Key("claude", "claude-sonnet-5-5")
CLAUDE = Key("claude", "*")
HOUR = timedelta(hours=1)


@pytest.fixture
def models(db: Database, clock: FakeClock) -> Models:
    return factories.models(db, clock)


async def refused(db: Database, key: Key, until: datetime | None = None, **values: Any) -> Cooldown:
    """An entry as a refusal makes it."""
    kind = values.pop("kind", FailureKind.USAGE_LIMIT)
    entry = Cooldown(kind, BEGINNING, until, **values)
    await db.write(lambda s: cooldowns.put(s, key, entry, BEGINNING, evidence="You've hit it."))
    return entry


async def a_job(db: Database, *chain: str) -> JobRow:
    return await db.write(lambda s: add_job(s, provider="claude", chain=list(chain)))


async def park(db: Database, job: JobRow, by: Key, until: datetime | None = None) -> None:
    await db.write(lambda s: queue.park(s, [job.id], until, str(by), "All are limited.", BEGINNING))


async def due(db: Database) -> list[str]:
    found = await db.read(lambda s: queue.due(s, BEGINNING, 10))
    return [job.id for job in found]


async def chosen(db: Database, job: JobRow) -> Chosen | Park:
    """What a launch of *job* would run on."""
    settings = Settings.model_validate({})
    ledger = Ledger(Chains.load(settings.chains, providers_of(settings)), luck=lambda: 0.0)
    return await db.read(lambda s: ledger.choose(s, jobs.get(s, job.id), BEGINNING))


async def listed(models: Models) -> dict[str, ModelView]:
    return {model.name: model for model in (await models.listing(OPERATOR)).models}


async def names(models: Models) -> list[str]:
    return [limit.name for limit in (await models.limits(OPERATOR)).limits]


async def test_the_models_of_the_catalog_are_listed_with_names_prices_and_chains(
    models: Models,
) -> None:
    found = await models.listing(OPERATOR)
    assert found.chains == [
        ["claude:opus", "claude:sonnet[1m]", "claude:sonnet", "claude:haiku"],
    ]
    by_name = {model.name: model for model in found.models}
    opus = by_name["claude:claude-opus-5-5"]
    assert (opus.aliases, opus.gate, opus.limit, opus.parked) == (
        ["opus", "opus[1m]"],
        "closed",
        None,
        0,
    )
    assert opus.prices is not None
    assert opus.prices.as_of.isoformat() == "2026-11-24"
    assert by_name["codex:gpt-5.5"].prices is None
    assert by_name["codex:gpt-6.1-sol"].context_tokens == 272_000


async def test_a_model_of_a_chain_is_listed_though_the_catalog_does_not_have_it(
    db: Database, clock: FakeClock
) -> None:
    settings = Settings.model_validate({})
    chains = Chains.load(["claude-next-7 > scripted:rehearsal"], providers_of(settings))
    found = await listed(Models(db, clock, chains, Catalog.load()))
    assert {"claude:claude-next-7", "scripted:rehearsal"} <= found.keys()
    assert found["claude:claude-next-7"].aliases is None


async def test_a_limited_model_is_told_with_its_evidence_and_who_waits_for_it(
    db: Database, models: Models
) -> None:
    until = BEGINNING + HOUR
    await refused(db, SONNET, until, strikes=3)
    job = await a_job(db, "claude:sonnet")
    await park(db, job, SONNET, until)
    sonnet = (await listed(models))["claude:claude-sonnet-5-5"]
    assert (sonnet.gate, sonnet.parked) == ("open", 1)
    assert sonnet.limit == LimitView(
        name="claude:claude-sonnet-5-5",
        provider="claude",
        model="claude-sonnet-5-5",
        gate="open",
        kind="usage_limit",
        since=BEGINNING,
        until=until,
        strikes=3,
        manual=False,
        evidence="You've hit it.",
        parked=1,
    )


async def test_a_limit_of_the_account_closes_each_of_its_models_and_stands_first(
    db: Database, models: Models
) -> None:
    await refused(db, CLAUDE, kind=FailureKind.AUTH)
    await refused(db, OPUS, BEGINNING + HOUR)
    found = await listed(models)
    assert next(iter(found)) == "claude:*"
    for name in ("claude:*", "claude:claude-haiku-5-5", "claude:claude-opus-5-5"):
        limit = found[name].limit
        assert limit is not None
        assert (found[name].gate, limit.name, limit.kind) == ("open", "claude:*", "auth")
    assert found["codex:gpt-6.1-sol"].gate == "closed"
    assert await names(models) == ["claude:*", "claude:claude-opus-5-5"]


async def test_a_limit_that_is_over_waits_for_a_probe_and_says_who_probes(
    db: Database, clock: FakeClock, models: Models
) -> None:
    entry = await refused(db, OPUS, BEGINNING + HOUR)
    clock.move(HOUR)
    assert (await listed(models))["claude:claude-opus-5-5"].gate == "half_open"
    probed = probing(entry, "job_x.2", clock.now())
    await db.write(lambda s: cooldowns.hold_probe(s, OPUS, probed, clock.now()))
    (limit,) = (await models.limits(OPERATOR)).limits
    assert (limit.gate, limit.probe) == ("probed", "job_x.2")


@pytest.mark.parametrize(
    "name", ["opus", "opus[1m]", "claude-opus-5-5", "claude:opus", "claude/claude-opus-5-5"]
)
async def test_whatever_a_model_is_called_the_limit_is_of_its_id(
    db: Database, models: Models, name: str
) -> None:
    limit = await models.limit(OPERATOR, name, for_s=60, reason=" Too dear. ")
    assert (limit.name, limit.manual, limit.kind, limit.evidence) == (
        "claude:claude-opus-5-5",
        True,
        "rate_limit",
        "Too dear.",
    )
    assert limit.until == BEGINNING + timedelta(minutes=1)
    (event,) = await db.read(lambda s: events.after(s, 0, limit=10, kinds=["model.limited"]))
    assert (event.data["manual"], event.data["evidence"]) == (True, "Too dear.")


async def test_a_new_launch_heeds_the_limit_and_takes_the_next_model(
    db: Database, models: Models
) -> None:
    job = await a_job(db, "claude:opus", "claude:sonnet")
    await models.limit(OPERATOR, "opus")
    choice = await chosen(db, job)
    assert isinstance(choice, Chosen)
    assert str(choice.step) == "claude:sonnet"
    await models.limit(OPERATOR, "*", provider="claude")
    assert isinstance(await chosen(db, job), Park)
    await models.clear(OPERATOR, "claude:*")
    await models.clear(OPERATOR, "opus")
    choice = await chosen(db, job)
    assert isinstance(choice, Chosen)
    assert str(choice.step) == "claude:opus"


@pytest.mark.parametrize("name", ["claude:default", "claude:", "claude/default"])
async def test_the_cli_s_own_default_is_a_model_too(
    db: Database, models: Models, name: str
) -> None:
    assert (await models.limit(OPERATOR, name)).name == "claude:default"
    assert isinstance(await chosen(db, await a_job(db, "claude:")), Park)
    assert (await listed(models))["claude:default"].gate == "open"
    await models.clear(OPERATOR, name)
    assert await names(models) == []


async def test_a_limit_replaces_the_one_that_is_there_and_lets_parked_jobs_look_again(
    db: Database, models: Models
) -> None:
    await refused(db, OPUS, BEGINNING + 5 * HOUR, strikes=4)
    job = await a_job(db, "claude:opus")
    await park(db, job, OPUS, BEGINNING + 5 * HOUR)
    assert await due(db) == []
    limit = await models.limit(OPERATOR, "opus", for_s=60)
    assert (limit.strikes, limit.until) == (1, BEGINNING + timedelta(minutes=1))
    assert await due(db) == [job.id]


async def test_clearing_a_limit_wakes_whoever_is_parked_and_says_what_it_was(
    db: Database, models: Models
) -> None:
    await refused(db, CLAUDE, kind=FailureKind.AUTH)
    job = await a_job(db, "claude:opus")
    await park(db, job, CLAUDE)
    cleared = await models.clear(OPERATOR, "claude:*")
    assert (cleared.name, cleared.kind, cleared.parked) == ("claude:*", "auth", 1)
    assert await due(db) == [job.id]
    assert await names(models) == []
    (event,) = await db.read(lambda s: events.after(s, 0, limit=10, kinds=["model.available"]))
    assert event.data["why"] == "Cleared by operator."


async def test_what_has_no_limit_cannot_be_cleared_and_the_limits_that_there_are_are_named(
    db: Database, models: Models
) -> None:
    with pytest.raises(NotFound, match=r"'claude:claude-opus-5-5'.*Nothing is limited now"):
        await models.clear(OPERATOR, "opus")
    await refused(db, CLAUDE, kind=FailureKind.AUTH)
    with pytest.raises(NotFound, match=r"Limited now: claude:\*\."):
        await models.clear(OPERATOR, "claude:opus")


@pytest.mark.parametrize(
    ("name", "provider", "message"),
    [
        ("gpt", None, "There is no model 'gpt'.*write provider:model"),
        ("claude:gpt", None, "claude has no model 'gpt'. Known: opus"),
        ("opus", "nope", "There is no provider 'nope'"),
        ("claude:opus", "codex", "is none of codex"),
        ("*", None, r"write claude:\*, codex:\*, scripted:\*"),
        ("default", None, "write claude:default, codex:default"),
        ("", None, "write claude:default"),
        ("a\0", None, r"U\+0000"),
        ("scripted:no such name", None, "any name of 1 to 64"),
    ],
)
async def test_a_name_that_means_no_model_is_refused(
    models: Models, name: str, provider: str | None, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        await models.limit(OPERATOR, name, provider=provider)
    assert await names(models) == []


async def test_a_name_that_several_providers_have_needs_its_provider(
    db: Database, clock: FakeClock, models: Models, tmp_path: Path
) -> None:
    await models.limit(OPERATOR, "scripted:opus")
    with pytest.raises(Invalid, match="write one of claude:claude-opus-5-5, scripted:opus"):
        await models.limit(OPERATOR, "opus")
    assert (await models.clear(OPERATOR, "opus")).name == "scripted:opus"  # no other is limited


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"for_s": 0}, "more than 0"),
        ({"for_s": float("nan")}, "more than 0"),
        ({"for_s": 1e300}, "31,622,400 seconds"),
        ({"until": BEGINNING}, "later than now, 2026-01-01T12:00:00Z"),
        ({"until": BEGINNING + timedelta(days=367)}, "366 days"),
        ({"until": datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))}, "366 days"),
        ({"until": datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))}, "later than now"),
        ({"until": datetime(2026, 1, 2)}, "needs a time zone"),
        ({"until": BEGINNING + HOUR, "for_s": 5}, "not both"),
        ({"reason": "x" * 1001}, "1,000 characters"),
    ],
)
async def test_a_limit_ends_within_a_year_or_when_it_is_cleared(
    models: Models, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        await models.limit(OPERATOR, "opus", **values)


async def test_a_moment_of_another_zone_is_kept_as_that_moment(models: Models) -> None:
    until = datetime(2026, 1, 1, 20, tzinfo=timezone(timedelta(hours=6)))
    limit = await models.limit(OPERATOR, "opus", until=until)
    assert limit.until == datetime(2026, 1, 1, 14, tzinfo=UTC)


async def test_models_are_for_operators(models: Models) -> None:
    agent = Caller(Role.AGENT, "job_x", "job_x.1")
    for call in (
        models.listing(agent),
        models.limits(agent),
        models.limit(agent, "opus"),
        models.clear(agent, "opus"),
    ):
        with pytest.raises(Forbidden):
            await call
