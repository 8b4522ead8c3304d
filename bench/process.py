"""Figures of the server's process: its start, its memory, its rest, and how evenly it answers."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import psutil

from bench.control import is_well
from bench.figures import Distribution, Figures, MeasurementFailed, Value
from bench.floors import gaps_of_a_bare_server, idle_cpu_of_a_bare_server, import_once
from bench.probe import gaps_ms
from bench.seed import seed
from bench.server import Folder, Server, a_folder, a_server, connect_to, free_port, stop
from bench.wire import Wire, initialize

STARTS = 5
WAITING_CLIENTS = 200
WAITING_AGENTS = 50
FINISHED_JOBS = 10_000
REST_S = 12.0
ACTIVE_AGENTS = 50
PAUSE_MS = 250  #: of an active agent between two calls; each call comes with a line of output
PROBE_S = 8.0
MIB = 1024 * 1024


def measure_start() -> Figures:
    """start_ms and, taken in turns with it, floor_import_ms and floor_import_rss_mib."""
    starts: list[float] = []
    imports: list[float] = []
    import_rss = 0.0
    with a_folder() as folder:
        with a_server(folder) as server:  # makes the database and the operator's token
            token = server.token
        for _ in range(STARTS):
            starts.append(_start_ms(folder, token))
            took_ms, import_rss = import_once()
            imports.append(took_ms)
    return {
        "start_ms": Distribution.of(starts),
        "floor_import_ms": Distribution.of(imports),
        "floor_import_rss_mib": Value.of(import_rss),
    }


def measure_memory() -> Figures:
    """idle_rss_mib and waiting_200_rss_mib: resident memory of the worker.

    Pages that the worker still shares with its parent, from which it was forked, are counted in
    full. The parent is not counted; `idle_pss_mib` is the worker's share alone.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        server = stack.enter_context(a_server(folder))
        server.call("list_jobs")
        worker = psutil.Process(server.worker_pid)
        idle = worker.memory_full_info()
        (agent,) = server.agents("hold", 1)
        request = server.request("wait_for_jobs", job_ids=[agent.job_id])
        clients = [_wait(server, request, stack) for _ in range(WAITING_CLIENTS)]
        time.sleep(1)
        waiting = worker.memory_info()
        agent.finish()
        for client in clients:
            client.receive()  # so all of them have been waiting
        return {
            "idle_rss_mib": Value.of(idle.rss / MIB),
            "idle_pss_mib": Value.of(idle.pss / MIB),
            "waiting_200_rss_mib": Value.of(waiting.rss / MIB),
        }


def measure_rest() -> Figures:
    """idle_cpu_percent: processor time of parent and worker while everybody waits."""
    with ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        seed(folder, done=FINISHED_JOBS)
        # Each agent waits for a child of its own, which gets the slot that the wait frees: that the
        # child starts shows that its parent waits.
        server = stack.enter_context(a_server(folder, slots=WAITING_AGENTS))
        for agent in server.agents("hang", WAITING_AGENTS):
            child = server.create("hang", agent.token)
            _wait(server, server.request("wait_for_jobs", agent.token, job_ids=[child]), stack)
            folder.control.agent()
        time.sleep(1)
        processes = [psutil.Process(pid) for pid in (server.process.pid, server.worker_pid)]
        before = _cpu_s(processes)
        time.sleep(REST_S)
        used = _cpu_s(processes) - before
    return {
        "idle_cpu_percent": Value.of(used / REST_S * 100),
        "floor_idle_cpu_percent": Value.of(idle_cpu_of_a_bare_server(REST_S)),
    }


def measure_stall() -> Figures:
    """loop_stall_ms: how long a tiny request took that was sent every 5 ms among busy agents."""
    with a_folder() as folder, a_server(folder, slots=ACTIVE_AGENTS) as server:
        agents = server.agents(f"report-{PAUSE_MS}", ACTIVE_AGENTS)
        for agent in agents:
            agent.reports()
        gaps = gaps_ms(server.port, server.token, "/healthz", PROBE_S)
        if not all(is_well(agent.reports()) for agent in agents):
            raise MeasurementFailed(
                "Not all agents were busy: the server was not under their load."
            )
    return {
        "loop_stall_ms": Distribution.of(gaps),
        "floor_stall_ms": Distribution.of(gaps_of_a_bare_server(PROBE_S / 2)),
    }


def _start_ms(folder: Folder, token: str) -> float:
    """From the exec of `hurlicane serve` to the answer to a client that called at once, in ms."""
    port = free_port()
    began = time.perf_counter()
    process = folder.start(port)
    try:
        wire = connect_to(port, process)
        wire.exchange(initialize(port, token))
        took = time.perf_counter() - began
        wire.close()
        return took * 1000
    finally:
        stop(process)
        folder.end_processes()


def _wait(server: Server, request: bytes, stack: ExitStack) -> Wire:
    """A client of its own that sends *request* and waits, at most until *stack* is closed."""
    wire = Wire(server.port)
    stack.callback(wire.close)
    wire.send(request)
    return wire


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes)
