"""The ledger of limits in the store: which models are not to be used, and who probes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, update
from sqlmodel import Session, col, select

from hurlicane_mcp.domain.cooldowns import Cooldown, Key
from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.store import events
from hurlicane_mcp.store.limit_tables import CooldownRow
from hurlicane_mcp.store.tables import insert_rows

#: The user's account at a provider. There is one for each CLI, the one that it is logged in with.
ACCOUNT_NAME = "default"


def ledger(session: Session) -> Mapping[Key, Cooldown]:
    """All entries by what they are about."""
    return {Key(row.provider, row.model): _entry(row) for row in rows(session)}


def rows(session: Session) -> Sequence[CooldownRow]:
    """All entries with their evidence, by provider and model."""
    query = select(CooldownRow).order_by(col(CooldownRow.provider), col(CooldownRow.model))
    return session.exec(query.execution_options(populate_existing=True)).all()


def put(
    session: Session,
    key: Key,
    entry: Cooldown,
    now: datetime,
    *,
    evidence: str,
    job_id: str | None = None,
    attempt: int | None = None,
) -> None:
    """Store *entry* instead of what is there, and tell of it: `model.limited`."""
    _delete(session, key)
    values = {
        "provider": key.provider,
        "account": ACCOUNT_NAME,
        "model": key.model,
        "since": entry.since,
        "until": entry.until,
        "strikes": entry.strikes,
        "kind": entry.kind,
        "is_manual": entry.is_manual,
        "job_id": job_id,
        "attempt": attempt,
        "probe": entry.probe,
        "probe_until": entry.probe_until,
        "evidence": evidence,
    }
    insert_rows(session, CooldownRow, values)
    events.record(
        session,
        now,
        "model.limited",
        job_id,
        attempt,
        provider=key.provider,
        model=key.model,
        failure_kind=entry.kind,
        until=entry.until.isoformat() if entry.until else None,
        strikes=entry.strikes,
        manual=entry.is_manual,
        evidence=evidence,
    )


def remove(session: Session, key: Key, now: datetime, why: str) -> bool:
    """Drop an entry and tell of it, `model.available`; whether there was one."""
    if not _delete(session, key):
        return False
    events.record(session, now, "model.available", provider=key.provider, model=key.model, why=why)
    return True


def hold_probe(session: Session, key: Key, entry: Cooldown, now: datetime) -> None:
    """Store who probes, as *entry* says, and tell of it: `model.probed`."""
    statement = update(CooldownRow).where(*_is(key))
    session.exec(statement.values(probe=entry.probe, probe_until=entry.probe_until))
    job_id, _, number = (entry.probe or "").rpartition(".")
    events.record(
        session,
        now,
        "model.probed",
        job_id,
        int(number),
        provider=key.provider,
        model=key.model,
    )


def probed_by(session: Session, attempt_id: str) -> Sequence[Key]:
    """What *attempt_id* probes."""
    query = select(CooldownRow).where(col(CooldownRow.probe) == attempt_id)
    return [Key(row.provider, row.model) for row in session.exec(query).all()]


def release_probes(session: Session, attempt_id: str) -> Sequence[Key]:
    """Let others probe what *attempt_id*, which has ended, did not find out; what that was."""
    held = probed_by(session, attempt_id)
    if held:
        statement = update(CooldownRow).where(col(CooldownRow.probe) == attempt_id)
        session.exec(statement.values(probe=None, probe_until=None))
    return held


def shift(session: Session, by: timedelta) -> None:
    """Move the moments of all entries when the clock was set back.

    Set forward, some end too early, which costs a probe; moved along, announced resets would be
    waited for too long.
    """
    if by > timedelta(0):
        return
    for row in rows(session):
        moved = {
            name: moment + by
            for name in ("since", "until", "probe_until")
            if (moment := getattr(row, name)) is not None
        }
        key = Key(row.provider, row.model)
        session.exec(update(CooldownRow).where(*_is(key)).values(moved))


def _entry(row: CooldownRow) -> Cooldown:
    return Cooldown(
        kind=FailureKind(row.kind),
        since=row.since,
        until=row.until,
        strikes=row.strikes,
        is_manual=row.is_manual,
        probe=row.probe,
        probe_until=row.probe_until,
    )


def _delete(session: Session, key: Key) -> bool:
    return session.exec(delete(CooldownRow).where(*_is(key))).rowcount > 0


def _is(key: Key) -> tuple[ColumnElement[bool], ...]:
    return (
        col(CooldownRow.provider) == key.provider,
        col(CooldownRow.account) == ACCOUNT_NAME,
        col(CooldownRow.model) == key.model,
    )
