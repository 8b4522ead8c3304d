"""What all creations share: repetitions are recognised, and trees do not grow without end."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlmodel import Session

from hurlicane_mcp.engine.access import Caller
from hurlicane_mcp.errors import Conflict, LimitReached
from hurlicane_mcp.store import jobs
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.tables import CreationKeyRow, JobRow, insert_rows


@dataclass(frozen=True, slots=True)
class Limits:
    """What keeps a tree of jobs from running away."""

    max_depth: int = 6  #: levels below a job without a parent
    max_open_jobs: int = 200  #: jobs of one tree that are not final


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a creation; `fresh` is False when the job was there already."""

    job_id: str
    title: str
    status: str
    fresh: bool
    note: str | None = None  #: what the caller should know of it


class Creations:
    """Remembers which creations are still being answered.

    An identical call that comes meanwhile is one of several, not the repetition of one whose answer
    was lost.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._answering: set[str] = set()

    async def make(
        self,
        caller: Caller,
        job_id: str,
        create: Callable[[Session, Sequence[str]], Created],
    ) -> Created:
        """What *create* answers, which stores *job_id* unless it was created before.

        It is given the ids of those that are being answered, and may run again.
        """
        answering = tuple(self._answering)
        self._answering.add(job_id)
        is_answered_later = False
        try:
            made = await self._db.write(lambda session: create(session, answering))
            is_answered_later = made.fresh and caller.is_agent
        finally:
            if not is_answered_later:
                self._answering.discard(job_id)
        return made

    def answered(self, job_id: str, heard: bool) -> None:
        """A creation's response is over. If it was *heard*, an identical call means another job."""
        self._answering.discard(job_id)
        if heard:
            self._db.post(lambda session: jobs.mark_answered(session, job_id))


@dataclass(frozen=True, slots=True)
class Request:
    """A creation as far as repetitions are concerned."""

    caller: Caller
    key: str | None  #: the caller's idempotency key
    fingerprint: str  #: the same for the same request, whatever its key
    answering: Sequence[str] = ()  #: jobs whose creation is still being answered

    def earlier(self, session: Session) -> JobRow | None:
        """The job that an earlier, identical call created, if this call repeats one.

        Raises:
            Conflict: the key already stands for a request with other arguments.
        """
        if self.key is None:
            if not self.caller.is_agent:
                return None
            return jobs.unanswered(session, self.caller.job_id, self.fingerprint, self.answering)
        known = jobs.created_with_key(session, self.caller.name, self.key)
        if known is None:
            return None
        if known.fingerprint != self.fingerprint:
            raise Conflict(
                f"`idempotency_key` {self.key!r} already stands for job {known.job_id}, which was "
                "asked for with other arguments. Use another key."
            )
        return jobs.get(session, known.job_id)

    def remember(self, session: Session, job_id: str) -> None:
        """Have the key, if there is one, stand for *job_id* from now on."""
        if self.key is not None:
            key = {"scope": self.caller.name, "key": self.key}
            values = {**key, "fingerprint": self.fingerprint, "job_id": job_id}
            insert_rows(session, CreationKeyRow, values)


def check_tree(session: Session, parent: JobRow, limits: Limits) -> None:
    """Refuse one more job below *parent* if its tree is as deep or as large as it may be.

    Raises:
        LimitReached: the message names the setting.
    """
    if parent.depth + 1 > limits.max_depth:
        raise LimitReached(
            f"Jobs may be nested {limits.max_depth} deep (setting max_depth), this one would be at "
            f"{parent.depth + 1}. Do the work yourself."
        )
    if jobs.count_live_in_tree(session, parent.root_id) > limits.max_open_jobs:
        raise LimitReached(
            f"{limits.max_open_jobs} jobs below {parent.root_id} are open already (setting "
            "max_open_jobs). Wait for some with wait_for_jobs first."
        )


def fingerprint_of(fields: Mapping[str, Any]) -> str:
    """The same for the same request: SHA-256 of its *fields* as JSON."""
    told = json.dumps(fields, sort_keys=True, default=_plain)
    return hashlib.sha256(told.encode()).hexdigest()


def _plain(number: Decimal) -> str:
    """*number* for JSON, the same for 5 and 5.0."""
    return str(number.normalize())
