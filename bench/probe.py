"""A tiny request, again and again: how long the server lets anybody wait."""

import time

from bench.wire import Wire, get

EVERY_S = 0.005


def gaps_ms(port: int, token: str, path: str, seconds: float) -> list[float]:
    """The time to each answer, in ms, asking every 5 ms or as soon as the last one came."""
    wire, request = Wire(port), get(port, token, path)
    gaps: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    try:
        while now < end:
            wire.exchange(request)
            took = time.perf_counter() - now
            gaps.append(took * 1000)
            time.sleep(max(0.0, EVERY_S - took))
            now = time.perf_counter()
    finally:
        wire.close()
    return gaps
