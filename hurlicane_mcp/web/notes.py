"""The routes about notes."""

from pydantic import BaseModel

from hurlicane_mcp.engine.notes import Notes
from hurlicane_mcp.engine.views import NoteView
from hurlicane_mcp.web.operations import Call, Input, Nothing, Operation, Operations


class ProjectQuery(Input):
    """Whose notes; the server's own project if none is named."""

    project: str | None = None


class NoteQuery(ProjectQuery):
    """Which notes to list."""

    prefix: str = ""


class NoteText(Input):
    """The new text of a note."""

    value: str


class NoteList(BaseModel):
    """Notes by key, without their texts."""

    notes: list[NoteView]


class NoteRoutes:
    """Notes over HTTP."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    @property
    def operations(self) -> Operations:
        """What these routes can do."""
        note = "/api/notes/{key:path}"
        return (
            Operation("GET", "/api/notes", self.listing, NoteQuery, Nothing, NoteList),
            Operation("GET", note, self.read, ProjectQuery, Nothing, NoteView),
            Operation("PUT", note, self.write, ProjectQuery, NoteText, NoteView),
        )

    async def listing(self, call: Call[NoteQuery, Nothing]) -> NoteList:
        """The notes whose key begins with prefix."""
        query = call.query
        return NoteList(notes=await self._notes.listing(call.caller, query.prefix, query.project))

    async def read(self, call: Call[ProjectQuery, Nothing]) -> NoteView:
        """A note."""
        return await self._notes.read(call.caller, call.path("key"), call.query.project)

    async def write(self, call: Call[ProjectQuery, NoteText]) -> NoteView:
        """Write a note, replacing an older one."""
        project = call.query.project
        return await self._notes.write(call.caller, call.path("key"), call.body.value, project)
