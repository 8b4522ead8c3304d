"""Which agents are calling us now. In memory only: after a restart the first call tells again."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.store import attempts
from hurlicane_mcp.store.database import Database

#: How often a calling agent is noted in the database.
NOTED_EVERY = timedelta(seconds=30)
#: An agent that called this recently is not lost, whatever older lines of its transcript say.
FRESH = timedelta(seconds=1)


@dataclass(slots=True)
class Seen:
    """What we saw of one attempt's agent."""

    request_at: datetime
    noted_at: datetime | None = None
    open_requests: int = 0


class Attendance:
    """Counts the requests of agents as they come and go."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._seen: dict[str, Seen] = {}

    @contextmanager
    def request(self, attempt_id: str) -> Generator[None]:
        """A request of the attempt's agent is open as long as the context lasts."""
        now = self._clock.now()
        seen = self._seen.setdefault(attempt_id, Seen(now))
        seen.open_requests += 1
        seen.request_at = now
        if seen.noted_at is None or not timedelta(0) <= now - seen.noted_at < NOTED_EVERY:
            seen.noted_at = now
            self._db.post(lambda session: attempts.seen(session, attempt_id, now))
        try:
            yield
        finally:
            seen.open_requests -= 1
            seen.request_at = self._clock.now()

    def of(self, attempt_id: str) -> Seen | None:
        """What was seen of the attempt's agent since this server started."""
        return self._seen.get(attempt_id)

    def has_called_lately(self, attempt_id: str) -> bool:
        """Whether a request of it is open, or was a moment ago."""
        seen = self._seen.get(attempt_id)
        if seen is None:
            return False
        since = self._clock.now() - seen.request_at  # negative when the clock was set back
        return seen.open_requests > 0 or timedelta(0) <= since < FRESH

    def expect_return(self, attempt_id: str) -> None:
        """The agent is lost: its next request is to be noted at once."""
        if seen := self._seen.get(attempt_id):
            seen.noted_at = None

    def forget(self, attempt_id: str) -> None:
        """The attempt's process has gone."""
        self._seen.pop(attempt_id, None)
