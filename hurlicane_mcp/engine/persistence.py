"""Doing what must be done in the end, however often it fails."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.errors import StoreUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_WAIT = wait_exponential(multiplier=1, max=10)  #: seconds: 1, 2, 4, 8, 10, 10 …


async def persist(clock: Clock, what: str, action: Callable[[], Awaitable[T]]) -> T:
    """What *action*, which may be repeated, returns once it does not fail any more.

    Each fault is logged: *what* names the action there.
    """

    async def sleep(seconds: float) -> None:
        await clock.sleep(timedelta(seconds=seconds))

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        trace = None if isinstance(error, StoreUnavailable) else error
        log.error("%s failed (try %d): %s", what, state.attempt_number, error, exc_info=trace)

    async def attempt() -> T:  # tenacity does not await what an ordinary function returns
        return await action()

    retrying = AsyncRetrying(
        sleep=sleep, wait=_WAIT, retry=retry_if_exception_type(Exception), before_sleep=tell
    )
    return await retrying(attempt)
