"""The files in which Codex keeps its threads, recorded from the real one (0.169.0, 2026-11-24)."""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.providers.base import (
    SessionUsage,
    SideReading,
    ThreadSeen,
    ThreadUsage,
    Tokens,
)
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.codex_rollout import Rollout, codex_home
from tests.providers.noise import lines_with, spoiled
from tests.providers.recordings import DATA, replay

THREAD = "01a20f05-73c3-74e1-afa4-14a7e3376f8c"
LEAD, AGENT = "01a20f0e-3215-7560-8d9c-543b43c301a5", "01a20f0e-36e9-7c83-ab34-52b64168ad8b"
MODEL = "gpt-6-sol"


def recorded(name: str) -> list[bytes]:
    return (DATA / "codex" / f"{name}.jsonl").read_bytes().splitlines()


LINES = (*recorded("rollout"), *recorded("rollout_of_lead"))


def read(file: Rollout, lines: Iterable[bytes]) -> list[SideReading]:
    return [reading for line in lines for reading in file.parse_line(line)]


def used(number: int, small: int = 0) -> ThreadUsage:
    """What a thread has used after so many requests of the recordings, and small ones."""
    tokens = Tokens(5000 * number + 100 * small, 1000 * number + 10 * small, 700 * number)
    return ThreadUsage("", MODEL, tokens)


def test_each_answer_is_told_once_with_what_the_whole_thread_has_used(tmp_path: Path) -> None:
    """Three processes went on with it; the last answer of one was a refusal."""
    found = read(Rollout(tmp_path, THREAD), recorded("rollout"))
    assert found == [
        *(used(1), used(2), used(3), used(3, 1)),
        used(3, 2),
        *(used(4, 2), used(5, 2)),
        used(5, 3),
    ]


def test_a_version_without_records_tells_the_same_a_little_later(tmp_path: Path) -> None:
    lines = [line for line in recorded("rollout") if b"token_usage_record" not in line]
    found = read(Rollout(tmp_path, THREAD), lines)
    assert len(found) == 9  # once more after the refusal
    assert list(dict.fromkeys(found)) == read(Rollout(tmp_path, THREAD), recorded("rollout"))


def test_the_agents_that_codex_starts_by_itself_have_threads_of_their_own(tmp_path: Path) -> None:
    found = read(Rollout(tmp_path, LEAD), recorded("rollout_of_lead"))
    assert set(found) - {used(number) for number in range(6)} == {
        ThreadSeen(AGENT),
        ThreadUsage("", MODEL, Tokens(25007, 5007, 3500)),
    }
    # The stream's own figure is without them.
    usage = replay(CodexProvider(), "rollout_of_lead").usage
    assert usage == SessionUsage(Tokens(25007, 5007, 3500))
    told = read(Rollout(tmp_path, AGENT, AGENT), recorded("rollout_of_agent"))
    assert told[-1] == ThreadUsage(AGENT, MODEL, Tokens(15007, 3007, 2100))


def test_what_another_thread_used_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    """A fork may begin with what the first one had said."""
    assert read(Rollout(tmp_path, AGENT, AGENT), recorded("rollout")) == []


def test_a_request_is_of_the_model_of_its_turn(tmp_path: Path) -> None:
    file = Rollout(tmp_path, THREAD)
    half = len(recorded("rollout")) // 2
    read(file, recorded("rollout")[:half])
    context = json.dumps({"type": "turn_context", "payload": {"model": "gpt-6-luna"}})
    told = read(file, [context.encode(), recorded("rollout")[half + 14]])
    assert [one.model for one in told if isinstance(one, ThreadUsage)] == ["gpt-6-luna"]


@given(st.lists(lines_with(LINES) | spoiled(LINES) | st.binary(max_size=30)))
def test_no_line_breaks_it(lines: list[bytes]) -> None:
    for reading in read(Rollout(Path("nowhere"), LEAD), lines):
        if isinstance(reading, ThreadUsage):
            assert min(reading.tokens.input, reading.tokens.output) >= 0


# --- Where it is


def put(home: Path, thread: str, day: str) -> Path:
    path = home / "sessions" / day / f"rollout-2026-11-24T19-25-45-{thread}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("day", ["2026/11/24", "2026/11/23", "2026/11/25"])
def test_it_is_found_by_the_day_that_its_name_tells_in_every_time_zone(
    day: str, tmp_path: Path
) -> None:
    file = CodexProvider(home=tmp_path).side_file(THREAD, THREAD)
    assert file is not None
    assert file.find() is None
    put(tmp_path, AGENT, day)
    assert file.find() is None
    path = put(tmp_path, THREAD, day)
    assert file.find() == path


def test_a_thread_begun_now_is_found(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    millis = f"{int(now.timestamp() * 1000):012x}"
    thread = f"{millis[:8]}-{millis[8:]}-7{str(uuid4())[15:]}"
    path = put(tmp_path, thread, f"{now:%Y/%m/%d}")
    assert Rollout(tmp_path, thread).find() == path


@pytest.mark.parametrize("name", ["", "*", "../..", f"{THREAD}*", "f" * 8 + THREAD[8:]])
def test_no_other_name_finds_anything(name: str, tmp_path: Path) -> None:
    put(tmp_path, THREAD, "2026/11/24")
    assert Rollout(tmp_path, name).find() is None


def test_its_home_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    assert codex_home() == tmp_path / ".codex"
    monkeypatch.setenv("CODEX_HOME", os.fspath(tmp_path / "other"))
    assert CodexProvider().home == tmp_path / "other"
