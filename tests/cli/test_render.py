"""What reaches a terminal."""

import pytest

from hurlicane_mcp.cli.connection import Event
from hurlicane_mcp.cli.follow import JobTree, entry_lines
from hurlicane_mcp.cli.render import brief, duration, printable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59.4, "59s"), (59.6, "1m00s"), (3725, "1h02m"), (90000, "1d01h")],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_control_characters_of_an_agent_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07b\x9b2Jc\r\n\td") == "a]0;titleb2Jc\n\td"
    assert brief("\x1b[31mred\nmore", 5) == "[31m…"


def happened(kind: str, job_id: str, attempt: int | None = None, **data: object) -> Event:
    event = {"seq": 1, "at": "2026-11-24T08:00:00Z", "kind": kind, "job_id": job_id}
    return Event(kind, "1", {**event, "attempt": attempt, "data": data})


def test_a_tree_takes_descendants_and_nobody_else() -> None:
    tree = JobTree("root")
    for job, parent in (("root", None), ("other", None), ("child", "root"), ("grand", "child")):
        created = happened("job.created", job, status="queued", title=job, parent_id=parent)
        tree.take(created)
    assert list(tree.jobs) == ["root", "child", "grand"]
    assert tree.take(happened("job.running", "other", 1)) is None
    assert tree.take(happened("job.running", "child", 2)) == "running, attempt 2"
    lost = happened("job.failed", "child", 2, failure_kind="crashed", reason="It fell.")
    assert tree.take(lost) == "failed: crashed: It fell."
    assert not tree.is_over
    tree.take(happened("job.done", "root", 1))
    assert tree.is_over


def test_a_tool_call_is_one_line_unless_it_fails() -> None:
    begun = {"kind": "tool", "tool": "Bash", "text": "ls", "finished": False}
    ended = {**begun, "finished": True}
    failed = {**ended, "is_error": True, "text": "no such file"}
    assert entry_lines([begun, ended]) == ["→ Bash ls"]
    assert entry_lines([failed]) == ["✗ Bash no such file"]
