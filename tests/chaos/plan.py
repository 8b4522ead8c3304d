"""What the agents of a chaos run have to do: a forest of small tasks, the same for each seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

MAX_CHILDREN = 4
#: How likely a task creates others, by its depth.
PARENTS = (0.5, 0.3, 0.2, 0)


@dataclass(frozen=True, slots=True)
class Task:
    """A job and what its agent does; the agent gets it as JSON in the job's description."""

    name: str  #: the job's title, which no other job of the run has
    depends_on: tuple[str, ...] = ()  #: names of siblings, or of earlier jobs of the operator
    keyed: bool = True  #: whether it is created with an idempotency key
    steps: tuple[tuple[Any, ...], ...] = ()
    models: tuple[str, ...] = ()  #: the chain of a job of the operator; empty for the default
    children: tuple["Task", ...] = field(default=())

    def family(self) -> Iterator["Task"]:
        """This task and all below it."""
        yield self
        for child in self.children:
            yield from child.family()

    def as_json(self) -> dict[str, Any]:
        """What the agent reads."""
        return {
            "name": self.name,
            "depends_on": self.depends_on,
            "keyed": self.keyed,
            "steps": self.steps,
            "children": {child.name: child.as_json() for child in self.children},
        }


def tasks(random: Random) -> Iterator[Task]:
    """The tasks of the operator, without end."""
    recent: list[str] = []
    for number in count():
        name = f"t{number}"
        yield _task(random, name, _some(random, recent, 0.01), 0)
        recent = [*recent[-7:], name]


def _task(random: Random, name: str, depends_on: tuple[str, ...], depth: int) -> Task:
    """A task and its children."""
    children: list[Task] = []
    is_parent = random.random() < PARENTS[depth]
    for number in range(random.randint(1, MAX_CHILDREN) if is_parent else 0):
        siblings = [one.name for one in children]
        child = _task(random, f"{name}.{number}", _some(random, siblings, 0.25), depth + 1)
        children.append(child)
    steps = tuple(_steps(random, children))
    return Task(name, depends_on, random.random() < 0.5, steps, children=tuple(children))


def _steps(random: Random, children: Sequence[Task]) -> Iterator[tuple[Any, ...]]:
    yield "work", random.randint(0, 1500)
    yield ("report",)
    for child in children:
        yield "create", child.name
        if random.random() < 0.3:
            yield "work", random.randint(0, 100)
    if random.random() < 0.1:
        yield ("leave",)  # ends its turn without finish_job, and is reminded
    for group in _groups(random, children):
        yield "wait", tuple(one.name for one in group)
    if random.random() < 0.3:
        yield ("report",)
    yield "finish", "failed" if random.random() < 0.04 else "done"
    if random.random() < 0.1:
        yield "work", random.randint(100, 2000)  # lives on after its job is over


def _groups(random: Random, children: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """All children at once, or each by itself."""
    if children and random.random() < 0.7:
        yield children
    else:
        yield from ((child,) for child in children)


def _some(random: Random, names: Sequence[str], chance: float) -> tuple[str, ...]:
    return tuple(name for name in names if random.random() < chance)
