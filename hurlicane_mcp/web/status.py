"""The routes about the server itself."""

import logging
from pathlib import Path

import anyio
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session
from starlette.responses import Response

from hurlicane_mcp.errors import StoreUnavailable
from hurlicane_mcp.supervision.space import is_full
from hurlicane_mcp.web.operations import Call, Nothing, Operation, Operations
from hurlicane_mcp.web.problems import problem
from hurlicane_mcp.web.services import ServerFacts, Services

LOOK_S = 10  #: for the database to answer and to store something

log = logging.getLogger(__name__)


class Health(BaseModel):
    """The server is well."""

    status: str = "ok"


class StatusRoutes:
    """Health and facts."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        none, health = Nothing, Health
        return (
            Operation("GET", "/healthz", self.health, none, none, health, for_agents=True),
            Operation("GET", "/readyz", self.readiness, none, none, health, for_agents=True),
            Operation("GET", "/api/server", self.facts, none, none, ServerFacts),
        )

    async def health(self, _call: Call[Nothing, Nothing]) -> Health:
        """The process answers."""
        return Health()

    async def readiness(self, _call: Call[Nothing, Nothing]) -> Health | Response:
        """There is room, and the database can be read and written; 503 otherwise."""
        db, folder = self._services.db, Path(self._services.facts.data_dir)
        if is_full(folder):
            message = f"The disk of {folder} is full: no agent is started until there is space."
            return problem(503, "not_ready", message)
        if trouble := db.writer_trouble:
            return problem(503, "not_ready", trouble)
        now = self._services.clock.now().isoformat()
        try:
            with anyio.fail_after(LOOK_S):
                await db.read(_look)
                await db.write(lambda session: _note(session, now))
        except StoreUnavailable as error:
            return problem(503, "not_ready", str(error))
        except TimeoutError:
            return problem(503, "not_ready", f"The database has not answered for {LOOK_S} s.")
        except SQLAlchemyError:
            log.warning("the database cannot be read", exc_info=True)
            return problem(503, "not_ready", "The database cannot be read; the log has the cause.")
        return Health()

    async def facts(self, _call: Call[Nothing, Nothing]) -> ServerFacts:
        """Which server this is."""
        return self._services.facts


def _note(session: Session, now: str) -> None:
    """Only a commit shows that there can be one."""
    insert = "INSERT INTO meta (key, value) VALUES ('looked_at', :now) "
    instead = "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    session.connection().execute(text(insert + instead), {"now": now})


def _look(session: Session) -> None:
    session.connection().execute(text("SELECT 1 FROM meta LIMIT 1"))
