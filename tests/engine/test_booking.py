"""Each line of a transcript counts once, and cumulative figures are booked as differences."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, SQLModel

from hurlicane_mcp.providers.base import (
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Reading,
    RequestUsage,
    RunUsage,
    SessionBase,
    SessionSeen,
    SessionUsage,
    ThreadUsage,
    Tokens,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.store import attempts, events, jobs, usage
from hurlicane_mcp.store.database import Database, open_engine
from hurlicane_mcp.store.tables import AttemptRow
from tests.factories import booking, running
from tests.fakes import BEGINNING

pytestmark = pytest.mark.anyio

BOOK = booking().book


async def booked(db: Database, *batches: Sequence[Reading]) -> AttemptRow:
    """A running attempt after these batches of readings."""

    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        for offset, readings in enumerate(batches, 1):
            BOOK(session, attempt.id, readings, offset, BEGINNING)
        return attempts.get(session, attempt.id)

    return await db.write(change)


async def test_session_model_words_and_turns_are_kept(db: Database) -> None:
    attempt = await booked(
        db,
        (SessionSeen("s1"), ModelSeen("opus"), TurnSeen("r1"), MessageSeen("first")),
        (TurnSeen("r1"), ModelSeen("haiku"), TurnSeen("r2"), MessageSeen("last")),
    )
    assert (attempt.session_id, attempt.model_used) == ("s1", "haiku")
    assert (attempt.turns, attempt.last_message, attempt.offset) == (2, "last", 2)


async def test_a_runs_own_figures_replace_each_other(db: Database) -> None:
    attempt = await booked(db, (RunUsage(Tokens(1, 2)),), (RunUsage(Tokens(10, 20, 30, 40)),))
    figures = (attempt.input_tokens, attempt.output_tokens, attempt.cache_read_tokens)
    assert (*figures, attempt.cache_write_tokens) == (10, 20, 30, 40)


async def test_of_a_resumed_sessions_figures_only_what_came_on_top_counts(db: Database) -> None:
    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        base = {"input": 100, "output": 10, "cost_usd": "0.50"}
        attempts.write(session, attempt.id, session_base=base)
        for cost in ("0.60", "0.75"):
            usage = SessionUsage(Tokens(input=150, output=15), Decimal(cost))
            BOOK(session, attempt.id, (usage,), 1, BEGINNING)
        return attempts.get(session, attempt.id)

    attempt = await db.write(change)
    assert (attempt.input_tokens, attempt.output_tokens) == (50, 5)
    assert attempt.cost_usd == Decimal("0.25")
    job = await db.read(lambda session: jobs.get(session, attempt.job_id))
    assert job.cost_usd == Decimal("0.25")


async def test_a_total_that_went_down_is_booked_whole(db: Database) -> None:
    """The CLI forgot a killed run: what it counts now was all spent since."""

    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        attempts.write(session, attempt.id, session_base={"cost_usd": "0.50"})
        BOOK(session, attempt.id, (SessionUsage(None, Decimal("0.20")),), 1, BEGINNING)
        return attempts.get(session, attempt.id)

    assert (await db.write(change)).cost_usd == Decimal("0.20")


async def test_what_the_cli_says_of_earlier_runs_counts_more_than_what_they_told(
    db: Database,
) -> None:
    """One that was stopped has told nothing, and its figures are in the session's total."""

    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        attempts.write(session, attempt.id, session_base={"input": 1, "cost_usd": "0.01"})
        before = SessionBase(Tokens(input=100), Decimal("0.50"))
        total = SessionUsage(Tokens(input=130), Decimal("0.70"))
        BOOK(session, attempt.id, (before, total), 1, BEGINNING)
        return attempts.get(session, attempt.id)

    attempt = await db.write(change)
    assert (attempt.input_tokens, attempt.cost_usd) == (30, Decimal("0.20"))


async def test_an_error_that_was_overcome_is_forgotten(db: Database) -> None:
    assert (await booked(db, (ErrorSeen("429"),))).provider_error == "429"
    assert (await booked(db, (ErrorSeen("429"), ErrorCleared()))).provider_error is None


async def test_output_that_no_database_can_keep_is_kept_without_it(db: Database) -> None:
    attempt = await booked(db, (MessageSeen("a\0b\ud800"), ErrorSeen("\0"), SessionSeen("s\0")))
    words = (attempt.last_message, attempt.provider_error, attempt.session_id)
    assert words == ("a\ufffdb\ufffd", "\ufffd", "s\ufffd")


async def test_warnings_become_events_of_the_job(db: Database) -> None:
    attempt = await booked(db, (WarningSeen("Permission denied: Bash"),))
    told = await db.read(
        lambda s: events.after(s, 0, limit=10, job_ids=[attempt.job_id], kinds=["attempt.warning"])
    )
    assert [event.data["text"] for event in told] == ["Permission denied: Bash"]


@pytest.fixture(scope="module")
def session_factory(tmp_path_factory: pytest.TempPathFactory) -> Session:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('book') / 'store.db'}")
    SQLModel.metadata.create_all(engine)
    return Session(engine)


READINGS = st.one_of(
    st.builds(TurnSeen, st.sampled_from(["a", "b", "c"])),
    st.builds(MessageSeen, st.text(max_size=5)),
    st.builds(SessionUsage, st.builds(Tokens, st.integers(0, 99), st.integers(0, 99))),
    st.builds(SessionUsage, st.none(), st.decimals(0, 10, places=2)),
)


@settings(deadline=None, max_examples=60)
@given(readings=st.lists(READINGS, max_size=8), cuts=st.lists(st.integers(0, 8), max_size=3))
def test_in_whatever_batches_the_lines_come_the_sums_are_the_same(
    session_factory: Session, readings: list[Reading], cuts: list[int]
) -> None:
    """A server that dies and goes on at the stored offset cuts the stream anywhere."""
    session = session_factory

    def figures(*batches: Sequence[Reading]) -> dict[str, object]:
        _, attempt = running(session)
        for batch in batches:
            BOOK(session, attempt.id, batch, len(batch), BEGINNING)
        row = attempts.get(session, attempt.id)
        wanted = {"turns", "last_message", "input_tokens", "output_tokens", "cost_usd"}
        found = row.model_dump(include=wanted)
        session.rollback()
        return found

    bounds = sorted({0, len(readings), *(min(cut, len(readings)) for cut in cuts)})
    pieces = [readings[a:b] for a, b in pairwise(bounds)]
    assert figures(*pieces) == figures(readings)


async def test_requests_of_subagents_that_run_side_by_side_are_each_counted_once(
    db: Database,
) -> None:
    attempt = await booked(
        db,
        (RequestUsage("a", "m", Tokens(100, 1)), RequestUsage("b", "m", Tokens(200, 1))),
        (RequestUsage("a", "", Tokens(output=10)), RequestUsage("b", "", Tokens(output=20))),
        tuple(RequestUsage(f"c{number}", "m", Tokens(1)) for number in range(20)),
    )
    assert (attempt.input_tokens, attempt.output_tokens) == (320, 30)
    assert (attempt.cost_usd, attempt.is_estimated) == (Decimal("0.00035"), True)


async def test_an_estimate_goes_on_from_the_clis_own_figure(db: Database) -> None:
    attempt = await booked(
        db,
        (RequestUsage("a", "m", Tokens(100)),),
        (SessionUsage(Tokens(90), Decimal("0.5")),),
        (RequestUsage("b", "m", Tokens(10)),),
    )
    assert (attempt.input_tokens, attempt.cost_usd) == (100, Decimal("0.50001"))


def own(*counts: int) -> ThreadUsage:
    """What the session's own thread has used so far."""
    return ThreadUsage("", "m", Tokens(*counts))


async def test_what_a_thread_uses_is_booked_while_it_grows_and_never_twice(db: Database) -> None:
    seen = (own(100, 10), own(300, 20))
    attempt = await booked(db, seen[:1], seen, seen, (own(300, 30), *seen))
    assert (attempt.input_tokens, attempt.output_tokens) == (300, 30)
    assert (attempt.cost_usd, attempt.is_estimated) == (Decimal("0.00033"), True)


async def test_the_final_figure_is_the_threads_and_leaves_those_of_other_threads(
    db: Database,
) -> None:
    """Codex's own agents are in no figure of its output."""
    agent = ThreadUsage("a", "m", Tokens(50))
    before = await booked(db, (own(100), agent, SessionUsage(Tokens(100))))
    assert (before.input_tokens, before.is_estimated) == (150, False)
    late = await booked(db, (own(100), SessionUsage(Tokens(110)), own(110), agent))
    assert (late.input_tokens, late.cost_usd) == (160, Decimal("0.00016"))
    mended = await booked(db, (own(100), agent), (SessionUsage(Tokens(70)),))
    assert (mended.input_tokens, mended.cost_usd) == (120, Decimal("0.00012"))


async def test_a_thread_goes_on_from_what_was_told_in_another_way(db: Database) -> None:
    attempt = await booked(
        db, (SessionUsage(Tokens(100)),), (own(130), ThreadUsage("a", "", Tokens(5)))
    )
    assert (attempt.input_tokens, attempt.cost_usd) == (135, Decimal("0.000135"))


async def test_a_resumed_session_counts_what_its_threads_use_from_then_on(db: Database) -> None:
    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        base = {"input": 100, "output": 0, "threads": {"a": {"input": 50, "output": 0}}}
        attempts.write(session, attempt.id, session_base=base)
        told = (own(90), own(100), own(120), ThreadUsage("b", "m", Tokens(5)))
        BOOK(session, attempt.id, told, None, BEGINNING)
        BOOK(session, attempt.id, (ThreadUsage("a", "m", Tokens(51)),), None, BEGINNING)
        return attempts.get(session, attempt.id)

    row = await db.write(change)
    assert (row.input_tokens, row.offset) == (26, 0)
    # What the next attempt begins with.
    assert {**row.session_base, **row.session_seen}["input"] == 120
    seen = {**row.session_base, **row.session_seen}["threads"]
    assert {name: one["input"] for name, one in seen.items()} == {"a": 51, "b": 5}


@pytest.mark.parametrize("first", [(TurnSeen("a"), SessionUsage(Tokens(70))), (TurnSeen("a"),), ()])
async def test_what_was_booked_before_the_model_was_known_is_booked_under_its_name(
    db: Database, first: Sequence[Reading]
) -> None:
    """Codex tells its default model in the file of its thread only, which is read beside."""
    row = await booked(db, first, (ThreadUsage("a", "other", Tokens(5)),), (own(100),))
    used = await db.read(lambda session: usage.sums(session, usage.Grouping.MODEL))
    assert row.model_used == "m"
    assert [(one.model, one.turns, one.input_tokens) for one in used] == [
        ("m", row.turns, row.input_tokens)
    ]
    told = await db.read(
        lambda session: events.after(session, 0, limit=10, kinds=["attempt.model"])
    )
    assert [event.data for event in told] == [{"model": "m"}]


async def test_what_says_nothing_new_leaves_no_trace(db: Database) -> None:
    def change(session: Session) -> AttemptRow:
        _, attempt = running(session)
        BOOK(session, attempt.id, (own(100),), 7, BEGINNING)
        BOOK(session, attempt.id, (own(100),), None, BEGINNING + timedelta(hours=1))
        return attempts.get(session, attempt.id)

    row = await db.write(change)
    assert (row.offset, row.output_at) == (7, BEGINNING)


FIGURES = st.builds(
    ThreadUsage, st.sampled_from(["", "a"]), st.just("m"), st.builds(Tokens, st.integers(0, 99))
)


@settings(deadline=None, max_examples=60)
@given(figures=st.lists(FIGURES, max_size=8), again=st.lists(st.integers(0, 8), max_size=3))
def test_however_often_a_side_file_is_read_the_sums_are_the_same(
    session_factory: Session, figures: list[ThreadUsage], again: list[int]
) -> None:
    """A server that was started anew reads it from its beginning."""
    session = session_factory
    _, attempt = running(session)
    for end in (*again, len(figures)):
        BOOK(session, attempt.id, figures[:end], None, BEGINNING)
    row = attempts.get(session, attempt.id)
    most = {one.thread: 0 for one in figures}
    for one in figures:
        most[one.thread] = max(most[one.thread], one.tokens.input)
    found = (row.input_tokens, row.cost_usd)
    session.rollback()
    assert found == (sum(most.values()), Decimal(sum(most.values())) / 10**6)


@pytest.mark.parametrize(
    "figure",
    [
        SessionUsage(Tokens(cache_read=2**53), Decimal(10**11)),
        RequestUsage("a", "m", Tokens(input=2**53, output=2**53)),
        RunUsage(Tokens(input=2**60, output=2**60)),
        ThreadUsage("a", "m", Tokens(input=2**53, output=2**53)),
    ],
    ids=["told", "estimated", "run", "thread"],
)
async def test_an_absurd_figure_is_bounded_and_what_follows_is_booked(
    store: Database, figure: Reading
) -> None:
    row = await booked(store, (figure,), (TurnSeen("a"),))
    assert row.turns == 1
    assert row.cost_usd <= 10**6
    job = await store.read(lambda session: jobs.get(session, row.job_id))
    assert job.cost_usd == row.cost_usd
