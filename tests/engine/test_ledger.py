"""Limits at work: what refusals do to attempts, jobs and the ledger, and who starts with what."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.cooldowns import ACCOUNT, Cooldown, Key
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import JobStatus
from hurlicane_mcp.domain.refusals import Refusal, Scope
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.dispatcher import Dispatcher, Launch
from hurlicane_mcp.providers.base import (
    ErrorCleared,
    ModelSeen,
    Provider,
    Reading,
    Refused,
    SessionSeen,
    TurnSeen,
)
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.store import attempts, cooldowns, events, jobs
from hurlicane_mcp.store import queue as store_queue
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow, JobRow
from hurlicane_mcp.supervision.host import Exit
from tests.factories import add_job, booking
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

CHAIN = ["scripted:opus", "scripted:sonnet", "scripted:haiku"]
OPUS, SONNET, HAIKU = (Key("scripted", name) for name in ("opus", "sonnet", "haiku"))
LIMITED = Refusal(FailureKind.RATE_LIMIT, "429: too many requests")


class Queue:
    """A dispatcher whose launches are written down, and the agents' transcripts."""

    def __init__(
        self, db: Database, clock: FakeClock, folder: Path, *others: Provider, slots: int = 4
    ) -> None:
        self.db = db
        self.clock = clock
        self.launched: list[tuple[str, str | None]] = []
        self.resumed: list[str | None] = []
        self._booking = booking(*others)
        ours = self._booking
        self._dispatcher = Dispatcher(
            db, clock, slots, folder, ours.ledger, ours.stops, self._launch
        )

    async def _launch(self, launch: Launch) -> None:
        self.launched.append((launch.attempt_id, launch.step.model))
        self.resumed.append(launch.resume)

    async def fill(self) -> list[tuple[str, str | None]]:
        """What is launched now: attempts and models."""
        self.launched, self.resumed = [], []
        await self._dispatcher.fill()
        return self.launched

    async def job(self, **values: object) -> str:
        """A new job with the chain opus > sonnet > haiku."""
        job = await self.db.write(lambda s: add_job(s, **{"chain": CHAIN, **values}))  # pyright: ignore[reportArgumentType]
        return job.id

    async def prints(self, attempt: str, *readings: Reading) -> AttemptRow:
        """The attempt after its agent has printed these."""

        def change(session: Session) -> AttemptRow:
            self._booking.book(session, attempt, readings, 1, self.clock.now())
            return attempts.get(session, attempt)

        return await self.db.write(change)

    async def ends(self, attempt: str) -> None:
        """Its process is gone."""
        now = self.clock.now()
        await self.db.write(lambda s: settlement.mark_ended(s, attempt, Exit(code=143), now))

    async def refuses(self, attempt: str, refusal: Refusal = LIMITED) -> AttemptRow:
        """Its model refuses, and its process ends."""
        row = await self.prints(attempt, Refused(refusal))
        await self.ends(attempt)
        return row

    async def of(self, job_id: str) -> JobRow:
        return await self.db.read(lambda session: jobs.get(session, job_id))

    async def entry(self, key: Key) -> Cooldown | None:
        return (await self.db.read(cooldowns.ledger)).get(key)

    async def told(self, *kinds: str) -> Sequence[str]:
        rows = await self.db.read(lambda s: events.after(s, 0, limit=1000, kinds=kinds))
        return [row.kind for row in rows]


@pytest.fixture
def queue(db: Database, clock: FakeClock, tmp_path: Path) -> Queue:
    return Queue(db, clock, tmp_path)


async def test_at_the_first_refusal_the_job_goes_on_at_once_with_the_next_model(
    queue: Queue,
) -> None:
    job = await queue.job()
    ((first, model),) = await queue.fill()
    assert model == "opus"
    row = await queue.refuses(first)
    assert (row.outcome, row.failure_kind) == (OutcomeKind.LIMITED, FailureKind.RATE_LIMIT)
    ((second, model),) = await queue.fill()
    assert (second, model) == (f"{job}.2", "sonnet")
    assert (await queue.of(job)).retries == 0
    await queue.refuses(second)
    assert await queue.fill() == [(f"{job}.3", "haiku")]
    assert await queue.told("model.limited", "attempt.refused") == [
        *("attempt.refused", "model.limited") * 2
    ]


async def test_a_refusal_that_the_cli_waits_out_is_left_to_it(queue: Queue) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    waiting = Refusal(LIMITED.kind, "429", is_final=False, cli_waits=timedelta(seconds=2))
    row = await queue.prints(first, Refused(waiting))
    assert (row.outcome, row.refused_at) == (None, queue.clock.now())
    row = await queue.prints(first, TurnSeen("r1"))
    assert (row.outcome, row.refused_at) == (None, None)
    assert await queue.entry(OPUS) is None


async def test_many_waits_in_a_row_are_too_long_together(queue: Queue) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    waiting = Refusal(LIMITED.kind, "429", is_final=False, cli_waits=timedelta(seconds=9))
    outcomes = list[str | None]()
    for _ in range(4):
        outcomes.append((await queue.prints(first, Refused(waiting))).outcome)
        queue.clock.move(timedelta(seconds=9))
    assert outcomes == [None, None, None, OutcomeKind.LIMITED]


async def test_the_structured_refusal_counts_and_not_what_a_stopped_agent_says_after_it(
    queue: Queue,
) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    wide = Refusal(FailureKind.USAGE_LIMIT, "You've hit your limit", Scope.ACCOUNT)
    await queue.prints(first, Refused(LIMITED), Refused(wide))
    await queue.prints(first, Refused(wide))
    assert await queue.entry(OPUS) is not None
    assert await queue.entry(Key("scripted", ACCOUNT)) is None


async def test_a_model_that_answers_in_the_same_batch_is_not_limited(queue: Queue) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    row = await queue.prints(first, Refused(LIMITED), ErrorCleared())
    assert row.outcome is None


async def test_with_all_models_limited_the_job_is_parked_and_its_slot_free(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path, slots=1)
    job = await queue.job(chain=CHAIN[:1])
    other = await queue.job(chain=["scripted:other"])
    ((first, _),) = await queue.fill()
    await queue.refuses(first, Refusal(LIMITED.kind, "429", retry_after=timedelta(seconds=20)))
    assert await queue.fill() == [(f"{other}.1", "other")]
    parked = await queue.of(job)
    assert (parked.status, parked.limited_by) == (JobStatus.QUEUED, "scripted/opus")
    assert parked.not_before == clock.now() + timedelta(seconds=20)
    await queue.prints(f"{other}.1", TurnSeen("r"))
    done = Outcome(OutcomeKind.DONE)
    await db.write(lambda s: settlement.settle(s, f"{other}.1", done, clock.now()))
    await queue.ends(f"{other}.1")
    assert await queue.fill() == []
    clock.move(timedelta(seconds=20))
    assert await queue.fill() == [(f"{job}.2", "opus")]


async def test_fifty_jobs_that_meet_a_limit_at_once_are_one_strike_and_then_one_probe(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path, slots=50)
    for _ in range(50):
        await queue.job(chain=CHAIN[:1])
    launched = await queue.fill()
    assert len(launched) == 50
    for name, _ in launched:
        await queue.refuses(name)
    entry = await queue.entry(OPUS)
    assert entry is not None
    assert entry.strikes == 1
    assert await queue.fill() == []
    assert (await queue.told("model.limited")) == ["model.limited"]
    clock.move(timedelta(seconds=33))
    ((probe, _),) = await queue.fill()
    assert await queue.fill() == []
    await queue.refuses(probe)  # the probe is refused as well: two strikes, a minute
    assert await queue.fill() == []
    entry = await queue.entry(OPUS)
    assert entry is not None
    assert (entry.strikes, entry.probe) == (2, None)
    assert entry.until == clock.now() + timedelta(seconds=60)
    clock.move(timedelta(seconds=63))
    ((probe, _),) = await queue.fill()
    await queue.prints(probe, TurnSeen("r1"))  # it answers: everybody goes on
    assert await queue.entry(OPUS) is None
    assert len(await queue.fill()) == 49


async def test_a_probe_that_ends_without_an_answer_lets_another_job_try(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path)
    jobs_ = [await queue.job(chain=CHAIN[:1]) for _ in range(2)]
    for name, _ in await queue.fill():
        await queue.refuses(name)
    await queue.fill()
    clock.move(timedelta(seconds=33))
    ((probe, _),) = await queue.fill()
    cancelled = probe.rpartition(".")[0]
    await db.write(lambda s: settlement.cancel(s, cancelled, "No longer needed.", clock.now()))
    ((second, _),) = await queue.fill()
    assert second.rpartition(".")[0] in set(jobs_) - {cancelled}


async def test_while_one_launch_probes_the_others_stay_with_the_next_model(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path)
    await queue.job()
    ((first, _),) = await queue.fill()
    await queue.refuses(first)
    clock.move(timedelta(seconds=31))
    await queue.job()
    launched = await queue.fill()
    assert [model for _, model in launched] == ["opus", "sonnet"]


async def test_a_limit_of_the_account_leaves_only_other_providers(queue: Queue) -> None:
    job = await queue.job()
    ((first, _),) = await queue.fill()
    five_hours = timedelta(hours=5)
    wide = Refusal(FailureKind.USAGE_LIMIT, "limit", Scope.ACCOUNT, retry_after=five_hours)
    await queue.refuses(first, wide)
    assert await queue.fill() == []
    parked = await queue.of(job)
    assert parked.limited_by == str(Key("scripted", ACCOUNT))
    assert parked.not_before == queue.clock.now() + five_hours


async def test_what_a_person_has_to_put_right_parks_until_it_is_cleared(queue: Queue) -> None:
    job = await queue.job()
    ((first, _),) = await queue.fill()
    await queue.refuses(first, Refusal(FailureKind.AUTH, "Please run /login"))
    assert await queue.fill() == []
    parked = await queue.of(job)
    assert (parked.status, parked.not_before) == (JobStatus.QUEUED, None)
    queue.clock.move(timedelta(seconds=100_000))
    assert await queue.fill() == []


async def test_two_overloaded_models_mean_the_provider_for_a_minute(queue: Queue) -> None:
    job = await queue.job()
    overloaded = Refusal(FailureKind.OVERLOADED, "529")
    ((first, _),) = await queue.fill()
    await queue.refuses(first, overloaded)
    ((second, model),) = await queue.fill()
    assert model == "sonnet"
    await queue.refuses(second, overloaded)
    assert await queue.fill() == []  # haiku is not tried
    assert (await queue.of(job)).not_before == queue.clock.now() + timedelta(minutes=1)


async def test_an_unknown_model_without_an_alternative_fails_the_job(queue: Queue) -> None:
    job = await queue.job(chain=CHAIN[:1])
    ((first, _),) = await queue.fill()
    await queue.refuses(first, Refusal(FailureKind.UNKNOWN_MODEL, "There is no such model."))
    failed = await queue.of(job)
    assert (failed.status, failed.failure_kind) == (JobStatus.FAILED, FailureKind.UNKNOWN_MODEL)


async def test_a_conversation_that_is_too_long_is_no_limit_of_a_model(queue: Queue) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    row = await queue.prints(first, Refused(Refusal(FailureKind.CONTEXT_OVERFLOW, "too long")))
    assert row.outcome is None  # its process ends by itself, and is judged then
    assert await queue.entry(OPUS) is None


async def test_the_default_model_of_a_cli_is_limited_by_its_own_name_too(queue: Queue) -> None:
    await queue.job(chain=["scripted:", *CHAIN])
    ((first, model),) = await queue.fill()
    assert model is None
    await queue.refuses(first)
    assert await queue.entry(Key("scripted", "")) is not None
    ((_, model),) = await queue.fill()
    assert model == "opus"


async def test_models_that_refuse_again_and_again_are_tried_less_and_less(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path)
    chain = [f"scripted:m{number}" for number in range(12)]
    job = await queue.job(chain=chain)
    delays = list[float]()
    for _ in range(9):
        ((name, _),) = await queue.fill()
        await queue.refuses(name)
        parked = (await queue.of(job)).not_before
        delays.append((parked - clock.now()).total_seconds() if parked else 0)
        clock.move(timedelta(seconds=delays[-1]))
    assert delays == [0, 0, 0, 0, 0, 10, 20, 40, 80]


async def test_a_model_that_its_cli_calls_by_another_name_is_not_chosen_again(queue: Queue) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    await queue.prints(first, ModelSeen("opus-6-newer"), Refused(LIMITED))
    await queue.ends(first)
    ((_, model),) = await queue.fill()
    assert model == "sonnet"
    assert await queue.entry(Key("scripted", "opus-6-newer")) is not None


async def test_a_final_figure_that_names_a_subagents_model_does_not_limit_that(
    queue: Queue,
) -> None:
    await queue.job()
    ((first, _),) = await queue.fill()
    await queue.prints(first, ModelSeen("opus"), Refused(LIMITED), ModelSeen("haiku"))
    assert await queue.entry(OPUS) is not None
    assert await queue.entry(HAIKU) is None


async def test_a_second_job_with_an_unknown_model_fails_as_the_first_one_did(
    queue: Queue,
) -> None:
    unknown = Refusal(FailureKind.UNKNOWN_MODEL, "There is no such model.")
    for chain in (CHAIN[:1], CHAIN[:1], CHAIN[:2]):
        job = await queue.job(chain=chain)
        for _ in range(4):
            for name, _ in await queue.fill():
                await queue.refuses(name, unknown)
            queue.clock.move(timedelta(seconds=31))
        failed = await queue.of(job)
        assert (failed.status, failed.failure_kind) == (
            JobStatus.FAILED,
            FailureKind.UNKNOWN_MODEL,
        )


async def test_a_session_goes_on_behind_another_cli_that_was_refused_at_once(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path)
    chain = ["scripted:opus", "other:gpt", "scripted:sonnet"]
    job = await queue.job(chain=chain)
    ((first, _),) = await queue.fill()
    await queue.prints(first, SessionSeen("the work of hours"), TurnSeen("r1"))
    await queue.refuses(first)
    ((second, model),) = await queue.fill()
    assert (model, queue.resumed) == ("gpt", [None])
    await queue.refuses(second)
    ((_, model),) = await queue.fill()
    assert (model, queue.resumed) == ("sonnet", ["the work of hours"])
    assert (await queue.of(job)).attempt == 3


async def test_a_server_that_starts_has_parked_jobs_looked_at_again(
    queue: Queue, db: Database
) -> None:
    job = await queue.job()
    until = queue.clock.now() + timedelta(hours=9)
    now = queue.clock.now()
    await db.write(lambda s: store_queue.park(s, [job], until, "daily_budget", "Spent.", now))
    assert await queue.fill() == []
    await db.write(store_queue.unpark_all)
    assert await queue.fill() == [(f"{job}.1", "opus")]


async def test_thousands_of_parked_jobs_are_parked_together(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path, slots=60)
    first = await queue.job(chain=CHAIN[:1])
    await queue.fill()
    await queue.refuses(f"{first}.1")
    names = [await queue.job(chain=CHAIN[:1]) for _ in range(30)]
    other = await queue.job(chain=CHAIN)
    assert await queue.fill() == [(f"{other}.1", "sonnet")]
    rows = [await queue.of(name) for name in (first, *names)]
    assert {row.not_before for row in rows} == {clock.now() + timedelta(seconds=30)}
    assert len(await queue.told("job.parked")) == 31


async def test_a_thread_of_codex_does_not_go_on_with_a_model_of_another_family(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    """Codex would have the limited model sum it up first, and end when that one refuses."""
    queue = Queue(db, clock, tmp_path, CodexProvider())
    chain = ["codex:gpt-5.5", "codex:gpt-6-sol", "codex:gpt-6.1-sol", "codex:gpt-5.4"]
    await queue.job(provider="codex", chain=chain)
    for number, (model, resumed) in enumerate(
        (
            ("gpt-5.5", None),
            ("gpt-6-sol", None),
            ("gpt-6.1-sol", "thread 2"),
            ("gpt-5.4", "thread 2"),  # of no known family: it takes what there is
        ),
        1,
    ):
        ((attempt, launched),) = await queue.fill()
        assert (launched, queue.resumed) == (model, [resumed])
        await queue.prints(attempt, SessionSeen(resumed or f"thread {number}"), TurnSeen("a"))
        await queue.refuses(attempt)


async def test_a_model_that_did_nothing_does_not_part_a_thread_from_its_family(
    db: Database, clock: FakeClock, tmp_path: Path
) -> None:
    queue = Queue(db, clock, tmp_path, CodexProvider())
    chain = ["codex:gpt-6-sol", "codex:gpt-5.5", "codex:gpt-6.1-sol"]
    await queue.job(provider="codex", chain=chain)
    ((first, _),) = await queue.fill()
    await queue.prints(first, SessionSeen("the work of hours"), TurnSeen("a"))
    await queue.refuses(first)
    ((second, _),) = await queue.fill()
    assert queue.resumed == [None]
    await queue.prints(second, SessionSeen("nothing"))
    await queue.refuses(second)
    await queue.fill()
    assert queue.resumed == ["the work of hours"]
