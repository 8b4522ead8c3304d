"""The doorbell: it says that something under a topic changed, never what."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio


class Ear:
    """One listener. A ring between two calls of `heard` is kept, many count as one."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def heard(self) -> None:
        """Return at once if the bell has rung since the last call, else when it rings."""
        await self._rung.wait()
        self._rung = anyio.Event()


class Bell:
    """Wakes the listeners of a topic. Used from the event loop's thread only.

    Take an ear *before* reading what you wait for: then no change can fall in between.
    """

    def __init__(self) -> None:
        self._ears: dict[str, set[Ear]] = {}
        self.closed = False

    @contextmanager
    def listen(self, topics: Iterable[str], ear: Ear | None = None) -> Generator[Ear]:
        """An ear for *topics* as long as the context lasts; an *ear* given hears them as well."""
        ear, names = ear or Ear(), frozenset(topics)
        for topic in names:
            self._ears.setdefault(topic, set()).add(ear)
        if self.closed:
            ear.ring()
        try:
            yield ear
        finally:
            for topic in names:
                self._ears[topic].discard(ear)
                if not self._ears[topic]:
                    del self._ears[topic]

    def ring(self, topics: Iterable[str]) -> None:
        """Wake whoever listens to one of *topics*."""
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear.ring()

    def close(self) -> None:
        """Wake everybody, now and whoever comes later: the server is stopping."""
        self.closed = True
        self.ring(tuple(self._ears))
