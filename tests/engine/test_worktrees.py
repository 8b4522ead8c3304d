"""Worktrees as the engine keeps them: planned, made, worked in, removed; with real git."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.jobs import JobSpec
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.admission import Limits
from hurlicane_mcp.engine.chains import Chains
from hurlicane_mcp.engine.intake import Defaults, Intake
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.errors import Forbidden, GitFailed, Invalid
from hurlicane_mcp.parts import providers_of
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import events, jobs, worktrees
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import EventRow, JobRow
from hurlicane_mcp.store.workflow_tables import WorktreeRow
from hurlicane_mcp.supervision.host import Exit
from tests.factories import claim
from tests.fakes import FakeClock
from tests.git.checkouts import Checkout, commit, git

pytestmark = pytest.mark.anyio

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Yard:
    """A repository, an intake that works there by default, and the keeper of worktrees."""

    db: Database
    clock: FakeClock
    intake: Intake
    keeper: Worktrees
    here: Checkout

    async def create(self, caller: Caller = OPERATOR, **wishes: Any) -> JobRow:
        made = await self.intake.create(caller, JobSpec("Mend it.", **wishes))
        return await self.job(made.job_id)

    async def job(self, job_id: str) -> JobRow:
        return await self.db.read(lambda session: jobs.get(session, job_id))

    async def row(self, job: JobRow) -> WorktreeRow:
        return await self.db.read(lambda session: worktrees.get(session, str(job.worktree_id)))

    async def start(self, job: JobRow) -> Caller:
        """The agent of the job, in its worktree."""
        attempt = await self.db.write(lambda session: claim(session, job.id))
        await self.keeper.ready(await self.job(job.id))
        return Caller(Role.AGENT, job.id, attempt.id)

    async def end(self, agent: Caller) -> None:
        def change(session: Session) -> None:
            now = self.clock.now()
            settlement.settle(session, agent.attempt_id, Outcome(OutcomeKind.DONE, "Done."), now)
            settlement.mark_ended(session, agent.attempt_id, Exit(0), now)

        await self.db.write(change)

    async def told(self, kind: str) -> Sequence[EventRow]:
        return await self.db.read(lambda s: events.after(s, 0, limit=1000, kinds=[kind]))


@pytest.fixture
def yard(db: Database, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    here = Checkout.beside(tmp_path)
    chains = Chains(providers_of(Settings.model_validate({})))
    defaults = Defaults(here.top, str(here.top), "scripted")
    intake = Intake(db, clock, chains, defaults, Limits())
    return Yard(db, clock, intake, Worktrees(db, clock, DAY), here)


def is_there(path: str) -> bool:
    return Path(path).exists()


def put_a_folder(path: str) -> None:
    """Somebody else's folder."""
    Path(path).mkdir(parents=True)
    (Path(path) / "theirs").touch()


async def test_a_worktree_is_planned_with_its_job_and_made_before_it_starts(yard: Yard) -> None:
    job = await yard.create(use_worktree=True, title="Mend the Fähre: now!")
    row = await yard.row(job)
    short = job.id.removeprefix("job_")
    assert row.path == str(yard.here.top.parent / ".hurlicane-worktrees" / "repo" / short)
    assert job.work_dir == row.path
    assert job.branch == row.branch == f"hurlicane/mend-the-fahre-now-{short}"
    assert (row.state, row.base_branch, row.owner_id) == ("planned", "main", job.id)
    assert not is_there(row.path)
    await yard.start(job)
    assert (await yard.row(job)).state == "ready"
    assert (Path(row.path) / "read.me").exists()
    kinds = [one.kind for one in await yard.told("worktree.")]
    assert kinds == ["worktree.planned", "worktree.ready"]


async def test_the_same_subfolder_is_worked_in_even_if_the_commit_does_not_have_it(
    yard: Yard,
) -> None:
    folder = yard.here.top / "deep" / "er"
    folder.mkdir(parents=True)
    job = await yard.create(use_worktree=True, work_dir=str(folder))
    await yard.start(job)
    assert job.work_dir == str(Path((await yard.row(job)).path) / "deep" / "er")
    assert is_there(job.work_dir)


async def test_what_is_not_in_it_is_told(yard: Yard) -> None:
    (yard.here.top / "draft").write_text("")
    job = await yard.create(use_worktree=True)
    (warning,) = await yard.told("worktree.warning")
    assert warning.job_id == job.id
    assert "is not in it: draft" in warning.data["text"]


async def test_what_is_told_of_names_that_are_no_text_can_be_stored_and_sent(yard: Yard) -> None:
    (yard.here.top / os.fsdecode(b"\xff")).touch()
    made = await yard.intake.create(OPERATOR, JobSpec("Mend it.", use_worktree=True))
    assert "not in it: \ufffd." in str(made.note).encode().decode()


async def test_a_job_whose_worktree_cannot_be_is_not_created(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    wanted: tuple[dict[str, Any], ...] = (
        {"use_worktree": True, "work_dir": str(tmp_path / "plain")},
        {"use_worktree": True, "base_branch": "gone"},
        {"base_branch": "main"},
    )
    for wishes in wanted:
        with pytest.raises(Invalid):
            await yard.create(**wishes)
    assert await yard.db.read(jobs.counts) == {}


async def test_a_repeated_creation_plans_no_second_one(yard: Yard) -> None:
    first = await yard.create(use_worktree=True, idempotency_key="one")
    again = await yard.create(use_worktree=True, idempotency_key="one")
    assert first.id == again.id
    assert len(await yard.told("worktree.planned")) == 1


async def test_children_work_in_it_unless_they_are_sent_elsewhere(
    yard: Yard, tmp_path: Path
) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    parent = await yard.job(lead.job_id)
    inside = Path(parent.work_dir) / "inside"
    inside.mkdir()
    for wishes, is_in_it in (
        ({}, True),
        ({"work_dir": str(inside)}, True),
        ({"work_dir": str(tmp_path)}, False),
    ):
        child = await yard.create(lead, **wishes)
        assert (child.worktree_id == parent.worktree_id) is is_in_it
        assert child.work_dir == wishes.get("work_dir", parent.work_dir)


async def test_a_child_with_its_own_begins_where_its_parent_is(yard: Yard) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    parent = await yard.row(await yard.job(lead.job_id))
    newest = commit(Path(parent.path), "work")
    child = await yard.create(lead, use_worktree=True)
    row = await yard.row(child)
    assert (row.repo, row.base_sha, row.base_branch) == (parent.repo, newest, parent.branch)
    await yard.keeper.prepare(row.id)
    assert (Path(row.path) / "work").exists()


async def test_it_is_made_once_however_often_it_is_prepared(yard: Yard) -> None:
    job = await yard.create(use_worktree=True)
    path = await yard.keeper.prepare(str(job.worktree_id))
    (path / "new").write_text("work")
    assert await yard.keeper.prepare(str(job.worktree_id)) == path
    assert (path / "new").read_text() == "work"
    assert len(await yard.told("worktree.ready")) == 1


async def test_where_path_and_branch_are_taken_the_jobs_follow(yard: Yard) -> None:
    job = await yard.create(use_worktree=True)
    row = await yard.row(job)
    git(yard.here.top, "checkout", "--quiet", "-b", row.branch)
    commit(yard.here.top, "theirs")
    put_a_folder(row.path)
    agent = await yard.start(job)
    moved, made = await yard.job(agent.job_id), await yard.row(job)
    assert (made.path, made.branch) == (f"{row.path}-2", f"{row.branch}-2")
    assert (moved.work_dir, moved.branch) == (made.path, made.branch)
    assert len(await yard.told("worktree.warning")) == 2


async def test_one_that_cannot_be_made_says_why(yard: Yard) -> None:
    job = await yard.create(use_worktree=True)
    yard.here.top.rename(yard.here.top.with_name("moved"))
    for _ in range(2):
        with pytest.raises(GitFailed, match="not there any more"):
            await yard.keeper.prepare(str(job.worktree_id))
    assert "not there any more" in (await yard.row(job)).trouble
    assert len(await yard.told("worktree.trouble")) == 1


async def test_ten_at_once_are_all_made(yard: Yard) -> None:
    created = [await yard.create(use_worktree=True) for _ in range(10)]
    async with anyio.create_task_group() as tasks:
        for job in created:
            tasks.start_soon(yard.keeper.prepare, str(job.worktree_id))
    assert len(yard.here.worktrees()) == 11


async def test_it_is_removed_a_day_after_the_last_job_in_it(yard: Yard) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    row = await yard.row(await yard.job(lead.job_id))
    child = await yard.start(await yard.create(lead))
    newest = commit(Path(row.path), "work")
    (Path(row.path) / "draft").write_text("not committed")
    await yard.db.write(lambda session: jobs.set_values(session, child.job_id, detached=True))
    await yard.end(lead)
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    assert is_there(row.path), "the child works in it"
    await yard.end(child)
    yard.clock.move(DAY - timedelta(seconds=1))
    await yard.keeper.sweep()
    assert is_there(row.path)
    yard.clock.move(timedelta(seconds=1))
    await yard.keeper.sweep()
    assert not is_there(row.path)
    removed = await yard.db.read(lambda session: worktrees.get(session, row.id))
    (ref,) = removed.salvaged
    assert (removed.state, ref) == (
        "removed",
        f"refs/hurlicane/salvage/{Path(row.path).name}/1",
    )
    assert yard.here.shown(ref, "draft") == "not committed"
    assert git(yard.here.top, "rev-parse", row.branch) == newest
    (salvaged,) = await yard.told("worktree.salvaged")
    (gone,) = await yard.told("worktree.removed")
    assert salvaged.data["refs"] == [ref]
    assert (gone.data["branch"], gone.data["salvaged"]) == (row.branch, [ref])


async def test_a_job_that_merely_works_inside_keeps_it(yard: Yard) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    row = await yard.row(await yard.job(lead.job_id))
    await yard.end(lead)
    guest = await yard.create(work_dir=row.path)
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    assert is_there(row.path)
    await yard.end(await yard.start(guest))
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    assert not is_there(row.path)


async def test_a_job_that_works_inside_by_another_name_keeps_it(yard: Yard, tmp_path: Path) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    row = await yard.row(await yard.job(lead.job_id))
    await yard.end(lead)
    link = tmp_path / "link"
    link.symlink_to(row.path)
    guest = await yard.create(work_dir=str(link))
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    assert is_there(row.path)
    await yard.end(await yard.start(guest))
    await yard.keeper.sweep()
    assert not is_there(row.path)


async def test_one_that_has_to_be_left_is_told_once_and_removed_when_it_can_be(
    yard: Yard,
) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    row = await yard.row(await yard.job(lead.job_id))
    git(yard.here.top, "worktree", "lock", "--reason", "mine", row.path)
    await yard.end(lead)
    yard.clock.move(DAY)
    for _ in range(3):
        await yard.keeper.sweep()
    (trouble,) = await yard.told("worktree.trouble")
    assert "locked" in trouble.data["text"]
    git(yard.here.top, "worktree", "unlock", row.path)
    await yard.keeper.sweep()
    (view,) = await yard.keeper.listing(OPERATOR, removed=True, limit=10)
    assert (view.state, view.trouble) == ("removed", None)
    assert await yard.keeper.listing(OPERATOR, removed=False, limit=10) == []


async def test_one_that_was_cancelled_before_it_was_made_is_forgotten(yard: Yard) -> None:
    job = await yard.create(use_worktree=True)
    await yard.db.write(lambda session: settlement.cancel(session, job.id, "No.", yard.clock.now()))
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    assert (await yard.row(job)).state == "removed"
    assert yard.here.branches() == {"main"}


async def test_killed_between_the_removal_and_the_row_the_sweep_only_notes_it(
    yard: Yard,
) -> None:
    lead = await yard.start(await yard.create(use_worktree=True))
    row = await yard.row(await yard.job(lead.job_id))
    (Path(row.path) / "draft").write_text("not committed")
    await yard.end(lead)
    yard.clock.move(DAY)
    await yard.keeper.sweep()
    await yard.db.write(
        lambda session: worktrees.write(
            session, row.id, state="ready", removed_at=None, salvaged=[]
        )
    )
    await yard.keeper.sweep()
    removed = await yard.db.read(lambda session: worktrees.get(session, row.id))
    assert removed.state == "removed"
    assert len(removed.salvaged) == 1


async def test_a_deleted_folder_is_made_again_for_the_next_attempt(yard: Yard) -> None:
    job = await yard.create(use_worktree=True)
    agent = await yard.start(job)
    row = await yard.row(job)
    newest = commit(Path(row.path), "work")
    shutil.rmtree(row.path)
    await yard.keeper.ready(await yard.job(agent.job_id))
    assert git(Path(row.path), "rev-parse", "HEAD") == newest
    (warning,) = await yard.told("worktree.warning")
    assert "made again" in warning.data["text"]


async def test_the_list_is_for_operators(yard: Yard) -> None:
    agent = await yard.start(await yard.create())
    with pytest.raises(Forbidden):
        await yard.keeper.listing(agent, removed=False, limit=10)
