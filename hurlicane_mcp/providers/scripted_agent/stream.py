"""The agent's output: one JSON object a line, each written whole and at once."""

import json
from typing import BinaryIO

CHUNK = 1 << 20


class Stream:
    """Events and raw output on one file, in the order in which they happen."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def event(self, kind: str, /, **fields: object) -> None:
        """One event."""
        self.line(json.dumps({"event": kind, **fields}).encode())

    def tool(self, name: str, phase: str, detail: str, *, is_error: bool = False) -> None:
        """A tool call begins or ends."""
        self.event("tool", name=name, phase=phase, detail=detail, is_error=is_error)

    def line(self, line: bytes) -> None:
        """A line as it is; the newline is added."""
        self._out.write(line + b"\n")
        self._out.flush()

    def long_line(self, count: int) -> None:
        """A line of *count* bytes, without holding them all in memory."""
        while count > 0:
            self._out.write(b"x" * min(count, CHUNK))
            count -= CHUNK
        self.line(b"")
