"""What an agent of another CLI is told of the work so far: the end of the last one's transcript."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hurlicane_mcp.providers.base import MessageSeen, Reading, ToolSeen
from hurlicane_mcp.supervision.transcript import read_chunk, size_of

#: Characters of the whole, and of one entry.
MAX_HANDOVER, MAX_ENTRY = 16_000, 2_000
#: So much of the output is read for it.
MAX_BYTES = 4 * 1024 * 1024

Parse = Callable[[bytes], Sequence[Reading]]


def handover_of(run_dir: Path, parse: Parse) -> str:
    """The last things that the agent in *run_dir* said and did, as text; empty if it did nothing.

    Its own process has ended. Blocks: for a worker thread.
    """
    file = run_dir / "stdout"
    offset, lines = max(0, size_of(file) - MAX_BYTES), deque[str]()
    while True:
        chunk = read_chunk(file, offset, final=True)
        if chunk.offset == offset:
            break
        offset = chunk.offset
        for line in chunk.lines:
            lines.extend(_entries(parse(line)))
    return _end_of(lines)


def _entries(readings: Iterable[Reading]) -> Iterable[str]:
    for reading in readings:
        match reading:
            case MessageSeen(text) if text.strip():
                yield f"It said: {text.strip()[:MAX_ENTRY]}"
            case ToolSeen(name, detail, finished=False):
                yield f"It called {name}: {detail}"
            case ToolSeen(detail=detail, finished=True, is_error=is_error) if detail:
                yield f"  {'failed' if is_error else 'answered'}: {detail}"
            case _:
                pass


def _end_of(lines: deque[str]) -> str:
    kept, size = deque[str](), 0
    while lines and size + len(lines[-1]) < MAX_HANDOVER:
        size += len(lines[-1]) + 1
        kept.appendleft(lines.pop())
    if lines:
        kept.appendleft("(what came before is left out)")
    return "\n".join(kept)
