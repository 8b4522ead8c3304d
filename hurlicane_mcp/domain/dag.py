"""The graph of who waits for whom, and which new edge would close a circle."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from hurlicane_mcp.errors import Invalid, WaitCycle


def path(
    graph: Mapping[str, Iterable[str]], start: str, goals: frozenset[str]
) -> tuple[str, ...] | None:
    """The shortest way from *start* to one of *goals* along the edges, or None.

    A path has at least one edge, so `path(g, a, {a})` finds a circle through `a`.
    """
    came: dict[str, str] = {}
    frontier = [start]
    while frontier:
        following: list[str] = []
        for node in frontier:
            for nxt in graph.get(node, ()):
                if nxt in goals:
                    return (*_walk_back(came, start, node), nxt)
                if nxt not in came and nxt != start:
                    came[nxt] = node
                    following.append(nxt)
        frontier = following
    return None


def _walk_back(came: Mapping[str, str], start: str, node: str) -> tuple[str, ...]:
    way = [node]
    while way[-1] != start:
        way.append(came[way[-1]])
    return tuple(reversed(way))


def in_words(circle: Sequence[str], files: Mapping[tuple[str, str], str]) -> str:
    """The jobs of a circle in order, each with the file that the one before it waits for, if the
    wait is for a lock."""
    steps = (f"{one[1]} ({files[one]})" if one in files else one[1] for one in pairwise(circle))
    told = " → ".join((circle[0], *steps))
    return f"These jobs would wait for each other for ever: {told}."


def refuse_cycle(
    graph: Mapping[str, Iterable[str]],
    waiter: str,
    awaited: Iterable[str],
    files: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> None:
    """Refuse that *waiter* waits for *awaited* if one of these, at last, waits for *waiter*.

    *files*: what is locked, for those edges that are waits for a lock.

    Raises:
        WaitCycle: the message names the jobs of the circle in order.
    """
    for target in awaited:
        if target == waiter:
            raise WaitCycle(f"Job {waiter} cannot wait for itself.")
        way = path(graph, target, frozenset({waiter}))
        if way is not None:
            raise WaitCycle(in_words((waiter, *way), files))


def refuse_ancestors(depends_on: Iterable[str], ancestors: Sequence[str]) -> None:
    """Refuse a dependency on a job that waits, or may wait, for the new one.

    Raises:
        Invalid: *depends_on* names the creator or one of its ancestors.
    """
    above = frozenset(ancestors)
    for dependency in depends_on:
        if dependency in above:
            raise Invalid(
                f"`depends_on` names {dependency}, which is an ancestor of the new job: they would "
                "wait for each other for ever. Name only jobs that you created."
            )
