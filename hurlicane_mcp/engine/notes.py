"""Notes: what the jobs of a project tell each other."""

from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel
from sqlmodel import Session

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.texts import check_text
from hurlicane_mcp.engine.access import Caller, check_reader
from hurlicane_mcp.engine.views import ANSWER_CUT, MAX_NOTE, RESULT_CUT, NoteView
from hurlicane_mcp.engine.waiting import Beat, Waiting
from hurlicane_mcp.errors import Invalid, NotFound
from hurlicane_mcp.store import attempts, jobs, notes
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.store.events import note_topic

MAX_KEY = 200
#: Notes in one answer of `watch`; the others differ still at the next call.
MAX_CHANGED = 100


class NotesAnswer(BaseModel):
    """Notes that were written since the versions that the caller knew."""

    changed: list[NoteView]
    hint: str | None = None


class Notes:
    """Reads, writes and watches notes within a project."""

    def __init__(self, db: Database, clock: Clock, waiting: Waiting, default_project: str) -> None:
        self._db = db
        self._clock = clock
        self._waiting = waiting
        self._default = default_project

    async def write(
        self, caller: Caller, key: str, value: str, project: str | None = None
    ) -> NoteView:
        """Replace the note *key* and return it with its new version, without the text.

        Raises:
            Invalid: an empty or long key, or a value of more than 256 KiB.
        """
        check_text("key", key)
        check_text("value", value)
        if not 0 < len(key) <= MAX_KEY:
            raise Invalid(f"`key` must have 1 to {MAX_KEY} characters.")
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise Invalid("The parts of `key` between slashes must not be empty, `.` or `..`.")
        if len(value.encode()) > MAX_NOTE:
            raise Invalid(f"`value` is longer than {MAX_NOTE:,} bytes: use a file.")
        now = self._clock.now()

        def change(session: Session) -> NoteView:
            if caller.is_agent:
                attempts.fence(session, caller.attempt_id, now)
            where = self._project(session, caller, project)
            note = notes.put(session, where, key, value, caller.name, now)
            return NoteView.of(note, 0)

        return await self._db.write(change)

    async def read(self, caller: Caller, key: str, project: str | None = None) -> NoteView:
        """The note *key*.

        Raises:
            NotFound: the project has no such note.
        """

        def query(session: Session) -> NoteView:
            check_reader(session, caller)
            note = notes.get(session, self._project(session, caller, project), key)
            if note is None:
                raise NotFound("note", key, hint="list_notes shows the keys that exist.")
            return NoteView.of(note)

        return await self._db.read(query)

    async def listing(
        self, caller: Caller, prefix: str = "", project: str | None = None
    ) -> list[NoteView]:
        """The notes whose key begins with *prefix*, by key, without their texts."""

        def query(session: Session) -> list[NoteView]:
            check_reader(session, caller)
            where = self._project(session, caller, project)
            return [NoteView.of(note, 0) for note in notes.listing(session, where, prefix)]

        return await self._db.read(query)

    async def watch(
        self,
        caller: Caller,
        prefix: str,
        known: dict[str, int],
        beat: Beat,
        *,
        timeout: timedelta | None = None,
        project: str | None = None,
    ) -> NotesAnswer:
        """The notes below *prefix* that differ from *known* (key → version), once there are any.

        At once if some differ already; with none and a hint when time is up.
        """

        def query(session: Session) -> tuple[str, Sequence[NoteView]]:
            check_reader(session, caller)
            where = self._project(session, caller, project)
            found = notes.listing(session, where, prefix)
            changed = [one for one in found if known.get(one.key) != one.version]
            views: list[NoteView] = []
            room = ANSWER_CUT
            for one in changed[:MAX_CHANGED]:
                views.append(NoteView.of(one, min(room, RESULT_CUT)))
                room -= len(views[-1].value or "")
            return where, views

        where, changed = await self._db.read(query)
        if changed:
            return NotesAnswer(changed=list(changed))
        interrupted = False
        with self._db.bell.listen([note_topic(where)]) as ear:

            async def over() -> bool:
                nonlocal changed
                _, changed = await self._db.read(query)
                return bool(changed)

            if not await over():
                interrupted = await self._waiting.until_rung(
                    caller, "notes", [prefix], ear, over, beat, timeout
                )
        if changed:
            return NotesAnswer(changed=list(changed))
        hint = self._waiting.hint(interrupted, "Nothing has changed yet. Call again.")
        return NotesAnswer(changed=[], hint=hint)

    def _project(self, session: Session, caller: Caller, asked: str | None) -> str:
        """An agent stays in its job's project; an operator names one or gets the default."""
        if caller.is_agent:
            return jobs.many(session, [caller.job_id])[caller.job_id].project
        return asked or self._default
