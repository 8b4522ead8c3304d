"""Who is calling: tokens and roles, below both edges."""

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.attempts import Standing
from hurlicane_mcp.errors import NotFound, StaleAttempt, Unauthorized
from hurlicane_mcp.ids import token_hash
from hurlicane_mcp.store import attempts, jobs
from hurlicane_mcp.store.database import Database

#: A token goes on being answered this long after its process has gone.
AFTERLIFE = timedelta(minutes=10)
_REMEMBERED = 4096
_FRESH_S = 60.0


class Role(StrEnum):
    """What a token allows."""

    OPERATOR = "operator"  #: a person's IDE, CLI or dashboard: sees everything
    AGENT = "agent"  #: an attempt: sees its own job and what grew out of it


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token stands for. An operator has neither job nor attempt."""

    role: Role
    job_id: str = ""
    attempt_id: str = ""
    is_checked: bool = False  #: its job has checks, so finish_job may take long

    @property
    def is_agent(self) -> bool:
        return self.role is Role.AGENT

    @property
    def name(self) -> str:
        """How notes and keys name their author: the job's id or `operator`."""
        return self.job_id or "operator"


OPERATOR = Caller(Role.OPERATOR)

#: Where the guard leaves the caller in an ASGI scope, and where the edges find it.
CALLER_KEY = "hurlicane.caller"
#: Functions in an ASGI scope, called once the response is over: with whether it was heard.
OVER_KEY = "hurlicane.over"


class Access:
    """Turns tokens into callers."""

    def __init__(self, db: Database, clock: Clock, operator_token: str) -> None:
        self._db = db
        self._clock = clock
        self._operator = token_hash(operator_token)
        # Whom a token was made for never changes, so it may be remembered; whether the token is
        # still worth anything is read anew each minute, and by the fence in every write.
        self._remembered: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    async def caller(self, token: str) -> Caller:
        """Whom *token* stands for.

        Raises:
            Unauthorized: this server never issued it, or its attempt is long gone.
        """
        digest = token_hash(token)
        if hmac.compare_digest(digest, self._operator):
            return OPERATOR
        known = self._remembered.get(digest)
        if known is not None and self._clock.monotonic() - known[1] < _FRESH_S:
            return known[0]
        caller = await self._db.read(lambda session: self._agent(session, digest))
        self._remembered[digest] = (caller, self._clock.monotonic())
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    def _agent(self, session: Session, digest: str) -> Caller:
        attempt = attempts.by_token(session, digest)
        ended = None if attempt is None else attempt.ended_at
        if attempt is None or (ended is not None and self._clock.now() - ended > AFTERLIFE):
            raise Unauthorized(
                "This server does not know your token. Send `Authorization: Bearer …` with the "
                "operator's token; `hurlicane mcp-config` prints a configuration that has it."
            )
        is_checked = jobs.has_checks(session, attempt.job_id)
        return Caller(Role.AGENT, attempt.job_id, attempt.id, is_checked)


def check_reader(session: Session, caller: Caller) -> None:
    """Let operators, and agents whose attempt holds or has finished its job, read.

    Raises:
        StaleAttempt: another attempt holds the caller's job.
    """
    if caller.is_agent and attempts.standing_of(session, caller.attempt_id) is Standing.STALE:
        raise StaleAttempt


def check_visible(session: Session, caller: Caller, *job_ids: str, own: bool = False) -> None:
    """Let an agent name descendants of its job only; with *own* the job itself as well.

    Raises:
        NotFound: the message names those that do not exist or are not the caller's to see.
    """
    if caller.is_agent:
        wanted = tuple(one for one in job_ids if not (own and one == caller.job_id))
        hidden = jobs.outside(session, caller.job_id, wanted)
    else:
        known = jobs.statuses(session, job_ids)
        hidden = tuple(one for one in dict.fromkeys(job_ids) if one not in known)
    if hidden:
        hint = "list_jobs shows the jobs that you may name." if caller.is_agent else ""
        raise NotFound("job", *hidden, hint=hint)
