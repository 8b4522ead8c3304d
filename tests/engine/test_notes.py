"""Notes: answers stay small however many and however long they are, and no change is missed."""

from datetime import timedelta

import pytest

from hurlicane_mcp.engine.access import OPERATOR
from hurlicane_mcp.engine.notes import MAX_CHANGED, Notes
from hurlicane_mcp.engine.views import ANSWER_CUT
from hurlicane_mcp.engine.waiting import Waiting, WaitLimits
from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store.database import Database
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def notes(db: Database, clock: FakeClock) -> Notes:
    return Notes(db, clock, Waiting(db, clock, WaitLimits(timedelta(minutes=30))), "/project")


async def no_beat(waited_s: float, what: str) -> None:
    """A client that asked for no progress."""


async def test_long_notes_are_cut_in_an_answer_and_say_how_to_read_on(notes: Notes) -> None:
    for number in range(8):
        await notes.write(OPERATOR, f"key {number}", "x" * 200_000)
    changed = (await notes.watch(OPERATOR, "", {}, no_beat)).changed
    assert len(changed) == 8
    assert sum(len(note.value or "") for note in changed) <= ANSWER_CUT
    assert changed[0].value_cut is not None
    assert "read_note" in changed[0].value_cut
    whole = await notes.read(OPERATOR, "key 0")
    assert (len(whole.value or ""), whole.value_cut) == (200_000, None)


async def test_every_change_is_told_in_the_end_however_many_there_are(notes: Notes) -> None:
    count = 5 * MAX_CHANGED + 20
    for number in range(count):
        await notes.write(OPERATOR, f"key {number:04}", "x")
    known: dict[str, int] = {}
    for _ in range(6):
        changed = (await notes.watch(OPERATOR, "", known, no_beat)).changed
        known |= {note.key: note.version for note in changed}
    assert len(known) == count
    assert len(await notes.listing(OPERATOR)) == count


async def test_a_list_of_notes_has_no_texts(notes: Notes) -> None:
    await notes.write(OPERATOR, "a", "long")
    (note,) = await notes.listing(OPERATOR)
    assert (note.key, note.value, note.value_cut) == ("a", None, None)


@pytest.mark.parametrize("key", ["", "a//b", "../a", "a/.", "/a", "x" * 201, "a\0"])
async def test_a_key_that_no_path_can_name_is_refused(notes: Notes, key: str) -> None:
    with pytest.raises(Invalid, match="key"):
        await notes.write(OPERATOR, key, "x")
