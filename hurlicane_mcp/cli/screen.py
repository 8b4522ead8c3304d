"""Where the course of a followed job is shown: live on a terminal, else line by line."""

import sys
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Group
from rich.live import Live
from rich.text import Text

from hurlicane_mcp.cli.follow import JobTree
from hurlicane_mcp.cli.render import console, job_table, note, printable

_TAIL: Final = 8  #: lines of output below the table of jobs


class Screen(Protocol):
    """Shows what happens. Both calls come in the order of the events."""

    def moved(self, job_id: str, what: str | None) -> None:
        """Something happened to a job of the tree; *what* says it, if it is worth a line."""
        ...

    def printed(self, lines: Iterable[str]) -> None:
        """The agent of the job that is followed printed this."""
        ...


class Lines:
    """Lines on standard error."""

    def __init__(self, tree: JobTree) -> None:
        self._tree = tree

    def moved(self, job_id: str, what: str | None) -> None:
        """As in `Screen`."""
        if what and not self._tree.is_over:  # the report that follows tells of its end
            note(f"{job_id} {what}")

    def printed(self, lines: Iterable[str]) -> None:
        """As in `Screen`."""
        for line in lines:
            note(f"  {line}")


class Board:
    """A table of the jobs and the last lines of output, drawn anew four times a second."""

    def __init__(self, tree: JobTree) -> None:
        self._tree = tree
        self._tail: deque[str] = deque(maxlen=_TAIL)

    def moved(self, job_id: str, what: str | None) -> None:
        """As in `Screen`. The table is made of the tree each time it is drawn."""

    def printed(self, lines: Iterable[str]) -> None:
        """As in `Screen`."""
        self._tail.extend(printable(line) for line in lines)

    def __rich__(self) -> Group:
        tail = (Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in self._tail)
        return Group(job_table(self._tree.jobs.values()), *tail)


@contextmanager
def screen(tree: JobTree) -> Generator[Screen]:
    """A place to show *tree* for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield Lines(tree)
        return
    board = Board(tree)
    with Live(board, console=console(sys.stderr), refresh_per_second=4, transient=True):
        yield board
