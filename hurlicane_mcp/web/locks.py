"""The routes about file locks."""

from pydantic import BaseModel

from hurlicane_mcp.engine.lock_views import LockView
from hurlicane_mcp.engine.locks import Locks
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class LockQuery(Input):
    """Which locks to list."""

    path: tuple[str, ...] = ()


class LockList(BaseModel):
    """Locks, oldest first, and who waits for each."""

    locks: list[LockView]


class LockRoutes:
    """File locks over HTTP."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        one, none = "/api/locks/{lock_id}", Nothing
        return (
            Operation("GET", "/api/locks", self.listing, LockQuery, none, LockList),
            Operation("DELETE", one, self.free, none, none, LockView),
        )

    async def listing(self, call: Call[LockQuery, Nothing]) -> LockList:
        """All locks, or those that collide with a `path`: on it, above it or below it."""
        return LockList(locks=await self._locks.listing(call.caller, call.query.path or None))

    async def free(self, call: Call[Nothing, Nothing]) -> LockView:
        """Take a lock from its job, whose agent is not told. Who waits for it goes on."""
        return await self._locks.free(call.caller, call.path("lock_id"))
