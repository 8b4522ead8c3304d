"""One call of a model over a chain of them: whoever is limited is passed over, at once.

For the server's own calls, which somebody waits for. Jobs never come here: they are parked in the
database, where a wait costs no slot and outlives the server.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random
from typing import Protocol, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
)
from tenacity.stop import stop_base

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.cooldowns import Go, Key, Park
from hurlicane_mcp.domain.refusals import Refusal

T = TypeVar("T")

#: Calls and looks at the ledger for one question, whatever the ledger says.
MOST_TRIES = 12
#: What is worth waiting for; a later reset ends the call.
LONGEST = timedelta(seconds=60)
#: Whoever waits for a reset does not ask in the same moment as all others.
JITTER = timedelta(seconds=2)


class Limited(Exception):
    """The model refused the call for a limit; another one may answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class AllLimited(Exception):
    """No model of the chain may be called before *until*; None: until somebody clears a limit."""

    def __init__(self, until: datetime | None, by: Key) -> None:
        when = f"until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "until somebody clears it"
        super().__init__(
            f"Every model of the chain is limited, {by.provider} {by.model or 'default'} {when}."
        )
        self.until = until
        self.by = by


class Ledger(Protocol):
    """The ledger of limits, as one caller sees it."""

    async def choose(self, chain: Sequence[Key]) -> Go | Park:
        """What `cooldowns.choose` says now. The probes of a `Go` are held for the caller, who holds
        no others from then on."""
        ...

    async def mark(self, key: Key, refusal: Refusal) -> None:
        """Note that the model refused."""
        ...

    async def clear(self, key: Key) -> None:
        """Drop an entry that was probed: there was an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a call goes on with another model, or later."""

    error: Limited | AllLimited
    wait: timedelta  #: zero if another model is asked at once
    tries: int  #: so far


@dataclass(frozen=True, slots=True)
class Fallback:
    """Makes calls over a chain of models. *tell* hears of each setback before it is waited for."""

    clock: Clock
    ledger: Ledger
    tell: Callable[[Setback], Awaitable[None]]
    luck: Callable[[], float] = random  #: from 0 to 1

    async def call(self, chain: Sequence[Key], ask: Callable[[int], Awaitable[T]]) -> T:
        """What *ask* answers, given the step of *chain* (from 0) that can be used now.

        It says that the model refused by raising `Limited`. Then the next model is asked at once.
        If none is left, the earliest reset is waited for, up to `LONGEST`. Every other error, and
        cancellation, ends the call as it is.

        Raises:
            AllLimited: nothing can be asked for longer than that.
            Limited: the last of `MOST_TRIES` refusals.
        """

        async def attempt() -> T:  # tenacity does not await what an ordinary function returns
            return await self._try(chain, ask)

        # One for each call: tenacity keeps the steps of a call in the object, by thread, and all
        # calls of an event loop are made in one (read in 9.2.1).
        retrying = AsyncRetrying(
            sleep=self._sleep,
            wait=self._wait,
            retry=retry_if_exception_type((Limited, AllLimited)),
            stop=stop_any(stop_after_attempt(MOST_TRIES), _TooFar(self.clock)),
            before_sleep=self._tell,
            reraise=True,
        )
        return await retrying(attempt)

    async def _try(self, chain: Sequence[Key], ask: Callable[[int], Awaitable[T]]) -> T:
        choice = await self.ledger.choose(chain)
        if isinstance(choice, Park):
            raise AllLimited(choice.until, choice.by)
        try:
            answer = await ask(choice.step)
        except Limited as error:
            await self.ledger.mark(chain[choice.step], error.refusal)
            raise
        for key in choice.probes:
            await self.ledger.clear(key)
        return answer

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next try."""
        left = _left(state, self.clock)
        return left + JITTER.total_seconds() * self.luck() if left > 0 else 0.0

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await self.clock.sleep(timedelta(seconds=seconds))

    async def _tell(self, state: RetryCallState) -> None:
        wait = timedelta(seconds=state.upcoming_sleep)
        await self.tell(Setback(_error(state), wait, state.attempt_number))


class _TooFar(stop_base):
    """Stop if there is nothing to ask for longer than anybody should wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, retry_state: RetryCallState) -> bool:
        return _left(retry_state, self._clock) > LONGEST.total_seconds()


def _left(state: RetryCallState, clock: Clock) -> float:
    """Seconds until something can be asked: none while a model is left, infinite if never."""
    error = _error(state)
    if isinstance(error, Limited):
        return 0.0
    return math.inf if error.until is None else (error.until - clock.now()).total_seconds()


def _error(state: RetryCallState) -> Limited | AllLimited:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Limited | AllLimited), "nothing else is tried again"
    return error
