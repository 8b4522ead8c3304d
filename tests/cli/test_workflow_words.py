"""Workflows in words: what their events tell, and what a block asks for."""

from typing import Any

import pytest

from hurlicane_mcp.cli.words import in_words
from hurlicane_mcp.cli.workflow_words import block_lines

AT = {"state": "running", "cycle": 2, "phase": "review", "try": 1, "milestones": "1 of 3"}
BLOCK = {"kind": "phase_failed", "reason": "It\x1b[2J crashed.", "advice": "Look at it."}


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (
            "created",
            {"implementer": "claude:opus", "reviewer": "codex:", "max_cycles": 3},
            "claude:opus implements, codex reviews, 3 cycles at most",
        ),
        ("phase", AT, "cycle 2, review; 1 of 3 milestones"),
        ("phase", AT | {"try": 2}, "cycle 2, review, try 2; 1 of 3 milestones"),
        ("blocked", AT | {"blocked": "no_plan", "reason": "None.\nx"}, "blocked (no_plan): None."),
        ("resumed", AT, "goes on with review, cycle 2"),
        ("published", AT, "publishing its branch is over"),
        ("ended", AT, "its phases are over; 1 of 3 milestones"),
        ("incomplete", AT, "incomplete; 1 of 3 milestones"),
        ("dreamt", AT, None),
    ],
)
def test_an_event_is_told_in_one_line(kind: str, data: dict[str, Any], words: str | None) -> None:
    assert in_words({"kind": f"workflow.{kind}", "data": data}) == words


def test_a_block_tells_when_it_is_tried_again_by_itself_and_what_a_person_can_do() -> None:
    healing = BLOCK | {"heals_at": "2026-01-05T09:00:00+00:00"}
    first, second, third = block_lines({"blocked": healing})
    assert first == "phase_failed: It[2J crashed."
    assert second.startswith("It is tried again by itself at ")
    assert third == "Look at it."
    assert len(block_lines({"blocked": BLOCK})) == 2
    assert block_lines({"state": "running"}) == []
