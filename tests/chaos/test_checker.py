"""The checker of the chaos runs finds what it is there for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import RULES, Event, Record, Stamp, Told, violations
from tests.chaos.plan import Task

Change = Callable[[Record], None]

LEAD, CHILD, LATER = "job_lead", "job_child", "job_later"


def sound_record() -> Record:
    """A lead with a child, and a job that depends on the lead. The lead took two attempts."""
    log: tuple[tuple[str, int, str, dict[str, Any]], ...] = (
        (LEAD, 0, "job.created", {"title": "lead", "parent_id": None}),
        (LATER, 0, "job.created", {"title": "later", "parent_id": None}),
        (LEAD, 1, "job.running", {}),
        (LEAD, 1, "attempt.progress", {"text": "step 1"}),
        (LEAD, 1, "attempt.settled", {}),
        (LEAD, 0, "job.queued", {}),
        (LEAD, 1, "attempt.ended", {}),
        (LEAD, 2, "job.running", {}),
        (CHILD, 0, "job.created", {"title": "child", "parent_id": LEAD}),
        (LEAD, 2, "wait.opened", {}),
        (CHILD, 1, "job.running", {}),
        (CHILD, 1, "attempt.settled", {}),
        (CHILD, 1, "job.done", {}),
        (CHILD, 1, "attempt.ended", {}),
        (LEAD, 2, "attempt.settled", {}),
        (LEAD, 2, "job.done", {}),
        (LEAD, 2, "attempt.ended", {}),
        (LATER, 0, "job.queued", {}),
        (LATER, 1, "job.running", {}),
        (LATER, 1, "attempt.settled", {}),
        (LATER, 1, "job.done", {}),
        (LATER, 1, "attempt.ended", {}),
    )
    told = {"job_id": CHILD, "status": "done", "result": "child by 1"}
    lead = (
        stamp(3.5, 1, "start"),
        stamp(6.5, 1, "end"),
        stamp(8.2, 2, "start"),
        stamp(9.5, 2, "answer", tool="create_job", answered={"job_id": CHILD}),
        stamp(13.5, 2, "told", **told),
        *finishing(14.5, 2, LEAD, "lead by 2"),
    )
    return Record(
        tasks={"later": Task("later", depends_on=("lead",)), "child": Task("child", keyed=False)},
        events=[Event(n, n, kind, job, a, d) for n, (job, a, kind, d) in enumerate(log, 1)],
        stamps={
            LEAD: lead,
            CHILD: (stamp(11.5, 1, "start"), *finishing(11.6, 1, CHILD, "child by 1")),
            LATER: (stamp(19.5, 1, "start"), *finishing(19.6, 1, LATER, "later by 1")),
        },
        created={"lead": LEAD, "later": LATER},
        told=[Told(LEAD, "done", "lead by 2")],
        feed=list(range(1, 23)),
        replays=[("report_status", "stale_attempt: stop")],
    )


def stamp(at: float, attempt: int, what: str, **data: Any) -> Stamp:
    return Stamp(at, attempt, what, data)


def finishing(at: float, attempt: int, job_id: str, result: str) -> tuple[Stamp, ...]:
    answered = {"job_id": job_id, "status": "done"}
    return (
        stamp(at, attempt, "call", tool="finish_job", result=result),
        stamp(at, attempt, "answer", tool="finish_job", answered=answered),
    )


def events(change: Callable[[list[Event]], object]) -> Change:
    """Change the log; it is numbered anew afterwards."""

    def apply(record: Record) -> None:
        log = list(record.events)
        change(log)
        record.events = [replace(event, seq=number) for number, event in enumerate(log, 1)]
        record.feed = [event.seq for event in record.events]

    return apply


def again(number: int, at: int, **values: Any) -> Change:
    """Tell event *number* a second time, as number *at*, with other values."""
    return events(lambda log: log.insert(at - 1, replace(log[number - 1], **values)))


def stamps(job_id: str, change: Callable[[list[Stamp]], object]) -> Change:
    def apply(record: Record) -> None:
        lines = list(record.stamps[job_id])
        change(lines)
        record.stamps = {**record.stamps, job_id: lines}

    return apply


def record(change: Callable[[Record], object]) -> Change:
    def apply(record: Record) -> None:
        change(record)

    return apply


def test_a_sound_record_has_no_violations() -> None:
    assert violations(sound_record()) == []


CASES: dict[str, tuple[str, Change]] = {
    "an end is missing": ("every_job_ends_once", events(lambda log: log.pop(12))),
    "a second end": ("every_job_ends_once", again(13, 14, kind="job.failed")),
    "a queued job after its end": ("every_job_ends_once", again(6, 17)),
    "an attempt is claimed twice": ("attempts_rise", again(8, 9)),
    "a claim before the last one ended": ("attempts_rise", again(8, 7)),
    "an attempt that never ended": ("attempts_rise", events(lambda log: log.pop(16))),
    "a word of the older attempt": ("only_the_current_attempt_writes", again(4, 9)),
    "a word after the end": ("only_the_current_attempt_writes", again(10, 16)),
    "a job of an older attempt": (
        "creators_were_current",
        stamps(LEAD, lambda lines: lines.insert(1, replace(lines[3], attempt=1))),
    ),
    "an acknowledged child is not there": (
        "creators_were_current",
        stamps(
            LEAD,
            lambda lines: lines.append(
                stamp(16, 2, "answer", tool="create_job", answered={"job_id": "job_none"})
            ),
        ),
    ),
    "two agents of an attempt": (
        "lives_never_overlap",
        stamps(LEAD, lambda lines: lines.insert(0, lines[0])),
    ),
    "the old agent moves on": (
        "lives_never_overlap",
        stamps(LEAD, lambda lines: lines.append(stamp(16, 1, "beat"))),
    ),
    "the kernel saw two lives": (
        "lives_never_overlap",
        stamps(LEAD, lambda lines: lines.append(stamp(16, 2, "overlap"))),
    ),
    "a beat after the end": (
        "ended_means_gone",
        stamps(LATER, lambda lines: lines.append(stamp(23, 1, "beat"))),
    ),
    "a dependant that was too early": ("dependants_come_after", again(16, 21, job_id=LEAD)),
    "a dependant beside the old agent": (
        "dependants_come_after",
        stamps(LEAD, lambda lines: lines.append(stamp(20, 2, "beat"))),
    ),
    "an acknowledged job is not there": (
        "acknowledged_jobs_exist",
        record(lambda one: one.created.update(gone="job_gone")),
    ),
    "the operator's job twice": ("acknowledged_jobs_exist", again(2, 3, job_id="job_twin")),
    "a child twice": (
        "acknowledged_jobs_exist",
        lambda one: (
            one.tasks.update(child=Task("child", keyed=True)),
            again(9, 10, job_id="job_twin")(one),
        )[1],
    ),
    "an end that was answered otherwise": (
        "acknowledged_ends_hold",
        events(lambda log: log.__setitem__(15, replace(log[15], kind="job.failed"))),
    ),
    "a result that nobody gave": (
        "acknowledged_ends_hold",
        record(lambda one: one.told.append(Told(LATER, "done", "lead by 2"))),
    ),
    "a waiter that waits still": (
        "every_waiter_returned",
        record(lambda one: one.waiting.add(LATER)),
    ),
    "an agent that gave up": (
        "every_waiter_returned",
        stamps(LEAD, lambda lines: lines.append(stamp(16, 2, "gave_up", tool="wait_for_jobs"))),
    ),
    "a current agent that was refused": (
        "every_waiter_returned",
        stamps(LEAD, lambda lines: lines.append(stamp(16, 2, "refused", text="unauthorized"))),
    ),
    "the feed told one twice": ("the_feed_is_exact", record(lambda one: one.feed.insert(3, 3))),
    "the feed left one out": ("the_feed_is_exact", record(lambda one: one.feed.pop(3))),
    "a replay was taken": (
        "replays_change_nothing",
        record(lambda one: one.replays.append(("report_status", '{"ok":true}'))),
    ),
    "a replay was written": ("replays_change_nothing", again(4, 5, data={"text": "replayed"})),
    "a process is left": ("nothing_is_left", record(lambda one: one.leftovers.append("4711"))),
}


@pytest.mark.parametrize(("rule", "change"), CASES.values(), ids=CASES)
def test_a_violation_is_found(rule: str, change: Change) -> None:
    record = sound_record()
    change(record)
    assert rule in {one.partition(":")[0] for one in violations(record)}


def test_every_rule_has_a_case() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _ in CASES.values()}
