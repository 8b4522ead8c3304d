"""A database with a past, written through the store's own tables: a changed schema breaks this."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlmodel import Session, SQLModel

from bench.server import Folder
from hurlicane_mcp.domain.attempts import AttemptState, OutcomeKind
from hurlicane_mcp.domain.jobs import Completion, JobStatus
from hurlicane_mcp.ids import attempt_id, token_hash
from hurlicane_mcp.store.database import open_engine
from hurlicane_mcp.store.migrations import migrate
from hurlicane_mcp.store.tables import AttemptRow, EventRow, JobRow, insert_rows

CHUNK = 5_000
Row = dict[str, Any]


def seed(folder: Folder, *, queued: int = 0, done: int = 0) -> None:
    """Give the server of *folder*, which must not run, so many *queued* and *done* jobs.

    A finished job has one attempt and the events of its life, as if an agent had done it.
    """
    engine = open_engine(f"sqlite:///{folder.data_dir / 'hurlicane.db'}")
    migrate(engine)
    past = datetime.now(UTC) - timedelta(days=1)
    with Session(engine) as session, session.begin():
        _insert(session, JobRow, (_job(folder, f"job_d{n}", past, done=True) for n in range(done)))
        _insert(session, AttemptRow, (_attempt(folder, f"job_d{n}", past) for n in range(done)))
        _insert(session, EventRow, (one for n in range(done) for one in _life(f"job_d{n}", past)))
        _insert(session, JobRow, (_job(folder, f"job_q{n}", past) for n in range(queued)))
        _insert(session, EventRow, (_event(f"job_q{n}", past, "queued") for n in range(queued)))
    engine.dispose()


def _insert(session: Session, table: type[SQLModel], rows: Iterator[Row]) -> None:
    while chunk := list(islice(rows, CHUNK)):
        insert_rows(session, table, *chunk)


def _job(folder: Folder, job_id: str, at: datetime, *, done: bool = False) -> Row:
    ended: Row = {"attempt": 1, "started_at": at, "finished_at": at, "result": "Done, as asked."}
    return {
        "id": job_id,
        "root_id": job_id,
        "status": JobStatus.DONE if done else JobStatus.QUEUED,
        "project": str(folder.work_dir),
        "work_dir": str(folder.work_dir),
        "provider": "claude",
        "completion": Completion.FINISH_JOB,
        "created_at": at,
        "title": "A job of the bench",
        "description": "bench: hang",
        **(ended if done else {}),
    }


def _attempt(folder: Folder, job_id: str, at: datetime) -> Row:
    name = attempt_id(job_id, 1)
    return {
        "id": name,
        "job_id": job_id,
        "number": 1,
        "state": AttemptState.SETTLED,
        "token_hash": token_hash(name),
        "provider": "claude",
        "run_dir": str(folder.data_dir / "runs" / name),
        "claimed_at": at,
        "started_at": at,
        "settled_at": at,
        "ended_at": at,
        "outcome": OutcomeKind.DONE,
        "exit_code": 0,
    }


def _life(job_id: str, at: datetime) -> Iterator[Row]:
    yield _event(job_id, at, "created")
    yield _event(job_id, at, "running")
    yield _event(job_id, at, "done")


def _event(job_id: str, at: datetime, what: str) -> Row:
    return {"at": at, "kind": f"job.{what}", "job_id": job_id, "data": {"status": what}}
