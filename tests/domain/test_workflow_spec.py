"""What may be asked for in a workflow."""

from decimal import Decimal

import pytest

from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec, check_workflow, parse_stops
from hurlicane_mcp.domain.workflows import Phase, Publish
from hurlicane_mcp.errors import Invalid


def test_a_task_alone_is_enough() -> None:
    check_workflow(WorkflowSpec(task="Build it."))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (WorkflowSpec(task="  "), "`task` is empty"),
        (WorkflowSpec(task="x" * 70_000), "70,000 bytes"),
        (WorkflowSpec(task="x", max_cycles=0), "from 1 to 50"),
        (WorkflowSpec(task="x", max_cycles=51), "not 51"),
        (WorkflowSpec(task="x", title=" "), "`title`"),
        (WorkflowSpec(task="x", priority=11), "`priority`"),
        (WorkflowSpec(task="x\0"), "task"),
        (WorkflowSpec(task="x", use_worktree=False), "`publish` to none"),
        (
            WorkflowSpec(task="x", use_worktree=False, publish=Publish.NONE, base_branch="main"),
            "`base_branch`",
        ),
        (WorkflowSpec(task="x", budget_usd=Decimal(0)), "budget"),
        (WorkflowSpec(task="x", idempotency_key=""), "`idempotency_key`"),
    ],
)
def test_what_no_server_would_take_is_refused_by_name(spec: WorkflowSpec, word: str) -> None:
    with pytest.raises(Invalid, match=word):
        check_workflow(spec)


def test_the_bounds_of_phases_are_read() -> None:
    given = {
        "implement": {"stop_mode": "turns", "stop_value": 50},
        "review": {"stop_mode": "budget", "stop_value": "0.5"},
        "assess": {"stop_mode": "completion"},
    }
    assert parse_stops(given) == {
        Phase.IMPLEMENT: Stop(StopMode.TURNS, Decimal(50)),
        Phase.REVIEW: Stop(StopMode.BUDGET, Decimal("0.5")),
        Phase.ASSESS: Stop(),
    }
    assert parse_stops(None) == {}


@pytest.mark.parametrize(
    "given",
    [
        [],
        {"repair": {"stop_mode": "turns", "stop_value": 5}},
        {"nonsense": {"stop_mode": "turns", "stop_value": 5}},
        {"implement": "turns"},
        {"implement": {"stop_mode": "hours", "stop_value": 5}},
        {"implement": {"stop_mode": "turns", "stop_value": "five"}},
        {"implement": {"stop_mode": "turns", "stop_value": 5, "more": 1}},
        {"implement": {"stop_mode": "turns"}},
    ],
)
def test_bounds_that_cannot_be_read_are_refused(given: object) -> None:
    with pytest.raises(Invalid):
        parse_stops(given)
