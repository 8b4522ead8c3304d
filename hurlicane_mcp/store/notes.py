"""Notes: texts that the jobs of one project share."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from hurlicane_mcp.store import events
from hurlicane_mcp.store.tables import NoteRow

_WITHOUT_TEXT = defer(cast("Any", NoteRow.value))


def put(
    session: Session, project: str, key: str, value: str, author: str, now: datetime
) -> NoteRow:
    """Write a note, replacing what was there; its version counts the writes."""
    note = session.get(NoteRow, (project, key))
    if note is None:
        note = NoteRow(project=project, key=key, value=value, author=author, updated_at=now)
    else:
        note.value, note.author, note.updated_at = value, author, now
        note.version += 1
    session.add(note)
    session.flush()
    events.record(
        session, now, "note.written", project=project, key=key, version=note.version, by=author
    )
    return note


def get(session: Session, project: str, key: str) -> NoteRow | None:
    """The note, or None."""
    return session.get(NoteRow, (project, key))


def listing(session: Session, project: str, prefix: str = "") -> Sequence[NoteRow]:
    """The project's notes whose key begins with *prefix*, by key, their texts not yet loaded."""
    query = select(NoteRow).where(col(NoteRow.project) == project)
    if prefix:
        query = query.where(col(NoteRow.key).startswith(prefix, autoescape=True))
    return session.exec(query.order_by(col(NoteRow.key)).options(_WITHOUT_TEXT)).all()
