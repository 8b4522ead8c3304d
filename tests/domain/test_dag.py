"""Who may wait for whom."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.dag import path, refuse_ancestors, refuse_cycle
from hurlicane_mcp.errors import Invalid, WaitCycle

NODES = st.integers(0, 7).map(str)
GRAPHS = st.dictionaries(NODES, st.frozensets(NODES, max_size=4), max_size=8)


def test_a_wait_that_closes_a_circle_is_refused_by_name() -> None:
    graph = {"b": {"c"}, "c": {"a"}}
    with pytest.raises(WaitCycle, match="a → b → c → a"):
        refuse_cycle(graph, "a", ["b"])


def test_nobody_waits_for_himself() -> None:
    with pytest.raises(WaitCycle, match="cannot wait for itself"):
        refuse_cycle({}, "a", ["a"])


def test_a_diamond_is_no_circle() -> None:
    refuse_cycle({"b": {"d"}, "c": {"d"}}, "a", ["b", "c"])


def test_a_dependency_on_an_ancestor_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="names root"):
        refuse_ancestors(["sibling", "root"], ["parent", "root"])


@given(GRAPHS, NODES, NODES)
def test_a_path_follows_edges_from_start_to_goal(
    graph: dict[str, frozenset[str]], start: str, goal: str
) -> None:
    way = path(graph, start, frozenset({goal}))
    if way is None:
        assert goal not in _reachable(graph, start)
    else:
        assert (way[0], way[-1]) == (start, goal)
        assert all(there in graph[here] for here, there in pairwise(way))


def _reachable(graph: dict[str, frozenset[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = list(graph.get(start, ()))
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            left.extend(graph.get(node, ()))
    return seen
