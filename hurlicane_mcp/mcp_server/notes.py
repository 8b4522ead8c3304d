"""The tools about notes, which the jobs of a project share."""

from datetime import timedelta
from typing import Annotated

from mcp.types import CallToolResult
from pydantic import Field

from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.mcp_server.answers import Ctx, answer, answers, beat_of, caller_of

_Project = Annotated[str | None, Field(description="Operators only")]


class NoteTools:
    """Notes for both roles. An agent's project is its job's; an operator may name one."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    @answers
    async def read_note(self, ctx: Ctx, key: str, project: _Project = None) -> CallToolResult:
        """A note of your project."""
        return answer(await self._notes.read(caller_of(ctx), key, project))

    @answers
    async def write_note(
        self, ctx: Ctx, key: str, value: str, project: _Project = None
    ) -> CallToolResult:
        """Write a note that all jobs of the project can read; replaces an older one."""
        return answer(await self._notes.write(caller_of(ctx), key, value, project))

    @answers
    async def list_notes(
        self, ctx: Ctx, prefix: str = "", project: _Project = None
    ) -> CallToolResult:
        """Keys and versions of the notes whose key begins with prefix."""
        found = await self._notes.listing(caller_of(ctx), prefix, project)
        return answer({"notes": [one.model_dump(mode="json", exclude_none=True) for one in found]})

    @answers
    async def watch_notes(
        self,
        ctx: Ctx,
        prefix: str,
        known: Annotated[
            dict[str, int] | None, Field(description="key: version that you have read")
        ] = None,
        timeout_s: Annotated[float | None, Field(ge=0, le=86400)] = None,
        project: _Project = None,
    ) -> CallToolResult:
        """Block until a note below prefix differs from the versions in known."""
        timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
        return answer(
            await self._notes.watch(
                caller_of(ctx),
                prefix,
                known or {},
                beat_of(ctx),
                timeout=timeout,
                project=project,
            )
        )
