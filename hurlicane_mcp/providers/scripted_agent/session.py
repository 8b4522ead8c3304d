"""A session: what a resumed agent still knows, kept in one small file."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from hurlicane_mcp.errors import Conflict, Invalid, NotFound
from hurlicane_mcp.providers.scripted_agent.phases import VARIABLE, At

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class Session:
    """All that outlives a process of the agent. Figures count over all of its processes."""

    folder: Path
    session_id: str
    script: str  #: its text, as it was found in the first prompt
    steps_done: int = 0  #: of the script's top-level steps
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    variables: dict[str, object] = field(default_factory=dict[str, object])
    #: How often each `refuse` step has refused, and the epoch at which it did so first.
    refusals: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def phase(self) -> At | None:
        """The phase of a workflow that its first prompt was for."""
        kept = self.variables.get(VARIABLE)
        return At(**cast("dict[str, Any]", kept)) if isinstance(kept, dict) else None

    def save(self) -> None:
        """Write the session's file: all or nothing, readable by its owner only."""
        state = asdict(self) | {"cost_usd": str(self.cost_usd)}
        del state["folder"]
        target = _file(self.folder, self.session_id)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(state, out)
        draft.replace(target)


def begin(folder: Path, session_id: str | None, script: str, phase: At | None = None) -> Session:
    """A new session, saved at once so that it can be resumed whatever happens next.

    *phase* is what its prompt says of the workflow that it is for.

    Raises:
        Conflict: there is a session of this id already.
        Invalid: the id is no name for a file.
    """
    session_id = session_id or str(uuid4())
    if SESSION_ID.fullmatch(session_id) is None:
        raise Invalid("A session id is made of 1 to 64 letters, digits, - and _.")
    if _file(folder, session_id).exists():
        raise Conflict(f"Session ID {session_id} is already in use.")
    session = Session(folder, session_id, script)
    if phase is not None:
        session.variables[VARIABLE] = phase.variable
    session.save()
    return session


def load(folder: Path, session_id: str) -> Session:
    """The session that was saved under this id.

    Raises:
        NotFound: there is none.
    """
    try:
        if SESSION_ID.fullmatch(session_id) is None:
            raise FileNotFoundError(session_id)
        state = json.loads(_file(folder, session_id).read_bytes())
    except FileNotFoundError:
        raise NotFound("session", session_id) from None
    return Session(**state | {"folder": folder, "cost_usd": Decimal(state["cost_usd"])})


def folder_of(env: Mapping[str, str]) -> Path:
    """The folder that keeps the sessions, made if need be (mode 0700).

    Raises:
        Invalid: somebody else owns the folder.
    """
    named = env.get("SCRIPTED_SESSIONS")
    shared = Path(tempfile.gettempdir()) / f"hurlicane-scripted-{os.getuid()}"
    folder = Path(named) if named else shared
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Invalid(
            f"{folder} belongs to somebody else. Set SCRIPTED_SESSIONS to another folder."
        )
    return folder


def _file(folder: Path, session_id: str) -> Path:
    return folder / f"{session_id}.json"
