"""Figures of limits: how soon a refused agent goes on with the next model, and what becomes of many
that meet one limit at once.
"""

import time
from collections.abc import Sequence

from bench.control import Control, HeldAgent
from bench.figures import Distribution, Figures, MeasurementFailed, Value
from bench.server import Server, a_folder, a_server

MOVES = 20
SETTLE_S = 0.05  #: for the move to be noted, so that each measurement begins idle
NEXT = "claude-bench-next"
JOBS = 50
AHEAD_S = 4  #: the reset, at most; the refusals of all have to be read by then
#: From the first launch after it until all others have come due, which they do within 2 s.
DUE_S = 2.5


def measure_move() -> Figures:
    """refusal_moved_ms: from the line that tells an agent's first refusal to the first statement of
    the next attempt, which goes on in the same session with the next model.

    Each job begins with a model of its own, since a limited one is not tried again.
    """
    with a_folder() as folder, a_server(folder, slots=MOVES) as server:
        for number in range(MOVES):
            server.create("refuse", model=f"claude-bench-{number}", fallback=[NEXT])
        refused = [folder.control.agent() for _ in range(MOVES)]
        took = [_move_ms(folder.control, agent) for agent in refused]
        for agent in refused:
            _check_move(server.attempts(agent.job_id))
    return {"refusal_moved_ms": Distribution.of(took)}


def measure_storm() -> Figures:
    """limit_storm_probes and limit_storm_s: launches from a limit that all jobs meet at once until
    it is known to have ended, and the time from the probe's answer until all of them run again.
    """
    with a_folder() as folder, a_server(folder, slots=JOBS) as server:
        agents = server.agents("limit", JOBS)
        resets_at = int(time.time()) + AHEAD_S
        for agent in agents:
            agent.order(str(resets_at))
        for agent in agents:
            agent.shown_ns()
        if time.time() >= resets_at:
            raise MeasurementFailed("The limit had ended before all agents had met it.")
        probes = _launched(folder.control)
        probes[0].order()
        answered_ns = probes[0].shown_ns()
        others = [folder.control.agent() for _ in range(JOBS - len(probes))]
        _check_all_run(server, agents, (*probes, *others))
    last_ns = max([answered_ns, *(agent.born_ns for agent in others)])
    return {
        "limit_storm_probes": Value.of(len(probes)),
        "limit_storm_s": Value.of((last_ns - answered_ns) / 1e9),
    }


def _move_ms(control: Control, agent: HeldAgent) -> float:
    agent.order()
    refused_ns = agent.shown_ns()
    successor = control.agent()
    if successor.job_id != agent.job_id:
        raise MeasurementFailed(f"{agent.attempt} was refused, and {successor.attempt} began.")
    time.sleep(SETTLE_S)
    return (successor.born_ns - refused_ns) / 1e6


def _check_move(attempts: Sequence[dict[str, object]]) -> None:
    """Raise MeasurementFailed unless it was a move, and nothing else."""
    first, second = attempts
    is_move = first["outcome"] == "limited" and second["model"] == NEXT
    if not is_move or first["session_id"] != second["session_id"]:
        raise MeasurementFailed(f"It did not go on with the next model: {attempts}")


def _launched(control: Control) -> Sequence[HeldAgent]:
    """The first agent that begins again, and those that follow it before all have come due."""
    launched = [control.agent()]
    until = time.monotonic() + DUE_S
    while control.is_anyone_there(until - time.monotonic()):
        launched.append(control.agent())
    return launched


def _check_all_run(server: Server, before: Sequence[HeldAgent], after: Sequence[HeldAgent]) -> None:
    """Raise MeasurementFailed unless each job runs in its second attempt, and its first was
    limited.
    """
    if {agent.job_id for agent in before} != {agent.job_id for agent in after}:
        raise MeasurementFailed("Not the jobs that met the limit went on.")
    for agent in after:
        outcomes = [attempt.get("outcome") for attempt in server.attempts(agent.job_id)]
        if outcomes != ["limited", None]:
            raise MeasurementFailed(f"{agent.job_id} did not just go on: {outcomes}")
