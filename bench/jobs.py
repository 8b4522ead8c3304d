"""Figures of a job's way: from create_job to its agent, and from finish_job to whoever waits."""

import time

from bench.figures import Distribution, Figures, MeasurementFailed, Value
from bench.server import Server, a_folder, a_server
from bench.wire import Wire, tools_list

DISPATCHES = 60
WAKES = 40
FANOUT = 100
SETTLE_S = 0.05  #: for the ends of processes to be noted, so that each measurement begins idle


def measure() -> Figures:
    """dispatch_ms, wake_ms, fanout100_s and schema_bytes_agent, on a server with ten slots."""
    with a_folder() as folder, a_server(folder, slots=10) as server:
        dispatched = [_dispatch(server) for _ in range(DISPATCHES + 1)]
        woken = _wakes(server)
        return {
            "dispatch_ms": Distribution.of(dispatched[1:]),  # the first one warms the server up
            "wake_ms": Distribution.of(woken[1:]),
            "fanout100_s": Value.of(_fan_out(server)),
            "schema_bytes_agent": Value.of(_schema_bytes(server)),
        }


def _dispatch(server: Server) -> float:
    """From the sending of create_job to the first statement of the agent, in ms.

    That statement comes one start of an interpreter after the exec: `floor_process_start_ms` is
    the same program's.
    """
    sent_ns = time.monotonic_ns()
    server.create("hold")
    agent = server.folder.control.agent()
    agent.finish()
    agent.leave()
    time.sleep(SETTLE_S)
    return (agent.born_ns - sent_ns) / 1e6


def _wakes(server: Server) -> list[float]:
    """From finish_job's answer at the child to wait_for_jobs' answer at its parent, in ms.

    Both are stamped by who receives them, and the waiter may well be answered first: then the
    figure is negative.
    """
    (parent,) = server.agents("hold", 1)
    waiter = Wire(server.port)
    took: list[float] = []
    for _ in range(WAKES + 1):
        child_id = server.create("hold", parent.token)
        child = server.folder.control.agent()
        waiter.send(server.request("wait_for_jobs", parent.token, job_ids=[child_id]))
        time.sleep(SETTLE_S)
        child.finish()
        waiter.receive()
        woken_ns = time.monotonic_ns()
        took.append((woken_ns - child.finished_ns()) / 1e6)
        child.leave()
    waiter.close()
    parent.finish()
    parent.leave()
    return took


def _fan_out(server: Server) -> float:
    """From the first create_job to the end of all of many jobs that do nothing, in seconds."""
    began = time.perf_counter()
    job_ids = [server.create("finish") for _ in range(FANOUT)]
    answer = server.call("wait_for_jobs", job_ids=job_ids, timeout_s=120)
    took = time.perf_counter() - began
    if any(job["status"] != "done" for job in answer["jobs"]):
        raise MeasurementFailed(f"Not all of {FANOUT} jobs were done: {answer}")
    return took


def _schema_bytes(server: Server) -> int:
    (agent,) = server.agents("hang", 1)
    wire = Wire(server.port)
    try:
        return len(wire.exchange(tools_list(server.port, agent.token)))
    finally:
        wire.close()
