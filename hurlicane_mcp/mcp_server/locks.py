"""The tools about file locks."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeAlias

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.engine.lock_views import that_fit
from hurlicane_mcp.engine.locks import Locks, Wanted
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, beat_of, caller_of

Tool: TypeAlias = Callable[..., Awaitable[CallToolResult]]
WaitS: TypeAlias = Annotated[
    float | None, Field(ge=0, le=86400, description="0: do not wait; default: as long as possible")
]


class LockTools:
    """What agents may do with locks; operators look."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    @property
    def for_agents(self) -> tuple[Tool, ...]:
        """All of them."""
        return (self.lock_files, self.release_files, self.check_file_locks)

    @answers
    async def lock_files(
        self,
        ctx: Ctx,
        paths: Annotated[list[str], Field(description="A folder covers all below it")],
        reason: str = "",
        ttl_s: Annotated[int, Field(description="60 to 3600; every sign of life renews it")] = 600,
        wait_s: WaitS = None,
    ) -> CallToolResult:
        """Lock files for your job before you edit them; blocks until all of them are free.

        All or none: if `locked` is empty, you have none. Always safe to repeat.
        """
        wait = None if wait_s is None else timedelta(seconds=wait_s)
        ttl = timedelta(seconds=min(max(ttl_s, -1), 1_000_000))
        wanted = Wanted(paths, reason, ttl, wait)
        return answer(await self._locks.lock(caller_of(ctx), wanted, beat_of(ctx)))

    @answers
    async def release_files(
        self,
        ctx: Ctx,
        paths: Annotated[list[str] | None, Field(description="Default: all that you hold")] = None,
    ) -> CallToolResult:
        """Release locks of your job. finish_job releases all."""
        return answer(await self._locks.release(caller_of(ctx), paths))

    @answers
    async def check_file_locks(
        self,
        ctx: Ctx,
        paths: Annotated[list[str] | None, Field(description="Default: your work folder")] = None,
    ) -> CallToolResult:
        """Who holds locks on these paths, above or below them, and who waits for them."""
        found = await self._locks.listing(caller_of(ctx), paths)
        told = [one.model_dump(mode="json", exclude_none=True) for one in found]
        shown, more = that_fit(told, json.dumps)
        rest = f"{more} more locks are not shown: name the paths that matter."
        return answer({"locks": shown, **({"hint": rest} if more else {})})
