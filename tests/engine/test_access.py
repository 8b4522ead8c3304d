"""What a token is worth, and for how long."""

from datetime import timedelta

import pytest

from hurlicane_mcp.engine import settlement
from hurlicane_mcp.engine.access import AFTERLIFE, OPERATOR, Access, Role
from hurlicane_mcp.errors import Unauthorized
from hurlicane_mcp.store.database import Database
from hurlicane_mcp.supervision.host import Exit
from tests.factories import running
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def test_tokens_stand_for_their_owners(db: Database, clock: FakeClock) -> None:
    _, attempt = await db.write(running)
    access = Access(db, clock, "the operator's")
    assert await access.caller("the operator's") == OPERATOR
    caller = await access.caller(f"token of {attempt.id}")
    assert (caller.role, caller.attempt_id) == (Role.AGENT, attempt.id)
    with pytest.raises(Unauthorized, match="mcp-config"):
        await access.caller("somebody else's")


async def test_a_token_outlives_its_process_for_a_while_and_no_longer(
    db: Database, clock: FakeClock
) -> None:
    """A late caller reads what happened to its job instead of a bare refusal."""
    _, attempt = await db.write(running)
    await db.write(lambda s: settlement.mark_ended(s, attempt.id, Exit(code=0), clock.now()))
    access, token = Access(db, clock, "the operator's"), f"token of {attempt.id}"
    clock.move(AFTERLIFE - timedelta(seconds=1))
    assert (await access.caller(token)).attempt_id == attempt.id
    clock.move(timedelta(minutes=2))
    with pytest.raises(Unauthorized):
        await access.caller(token)
