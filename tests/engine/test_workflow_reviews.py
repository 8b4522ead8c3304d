"""Workflows at the corners: resumed twice, cut off, cancelled in between, or short of money."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec
from hurlicane_mcp.domain.workflows import Phase, Publish
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.messages import Messages
from hurlicane_mcp.engine.waiting import WaitAnswer, Waiting, WaitLimits
from hurlicane_mcp.errors import Conflict, Invalid
from hurlicane_mcp.store import jobs, waits, wakes, workflows
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.transcript import Watcher
from tests.engine.workflow_desk import OPEN, Desk, build, failed, git, reviewed, worked
from tests.factories import running
from tests.fakes import FakeClock
from tests.stories.server import until

pytestmark = pytest.mark.anyio

STOPPED = Outcome.stopped(StopMode.TURNS, "It builds so far.")


@pytest.fixture
async def desk(store: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with Watcher() as watcher:
        yield build(store, clock, watcher, tmp_path)


def remote_of(desk: Desk) -> Path:
    """A bare remote of the desk's repository."""
    remote = desk.repo.parent / "remote.git"
    remote.mkdir()
    git(remote, "init", "--quiet", "--bare", "--initial-branch=main")
    git(desk.repo, "remote", "add", "origin", str(remote))
    git(desk.repo, "push", "--quiet", "origin", "main")
    return remote


async def test_what_follows_a_phase_that_was_gone_back_to_is_another_try(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    assert await desk.play(workflow_id, failed()) == "blocked implement 1"
    await desk.service.resume(OPERATOR, workflow_id, "review")
    assert await desk.play(workflow_id) == "running implement 1"
    assert (await desk.phase(workflow_id)).try_number == 2
    assert await worked(desk, workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "complete publish 2"


async def test_a_workflow_may_begin_again_with_its_assessment(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    assert await worked(desk, workflow_id) == "running review 2"
    assert await desk.play(workflow_id, failed()) == "blocked review 2"
    await desk.service.resume(OPERATOR, workflow_id, "assess")
    assert await desk.where(workflow_id) == "running assess 0"
    await desk.plan(workflow_id, *OPEN)
    assert await desk.play(workflow_id) == "running review 1"
    assert await desk.play(workflow_id) == "running implement 1"
    assert await worked(desk, workflow_id, "b.txt") == "running review 2"
    assert await desk.play(workflow_id) == "complete publish 2"
    tries = [
        (one.cycle, one.phase, one.try_number) for one in (await desk.view(workflow_id)).phases
    ]
    assert len(set(tries)) == len(tries) == 8


async def test_a_review_that_is_tried_again_sees_what_its_cycle_is_about(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id, "one.txt")
    await desk.plan(workflow_id, "- [x] First", "- [ ] Second")
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 2"
    await desk.play(workflow_id)
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id, "two.txt")
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 3"
    assert "one.txt" not in (await desk.job(workflow_id)).description
    await desk.play(workflow_id, failed(FailureKind.NETWORK))
    await desk.pass_time(1)
    assert await desk.go_on(workflow_id) == "running review 3"
    told = (await desk.job(workflow_id)).description
    assert "two.txt" in told
    assert "one.txt" not in told


async def test_work_after_a_publication_is_published_too(desk: Desk) -> None:
    remote = remote_of(desk)
    workflow_id = await reviewed(desk)
    assert await worked(desk, workflow_id) == "running review 2"
    agent = await desk.agent(workflow_id)
    view = await desk.view(workflow_id)
    folder = Path(view.work_dir)
    assert view.branch is not None
    await desk.end(agent)
    assert await desk.reactor.step(workflow_id)
    assert await desk.where(workflow_id) == "running publish 2"
    git(folder, "switch", "--quiet", "--create", "elsewhere")
    assert await desk.go_on(workflow_id) == "blocked publish 2"
    git(folder, "switch", "--quiet", view.branch)
    await desk.service.resume(OPERATOR, workflow_id, "implement")
    assert await worked(desk, workflow_id, "b.txt") == "running review 3"
    assert await desk.play(workflow_id) == "complete publish 3"
    assert git(remote, "rev-parse", view.branch) == git(desk.repo, "rev-parse", view.branch)


async def test_nothing_is_pushed_once_it_is_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = remote_of(desk)
    workflow_id = await reviewed(desk)
    assert await worked(desk, workflow_id) == "running review 2"
    await desk.end(await desk.agent(workflow_id))
    assert await desk.reactor.step(workflow_id)
    assert await desk.where(workflow_id) == "running publish 2"
    prepare = desk.worktrees.prepare

    async def cancelled_meanwhile(worktree_id: str) -> Path:
        await desk.service.cancel(OPERATOR, workflow_id)
        return await prepare(worktree_id)

    monkeypatch.setattr(desk.worktrees, "prepare", cancelled_meanwhile)
    assert await desk.go_on(workflow_id) == "cancelled publish 2"
    assert git(remote, "branch", "--list", "hurlicane/*") == ""


async def test_a_phase_gets_what_is_left_if_its_bound_is_more(desk: Desk) -> None:
    stops = {Phase.ASSESS: Stop(StopMode.BUDGET, Decimal(2))}
    workflow_id = await desk.start(budget_usd=Decimal(1), stops=stops)
    assert await desk.where(workflow_id) == "running assess 0"
    job = await desk.job(workflow_id)
    assert (job.stop_mode, job.stop_value) == ("budget", Decimal(1))


async def test_a_block_for_want_of_budget_counts_nothing_twice(desk: Desk) -> None:
    bound = {"stop_mode": "budget", "stop_value": Decimal(10)}
    job, attempt = await desk.db.write(lambda s: running(s, work_dir=str(desk.repo), **bound))
    await desk.db.write(lambda s: jobs.set_values(s, job.id, payer_id=job.id))
    agent = Caller(Role.AGENT, job.id, attempt.id)
    workflow_id = await desk.start(agent)
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    await desk.play(workflow_id)
    other = await desk.start(agent, budget_usd=Decimal(10))
    assert await desk.play(workflow_id) == "blocked implement 1", "all is reserved"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert view.blocked.kind == "budget"
    await desk.service.cancel(OPERATOR, other)
    await desk.service.resume(OPERATOR, workflow_id)
    assert await desk.go_on(workflow_id) == "running review 2"
    row = await desk.db.read(lambda s: workflows.get(s, workflow_id))
    assert row.idle_cycles == 1


async def test_a_verification_that_its_limit_stopped_is_no_verdict(desk: Desk) -> None:
    workflow_id = await reviewed(desk, verify=True)
    assert await worked(desk, workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "running verify 2"
    assert await desk.play(workflow_id, STOPPED) == "blocked verify 2"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert "turns" in view.blocked.reason
    await desk.service.resume(OPERATOR, workflow_id)
    assert (await desk.phase(workflow_id)).try_number == 2
    assert await desk.play(workflow_id) == "complete publish 2"


async def test_a_repository_that_an_agent_begins_is_evidence(desk: Desk, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    spec = WorkflowSpec("Build it.", work_dir=str(plain), use_worktree=False, publish=Publish.NONE)
    workflow_id = (await desk.service.create(OPERATOR, spec)).job_id
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    git(plain, "init", "--quiet")
    assert await desk.play(workflow_id) == "running implement 1", "it has no commit yet"
    assert await worked(desk, workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "complete review 2"


async def test_a_folder_that_an_agent_has_removed_is_made_again(desk: Desk) -> None:
    part = desk.repo / "part"
    part.mkdir()
    (part / "it.txt").write_text("x", encoding="utf-8")
    git(desk.repo, "add", "part")
    git(desk.repo, "commit", "--quiet", "--message", "A part")
    spec = WorkflowSpec("Build it.", work_dir=str(part))
    workflow_id = (await desk.service.create(OPERATOR, spec)).job_id
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    await desk.play(workflow_id)
    agent = await desk.agent(workflow_id)
    folder = Path((await desk.view(workflow_id)).work_dir)
    git(folder.parent, "rm", "--quiet", "-r", "part")
    git(folder.parent, "commit", "--quiet", "--message", "Without it")
    assert not await anyio.Path(folder).exists()
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 2"


async def test_checks_run_only_when_they_decide(desk: Desk, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    checks = parse_checks([{"command": f"echo run >> {runs}"}])
    workflow_id = await reviewed(desk, checks=checks)
    assert await worked(desk, workflow_id) == "running review 2"
    assert not runs.exists(), "a review follows whatever they say"
    assert await desk.play(workflow_id, failed()) == "blocked review 2"
    await desk.service.resume(OPERATOR, workflow_id)
    assert not runs.exists(), "who resumes does not wait for them"
    assert await desk.play(workflow_id) == "complete publish 2"
    assert runs.read_text(encoding="utf-8").splitlines() == ["run"]


async def test_the_end_of_a_workflow_ends_the_checks_that_would_decide(
    desk: Desk, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    checks = parse_checks([{"command": f"touch {begun}; sleep 600"}])
    workflow_id = await reviewed(desk, checks=checks)
    assert await worked(desk, workflow_id) == "running review 2"
    await desk.end(await desk.agent(workflow_id))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.go_on, workflow_id)
            await until(begun.exists)
            await desk.service.cancel(OPERATOR, workflow_id)
    assert await desk.where(workflow_id) == "cancelled review 2"


async def test_a_fault_that_nobody_foresaw_blocks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = await reviewed(desk)
    await desk.end(await desk.agent(workflow_id))

    async def broken(worktree_id: str) -> Path:
        raise PermissionError(13, "Permission denied", worktree_id)

    with monkeypatch.context() as patch:
        patch.setattr(desk.worktrees, "prepare", broken)
        assert await desk.go_on(workflow_id) == "blocked implement 1"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert "Permission denied" in view.blocked.reason
    assert view.blocked.heals_at is not None
    await desk.pass_time(1)
    assert await desk.go_on(workflow_id) == "running review 2"


async def test_a_phase_that_cannot_be_begun_blocks(desk: Desk) -> None:
    workflow_id = await reviewed(desk)

    def forget(session: Any) -> None:
        row = workflows.get(session, workflow_id)
        workflows.change(session, row, "changed", desk.clock.now(), reviewer="gone:model")

    await desk.db.write(forget)
    assert await desk.play(workflow_id) == "blocked implement 1"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert "gone" in view.blocked.reason


async def test_a_message_to_a_workflow_is_refused_with_whom_to_tell(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    phase = await desk.phase(workflow_id)
    with pytest.raises(Conflict, match=phase.job_id):
        await Messages(desk.db, desk.clock).send(OPERATOR, workflow_id, "Hurry up.")


async def test_a_bound_of_a_phase_needs_a_price_too(desk: Desk) -> None:
    stops = {Phase.IMPLEMENT: Stop(StopMode.BUDGET, Decimal(2))}
    with pytest.raises(Invalid, match="budget would not hold"):
        await desk.start(reviewer="codex", stops=stops)


async def no_beat(waited_s: float, what: str) -> None:
    """Nobody listens."""


async def test_a_waiter_hears_once_of_a_block_that_came_before_it(desk: Desk) -> None:
    job, attempt = await desk.db.write(lambda s: running(s, work_dir=str(desk.repo)))
    agent = Caller(Role.AGENT, job.id, attempt.id)
    workflow_id = await desk.start(agent)
    assert await desk.play(workflow_id, failed()) == "blocked assess 0"
    await desk.pass_time(1)
    waiting = Waiting(desk.db, desk.clock, WaitLimits(launched=timedelta(minutes=30)))
    with anyio.fail_after(5):
        answer = await waiting.until_final(agent, [workflow_id], no_beat)
    assert answer.pending == [workflow_id]
    assert answer.jobs[0].blocked is not None
    await desk.pass_time(1)
    await desk.db.write(lambda s: None)  # what was posted before is stored
    answers: list[WaitAnswer] = []

    async def again() -> None:
        answers.append(await waiting.until_final(agent, [workflow_id], no_beat))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again)
            await anyio.wait_all_tasks_blocked()
            assert answers == [], "who was told waits until something changes"
            await desk.service.cancel(OPERATOR, workflow_id)
    assert answers[0].pending == []


async def test_an_agent_that_sleeps_for_a_workflow_is_woken_when_it_is_blocked(desk: Desk) -> None:
    job, attempt = await desk.db.write(lambda s: running(s, work_dir=str(desk.repo)))
    parent = Caller(Role.AGENT, job.id, attempt.id)
    workflow_id, now = await desk.start(parent), desk.clock.now()
    await desk.db.write(lambda s: waits.open_wait(s, attempt, "jobs", [workflow_id], now))
    await desk.end(parent, Outcome(OutcomeKind.INTERRUPTED))
    await desk.play(workflow_id, failed(FailureKind.NETWORK))
    awaited = await desk.db.read(lambda s: wakes.awaited_by(s, job.id))
    assert awaited == [workflow_id], "that heals by itself"
    await desk.pass_time(1)
    await desk.go_on(workflow_id)
    assert await desk.play(workflow_id, failed()) == "blocked assess 0"
    assert await desk.db.read(lambda s: wakes.awaited_by(s, job.id)) == []
