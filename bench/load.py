"""Closed-loop load: each client sends its next call when the last one was answered."""

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import MeasurementFailed
from bench.wire import Refused, checked, connected, is_whole

WARM_UP_S = 0.5
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw."""

    latencies_ms: Sequence[float]
    per_s: float


class _Client:
    """One keep-alive connection with one prepared request."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = connected(port)
        self._request = request
        self._data = b""
        self._sent_at = 0.0

    def send(self) -> None:
        self._data = b""
        self._sent_at = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> float | None:
        """The latency in seconds once the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise MeasurementFailed("The server closed a connection under load.")
        self._data += data
        if not is_whole(self._data):
            return None
        latency = time.perf_counter() - self._sent_at
        checked(self._data)
        return latency


def closed_loop(port: int, requests: Sequence[bytes], seconds: float) -> Load:
    """One client for each of *requests*, calling for *seconds* after a short warm-up.

    Raises:
        MeasurementFailed: a call was refused, or not answered.
    """
    clients = [_Client(port, request) for request in requests]
    try:
        _run(clients, WARM_UP_S)
        began = time.perf_counter()
        latencies = _run(clients, seconds)
        took = time.perf_counter() - began
    except Refused as error:
        raise MeasurementFailed(f"A call was refused: {error}") from error
    finally:
        for client in clients:
            client.socket.close()
    return Load([one * 1000 for one in latencies], len(latencies) / took)


def _run(clients: Sequence[_Client], seconds: float) -> list[float]:
    """Latencies of all calls that were begun within *seconds*, in seconds."""
    latencies: list[float] = []
    by_file = {client.socket.fileno(): client for client in clients}
    open_calls = len(clients)
    with select.epoll() as poll:
        for client in clients:
            poll.register(client.socket.fileno(), select.EPOLLIN)
            client.send()
        end = time.perf_counter() + seconds
        while open_calls:
            ready = poll.poll(PATIENCE_S)
            if not ready:
                raise MeasurementFailed(f"No answer within {PATIENCE_S:.0f} s under load.")
            for file, _ in ready:
                client = by_file[file]
                latency = client.receive()
                if latency is None:
                    continue
                latencies.append(latency)
                if time.perf_counter() < end:
                    client.send()
                else:
                    open_calls -= 1
    return latencies
