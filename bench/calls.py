"""Figures of single calls: how long one takes, and how many a second many clients get answered."""

from contextlib import ExitStack
from statistics import median

from bench.figures import Distribution, Figures, Value
from bench.load import closed_loop
from bench.seed import seed
from bench.server import Server, a_folder, a_server

LOAD_S = 4.0
REPORTERS = 50
CREATORS = 20
ROUNDS, ROUND_S = 5, 1.5


def measure_status() -> Figures:
    """status_1_ms and status_50_per_s: report_status with the tokens of living attempts."""
    with a_folder() as folder, a_server(folder, slots=REPORTERS) as server:
        agents = server.agents("hang", REPORTERS)
        requests = [
            server.request("report_status", one.token, text="Half of it is done.") for one in agents
        ]
        alone = closed_loop(server.port, requests[:1], LOAD_S)
        together = closed_loop(server.port, requests, LOAD_S)
        return {
            "status_1_ms": Distribution.of(alone.latencies_ms),
            "status_50_per_s": Value.of(together.per_s),
        }


def measure_create() -> Figures:
    """create_20_per_s, on an empty database, and create_20_at_10k_queued_per_s and
    create_20_at_100k_done_per_s.

    Medians of rounds in turns, since they are compared with each other. The only slot of each
    server is taken: what is made stays queued.
    """
    with ExitStack() as stack:
        servers = {
            "create_20_per_s": _full_server(stack),
            "create_20_at_10k_queued_per_s": _full_server(stack, queued=10_000),
            "create_20_at_100k_done_per_s": _full_server(stack, done=100_000),
        }
        rounds = [
            {name: _creations_per_s(server) for name, server in servers.items()}
            for _ in range(ROUNDS)
        ]
    return {name: Value.of(median(one[name] for one in rounds)) for name in servers}


def _full_server(stack: ExitStack, queued: int = 0, done: int = 0) -> Server:
    """A server with so many old jobs, without a free slot."""
    folder = stack.enter_context(a_folder())
    seed(folder, queued=queued, done=done)
    server = stack.enter_context(a_server(folder, slots=1))
    if not queued:
        server.create("hang")
    folder.control.agent()
    return server


def _creations_per_s(server: Server) -> float:
    requests = [server.request("create_job", description="bench: hang")] * CREATORS
    return closed_loop(server.port, requests, ROUND_S).per_s
