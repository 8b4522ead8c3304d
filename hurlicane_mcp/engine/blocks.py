"""What callers get to read of workflows that are blocked."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.domain.advance import MAX_HEALS
from hurlicane_mcp.domain.workflows import WorkflowState
from hurlicane_mcp.store import workflows
from hurlicane_mcp.store.workflow_tables import WorkflowRow


class BlockView(BaseModel):
    """Why a workflow does not go on, and what a person can do."""

    kind: str
    reason: str
    advice: str
    since: datetime | None = None
    heals_at: datetime | None = None  #: it is tried again by itself then
    tries: int = 0  #: how often in a row it was tried again by itself

    @property
    def needs_person(self) -> bool:
        """Whether nothing but a person is likely to help."""
        return self.heals_at is None or self.tries >= MAX_HEALS

    @staticmethod
    def of(workflow: WorkflowRow) -> "BlockView | None":
        """None for one that is not blocked."""
        if workflow.state != WorkflowState.BLOCKED or workflow.blocked_kind is None:
            return None
        return BlockView(
            kind=workflow.blocked_kind,
            reason=workflow.blocked_reason,
            advice=workflow.blocked_advice,
            since=workflow.blocked_at,
            heals_at=workflow.heals_at,
            tries=workflow.heals,
        )


def open_blocks(session: Session, job_ids: Sequence[str]) -> dict[str, BlockView]:
    """The blocks of those of *job_ids* that are blocked workflows, by id."""
    rows = workflows.many(session, job_ids).values()
    return {row.id: view for row in rows if (view := BlockView.of(row)) is not None}


def needs_person(
    session: Session, job_ids: Sequence[str], told: Mapping[str, datetime]
) -> Sequence[str]:
    """Those of *job_ids* that are workflows which wait for a person.

    Without those whose block the caller was *told* of: when it last heard of each, by id.
    """
    return [
        one
        for one, block in open_blocks(session, job_ids).items()
        if block.needs_person
        and block.since is not None
        and (one not in told or block.since > told[one])
    ]
