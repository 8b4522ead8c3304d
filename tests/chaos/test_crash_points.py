"""The server is killed at every boundary of a transaction, before the commit and after it."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import anyio
import pytest

from bench.server import ROOT, free_port
from tests.chaos.checker import Record, violations
from tests.chaos.clients import FeedReader, Operator
from tests.chaos.crash_points import FOLDER, KILLED, ONLY, SEEN, WHEN, passed
from tests.chaos.plan import Task
from tests.chaos.processes import Site
from tests.chaos.run import events_in, program_in, stamps_in
from tests.stories.server import until

pytestmark = pytest.mark.anyio

#: A lead with two children, one of which waits for the other. It ends once without finishing, and
#: is resumed. The first child works until the lead is inside its wait: if it were done before that,
#: as it is when the server happens to die more often, there would be nothing to wait for.
FIRST = Task("first", keyed=False, steps=(("meet",), ("report",), ("finish", "done")))
SECOND = Task("second", ("first",), steps=(("work", 50), ("finish", "done")))
LEAD = Task(
    "lead",
    steps=(
        ("report",),
        ("create", "first"),
        ("create", "second"),
        ("leave",),
        ("wait", ("first",)),
        ("wait", ("second",)),
        ("finish", "done"),
    ),
    children=(FIRST, SECOND),
)
#: What the points have to include, or they are not those of the whole story.
BOUNDARIES = (
    "job.created lead",
    "job.created second",
    "job.running lead",  # claim
    "attempt.started lead",
    "attempt.session lead",
    "attempt.progress lead",
    "attempt.settled lead unfinished",
    "attempt.ended lead",
    "job.queued lead",  # it is to go on
    "job.running lead resumed",
    "attempt.started lead resumed",
    "wait.opened lead resumed",
    "wait.closed lead resumed",
    "attempt.settled first done",  # by finish_job
    "job.done first",
    "attempt.ended first",
    "job.queued second",  # it waited for the first one's process
    "job.running second",
    "job.done second",
    "job.done lead resumed",
    "attempt.ended lead resumed",
)
#: One whose model is limited, so that it goes on with the next one; and one that has no other: it
#: is parked until the announced reset, probes, and is answered.
MOVED = Task(
    "moved",
    models=("claude-opus-chaos", "claude-sonnet-chaos"),
    steps=(("report",), ("answer", ("claude-opus-chaos",), 60.0), ("finish", "done")),
)
PARKED = Task(
    "parked",
    models=("claude-haiku-chaos",),
    steps=(("report",), ("answer", ("claude-haiku-chaos",), 6.0), ("finish", "done")),
)
LIMIT_BOUNDARIES = (
    "attempt.refused {}",
    "model.limited {}",
    "attempt.settled {} limited",
    "job.queued {}",
    "job.running {} resumed",
    "job.done {} resumed",
)
PARK_BOUNDARIES = ("job.parked parked", "model.probed parked resumed", "model.available")
STRIDE = 5  #: so many points are passed between two at which one server is killed


@dataclass(frozen=True, slots=True)
class Told:
    """How a story went."""

    seen: frozenset[str]
    killed: frozenset[str]


async def story(
    folder: Path, when: str, points: frozenset[str] = frozenset(), first: Task = LEAD
) -> Told:
    """Let a server live through *first* and judge it; it is killed at *points* (none: at all)."""
    await anyio.Path(folder).mkdir()
    environment = {
        "SERVER": "tests.chaos.crash_points",
        "PYTHONPATH": str(ROOT),
        FOLDER: str(folder),
        WHEN: when,
        ONLY: "\n".join(sorted(points)),
    }
    site = Site(folder, program_in(folder), free_port(), environment)
    await anyio.Path(site.stamps).mkdir()
    record = Record(tasks={task.name: task for task in first.family()})
    await site.start()
    operator = Operator(site, record)
    try:
        with anyio.move_on_after(50):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(FeedReader(site, record, Random(1), lambda _event: None).run)
                await operator.outcome(await operator.create(first))
                while await operator.has_work():  # noqa: ASYNC110  (asked of another process)
                    await anyio.sleep(0.1)
                last = await operator.last_event()
                await until(lambda: record.feed[-1:] >= [last], timeout_s=20)
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await operator.close()
            record.leftovers = await anyio.to_thread.run_sync(site.end)
    record.events = events_in(site.data_dir / "hurlicane.db")
    record.stamps = stamps_in(site.stamps)
    assert list(violations(record)) == []
    ends = [event.kind for event in record.of_kind("job.done", "job.failed", "job.cancelled")]
    assert ends == ["job.done"] * len(record.tasks)
    assert site.unasked == []
    return Told(passed(folder, SEEN), passed(folder, KILLED))


async def test_the_story_is_whole_and_has_all_boundaries(tmp_path: Path) -> None:
    told = await story(tmp_path / "calm", "never")
    assert set(BOUNDARIES) - told.seen == set()
    assert told.killed == frozenset()


@pytest.mark.timeout(120)
async def test_a_server_that_is_killed_at_every_boundary_loses_nothing(tmp_path: Path) -> None:
    """Two servers side by side: one dies before each commit, the other after it."""
    killed: dict[str, frozenset[str]] = {}

    async def one(when: str) -> None:
        killed[when] = (await story(tmp_path / when, when)).killed

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "before")
        tasks.start_soon(one, "after")
    for points in killed.values():
        assert set(BOUNDARIES) - points == set()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("task", "more"), [(MOVED, ()), (PARKED, PARK_BOUNDARIES)], ids=["moved", "parked"]
)
async def test_a_server_that_is_killed_while_a_model_is_limited_loses_nothing(
    tmp_path: Path, task: Task, more: tuple[str, ...]
) -> None:
    killed: dict[str, frozenset[str]] = {}

    async def one(when: str) -> None:
        killed[when] = (await story(tmp_path / when, when, first=task)).killed

    async with anyio.create_task_group() as tasks:
        for when in ("before", "after"):
            tasks.start_soon(one, when)
    boundaries = {point.format(task.name) for point in LIMIT_BOUNDARIES} | set(more)
    for points in killed.values():
        assert boundaries - points == set()


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_that_is_killed_at_some_boundaries_loses_nothing(
    tmp_path: Path, when: str
) -> None:
    """Each boundary, with a server that has lived through the ones before it."""
    points = sorted((await story(tmp_path / "calm", "never")).seen)
    killed: set[str] = set()

    async def one(number: int) -> None:
        chosen = frozenset(points[number::STRIDE])
        killed.update((await story(tmp_path / f"killed {number}", when, chosen)).killed)

    async with anyio.create_task_group() as tasks:
        for number in range(STRIDE):
            tasks.start_soon(one, number)
    assert set(BOUNDARIES) - killed == set()
