"""Figures of a stop: the server is told to end while clients are inside blocking calls."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.figures import Distribution, Figures, Value
from bench.server import STOP_LIMIT_S, Server, a_folder, a_server, structured
from bench.wire import Refused, Wire

ROUNDS = 3
PARENTS, WAITS = 5, 10  #: agents, and the calls of each that block
OPEN_S = 1.0  #: for all of them to be open


def measure() -> Figures:
    """drain_ms and drain_answered_of_50: from SIGTERM until every client has its answer and the
    process is gone, and how many were told to call again (the fewest of all rounds).
    """
    took: list[float] = []
    answered: list[int] = []
    for _ in range(ROUNDS):
        with ExitStack() as stack:
            folder = stack.enter_context(a_folder())
            server = stack.enter_context(a_server(folder, slots=PARENTS))
            clients = _waiting(server, stack)
            time.sleep(OPEN_S)
            began = time.perf_counter()
            server.process.terminate()
            answered.append(sum(_is_told(client) for client in clients))
            server.process.wait(STOP_LIMIT_S)
            took.append((time.perf_counter() - began) * 1000)
    return {
        "drain_ms": Distribution.of(took),
        "drain_answered_of_50": Value.of(min(answered)),
    }


def _waiting(server: Server, stack: ExitStack) -> Sequence[Wire]:
    """The connections of agents that wait, each for a child of its own, until *stack* is closed."""
    clients: list[Wire] = []
    for agent in server.agents("hang", PARENTS):
        child = server.create("hang", agent.token)
        for _ in range(WAITS):
            client = Wire(server.port)
            stack.callback(client.close)
            client.send(server.request("wait_for_jobs", agent.token, job_ids=[child]))
            clients.append(client)
        server.folder.control.agent()  # in the slot that the waits have freed
    return clients


def _is_told(client: Wire) -> bool:
    """Whether the call is answered with the word that the server restarts."""
    try:
        answer = structured(client.receive())
    except (OSError, Refused):
        return False
    return "restarting" in answer.get("hint", "")
