"""Logging: the standard library, one line an event, and who it is about."""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_subject: ContextVar[str] = ContextVar("subject", default="-")


@contextmanager
def about(subject: str) -> Generator[None]:
    """Mark every record logged inside with *subject*, for instance an attempt's id."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


class _Subject(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.subject = _subject.get()
        return True


def configure(level: str) -> None:
    """Send the records of this process to standard error. Calling it twice changes nothing."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Subject())
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s [%(subject)s] %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries tell at INFO what they do all the time: noise beside our events.
    for noisy in ("alembic", "mcp", "httpx2", "httpcore2", "uvicorn", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
