"""Workflows in a real repository and a real store, their agents played by the test."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hurlicane_mcp.domain.attempts import Outcome, OutcomeKind
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.workflow_spec import WorkflowSpec
from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import OPERATOR, Caller, Role
from hurlicane_mcp.engine.booking import Booking
from hurlicane_mcp.engine.prompts import Prompts
from hurlicane_mcp.engine.reactor import Reactor
from hurlicane_mcp.engine.workflow_views import PhaseView, WorkflowView
from hurlicane_mcp.engine.workflows import Workflows
from hurlicane_mcp.engine.worktrees import Worktrees
from hurlicane_mcp.parts import booking_of, checks_of, providers_of, workflows_of
from hurlicane_mcp.settings import Settings
from hurlicane_mcp.store import events, jobs, notes
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import JobRow
from hurlicane_mcp.supervision.host import Exit
from hurlicane_mcp.supervision.shim_host import ShimHost
from hurlicane_mcp.supervision.transcript import Watcher
from tests.factories import claim
from tests.fakes import FakeClock

OPEN, CHECKED = ("- [ ] First", "- [ ] Second"), ("- [x] First", "- [x] Second")


def git(folder: Path, *args: str) -> str:
    """What git prints, in a repository of the test."""
    command = ("git", "-c", "user.name=T", "-c", "user.email=t@localhost", "-C", str(folder))
    done = subprocess.run((*command, *args), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A repository with one commit on `main`."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README.md").write_text("# It\n", encoding="utf-8")
    git(folder, "add", "README.md")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


@dataclass
class Desk:
    """The service, the reactor, and agents that do as the test says."""

    db: Database
    clock: FakeClock
    service: Workflows
    reactor: Reactor
    worktrees: Worktrees
    booking: Booking
    repo: Path

    async def start(self, caller: Caller = OPERATOR, **wishes: Any) -> str:
        """The id of a new workflow in the repository, with a plan of two milestones to come."""
        spec = WorkflowSpec("Build it.", work_dir=str(self.repo), **wishes)
        made = await self.service.create(caller, spec)
        return made.job_id

    async def view(self, workflow_id: str) -> WorkflowView:
        return await self.service.get(OPERATOR, workflow_id)

    async def where(self, workflow_id: str) -> str:
        """State, phase and cycle in a word."""
        view = await self.view(workflow_id)
        return f"{view.state} {view.phase} {view.cycle}"

    async def phase(self, workflow_id: str) -> PhaseView:
        """The try that began last."""
        return (await self.view(workflow_id)).phases[-1]

    async def job(self, workflow_id: str) -> JobRow:
        """The job of the try that began last."""
        job_id = (await self.phase(workflow_id)).job_id
        return await self.db.read(lambda session: jobs.get(session, job_id))

    async def agent(self, workflow_id: str) -> Caller:
        """The agent of the current phase, at work in its worktree."""
        job = await self.job(workflow_id)
        if job.worktree_id is not None:
            await self.worktrees.prepare(job.worktree_id)
        now = self.clock.now()
        attempt = await self.db.write(lambda session: claim(session, job.id, now))
        return Caller(Role.AGENT, job.id, attempt.id)

    async def plan(self, workflow_id: str, *lines: str) -> None:
        """Write the plan."""
        await self.note(workflow_id, "plan", "\n".join(lines))

    async def note(self, workflow_id: str, name: str, text: str) -> None:
        def change(session: Any) -> None:
            project = jobs.get(session, workflow_id).project
            key = f"workflow/{workflow_id}/{name}"
            notes.put(session, project, key, text, "agent", self.clock.now())

        await self.db.write(change)

    async def commit(self, workflow_id: str, name: str = "a.txt", text: str = "text\n") -> str:
        """A commit in the worktree; its id."""
        folder = Path((await self.view(workflow_id)).work_dir)
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)
        git(folder, "add", name)
        git(folder, "commit", "--quiet", "--message", f"Change {name}")
        return git(folder, "rev-parse", "HEAD")

    async def end(self, agent: Caller, outcome: Outcome | None = None) -> None:
        """The agent is settled, and gone."""
        now = self.clock.now()

        def change(session: Any) -> None:
            settlement.settle(session, agent.attempt_id, outcome or done(), now)
            settlement.mark_ended(session, agent.attempt_id, Exit(code=0), now)

        await self.db.write(change)

    async def play(self, workflow_id: str, outcome: Outcome | None = None) -> str:
        """The current phase runs and ends so, and what follows is decided; where it is then."""
        await self.end(await self.agent(workflow_id), outcome)
        return await self.go_on(workflow_id)

    async def go_on(self, workflow_id: str) -> str:
        """Do all that is due; where the workflow is then."""
        while await self.reactor.step(workflow_id):
            pass
        return await self.where(workflow_id)

    async def events(self, kind: str) -> Sequence[dict[str, Any]]:
        rows = await self.db.read(lambda s: events.after(s, 0, limit=1000, kinds=[kind]))
        return [dict(row.data) for row in rows]

    async def pass_time(self, minutes: float) -> None:
        await self.clock.advance(timedelta(minutes=minutes))


def done(result: str = "Done.") -> Outcome:
    return Outcome(OutcomeKind.DONE, result)


def failed(kind: FailureKind = FailureKind.AGENT, reason: str = "I cannot.") -> Outcome:
    return Outcome.failed(kind, reason)


def build(db: Database, clock: FakeClock, watcher: Watcher, folder: Path, **settings: Any) -> Desk:
    """A desk whose repository is `folder/repo`."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"data_dir": folder / "data", "work_dir": folder, "provider": "scripted", **settings}
    chosen = Settings.model_validate(values)
    booking = booking_of(chosen, providers_of(chosen))
    worktrees = Worktrees(db, clock, timedelta(hours=24))
    checks = checks_of(chosen, db, clock, ShimHost(), watcher)
    prompts = Prompts.load()
    chains = booking.ledger.chains
    service, reactor = workflows_of(chosen, db, clock, prompts, chains, worktrees, checks)
    return Desk(db, clock, service, reactor, worktrees, booking, repository(folder / "repo"))


async def reviewed(desk: Desk, **wishes: Any) -> str:
    """A workflow whose plan was reviewed: its first implementation is queued."""
    workflow_id = await desk.start(**wishes)
    await desk.plan(workflow_id, *OPEN)
    await desk.play(workflow_id)
    assert await desk.play(workflow_id) == "running implement 1"
    return workflow_id


async def worked(desk: Desk, workflow_id: str, name: str = "a.txt") -> str:
    """The current implementation commits and checks all milestones; where it is then."""
    agent = await desk.agent(workflow_id)
    await desk.commit(workflow_id, name)
    await desk.plan(workflow_id, *CHECKED)
    await desk.end(agent)
    return await desk.go_on(workflow_id)
