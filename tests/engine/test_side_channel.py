"""What Codex notes beside its output is booked while it works, whoever dies in between."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from hurlicane_mcp.clock import SystemClock
from hurlicane_mcp.engine.side_channel import SideReader
from hurlicane_mcp.providers.base import SessionSeen
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import AttemptRow
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import booking, running
from tests.fakes import BEGINNING, FakeClock
from tests.providers.test_codex_rollout import AGENT, LEAD, put, recorded

pytestmark = pytest.mark.anyio

BOOKING = booking()
#: Tokens that the recorded threads have used: put in, got out, and read from a cache.
OF_LEAD, OF_AGENT = (25007, 5007, 3500), (15007, 3007, 2100)
OF_BOTH = tuple(map(sum, zip(OF_LEAD, OF_AGENT, strict=True)))


@pytest.fixture
def codex(tmp_path: Path) -> CodexProvider:
    return CodexProvider(home=tmp_path)


@pytest.fixture
async def watcher() -> AsyncGenerator[Watcher]:
    async with Watcher() as watcher:
        yield watcher


@pytest.fixture
async def attempt(db: Database) -> str:
    """A running attempt whose CLI has not named its session yet."""
    return await db.write(lambda session: running(session)[1].id)


async def name_session(db: Database, attempt: str) -> None:
    await db.write(
        lambda session: BOOKING.book(session, attempt, [SessionSeen(LEAD)], 1, BEGINNING)
    )


def reader(db: Database, watcher: Watcher, clock: FakeClock | None = None) -> SideReader:
    return SideReader(db, clock or SystemClock(), watcher, BOOKING)


@asynccontextmanager
async def following(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider
) -> AsyncGenerator[None]:
    """A server that follows the attempt, until it is killed."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader(db, watcher).follow, attempt, codex)
        yield
        tasks.cancel_scope.cancel()


def figures(row: AttemptRow) -> tuple[int, ...]:
    return (row.input_tokens, row.output_tokens, row.cache_read_tokens)


async def row_of(db: Database, attempt: str) -> AttemptRow:
    return await db.read(lambda session: attempts.get(session, attempt))


async def come_to(db: Database, attempt: str, wanted: tuple[int, ...]) -> AttemptRow:
    """The attempt once its figures are these."""
    with anyio.fail_after(10):
        while figures(row := await row_of(db, attempt)) != wanted:  # noqa: ASYNC110  (no event)
            await anyio.sleep(0.02)
    return row


def write(path: Path, lines: list[bytes]) -> None:
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


async def test_each_answer_is_booked_when_it_is_noted(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider, tmp_path: Path
) -> None:
    path = put(tmp_path, LEAD, "2026/11/24")
    async with following(db, watcher, attempt, codex):
        await name_session(db, attempt)
        for line in recorded("rollout_of_lead"):
            write(path, [line])
            if b'"resp_' in line:
                count = path.read_bytes().count(b'"token_usage_record"')
                if count < 6:
                    row = await come_to(db, attempt, (5000 * count, 1000 * count, 700 * count))
                    assert row.is_estimated
        await come_to(db, attempt, OF_LEAD)
    assert (await row_of(db, attempt)).offset == 1


async def test_its_own_agents_are_followed_too(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider, tmp_path: Path
) -> None:
    lead, agent = put(tmp_path, LEAD, "2026/11/24"), put(tmp_path, AGENT, "2026/11/24")
    await name_session(db, attempt)
    async with following(db, watcher, attempt, codex):
        write(lead, recorded("rollout_of_lead"))
        await come_to(db, attempt, OF_LEAD)
        write(agent, recorded("rollout_of_agent"))
        await come_to(db, attempt, OF_BOTH)


async def test_a_server_that_dies_in_between_loses_and_doubles_nothing(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider, tmp_path: Path
) -> None:
    lead, agent = put(tmp_path, LEAD, "2026/11/24"), put(tmp_path, AGENT, "2026/11/24")
    lines = recorded("rollout_of_lead")
    await name_session(db, attempt)
    write(lead, lines[:20])
    async with following(db, watcher, attempt, codex):
        await come_to(db, attempt, (10000, 2000, 1400))
    write(lead, lines[20:])
    write(agent, recorded("rollout_of_agent")[:16])
    async with following(db, watcher, attempt, codex):
        await come_to(db, attempt, (30007, 6007, 4200))
    write(agent, recorded("rollout_of_agent")[16:])
    for _ in range(2):
        await reader(db, watcher).catch_up(attempt, codex, LEAD)
        assert figures(await row_of(db, attempt)) == OF_BOTH


async def test_a_file_that_is_not_there_yet_is_found_later(
    db: Database,
    watcher: Watcher,
    attempt: str,
    codex: CodexProvider,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    await name_session(db, attempt)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader(db, watcher, clock).follow, attempt, codex)
        await anyio.sleep(0.1)
        write(put(tmp_path, LEAD, "2026/11/24"), recorded("rollout_of_lead"))
        with anyio.fail_after(10):
            while figures(await row_of(db, attempt)) != OF_LEAD:
                await clock.advance(timedelta(seconds=1))
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()


async def test_without_such_a_file_nothing_is_booked_and_nothing_fails(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider
) -> None:
    for session in (None, LEAD, "s1"):
        await reader(db, watcher).catch_up(attempt, codex, session)
    row = await row_of(db, attempt)
    assert (figures(row), row.cost_usd) == ((0, 0, 0), Decimal(0))


async def test_a_file_that_is_no_file_stops_nobody(
    db: Database, watcher: Watcher, attempt: str, codex: CodexProvider, tmp_path: Path
) -> None:
    path = put(tmp_path, LEAD, "2026/11/24")
    path.unlink()
    path.mkdir()
    await reader(db, watcher).catch_up(attempt, codex, LEAD)
    assert figures(await row_of(db, attempt)) == (0, 0, 0)
