"""`hurlicane serve` whose worker kills itself at the boundaries of its transactions.

Run as `python -m tests.chaos.crash_points serve …`. It is the real program, but for the writer: it
asks before and after each commit whether this is a point at which it has to die. A point is named
by what the transaction writes, so that the same one is found again whatever else happens.
"""

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event

from hurlicane_mcp.__main__ import main
from hurlicane_mcp.cli import parent
from hurlicane_mcp.store import database
from hurlicane_mcp.store.writer import Done, Unit, Writer

#: Variables: the folder of the two files below, `before` or `after`, and the points to die at, one
#: a line; without them every point.
FOLDER, WHEN, ONLY = "CRASH_FOLDER", "CRASH_WHEN", "CRASH_ONLY"
SEEN, KILLED = "seen", "killed"  #: points that were passed, and those that were died at

# An attempt is told apart by whether it goes on with a session, not by its number: a kill after
# each claim would go on for ever.
_NEW_EVENTS = """
SELECT event.seq, event.kind, job.title, attempt.resumes IS NOT NULL, attempt.outcome
FROM event LEFT JOIN job ON job.id = event.job_id
LEFT JOIN attempt ON attempt.job_id = event.job_id AND attempt.number = event.attempt
WHERE event.seq > ? ORDER BY event.seq
"""


class CrashingWriter(Writer):
    """Kills its process the first time that it comes to a point."""

    def __init__(self, *arguments: Any) -> None:
        self._folder = Path(os.environ[FOLDER])
        self._when = os.environ.get(WHEN)
        self._only = frozenset(filter(None, os.environ.get(ONLY, "").split("\n")))
        self._units: Sequence[Unit] = ()
        self._points: frozenset[str] = frozenset()
        self._last = 0
        event.listen(arguments[0], "commit", self._committing)
        super().__init__(*arguments)

    def _commit_together(self, batch: Iterable[Unit]) -> Sequence[Done]:
        self._units = tuple(batch)
        done = super()._commit_together(self._units)
        if self._when == "after":
            self._die_at(self._points)
        return done

    def _committing(self, connection: Connection) -> None:
        if not connection.get_execution_options().get("hurlicane_writes"):
            return
        points = {f"write {_name(unit)}" for unit in self._units}
        for seq, *event_ in connection.exec_driver_sql(_NEW_EVENTS, (self._last,)):
            self._last = seq
            points.add(_point(*event_))
        self._points = frozenset(points)
        self._note(SEEN, self._points)
        if self._when == "before":
            self._die_at(self._points)

    def _die_at(self, points: frozenset[str]) -> None:
        new = points - passed(self._folder, KILLED)
        if self._only:
            new &= self._only
        if new:
            self._note(KILLED, points)
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, name: str, points: Iterable[str]) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{point}\n" for point in sorted(points))


def _point(kind: str, title: str, resumed: int, outcome: str | None) -> str:
    words = [kind, title, "resumed" if resumed else ""]
    words.append(outcome or "" if kind == "attempt.settled" else "")
    return " ".join(filter(None, words))


def _name(unit: Unit) -> str:
    change: Any = unit.change
    return getattr(getattr(change, "func", change), "__qualname__", "")  # or that of a partial


def passed(folder: Path, name: str) -> frozenset[str]:
    """The points in one of the files in *folder*."""
    path = folder / name
    return frozenset(path.read_text(encoding="utf-8").splitlines() if path.exists() else ())


if __name__ == "__main__":
    patch.object(database, "Writer", CrashingWriter).start()
    # Workers that die on purpose are not to be waited for ever longer.
    patch.object(parent, "BACKOFF", (0.02,)).start()
    sys.exit(main())
