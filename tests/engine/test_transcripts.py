"""What agents print is read in pages, live and raw, and never with a token in it."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.transcripts import PAGE_BYTES, TEXT_CUT, TranscriptPage, Transcripts
from hurlicane_mcp.errors import NotFound
from hurlicane_mcp.ids import new_token
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.providers.scripted import ScriptedProvider
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Exit
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import add_job, running
from tests.fakes import BEGINNING
from tests.providers.recordings import DATA
from tests.stories.server import until

pytestmark = pytest.mark.anyio

MASK = "masked-masked-masked"


def line(event: str, **fields: Any) -> bytes:
    """A line as the scripted agent prints it."""
    return json.dumps({"event": event, **fields}).encode() + b"\n"


class Agent:
    """An attempt whose output the test writes."""

    def __init__(self, db: Database, job_id: str, stdout: Path) -> None:
        self.db = db
        self.job_id = job_id
        self.stdout = stdout

    def prints(self, *lines: bytes) -> None:
        with self.stdout.open("ab") as file:
            file.write(b"".join(lines))

    async def ends(self) -> None:
        def change(session: Session) -> None:
            settlement.settle(session, attempt, Outcome(OutcomeKind.DONE), BEGINNING)
            settlement.mark_ended(session, attempt, Exit(code=0), BEGINNING)

        attempt = f"{self.job_id}.1"
        await self.db.write(change)


@pytest.fixture
async def transcripts(db: Database) -> AsyncGenerator[Transcripts]:
    async with Watcher() as watcher:
        providers = {"scripted": ScriptedProvider(), "claude": ClaudeProvider()}
        yield Transcripts(db, Providers(providers), watcher)


@pytest.fixture
async def agent(db: Database, tmp_path: Path) -> Agent:
    def change(session: Session) -> str:
        job, attempt = running(session)
        attempts.write(session, attempt.id, run_dir=str(tmp_path))
        return job.id

    return Agent(db, await db.write(change), tmp_path / "stdout")


async def pages(transcripts: Transcripts, agent: Agent, offset: int = 0) -> list[TranscriptPage]:
    """All pages of what was printed, one after another."""
    found: list[TranscriptPage] = []
    while not found or found[-1].offset != offset:
        offset = found[-1].offset if found else offset
        found.append(await transcripts.page(agent.job_id, None, offset))
    return found


async def raw(transcripts: Transcripts, agent: Agent) -> bytes:
    return b"".join([piece async for piece in await transcripts.raw(agent.job_id, None)])


@pytest.mark.parametrize(
    ("recording", "entries"),
    [
        ("partial_messages", ["session", "model", "message", "model", "message"]),
        ("max_turns1", ["session", "model", "tool", "tool", "model", "warning"]),
    ],
)
async def test_the_pieces_of_claude_codes_answers_are_no_entries(
    transcripts: Transcripts, agent: Agent, recording: str, entries: list[str]
) -> None:
    await agent.db.write(
        lambda session: attempts.write(session, f"{agent.job_id}.1", provider="claude")
    )
    agent.prints((DATA / "claude" / f"{recording}.ndjson").read_bytes())

    page = await transcripts.page(agent.job_id, 1, 0)
    assert [one.kind for one in page.entries] == entries


async def test_lines_become_entries_and_mere_figures_do_not(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(
        line("session", session_id="s-1", model="m-1"),
        line("turn", id="r-1"),
        line("message", text="Hello"),
        line("tool", name="Bash", phase="begin", detail="ls"),
        line("tool", name="Bash", phase="end", detail="no such file", is_error=True),
        line("usage", input=1, output=2),
        line("warning", text="careful"),
        line("error", text="lost"),
        b"\n",
        b'{"event": "new in the next version"}\n',
        b"plain words \xff\n",
    )
    page = await transcripts.page(agent.job_id, 1, 0)
    assert [one.model_dump(exclude_none=True) for one in page.entries] == [
        {"kind": "session", "text": "s-1"},
        {"kind": "model", "text": "m-1"},
        {"kind": "message", "text": "Hello"},
        {"kind": "tool", "text": "ls", "tool": "Bash", "finished": False},
        {
            "kind": "tool",
            "text": "no such file",
            "tool": "Bash",
            "finished": True,
            "is_error": True,
        },
        {"kind": "warning", "text": "careful"},
        {"kind": "error", "text": "lost"},
        {"kind": "output", "text": '{"event": "new in the next version"}'},
        {"kind": "output", "text": "plain words \ufffd"},
    ]
    assert page.offset == agent.stdout.stat().st_size


async def test_pages_join_without_a_gap_or_a_repetition(
    transcripts: Transcripts, agent: Agent
) -> None:
    texts = [f"{number} {'x' * (number % 700)}" for number in range(1000)]
    agent.prints(*(line("message", text=text) for text in texts))
    found = await pages(transcripts, agent)
    assert [entry.text for page in found for entry in page.entries] == texts
    assert len(found) > 3
    assert not any(page.ended for page in found)


async def test_the_half_line_of_a_dead_agent_counts_and_then_it_has_ended(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(b"whole\nhal")
    (first, second) = await pages(transcripts, agent)
    assert ([one.text for one in first.entries], second.entries) == (["whole"], [])
    agent.prints(b"f")
    await agent.ends()
    (first, second) = await pages(transcripts, agent, first.offset)
    assert ([one.text for one in first.entries], first.ended) == (["half"], False)
    assert second.ended


async def test_a_line_of_ten_megabytes_is_cut_for_people(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(b"y" * 10_000_000 + b"\n", line("message", text="after"))
    found = await pages(transcripts, agent)
    huge, after = [entry for page in found for entry in page.entries]
    assert (huge.text, huge.cut, after.text, after.cut) == ("y" * TEXT_CUT, True, "after", None)
    assert len(await raw(transcripts, agent)) == agent.stdout.stat().st_size


async def test_tokens_are_masked_in_every_kind_of_entry(
    transcripts: Transcripts, agent: Agent
) -> None:
    tokens = [new_token("agent"), new_token("operator")]
    for token in tokens:
        agent.prints(
            line("message", text=f"It is {token}, and {'x' * TEXT_CUT}"),
            line("tool", name="Bash", phase="begin", detail=f"{'x' * 180} {token}"),
            line("error", text=token),
            f"Authorization: Bearer {token}\n".encode(),
            f"{'x' * (TEXT_CUT - 10)} {token}\n".encode(),
        )
    shown = "".join(page.model_dump_json() for page in await pages(transcripts, agent))
    printed = (await raw(transcripts, agent)).decode()
    for token in tokens:
        assert token[:12] not in shown
        assert token[:12] not in printed
    assert f"Authorization: Bearer hca_{MASK}\n" in printed
    assert f"Bearer hco_{MASK}" in shown


async def test_a_token_across_two_pieces_of_the_raw_output_is_masked(
    transcripts: Transcripts, agent: Agent
) -> None:
    for length in (24, 36, PAGE_BYTES + 100):
        token = b"hca_".ljust(length, b"T")
        for before in range(PAGE_BYTES - 40, PAGE_BYTES + 2):
            start = b"." * before
            agent.stdout.write_bytes(start + token + b"\nand on")
            masked = start + b"hca_" + MASK.encode() + b"\nand on"
            assert await raw(transcripts, agent) == masked


async def test_what_only_looks_like_a_token_stays(transcripts: Transcripts, agent: Agent) -> None:
    text = b"hca_short hcb_" + b"x" * 40 + b" hca_" + b"x" * 19
    agent.prints(text)
    assert await raw(transcripts, agent) == text


async def test_followers_hear_each_line_once_until_the_end(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(b"one\n")
    heard: list[str] = []
    ended: list[bool] = []

    async def follow() -> None:
        async for page in await transcripts.follow(agent.job_id, None, 0):
            heard.extend(entry.text for entry in page.entries)
            ended.append(page.ended)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(5):
                # Once it is heard, the follower waits: what comes next has to wake it.
                await until(lambda count=number + 1: len(heard) == count)
                agent.prints(f"{number}\n".encode())
            agent.prints(b"last")
            await agent.ends()
    assert heard == ["one", *map(str, range(5)), "last"]
    assert ended.count(True) == 1
    assert ended[-1]


async def test_who_follows_an_ended_attempt_gets_it_at_once(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(b"one\ntwo\n")
    await agent.ends()
    told = [page async for page in await transcripts.follow(agent.job_id, 1, len("one\n"))]
    assert [[entry.text for entry in page.entries] for page in told] == [["two"], []]


async def test_following_ends_without_an_end_when_the_server_stops(
    transcripts: Transcripts, agent: Agent
) -> None:
    agent.prints(b"one\n")
    with anyio.fail_after(10):
        async with aclosing(await transcripts.follow(agent.job_id, None, 0)) as following:
            assert not (await anext(following)).ended
            agent.db.bell.close()
            assert [page async for page in following] == []


async def test_what_was_never_started_is_not_found(
    transcripts: Transcripts, agent: Agent, db: Database
) -> None:
    queued = await db.write(add_job)
    for job_id, number in (("job_unknown", None), (queued.id, None), (agent.job_id, 2)):
        for ask in (transcripts.follow(job_id, number, 0), transcripts.raw(job_id, number)):
            with pytest.raises(NotFound):
                await ask
        with pytest.raises(NotFound):
            await transcripts.page(job_id, number, 0)


async def test_an_agent_without_output_has_an_empty_transcript(
    transcripts: Transcripts, agent: Agent
) -> None:
    (page,) = await pages(transcripts, agent)
    assert (page.entries, page.offset, page.ended) == ([], 0, False)
    assert await raw(transcripts, agent) == b""
