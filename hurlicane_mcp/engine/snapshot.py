"""The state of everything at one moment, to begin a dashboard with."""

from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.domain.jobs import JOB, OPEN
from hurlicane_mcp.domain.workflows import WorkflowState
from hurlicane_mcp.engine.listings import attempt_views, job_lines
from hurlicane_mcp.engine.presence import Presences
from hurlicane_mcp.engine.views import AttemptView, JobLine
from hurlicane_mcp.engine.workflow_views import WorkflowLine, lines_of
from hurlicane_mcp.store import attempts, events, jobs, workflows
from hurlicane_mcp.store.database import Database

#: How many open and how many finished jobs are told; the newest ones.
OPEN_JOBS = 1000
FINISHED_JOBS = 100
OPEN_WORKFLOWS = 200
_OPEN_STATES = (WorkflowState.RUNNING, WorkflowState.BLOCKED)


class Slots(BaseModel):
    """How many agents may work at once, and how many do; waiting ones are not busy."""

    max: int
    busy: int


class Snapshot(BaseModel):
    """The state after event `as_of`: following the feed from there keeps it true."""

    as_of: int
    counts: dict[str, int]
    slots: Slots
    jobs: list[JobLine]
    workflows: list[WorkflowLine]  #: the open ones, newest first
    agents: list[AttemptView]


class Snapshots:
    """Takes snapshots."""

    def __init__(self, db: Database, presences: Presences, slots: int) -> None:
        self._db = db
        self._presences = presences
        self._slots = slots

    async def take(self) -> Snapshot:
        """The newest jobs, open and finished, counts of all, open workflows and living agents."""

        def query(session: Session) -> Snapshot:
            # First: where readings of one transaction may differ, later events come once more.
            as_of = events.last_seq(session)
            rows = [
                *jobs.listing(session, statuses=OPEN, limit=OPEN_JOBS),
                *jobs.listing(session, statuses=sorted(JOB.final), limit=FINISHED_JOBS),
            ]
            going_on = workflows.listing(session, states=_OPEN_STATES, limit=OPEN_WORKFLOWS)
            return Snapshot(
                as_of=as_of,
                counts=jobs.counts(session),
                slots=Slots(max=self._slots, busy=attempts.count_busy(session)),
                jobs=job_lines(session, self._presences, rows),
                workflows=lines_of(session, going_on),
                agents=attempt_views(session, self._presences, attempts.not_ended(session)),
            )

        return await self._db.read(query)
