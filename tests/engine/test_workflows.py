"""Workflows: from a task to a branch, and everything that can come in between."""

from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from hurlicane_mcp.domain.checks import parse_checks
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.jobs import JobSpec
from hurlicane_mcp.domain.stops import Stop, StopMode
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec
from hurlicane_mcp.domain.workflows import Phase, Publish
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.intake import Defaults, Intake
from hurlicane_mcp.errors import Conflict, Invalid, LimitReached, NotFound
from hurlicane_mcp.store import jobs, workflows
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.transcript import Watcher
from tests.engine.workflow_desk import (
    CHECKED,
    OPEN,
    Desk,
    build,
    done,
    failed,
    git,
    reviewed,
    worked,
)
from tests.factories import running
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(store: Database, clock: FakeClock, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with Watcher() as watcher:
        yield build(store, clock, watcher, tmp_path)


async def implemented(desk: Desk, **wishes: Any) -> str:
    """A workflow whose milestones are all done in cycle 1: its last review is queued."""
    workflow_id = await reviewed(desk, **wishes)
    assert await worked(desk, workflow_id) == "running review 2"
    return workflow_id


async def test_a_task_becomes_a_branch(desk: Desk) -> None:
    workflow_id = await desk.start(title="Build it")
    assert await desk.where(workflow_id) == "running assess 0"
    view = await desk.view(workflow_id)
    assert view.branch is not None
    assert view.branch.startswith("hurlicane/build-it-")
    assert Path(view.work_dir).parent == desk.repo.parent / ".hurlicane-worktrees" / "repo"
    await desk.plan(workflow_id, *OPEN)
    assert await desk.play(workflow_id) == "running review 1"
    assert await desk.play(workflow_id) == "running implement 1"
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id)
    await desk.plan(workflow_id, "- [x] First", "- [ ] Second")
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "running implement 2"
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id)
    await desk.plan(workflow_id, *CHECKED)
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 3"
    assert await desk.play(workflow_id) == "complete publish 3"
    view = await desk.view(workflow_id)
    assert (view.milestones, view.milestones_done) == (2, 2)
    assert view.published is not None
    assert "stays on the local branch" in view.published.note
    assert view.result is not None
    assert view.result.startswith("The workflow is complete.")
    assert git(desk.repo, "log", "--format=%s", f"main..{view.branch}").splitlines() == [
        "Change a.txt",
        "Change a.txt",
    ]
    steps = [(phase.cycle, phase.phase) for phase in view.phases]
    assert steps == [
        (0, "assess"),
        *((1, "review"), (1, "implement"), (2, "review"), (2, "implement"), (3, "review")),
    ]


async def test_the_prompts_hold_what_a_phase_needs(desk: Desk) -> None:
    workflow_id = await reviewed(desk, checks=parse_checks([{"command": "test -f a.txt"}]))
    await desk.note(workflow_id, "contract", "It must not break.")
    agent = await desk.agent(workflow_id)
    told = (await desk.job(workflow_id)).description
    assert "Phase: implement (cycle 1 of 10)" in told
    assert "Build it." in told
    assert "test -f a.txt" in told
    assert f"workflow/{workflow_id}/plan" in told
    await desk.commit(workflow_id, "a.txt", "a line that is new\n")
    await desk.plan(workflow_id, "- [x] First", "- [ ] Second")
    await desk.note(workflow_id, "worklog/cycle-1", "The log of cycle one.")
    await desk.end(agent)
    await desk.go_on(workflow_id)
    told = (await desk.job(workflow_id)).description
    assert "Phase: review (cycle 2 of 10)" in told
    for part in ("It must not break.", "The log of cycle one.", "a line that is new"):
        assert part in told


async def test_a_phase_follows_only_when_the_processes_of_the_last_one_are_gone(
    desk: Desk,
) -> None:
    workflow_id = await desk.start()
    await desk.plan(workflow_id, *OPEN)
    agent = await desk.agent(workflow_id)
    now = desk.clock.now()
    await desk.db.write(lambda s: settlement.settle(s, agent.attempt_id, done(), now))
    assert await desk.go_on(workflow_id) == "running assess 0"
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 1"


async def test_no_phase_can_begin_twice(desk: Desk) -> None:
    workflow_id = await desk.start()
    phase = await desk.phase(workflow_id)
    again = {
        "cycle": phase.cycle,
        "phase": phase.phase,
        "try_number": phase.try_number,
        "job_id": workflow_id,
        "started_at": desk.clock.now(),
        "milestones_done": 0,
    }
    with pytest.raises(IntegrityError):
        await desk.db.write(lambda s: workflows.begin(s, workflows.get(s, workflow_id), again))


async def test_a_step_that_is_repeated_does_nothing(desk: Desk) -> None:
    workflow_id = await desk.start()
    assert not await desk.reactor.step(workflow_id)
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    assert not await desk.reactor.step(workflow_id)
    assert len((await desk.view(workflow_id)).phases) == 2


async def test_a_plan_without_milestones_blocks_after_two_repairs(desk: Desk) -> None:
    workflow_id = await desk.start()
    assert await desk.play(workflow_id) == "running repair 0"
    assert await desk.play(workflow_id) == "running repair 0"
    assert await desk.play(workflow_id) == "blocked repair 0"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert view.blocked.kind == "no_plan"
    assert workflow_id in view.blocked.advice
    await desk.plan(workflow_id, *OPEN)
    await desk.service.resume(OPERATOR, workflow_id)
    assert await desk.go_on(workflow_id) == "running review 1", "the plan of a person counts"


async def test_a_failed_phase_blocks_and_a_resumed_one_tries_it_again(desk: Desk) -> None:
    workflow_id = await desk.start()
    assert await desk.play(workflow_id, failed()) == "blocked assess 0"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert (view.blocked.kind, view.blocked.heals_at) == ("phase_failed", None)
    await desk.service.resume(OPERATOR, workflow_id)
    phase = await desk.phase(workflow_id)
    assert (phase.phase, phase.try_number, phase.status) == ("assess", 2, "queued")
    told = (await desk.job(workflow_id)).description
    assert "I cannot." in told, "the next try knows why the last one failed"


async def test_a_block_of_the_surroundings_heals_by_itself(desk: Desk) -> None:
    workflow_id = await desk.start()
    await desk.play(workflow_id, failed(FailureKind.NETWORK, "No route."))
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert view.blocked.heals_at is not None
    assert await desk.go_on(workflow_id) == "blocked assess 0"
    await desk.pass_time(1)
    assert await desk.go_on(workflow_id) == "running assess 0"
    assert (await desk.phase(workflow_id)).try_number == 2


async def test_resuming_may_go_back_to_an_earlier_phase(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    assert await desk.play(workflow_id, failed()) == "blocked implement 1"
    await desk.service.resume(OPERATOR, workflow_id, "review")
    phase = await desk.phase(workflow_id)
    assert (phase.cycle, phase.phase, phase.try_number) == (1, "review", 2)
    with pytest.raises(Conflict, match="is running"):
        await desk.service.resume(OPERATOR, workflow_id)
    with pytest.raises(Invalid, match="`from_phase` must be one of"):
        await desk.service.resume(OPERATOR, workflow_id, "publish")


async def test_a_worktree_on_another_branch_blocks_until_it_is_back(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    agent = await desk.agent(workflow_id)
    view = await desk.view(workflow_id)
    git(Path(view.work_dir), "switch", "--quiet", "--create", "elsewhere")
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "blocked implement 1"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert "on branch elsewhere" in view.blocked.reason
    assert view.branch is not None
    git(Path(view.work_dir), "switch", "--quiet", view.branch)
    await desk.service.resume(OPERATOR, workflow_id)
    assert await desk.go_on(workflow_id) == "running review 2", "no phase was repeated"


async def test_two_cycles_without_progress_block(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    assert await desk.play(workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "running implement 2"
    assert await desk.play(workflow_id) == "blocked implement 2"
    await desk.service.resume(OPERATOR, workflow_id)
    assert await desk.go_on(workflow_id) == "running review 3"


async def test_what_is_not_committed_keeps_it_from_being_complete(desk: Desk) -> None:
    workflow_id = await implemented(desk)
    folder = Path((await desk.view(workflow_id)).work_dir)
    (folder / "forgotten.txt").write_text("x", encoding="utf-8")
    assert await desk.play(workflow_id) == "running implement 2"
    view = await desk.view(workflow_id)
    assert [one.text for one in view.plan if not one.done] == [
        "Fix: commit or remove what is not committed: forgotten.txt"
    ]


async def test_checks_are_evidence(desk: Desk) -> None:
    checks = parse_checks([{"command": ["test", "-f", "wanted.txt"]}])
    workflow_id = await implemented(desk, checks=checks)
    assert await desk.play(workflow_id) == "running implement 2"
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id, "wanted.txt")
    await desk.plan(workflow_id, *CHECKED)
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 3"
    assert await desk.play(workflow_id) == "complete publish 3"


async def test_when_the_cycles_are_used_up_it_is_incomplete(desk: Desk) -> None:
    workflow_id = await reviewed(desk, max_cycles=1)
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id)
    await desk.plan(workflow_id, "- [x] First", "- [ ] Second")
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "incomplete implement 1"
    view = await desk.view(workflow_id)
    assert view.failure is not None
    assert view.failure.kind == "incomplete"
    assert "1 of 2 milestones" in view.failure.reason
    assert view.branch is not None
    assert view.branch in (view.result or "")


async def test_a_failed_verification_becomes_a_milestone(desk: Desk) -> None:
    workflow_id = await implemented(desk, verify=True)
    assert await desk.play(workflow_id) == "running verify 2"
    assert await desk.play(workflow_id, failed(reason="It does not start.")) == (
        "running implement 3"
    )
    view = await desk.view(workflow_id)
    assert "It does not start." in next(one.text for one in view.plan if not one.done)
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id)
    await desk.plan(workflow_id, *CHECKED)
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "running review 4"
    assert await desk.play(workflow_id) == "running verify 4"
    assert await desk.play(workflow_id) == "complete publish 4"


async def test_cancelling_stops_the_agents_and_keeps_the_work(desk: Desk) -> None:
    workflow_id = await reviewed(desk)
    agent = await desk.agent(workflow_id)
    sha = await desk.commit(workflow_id)
    assert await desk.service.cancel(OPERATOR, workflow_id, "Enough.") == "cancelled"
    view = await desk.view(workflow_id)
    assert (view.state, view.phases[-1].status) == ("cancelled", "cancelled")
    await desk.end(agent)
    assert not await desk.reactor.step(workflow_id)
    assert view.branch is not None
    assert git(desk.repo, "rev-parse", view.branch) == sha
    with pytest.raises(Conflict, match="final"):
        await desk.service.resume(OPERATOR, workflow_id)


async def test_a_reason_that_no_database_can_keep_cancels_nothing(desk: Desk) -> None:
    workflow_id = await desk.start()
    with pytest.raises(Invalid, match="reason"):
        await desk.service.cancel(OPERATOR, workflow_id, "Enough\0.")
    assert await desk.where(workflow_id) == "running assess 0"


async def test_a_phase_that_somebody_cancels_blocks_the_workflow(desk: Desk) -> None:
    workflow_id = await desk.start()
    job_id = (await desk.phase(workflow_id)).job_id
    now = desk.clock.now()
    await desk.db.write(lambda s: settlement.cancel(s, job_id, "By hand.", now))
    assert await desk.go_on(workflow_id) == "blocked assess 0"
    view = await desk.view(workflow_id)
    assert view.blocked is not None
    assert view.blocked.kind == "phase_cancelled"


async def test_each_phase_has_its_own_bound(desk: Desk) -> None:
    stops = {Phase.REVIEW: Stop(StopMode.TURNS, Decimal(7))}
    workflow_id = await desk.start(stops=stops)
    assert (await desk.job(workflow_id)).stop_mode == "completion"
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    job = await desk.job(workflow_id)
    assert (job.stop_mode, job.stop_value) == ("turns", Decimal(7))


async def test_a_spent_budget_ends_it_with_what_there_is(desk: Desk) -> None:
    workflow_id = await desk.start(budget_usd=Decimal("0.5"), implementer="scripted")
    await desk.plan(workflow_id, *OPEN)
    agent = await desk.agent(workflow_id)
    spent = Decimal("0.6")
    await desk.db.write(lambda s: jobs.set_values(s, agent.job_id, cost_usd=spent))
    await desk.end(agent)
    assert await desk.go_on(workflow_id) == "incomplete assess 0"
    assert "budget is spent" in ((await desk.view(workflow_id)).result or "")


async def test_an_agent_creates_workflows_below_its_job_and_within_its_budget(
    desk: Desk,
) -> None:
    bound = {"stop_mode": "budget", "stop_value": Decimal(1)}
    job, attempt = await desk.db.write(lambda s: running(s, work_dir=str(desk.repo), **bound))
    await desk.db.write(lambda s: jobs.set_values(s, job.id, payer_id=job.id))
    agent = Caller(Role.AGENT, job.id, attempt.id)
    with pytest.raises(LimitReached, match=r"asks for \$2.00"):
        await desk.start(agent, budget_usd=Decimal(2))
    workflow_id = await desk.start(agent, budget_usd=Decimal("0.25"))
    view = await desk.service.get(agent, workflow_id)
    assert view.parent_id == job.id
    stranger = await desk.start()
    with pytest.raises(NotFound):
        await desk.service.get(agent, stranger)
    assert [one.workflow_id for one in await desk.service.listing(agent)] == [workflow_id]
    names = [one.workflow_id for one in await desk.service.listing(OPERATOR)]
    assert names == [stranger, workflow_id]


async def test_the_same_key_returns_the_first_workflow(desk: Desk) -> None:
    first = await desk.start(idempotency_key="one")
    assert await desk.start(idempotency_key="one") == first
    with pytest.raises(Conflict, match="other arguments"):
        await desk.start(idempotency_key="one", max_cycles=3)


async def test_without_a_repository_a_worktree_is_refused(desk: Desk, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    spec = WorkflowSpec("Build it.", work_dir=str(plain))
    with pytest.raises(Invalid, match="repository"):
        await desk.service.create(OPERATOR, spec)
    assert await desk.service.listing(OPERATOR) == []


async def test_a_plain_folder_will_do_without_a_worktree(desk: Desk, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    spec = WorkflowSpec("Build it.", work_dir=str(plain), use_worktree=False, publish=Publish.NONE)
    workflow_id = (await desk.service.create(OPERATOR, spec)).job_id
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    await desk.play(workflow_id)
    await desk.plan(workflow_id, *CHECKED)
    assert await desk.play(workflow_id) == "running review 2"
    assert await desk.play(workflow_id) == "complete review 2"


async def test_without_a_worktree_a_dirty_checkout_is_refused(desk: Desk) -> None:
    (desk.repo / "mine.txt").write_text("Mine.", encoding="utf-8")
    with pytest.raises(Invalid, match=r"not committed, such as mine\.txt"):
        await desk.start(use_worktree=False, publish=Publish.NONE)
    assert await desk.where(await desk.start()) == "running assess 0", "a worktree is without it"


async def test_dependants_and_waiters_see_a_workflow_as_a_job(desk: Desk) -> None:
    workflow_id = await implemented(desk)
    chains = desk.booking.ledger.chains
    defaults = Defaults(desk.repo, "/project", "scripted")
    intake = Intake(desk.db, desk.clock, chains, defaults, Limits())
    after = await intake.create(OPERATOR, JobSpec("After it.", depends_on=(workflow_id,)))
    assert after.status == "blocked"
    await desk.play(workflow_id)
    row = await desk.db.read(lambda s: jobs.get(s, after.job_id))
    assert row.status == "queued"


async def test_a_workflow_that_nobody_moved_on_is_found_and_told(desk: Desk) -> None:
    workflow_id = await desk.start()
    await desk.plan(workflow_id, *OPEN)
    await desk.end(await desk.agent(workflow_id))
    await desk.reactor.reconcile()
    assert await desk.events("workflow.reconciled") == [], "not looked for at once"
    await desk.pass_time(2)
    await desk.reactor.reconcile()
    assert len(await desk.events("workflow.reconciled")) == 1
    assert await desk.go_on(workflow_id) == "running review 1"
    await desk.pass_time(2)
    await desk.reactor.reconcile()
    assert len(await desk.events("workflow.reconciled")) == 1
