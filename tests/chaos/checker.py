"""What must hold after any chaos: judged from the event log, the agents' stamps and what clients
were told, and from nothing else. Each rule yields its violations in words.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.chaos.plan import Task

FINAL = {"job.done": "done", "job.failed": "failed", "job.cancelled": "cancelled"}
#: Events that only a call of an agent writes.
AGENT_WRITES = frozenset({"attempt.progress", "wait.opened"})
#: What a replayed call names, so that any trace of it is found.
REPLAYED = "replayed"
#: How a token that is worth nothing any more is answered.
TURNED_AWAY = ("stale_attempt", "job_finished", "nothing changed")


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the event log; `at` is in seconds since the epoch."""

    seq: int
    at: float
    kind: str
    job_id: str
    attempt: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stamp:
    """A line that an agent wrote; `at` is in seconds since the epoch."""

    at: float
    attempt: int
    what: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """A job's end as somebody who waited for it was told it."""

    job_id: str
    status: str
    result: str


@dataclass(slots=True)
class Record:
    """All that is known of a run."""

    tasks: dict[str, Task] = field(default_factory=dict[str, Task])  #: by name
    events: Sequence[Event] = ()
    stamps: Mapping[str, Sequence[Stamp]] = field(default_factory=dict[str, Sequence[Stamp]])
    created: dict[str, str] = field(default_factory=dict[str, str])  #: ids by title, as answered
    told: list[Told] = field(default_factory=list[Told])
    waiting: set[str] = field(default_factory=set[str])  #: for what operators wait still
    feed: list[int] = field(default_factory=list[int])  #: the numbers as a reader got them
    replays: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    leftovers: list[str] = field(default_factory=list[str])  #: processes that outlived the jobs

    def of_kind(self, *kinds: str) -> Iterator[Event]:
        """The events of these kinds, in order."""
        return (event for event in self.events if event.kind in kinds)

    def by_job(self) -> Mapping[str, Sequence[Event]]:
        """The events of each job, in order."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            if event.job_id:  # else it is about no job: a note, say
                found.setdefault(event.job_id, []).append(event)
        return found

    def ids(self) -> Mapping[str, Sequence[str]]:
        """The jobs that there are, by title."""
        found: dict[str, list[str]] = {}
        for event in self.of_kind("job.created"):
            found.setdefault(event.data["title"], []).append(event.job_id)
        return found

    def all_told(self) -> Iterator[Told]:
        """What operators and agents were told."""
        yield from self.told
        for stamps in self.stamps.values():
            for stamp in stamps:
                if stamp.what == "told":
                    yield Told(**{name: stamp.data[name] for name in Told.__dataclass_fields__})


Rule = Callable[[Record], Iterator[str]]


def every_job_ends_once(record: Record) -> Iterator[str]:
    """One terminal event a job, and nothing of the job's status after it."""
    for job_id, events in record.by_job().items():
        status = [event for event in events if event.kind.startswith("job.")]
        ends = [event.kind for event in status if event.kind in FINAL]
        if len(ends) != 1:
            yield f"{job_id} ended {len(ends)} times: {ends}; its events: {_brief(events[-8:])}"
        elif status[-1].kind not in FINAL:
            yield f"{job_id} went on after its end: {_brief(status)}"


def attempts_rise(record: Record) -> Iterator[str]:
    """Attempts are claimed one by one, each settled and ended once, before the next is claimed."""
    for job_id, events in record.by_job().items():
        claims = [event.attempt for event in events if event.kind == "job.running"]
        if claims != list(range(1, len(claims) + 1)):
            yield f"{job_id} was claimed by {claims}"
        current, gone = 0, 0
        for event in events:
            if event.kind == "job.running":
                if gone != current:
                    yield f"{job_id}: attempt {event.attempt} was claimed before {current} ended"
                current = event.attempt
            gone = event.attempt if event.kind == "attempt.ended" else gone
        for kind in ("attempt.settled", "attempt.ended"):
            found = [event.attempt for event in events if event.kind == kind]
            if found != claims:
                yield f"{job_id}: {kind} of {found}, claims of {claims}"


def only_the_current_attempt_writes(record: Record) -> Iterator[str]:
    """No write by an attempt that is settled, or after a later one's claim."""
    for job_id, events in record.by_job().items():
        claimed, settled = 0, 0
        for event in events:
            if event.kind == "job.running":
                claimed = event.attempt
            elif event.kind == "attempt.settled":
                settled = event.attempt
            elif event.kind in AGENT_WRITES and (event.attempt != claimed or claimed == settled):
                yield f"{job_id}: attempt {event.attempt} wrote {event.kind} (seq {event.seq})"


def creators_were_current(record: Record) -> Iterator[str]:
    """A job that an agent created was created while its attempt held the parent."""
    by_job = record.by_job()
    for job_id, stamps in record.stamps.items():
        settled = {
            event.attempt: event.seq
            for event in by_job.get(job_id, ())
            if event.kind == "attempt.settled"
        }
        for stamp in _answers(stamps, "create_job"):
            child = stamp.data["answered"]["job_id"]
            born = next((e.seq for e in by_job.get(child, ()) if e.kind == "job.created"), None)
            if born is None:
                yield f"{child} was acknowledged to {job_id} but does not exist"
            elif born > settled.get(stamp.attempt, born):
                yield f"{child} was created by attempt {stamp.attempt} of {job_id} after its end"


def lives_never_overlap(record: Record) -> Iterator[str]:
    """One process an attempt, and none while an earlier one of the job still moves."""
    for job_id, stamps in record.stamps.items():
        starts = [stamp.attempt for stamp in stamps if stamp.what == "start"]
        if starts != sorted(set(starts)):
            yield f"{job_id}: agents started for attempts {starts}"
        for before, after in pairwise(stamps):
            if before.attempt > after.attempt:
                yield f"{job_id}: attempt {after.attempt} moved after {before.attempt} had begun"
        if any(stamp.what == "overlap" for stamp in stamps):
            yield f"{job_id}: an agent began while an earlier one was alive"


def ended_means_gone(record: Record) -> Iterator[str]:
    """No agent moves after the log says that its process tree is gone."""
    for event in record.of_kind("attempt.ended"):
        late = [
            stamp
            for stamp in record.stamps.get(event.job_id, ())
            if stamp.attempt == event.attempt and stamp.at > event.at
        ]
        if late:
            yield f"{event.job_id}.{event.attempt} moved {late[-1].at - event.at:.3f} s after it"


def dependants_come_after(record: Record) -> Iterator[str]:
    """A job starts when all that it depends on is done and its processes are gone."""
    ids, last = record.ids(), {job: stamps[-1].at for job, stamps in record.stamps.items()}
    done = {event.job_id: event.seq for event in record.of_kind("job.done")}
    for event in record.of_kind("job.running"):
        task = record.tasks.get(_title(record, event.job_id))
        for name in task.depends_on if task else ():
            for needed in ids.get(name, ())[:1]:
                if done.get(needed, event.seq) >= event.seq:
                    yield f"{event.job_id} began before {needed} was done"
                first = record.stamps.get(event.job_id, ())
                if first and first[0].at < last.get(needed, 0):
                    yield f"{event.job_id} began before the agent of {needed} was gone"


def acknowledged_jobs_exist(record: Record) -> Iterator[str]:
    """Every create that was answered is in the log, under its title, once."""
    ids = record.ids()
    for title, job_id in record.created.items():
        if list(ids.get(title, ())) != [job_id]:
            yield f"{title} was acknowledged as {job_id}; there are {ids.get(title)}"
    attempts = {event.job_id: event.attempt for event in record.of_kind("job.running")}
    parents = {event.job_id: event.data["parent_id"] for event in record.of_kind("job.created")}
    for title, found in ids.items():
        task = record.tasks.get(title)
        once = task is None or task.keyed or attempts.get(parents[found[0]], 1) == 1
        if len(found) > 1 and once:
            yield f"{title} was created {len(found)} times: {found}"


def acknowledged_ends_hold(record: Record) -> Iterator[str]:
    """What finish_job answered, and what waiters are told, is how the job ended."""
    ends = {event.job_id: FINAL[event.kind] for event in record.of_kind(*FINAL)}
    given: dict[str, set[str]] = {}
    for job_id, stamps in record.stamps.items():
        calls = [one for one in stamps if one.what == "call" and one.data["tool"] == "finish_job"]
        given[job_id] = {one.data["result"] for one in calls}
        for stamp in _answers(stamps, "finish_job"):
            status = stamp.data["answered"]["status"]
            if status != ends.get(job_id):
                yield f"{job_id} was answered {status} and is {ends.get(job_id)}"
    for told in record.all_told():
        if told.status != ends.get(told.job_id):
            yield f"a waiter was told that {told.job_id} is {told.status}: {ends.get(told.job_id)}"
        if told.status == "done" and told.result not in given.get(told.job_id, ()):
            yield f"a waiter got {told.result!r} of {told.job_id}: {given.get(told.job_id)}"


def every_waiter_returned(record: Record) -> Iterator[str]:
    """Nobody waits still, and no agent gave a call up or was turned away while it was current."""
    yield from (f"an operator still waits for {one}" for one in sorted(record.waiting))
    for job_id, stamps in record.stamps.items():
        for stamp in stamps:
            if stamp.what == "gave_up":
                yield f"{job_id}.{stamp.attempt} gave {stamp.data['tool']} up"
            if stamp.what == "refused" and not _is_turned_away(stamp.data["text"]):
                yield f"{job_id}.{stamp.attempt} was refused: {stamp.data['text']}"


def the_feed_is_exact(record: Record) -> Iterator[str]:
    """A reader that reconnects gets each event once, in order."""
    known = [event.seq for event in record.events]
    if record.feed != known:
        twice = len(record.feed) - len(set(record.feed))
        missed = sorted(set(known) - set(record.feed))
        yield f"the feed told {twice} events twice and left out {missed[:20]} ({len(missed)})"


def replays_change_nothing(record: Record) -> Iterator[str]:
    """A token of an attempt that is over is told so, kindly, and writes nothing."""
    for call, answer in record.replays:
        if not _is_turned_away(answer):
            yield f"replayed {call} was answered {answer}"
    for event in record.events:
        if REPLAYED in json.dumps(dict(event.data)):
            yield f"a replay was written: {event}"
    yield from (f"{one.job_id} was told a replay" for one in record.told if REPLAYED in one.result)


def nothing_is_left(record: Record) -> Iterator[str]:
    """When all attempts have ended there is no process of theirs."""
    yield from (f"still alive: {one}" for one in record.leftovers)


RULES: tuple[Rule, ...] = (
    every_job_ends_once,
    attempts_rise,
    only_the_current_attempt_writes,
    creators_were_current,
    lives_never_overlap,
    ended_means_gone,
    dependants_come_after,
    acknowledged_jobs_exist,
    acknowledged_ends_hold,
    every_waiter_returned,
    the_feed_is_exact,
    replays_change_nothing,
    nothing_is_left,
)


def violations(record: Record) -> Sequence[str]:
    """Everything that is wrong; each begins with the name of its rule."""
    return [f"{rule.__name__}: {one}" for rule in RULES for one in rule(record)]


def _answers(stamps: Sequence[Stamp], tool: str) -> Iterator[Stamp]:
    return (one for one in stamps if one.what == "answer" and one.data["tool"] == tool)


def _is_turned_away(text: str) -> bool:
    return any(word in text for word in TURNED_AWAY)


def _title(record: Record, job_id: str) -> str:
    return next(e.data["title"] for e in record.of_kind("job.created") if e.job_id == job_id)


def _brief(events: Sequence[Event]) -> str:
    return ", ".join(f"{event.seq} {event.kind}/{event.attempt}" for event in events)
