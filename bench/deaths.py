"""Figures of agents that die or lose the connection: when it is heard, and when they are back."""

import os
import signal
import time
from collections.abc import Callable, Sequence

import psutil

from bench.control import HeldAgent
from bench.figures import Distribution, Figures, MeasurementFailed
from bench.server import Server, a_folder, a_server, structured
from bench.wire import Wire

CHILDREN, SHIMS = 30, 10
SETTLE_S = 0.05  #: for a wait to be open, so that the measurement begins idle
APART_S = 0.1  #: between the second deaths, and so between the starts that follow them
GRACE_S = 2
AGENTS, LOST = 32, 15  #: fewer than half: the watchdog doubts that so many are lost at once
LOST_EVERY_S = 0.37  #: not a fraction of the watchdog's 2 s, so that all phases of it are met


def measure_death() -> Figures:
    """death_told_ms, shim_death_told_ms and death_restart_ms.

    Each child of one parent dies three times. After the first death another attempt follows at
    once, after the second one in ten seconds, and the third ends the job as a crash loop: that is
    what the parent, inside wait_for_jobs, is told.
    """
    with a_folder() as folder, a_server(folder, slots=CHILDREN + 1) as server:
        (parent,) = server.agents("hang", 1)
        for _ in range(CHILDREN):
            server.create("hang", parent.token)
        first = [folder.control.agent() for _ in range(CHILDREN)]
        second, restarts = _restarted(server, first)
        for agent in second:
            agent.kill()
            time.sleep(APART_S)
        third = [folder.control.agent() for _ in second]
        return {
            "death_told_ms": Distribution.of(
                _told(server, parent, third[SHIMS:], HeldAgent.kill),
            ),
            "shim_death_told_ms": Distribution.of(
                _told(server, parent, third[:SHIMS], _kill_shim),
            ),
            "death_restart_ms": Distribution.of(restarts),
        }


def measure_loss() -> Figures:
    """lost_resume_s: from the line that says so to the resumed agent's first statement, in seconds
    beyond the grace that a lost agent has to come back by itself.
    """
    grace = {"HURLICANE_LOST_GRACE": str(GRACE_S)}
    with a_folder() as folder, a_server(folder, AGENTS, grace) as server:
        agents = server.agents("lose", AGENTS)
        lost_ns: dict[str, int] = {}
        for agent in agents[:LOST]:
            agent.order()
            lost_ns[agent.job_id] = agent.shown_ns()
            time.sleep(LOST_EVERY_S)
        resumed = [folder.control.agent() for _ in lost_ns]
    took = [(one.born_ns - lost_ns[one.job_id]) / 1e9 - GRACE_S for one in resumed]
    return {"lost_resume_s": Distribution.of(took)}


def _restarted(
    server: Server, agents: Sequence[HeldAgent]
) -> tuple[Sequence[HeldAgent], Sequence[float]]:
    """Kill one after the other: those that follow them, and the times to their first statements."""
    following: list[HeldAgent] = []
    took: list[float] = []
    for agent in agents:
        killed_ns = agent.kill()
        successor = server.folder.control.agent()
        following.append(successor)
        took.append((successor.born_ns - killed_ns) / 1e6)
        time.sleep(SETTLE_S)
    return following, took


def _told(
    server: Server,
    parent: HeldAgent,
    agents: Sequence[HeldAgent],
    kill: Callable[[HeldAgent], int],
) -> Sequence[float]:
    """From each kill to the parent's answer that the job has failed, in ms."""
    waiter = Wire(server.port)
    took: list[float] = []
    for agent in agents:
        waiter.send(server.request("wait_for_jobs", parent.token, job_ids=[agent.job_id]))
        time.sleep(SETTLE_S)
        killed_ns = kill(agent)
        answer = structured(waiter.receive())
        took.append((time.monotonic_ns() - killed_ns) / 1e6)
        (job,) = answer["jobs"]
        if job["status"] != "failed":
            raise MeasurementFailed(f"A third death did not fail the job: {job}")
    waiter.close()
    return took


def _kill_shim(agent: HeldAgent) -> int:
    """As `HeldAgent.kill`, but the process that keeps the agent."""
    shim = psutil.Process(agent.pid).ppid()
    killed_ns = time.monotonic_ns()
    os.kill(shim, signal.SIGKILL)
    return killed_ns
