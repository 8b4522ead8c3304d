"""Figures of a crash: the worker is killed while agents are at work."""

import os
import signal
import time
from collections.abc import Sequence

from bench.control import HeldAgent, is_well
from bench.figures import Distribution, Figures, MeasurementFailed, Value
from bench.server import Server, a_folder, a_server
from bench.wire import Refused, Wire

AGENTS = 20
PAUSE_MS = 50
KILLS = 5
GO_ON_S = 1.0
MANY_AGENTS = 200
MANY_PAUSE_MS = 2000
MANY_KILLS = 3
PATIENCE_S = 60.0


def measure() -> Figures:
    """adopted_of_20 and restart_ms: the agents that go on as if nothing had been, and the time from
    the kill to the next answer.

    To go on means: the same process, at the same attempt, calls before and after each kill, none
    of its calls failed, and it finishes its job. Like the real CLIs it repeats a call once when the
    connection breaks.
    """
    with a_folder() as folder, a_server(folder, slots=AGENTS) as server:
        agents = server.agents(f"report-{PAUSE_MS}", AGENTS)
        time.sleep(GO_ON_S)
        well = [is_well(agent.reports()) for agent in agents]
        restarts: list[float] = []
        for _ in range(KILLS):
            restarts.append(_restart_ms(server))
            time.sleep(GO_ON_S)
            well = [
                before and is_well(agent.reports())
                for before, agent in zip(well, agents, strict=True)
            ]
        finished = _finished(server, agents)
        adopted = sum(
            unharmed and agent.job_id in finished
            for unharmed, agent in zip(well, agents, strict=True)
        )
    return {"adopted_of_20": Value.of(adopted), "restart_ms": Distribution.of(restarts)}


def measure_many() -> Figures:
    """restart_200_ms: as restart_ms, with ten times as many agents that call less often."""
    with a_folder() as folder, a_server(folder, slots=MANY_AGENTS) as server:
        agents = server.agents(f"report-{MANY_PAUSE_MS}", MANY_AGENTS)
        restarts: list[float] = []
        for _ in range(MANY_KILLS):
            _await_calls(agents)
            restarts.append(_restart_ms(server))
            time.sleep(GO_ON_S)
        _await_calls(agents)
    return {"restart_200_ms": Distribution.of(restarts)}


def _await_calls(agents: Sequence[HeldAgent]) -> None:
    """Return when each agent has called twice from now on: so the first of them is answered.

    Raises:
        MeasurementFailed: a call has failed, or not all have called within a minute.
    """
    left = dict.fromkeys(agents, 2)
    end = time.monotonic() + PATIENCE_S
    while left:
        for agent in list(left):
            reports = agent.reports()
            if reports and not is_well(reports):
                raise MeasurementFailed(f"An agent's call failed: {reports}")
            left[agent] -= len(reports)
            if left[agent] <= 0:
                del left[agent]
        if time.monotonic() > end:
            raise MeasurementFailed(f"{len(left)} agents did not go on.")
        time.sleep(GO_ON_S / 10)


def _restart_ms(server: Server) -> float:
    """Kill the worker; the time until somebody who calls without pause is answered, in ms."""
    request = server.request("list_jobs", limit=1)
    killed_at = time.perf_counter()
    os.kill(server.worker_pid, signal.SIGKILL)
    while True:
        try:
            wire = Wire(server.port)
            try:
                wire.exchange(request)
            finally:
                wire.close()
        except (ConnectionError, Refused):
            continue
        return (time.perf_counter() - killed_at) * 1000


def _finished(server: Server, agents: Sequence[HeldAgent]) -> frozenset[str]:
    """The jobs that *agents* finish, each in its first attempt."""
    for agent in agents:
        agent.finish()
    server.reconnect()
    answer = server.call("wait_for_jobs", job_ids=[one.job_id for one in agents], timeout_s=60)
    return frozenset(
        job["job_id"] for job in answer["jobs"] if (job["status"], job["attempt"]) == ("done", 1)
    )
