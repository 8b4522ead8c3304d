"""Time as a dependency: the only module that asks the machine what time it is."""

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio


class Clock(Protocol):
    """What the engine knows of time."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def suspended(self) -> float:
        """Seconds that the machine has been suspended since it started; 0 where that is unknown."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Return after *duration*; at once if it is zero or less."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def suspended(self) -> float:
        if sys.platform != "linux":
            return 0.0
        # On Linux CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC does not.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)

    async def sleep(self, duration: timedelta) -> None:
        await anyio.sleep(max(0.0, duration.total_seconds()))
