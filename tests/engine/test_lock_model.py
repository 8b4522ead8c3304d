"""The lock table under every order of requests, ends, waits and silences that hypothesis thinks of.

Five jobs, one of them the parent of two, share eight paths. After each step nobody holds what
somebody else holds, whoever waits has a reason to, and nobody who waits was passed by.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel

from hurlicane_mcp.domain import dag
from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.locks import collide, covers
from hurlicane_mcp.engine import lock_requests, lock_table, settlement
from hurlicane_mcp.engine.access import Caller, Role
from hurlicane_mcp.engine.lock_requests import Wanted
from hurlicane_mcp.errors import Conflict, WaitCycle
from hurlicane_mcp.store import attempts, lock_tables, locks, waits
from hurlicane_mcp.supervision.host import Exit
from tests.factories import running
from tests.fakes import BEGINNING

PARENT, CHILDREN, STRANGERS = "p", ("c1", "c2"), ("s1", "s2")
NAMES = (PARENT, *CHILDREN, *STRANGERS)
PATHS = ("/r", "/r/a", "/r/a/x", "/r/a/y", "/r/b", "/r/b/x", "/r/c", "/q")

jobs_ = st.sampled_from(NAMES)
some_paths = st.sets(st.sampled_from(PATHS), min_size=1, max_size=3)


def families(name: str) -> set[str]:
    """Those whose locks *name* may ever share, or that may share its locks."""
    if name in STRANGERS:
        return {name}
    return {name, *CHILDREN} if name == PARENT else {name, PARENT}


@dataclass
class Pending:
    """A call that waits."""

    job: str
    paths: tuple[str, ...]
    number: int


@dataclass
class World:
    """What the model knows besides the rows."""

    pending: dict[str, Pending] = field(default_factory=dict[str, Pending])
    settled: set[str] = field(default_factory=set[str])
    gone: set[str] = field(default_factory=set[str])
    open_wait: int | None = None
    awaited: str = ""


class LockTable(RuleBasedStateMachine):
    """Real rows on SQLite; the functions that the server calls in its transactions."""

    def __init__(self) -> None:
        super().__init__()
        engine = create_engine("sqlite://", poolclass=StaticPool)
        assert lock_tables.FileLockRow.__tablename__ in SQLModel.metadata.tables
        SQLModel.metadata.create_all(engine)
        self.engine = engine
        self.session = Session(engine)
        self.now = BEGINNING
        self.world = World()
        self.before: dict[str, set[str]] = {}

    @initialize()
    def begin(self) -> None:
        parent, _ = running(self.session, id=PARENT)
        for name in CHILDREN:
            running(self.session, id=name, parent=parent)
        for name in STRANGERS:
            running(self.session, id=name)

    def held(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {name: set() for name in NAMES}
        for row in locks.held(self.session):
            found[row.job_id].add(row.path)
        return found

    def works(self, name: str) -> bool:
        waits_for_jobs = name == PARENT and self.world.open_wait is not None
        waits_for_locks = any(one.job == name for one in self.world.pending.values())
        return name not in self.world.settled and not waits_for_jobs and not waits_for_locks

    @rule(name=jobs_, paths=some_paths)
    def ask_without_waiting(self, name: str, paths: set[str]) -> None:
        self._ask(name, paths, patient=False)

    @rule(name=jobs_, paths=some_paths)
    def ask(self, name: str, paths: set[str]) -> None:
        self._ask(name, paths, patient=True)

    @rule(name=jobs_, paths=some_paths)
    def ask_as_well(self, name: str, paths: set[str]) -> None:
        """The same again: most steps are to be requests."""
        self._ask(name, paths, patient=True)

    def _ask(self, name: str, paths: set[str], *, patient: bool) -> None:
        if not self.works(name):
            return
        caller = Caller(Role.AGENT, name, f"{name}.1")
        wanted = Wanted(tuple(paths), wait=None if patient else timedelta(0))
        real, before = tuple(sorted(paths)), self.held()
        asked = lock_requests.ask(
            self.session, caller=caller, wanted=wanted, paths=real, now=self.now
        )
        after = self.held()
        if asked.locked:
            assert after[name] == before[name] | paths
            for other in locks.requests(self.session):
                self._passes_nobody(Pending(name, real, other.seq + 1), other, before)
            return
        assert after[name] == before[name]  # none of them
        assert patient or asked.held_by
        if asked.request_id is not None:
            row = locks.request(self.session, asked.request_id)
            assert row is not None
            self.world.pending[row.id] = Pending(name, real, row.seq)

    @rule(name=jobs_, paths=st.none() | some_paths)
    def release(self, name: str, paths: set[str] | None) -> None:
        if not self.works(name):
            return
        caller = Caller(Role.AGENT, name, f"{name}.1")
        real = None if paths is None else tuple(sorted(paths))
        try:
            lock_requests.release(self.session, caller, real, self.now)
        except Conflict:  # a part of a folder
            return
        kept = self.held()[name]
        assert not [one for one in kept if real is None or any(covers(two, one) for two in real)]

    @precondition(lambda self: self.world.open_wait is None)
    @rule(name=st.sampled_from(CHILDREN))
    def wait_for_a_child(self, name: str) -> None:
        if PARENT in self.world.settled or name in self.world.settled:
            return
        try:
            graph = lock_table.wait_graph(self.session, self.now, {PARENT: frozenset({name})})
            dag.refuse_cycle(graph.edges, PARENT, [name], graph.files)
        except WaitCycle:
            return
        attempt = attempts.get(self.session, f"{PARENT}.1")
        self.world.open_wait = waits.open_wait(self.session, attempt, "jobs", [name], self.now)
        self.world.awaited = name
        lock_table.regrant(self.session, self.now)

    @precondition(lambda self: self.world.open_wait is not None)
    @rule()
    def stop_waiting(self) -> None:
        assert self.world.open_wait is not None
        waits.close_wait(self.session, self.world.open_wait, self.now, "answered")
        self.world.open_wait = None

    @precondition(lambda self: self.world.pending)
    @rule(data=st.data(), keeps=st.booleans())
    def give_up(self, data: st.DataObject, keeps: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.world.pending)))
        one = self.world.pending.pop(request_id)
        caller = Caller(Role.AGENT, one.job, f"{one.job}.1")
        lock_requests.end(self.session, caller, request_id, one.paths, self.now, keeps=keeps)

    @rule(name=jobs_, seldom=st.integers(0, 3))
    def end_a_job(self, name: str, seldom: int) -> None:
        if seldom == 0:
            self.finish(name)

    def finish(self, name: str) -> None:
        settlement.settle(self.session, f"{name}.1", Outcome(OutcomeKind.DONE, "done"), self.now)
        self.world.settled.add(name)
        if name == PARENT:
            self.world.open_wait = None
        elif self.world.open_wait is not None and name == self.world.awaited:
            self.stop_waiting()
        for request_id in [key for key, one in self.world.pending.items() if one.job == name]:
            del self.world.pending[request_id]

    @rule(name=jobs_)
    def go(self, name: str) -> None:
        if name in self.world.settled:
            held = self.held()[name]
            settlement.mark_ended(self.session, f"{name}.1", Exit(code=0), self.now)
            assert name in self.world.gone or held == self.before.get(name, held)
            self.world.gone.add(name)

    @rule(minutes=st.sampled_from([1, 3, 11]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(name=jobs_)
    def give_a_sign_of_life(self, name: str) -> None:
        if name not in self.world.settled:
            attempts.seen(self.session, f"{name}.1", self.now)

    @invariant()
    def holds(self) -> None:
        lock_table.sweep(self.session, self.now)
        assert not lock_table.is_due(self.session, self.now)
        self._nobody_holds_what_another_holds()
        self._who_is_over_holds_nothing()
        self._who_was_granted_has_passed_nobody()
        self._who_waits_has_a_reason()
        self.before = self.held()

    def _nobody_holds_what_another_holds(self) -> None:
        live = [
            one
            for one in lock_table.moment_of(self.session, self.now).locks
            if one.is_live(self.now)
        ]
        for one in live:
            for other in live:
                if other.job_id not in families(one.job_id):
                    assert not collide(one.path, other.path), (one, other)

    def _who_is_over_holds_nothing(self) -> None:
        assert not [name for name in self.world.gone if self.held()[name]]

    def _who_was_granted_has_passed_nobody(self) -> None:
        waiting = {row.id: row for row in locks.requests(self.session)}
        held = self.held()
        for request_id, one in list(self.world.pending.items()):
            if request_id in waiting:
                continue
            del self.world.pending[request_id]
            row = locks.request(self.session, request_id)
            if row is not None:  # refused, since it closed a circle
                assert row.refused
                locks.close(self.session, row)
                continue
            assert held[one.job].issuperset(one.paths)
            for other in waiting.values():
                self._passes_nobody(one, other, self.before)

    def _passes_nobody(
        self, one: Pending, other: lock_tables.LockRequestRow, before: dict[str, set[str]]
    ) -> None:
        """What was granted to *one* was not asked for before by *other*, who waits still. Unless
        it was locked for *one* before: then the other cannot be next."""
        if other.seq > one.number or other.job_id in families(one.job):
            return
        requests = lock_table.moment_of(self.session, self.now).requests
        shared = {name for two in requests if two.number == other.seq for name in two.allies}
        own = {path for name in families(one.job) - shared for path in before.get(name, ())}
        passed = [
            path
            for path in one.paths
            if any(collide(path, two) for two in other.paths)
            and not any(covers(two, path) for two in own)
        ]
        assert not passed, (one, other)

    def _who_waits_has_a_reason(self) -> None:
        found = lock_table.moment_of(self.session, self.now)
        for request in found.requests:
            if request.is_left:
                continue
            others = [
                one.path
                for one in found.locks
                if one.is_live(self.now) and one.job_id not in request.allies
            ]
            for earlier in found.requests:
                if earlier.number < request.number and earlier.job_id not in request.allies:
                    others += earlier.paths
            assert any(collide(one, two) for one in request.paths for two in others), request
            graph = lock_table.wait_graph(self.session, self.now)
            assert dag.path(graph.edges, request.job_id, frozenset({request.job_id})) is None

    def teardown(self) -> None:
        """Whoever waits is granted once all that came before it are over."""
        for _ in range(2 * len(NAMES)):
            self.time_passes(3)
            for name in NAMES:
                if self.works(name) or name in self.world.settled:
                    self.before = self.held()  # the end of another one may have taken expired ones
                    self.finish(name)
                    self.go(name)
            lock_table.sweep(self.session, self.now)
            self.holds()
        assert not self.world.pending
        self.session.close()
        self.engine.dispose()


LockTable.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.timeout(240)
class TestLockTable(LockTable.TestCase):
    """What pytest runs."""
