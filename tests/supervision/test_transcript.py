"""Each line that an agent prints is read exactly once, however it arrives."""

import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.supervision.transcript import (
    LONGEST_LINE,
    PAUSE_S,
    Chunk,
    Growth,
    PolledGrowth,
    Watcher,
    read_chunk,
    tail,
)

pytestmark = pytest.mark.anyio

Append = bytes
Read = int  # at most so many bytes
PIECES = st.lists(
    st.one_of(
        st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\0", b"\xff", b"\r"])).map(b"".join),
        st.integers(1, 6),
    )
)


def read_all(path: Path, offset: int = 0, *, final: bool = True) -> Chunk:
    """Read on while the offset moves, as a reader does."""
    lines: list[bytes] = []
    while (chunk := read_chunk(path, offset, final=final)).offset != offset:
        lines.extend(chunk.lines)
        offset = chunk.offset
    return Chunk(tuple(lines), offset)


@given(PIECES)
def test_however_a_file_is_cut_each_line_comes_once_and_in_order(
    pieces: list[Append | Read],
) -> None:
    read: list[bytes] = []
    written, offset = b"", 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "stdout")
        for piece in pieces:
            if isinstance(piece, bytes):
                with path.open("ab") as file:
                    file.write(piece)
                written += piece
            else:
                chunk = read_chunk(path, offset, final=False, max_bytes=piece)
                read.extend(chunk.lines)
                offset = chunk.offset
        rest = read_all(path, offset)
    *lines, last = written.split(b"\n")
    assert [*read, *rest.lines] == lines + ([last] if last else [])
    assert rest.offset == len(written)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def test_a_half_line_waits_for_its_end(path: Path) -> None:
    path.write_bytes(b'one\n{"tw')
    assert read_chunk(path, 0, final=False) == Chunk((b"one",), 4)
    assert read_chunk(path, 4, final=False) == Chunk((), 4)
    with path.open("ab") as file:
        file.write(b'o": 2}\n')
    assert read_chunk(path, 4, final=False) == Chunk((b'{"two": 2}',), 15)


def test_a_last_line_without_its_end_counts_when_nobody_writes_any_more(path: Path) -> None:
    path.write_bytes(b"one\ntwo")
    assert read_all(path) == Chunk((b"one", b"two"), 7)
    assert read_chunk(path, 7, final=True) == Chunk((), 7)


def test_a_missing_file_is_an_empty_one(path: Path) -> None:
    assert read_chunk(path, 0, final=True) == Chunk((), 0)
    assert tail(path, 100) == ""


def test_a_chunk_is_bounded(path: Path) -> None:
    path.write_bytes(b"abc\n" * 100)
    assert read_chunk(path, 0, final=False, max_bytes=10) == Chunk((b"abc", b"abc"), 8)


def test_a_line_of_ten_megabytes_is_read(path: Path) -> None:
    huge = b"x" * 10_000_000
    path.write_bytes(b"before\n" + huge + b"\nafter\n")
    assert read_all(path) == Chunk((b"before", huge, b"after"), 10_000_014)


@pytest.mark.parametrize("end", [b"\nafter\n", b""])
def test_a_line_beyond_all_bounds_is_skipped_even_while_it_grows(path: Path, end: bytes) -> None:
    path.write_bytes(b"before\n" + b"x" * (LONGEST_LINE + 1_000_000))
    first = read_all(path, final=False)
    assert first.lines == (b"before",)
    with path.open("ab") as file:
        file.write(b"x" * (LONGEST_LINE + 1_000_000) + end)
    second = read_all(path, first.offset)
    assert second.lines == ((b"after",) if end else ())
    assert second.offset == path.stat().st_size


def test_the_tail_is_whole_lines_for_people(path: Path) -> None:
    path.write_bytes(b"first\nsecond \xff\nthird\n")
    assert tail(path, 100) == "first\nsecond \ufffd\nthird\n"
    assert tail(path, 9) == "third\n"
    assert tail(path, 3) == "rd\n"


def print_into(path: Path, text: str) -> None:
    """Append from another process, as an agent does."""
    with path.open("ab") as file:
        subprocess.run([sys.executable, "-c", f"print({text!r})"], stdout=file, check=True)


def write(path: Path) -> None:
    """Append a line, in a new directory if need be."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("x\n")


async def wakes(growth: Growth, seconds: float = 5) -> bool:
    with anyio.move_on_after(seconds):
        await growth.wait()
        return True
    return False


async def test_growth_is_told_once_and_for_the_right_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with Watcher() as watcher:
        a, b = watcher.watch(tmp_path / "a"), watcher.watch(tmp_path / "b")
        print_into(tmp_path / "a" / "stdout", "early")  # before anybody waits
        assert await wakes(a)
        assert not await wakes(a, 0.2)
        print_into(tmp_path / "a" / "stdout", "again")
        assert await wakes(a)
        assert not await wakes(b, 0.2)
        print_into(tmp_path / "b" / "stdout", "other")
        assert await wakes(b)


async def test_what_comes_during_the_pause_is_told_after_it(path: Path) -> None:
    async with Watcher() as watcher:
        growth = watcher.watch(path.parent)
        write(path)
        assert await wakes(growth)
        began = anyio.current_time()
        write(path)
        assert await wakes(growth)
        assert anyio.current_time() - began >= PAUSE_S * 0.8


async def test_much_output_wakes_rarely_and_nothing_is_missed(path: Path) -> None:
    printing = "import time\nfor n in range(1000): print(n, flush=True); time.sleep(0.0005)"
    woken, seen = 0, Chunk((), 0)
    async with Watcher() as watcher:
        growth = watcher.watch(path.parent)
        with path.open("ab") as file:
            began = anyio.current_time()
            process = await anyio.open_process([sys.executable, "-c", printing], stdout=file)
            async with process:
                while len(seen.lines) < 1000:
                    assert await wakes(growth)
                    woken += 1
                    more = read_all(path, seen.offset, final=False)
                    seen = Chunk(seen.lines + more.lines, more.offset)
    assert seen.lines == tuple(b"%d" % n for n in range(1000))
    assert woken <= 2 + (anyio.current_time() - began) / PAUSE_S


async def test_two_watches_of_one_directory_end_apart(path: Path) -> None:
    async with Watcher() as watcher:
        first, second = watcher.watch(path.parent), watcher.watch(path.parent)
        first.close()
        write(path)
        assert await wakes(second)
        second.close()
        write(path)
        assert not await wakes(second, 0.2)


def flood(directory: Path) -> None:
    """Cause more events than inotify queues, while the event loop cannot take any."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with (directory / "a").open("ab", buffering=0) as a, (directory / "b").open("ab") as b:
        for _ in range(limit // 2 + 10):  # in turn, since equal events in a row become one
            a.write(b"x")
            b.write(b"x")
            b.flush()


async def test_a_lost_event_rings_everybody(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    async with Watcher() as watcher:
        noisy, quiet = watcher.watch(tmp_path), watcher.watch(tmp_path / "quiet")
        flood(tmp_path)
        assert await wakes(noisy)
        assert await wakes(quiet)


async def test_where_the_kernel_cannot_tell_growth_is_looked_for(path: Path) -> None:
    growth = PolledGrowth(path.parent)
    assert not await wakes(growth, 0.1)
    print_into(path, "hello")
    assert await wakes(growth)
    assert not await wakes(growth, 0.1)
    growth.close()


async def test_a_directory_that_is_not_there_yet_is_polled(path: Path) -> None:
    async with Watcher() as watcher:
        growth = watcher.watch(path)
        write(path / "stdout")
        assert await wakes(growth)


@pytest.mark.parametrize("polled", [False, True])
async def test_of_one_file_only_its_own_growth_is_told(path: Path, polled: bool) -> None:
    write(path)
    async with Watcher() as watcher:
        growth = PolledGrowth(path) if polled else watcher.watch(path)
        write(path.parent / "other")
        assert not await wakes(growth, 0.2)
        print_into(path, "hello")
        assert await wakes(growth)
        growth.close()
