"""What reaches a terminal."""

import pytest

from hurlicane_mcp.cli.connection import Event
from hurlicane_mcp.cli.follow import JobTree, entry_lines
from hurlicane_mcp.cli.render import brief, duration, printable
from hurlicane_mcp.cli.words import in_words, limit_in_words


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


def test_a_warning_is_a_line_and_moves_no_job() -> None:
    tree = JobTree("root")
    tree.take(happened("job.created", "root", status="queued", title="t", parent_id=None))
    tree.take(happened("job.running", "root", 1))
    warned = happened("job.warned", "root", warning="turns", text="Many turns are used.")
    assert tree.take(warned) == "warning: Many turns are used."
    assert tree.take(happened("job.warning_cleared", "root", warning="turns", text="x")) is None
    assert tree.jobs["root"]["status"] == "running"


def test_a_tool_call_is_one_line_unless_it_fails() -> None:
    begun = {"kind": "tool", "tool": "Bash", "text": "ls", "finished": False}
    ended = {**begun, "finished": True}
    failed = {**ended, "is_error": True, "text": "no such file"}
    assert entry_lines([begun, ended]) == ["→ Bash ls"]
    assert entry_lines([failed]) == ["✗ Bash no such file"]


LIMITED = {
    "provider": "claude",
    "model": "*",
    "failure_kind": "auth",
    "strikes": 2,
    "manual": False,
    "evidence": "Invalid API key\nsecond line",
}
REFUSED = {"failure_kind": "overloaded", "text": "API Error: 529", "final": False}


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        (
            "model.limited",
            LIMITED,
            "claude:* is limited until it is cleared (auth, strike 2): Invalid API key",
        ),
        (
            "model.available",
            {"provider": "codex", "model": "", "why": "It answered job_x.2."},
            "codex:default may be used again: It answered job_x.2.",
        ),
        (
            "model.probed",
            {"provider": "codex", "model": "gpt-5.5"},
            "tries codex:gpt-5.5 again, from which others stay away until then",
        ),
        (
            "job.parked",
            {"not_before": None, "by": "claude/*", "why": "claude/* is limited."},
            "parked until it is cleared: claude/* is limited. `hurlicane models clear claude`",
        ),
        (
            "job.parked",
            {"not_before": "2020-01-02T12:00:00+00:00", "by": "daily_budget", "why": "Spent."},
            "parked until Jan 02, ",
        ),
        (
            "attempt.refused",
            REFUSED,
            "its model refuses (overloaded; its CLI tries again): API Error: 529",
        ),
        ("attempt.refused", REFUSED | {"final": True}, "its model refuses (overloaded): API"),
        (
            "job.nearly_stopped",
            {"mode": "turns", "used": "8 of 10 turns"},
            "has used 8 of 10 turns; at the limit it is stopped",
        ),
        (
            "cap.nearly_reached",
            {"cap": "daily_budget", "text": "All jobs together have cost $8.00 today."},
            "most of it is used: All jobs together have cost $8.00 today.",
        ),
        (
            "attempt.settled",
            {"outcome": "limited", "failure_kind": "rate_limit", "reason": "429"},
            "stopped, to go on with the next model, or later (rate_limit)",
        ),
        (
            "attempt.settled",
            {"outcome": "limited", "failure_kind": "budget", "reason": "All is spent."},
            "stopped, to go on when there is budget again: All is spent.",
        ),
        (
            "attempt.settled",
            {"outcome": "done", "stopped_by": "turns"},
            "stopped by its limit (turns), with the work that there is",
        ),
    ],
)
def test_what_happens_to_models_and_at_limits_is_told_in_words(
    kind: str, data: dict[str, object], told: str
) -> None:
    words = in_words(happened(kind, "job_x", 2, **data).data)
    assert words is not None
    assert words.startswith(told)


def test_events_about_other_things_have_no_words_of_their_own() -> None:
    assert in_words(happened("job.done", "job_x", 1, status="done").data) is None
    assert in_words(happened("attempt.settled", "job_x", 1, outcome="done").data) is None


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("auth", "log in with its CLI, then `hurlicane models clear claude`"),
        ("billing", "pay what is due, then `hurlicane models clear claude`"),
        ("rate_limit", "`hurlicane models clear claude` ends it"),
    ],
)
def test_a_limit_that_lasts_says_what_a_person_can_do(kind: str, remedy: str) -> None:
    limit = {"name": "claude:*", "kind": kind, "manual": False, "evidence": "No."}
    told = limit_in_words(limit)
    assert told == f"claude:* is limited until it is cleared ({kind}: No.): {remedy}"
    ends = limit_in_words({**limit, "until": "2020-01-02T12:00:00+00:00"})
    assert ends.endswith(f"({kind}: No.)")


def test_a_parked_job_of_a_tree_is_shown_as_parked_until_it_moves() -> None:
    tree = JobTree("root")
    tree.take(happened("job.created", "root", status="queued", title="root"))
    parked = tree.take(happened("job.parked", "root", not_before=None, by="claude/*", why="No."))
    assert parked == "parked until it is cleared: No. `hurlicane models clear claude`"
    assert (tree.jobs["root"]["status"], tree.jobs["root"]["limited_by"]) == ("queued", "claude/*")
    tree.take(happened("job.running", "root", 1))
    assert tree.jobs["root"]["limited_by"] is None
    stopped = tree.take(happened("job.done", "root", 1, stopped_by="turns"))
    assert stopped == "done, stopped by its limit (turns), with the work that there is"
