"""One chaos run: a plan, a server, its clients and the faults, until every job is final."""

import json
import math
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import anyio
from anyio.abc import TaskGroup

from bench.server import ROOT, free_port
from tests.chaos.agent import PROGRAM
from tests.chaos.checker import Event, Record, Stamp
from tests.chaos.clients import FeedReader, Operator
from tests.chaos.faults import Faults
from tests.chaos.plan import tasks
from tests.chaos.processes import Site
from tests.stories.server import until

OPEN_ROOTS = 24  #: jobs of the operator that may be open at once
END_S = 90.0  #: for everything to come to its end once the faults are over


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; *seconds* ends the faults and the creations early."""

    jobs: int
    kills: int
    freezes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was, for the checker and for people."""

    record: Record
    faults: Counter[str]
    kills: int
    freezes: int
    took_s: float
    restarts: int
    unasked: Sequence[int]


class Run:
    """Carries one run out in *folder*."""

    def __init__(self, folder: Path, seed: int, size: Size) -> None:
        self._size = size
        self._random = Random(seed)
        self._plan = tasks(Random(seed))
        self._record = Record()
        self._site = Site(folder, program_in(folder), free_port())
        self._site.stamps.mkdir()
        self._began = time.monotonic()

    async def whole(self) -> Report:
        """Run it, and gather what is left."""
        site, record = self._site, self._record
        await site.start()
        operator = Operator(site, record)
        faults = Faults(site, operator, record, self._random)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(FeedReader(site, record, self._random, faults.hear).run)
                await self._suffer(operator, faults, tasks)
                await site.keep()
                with anyio.move_on_after(END_S):
                    await self._come_to_rest(operator)
                tasks.cancel_scope.cancel()
        finally:
            took_s = time.monotonic() - self._began
            with anyio.CancelScope(shield=True):
                await operator.close()
            record.leftovers = site.end()
            record.events = events_in(site.data_dir / "hurlicane.db")
            record.stamps = stamps_in(site.stamps)
        return Report(
            record, faults.done, faults.kills, faults.freezes, took_s, site.restarts, site.unasked
        )

    async def _suffer(self, operator: Operator, faults: Faults, longer: TaskGroup) -> None:
        """Create all jobs and see their ends, with faults all the while.

        What outlasts the faults, waits and the ends of freezes, goes on in *longer*.
        """
        size = self._size

        def is_due() -> bool:
            """Whether there is room for a root, and enough has been suffered for it."""
            suffered = min(faults.kills / size.kills, faults.freezes / size.freezes)
            is_calm = suffered < faults.created / size.jobs
            open_roots = len(self._record.waiting)
            return open_roots == 0 or (not is_calm and open_roots < OPEN_ROOTS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(faults.kill_for_ever)
            tasks.start_soon(faults.replay_for_ever)
            tasks.start_soon(faults.freeze_for_ever, size.kills / size.freezes, longer)
            with anyio.move_on_after(size.seconds):
                while faults.created < size.jobs:
                    task = next(self._plan)
                    self._record.tasks.update((one.name, one) for one in task.family())
                    longer.start_soon(operator.outcome, await operator.create(task))
                    await until(is_due, timeout_s=math.inf)
                await until(lambda: not self._record.waiting, timeout_s=math.inf)
            tasks.cancel_scope.cancel()

    async def _come_to_rest(self, operator: Operator) -> None:
        """Return when every job is final, every process gone, and the feed told."""
        await until(lambda: not self._record.waiting, timeout_s=math.inf)
        while await operator.has_work():  # noqa: ASYNC110  (asked of another process)
            await anyio.sleep(0.2)
        last = await operator.last_event()
        await until(lambda: self._record.feed[-1:] >= [last], timeout_s=math.inf)


def program_in(folder: Path) -> Path:
    """The agent's program, written into *folder*."""
    path = folder / "claude"
    path.write_text(PROGRAM.format(python=sys.executable, root=str(ROOT)))
    path.chmod(0o700)
    return path


def events_in(path: Path) -> Sequence[Event]:
    """The event log of the database at *path*."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT seq, at, kind, job_id, attempt, data FROM event")
        return [
            Event(seq, _seconds(at), kind, job_id or "", attempt or 0, json.loads(data))
            for seq, at, kind, job_id, attempt, data in sorted(rows)
        ]


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()


def stamps_in(folder: Path) -> Mapping[str, Sequence[Stamp]]:
    """What the agents have stamped into *folder*, by job."""
    since = time.time() - time.monotonic()  # the agents' clock begins at the boot
    found: dict[str, Sequence[Stamp]] = {}
    for path in folder.glob("*.stamps"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.stem] = [
            Stamp(line["at"] + since, line["attempt"], line["what"], line) for line in lines
        ]
    return found
