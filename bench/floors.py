"""The bare cost of the same work, so that every figure is also a ratio."""

import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.figures import Distribution, Figures, MeasurementFailed, Value
from bench.load import closed_loop
from bench.probe import gaps_ms
from bench.server import ROOT, a_folder
from bench.wire import tool_call

LOAD_S = 2.0
CLIENTS = 50
PROCESS_STARTS = 40
COMMITS_S = 1.5
FANOUT, AT_ONCE = 100, 10
STORM = 49
IMPORTS = "import mcp, sqlmodel, starlette, uvicorn"
SAY_TIME = "import time; print(time.monotonic_ns())"
# Not `ru_maxrss`, which a child inherits from whoever forked it.
SAY_PAGES = "print(open('/proc/self/statm').read().split()[1])"


def measure_route() -> Figures:
    """floor_route_1_ms and floor_route_50_per_s: Starlette and uvicorn alone."""
    return _calls("route")


def measure_tool() -> Figures:
    """floor_tool_1_ms and floor_tool_50_per_s: the SDK's stateless endpoint, in JSON mode."""
    return _calls("tool")


def measure_process() -> Figures:
    """floor_process_start_ms and floor_fanout100_s: interpreters that end at once.

    Started as the agents are; a job needs two, its agent and the shim that keeps it.
    """
    starts = [_start_ms() for _ in range(PROCESS_STARTS)]
    return {
        "floor_process_start_ms": Distribution.of(starts),
        "floor_fanout100_s": Value.of(_all_started_s(2 * FANOUT)),
    }


def measure_storm() -> Figures:
    """floor_storm50_s: the interpreters of the jobs that go on when a limit has ended."""
    return {"floor_storm50_s": Value.of(_all_started_s(2 * STORM))}


def measure_commits() -> Figures:
    """floor_commits_per_s: SQLite transactions of one row, each synced to the disk."""
    with a_folder() as folder:
        connection = sqlite3.connect(folder.data_dir / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE one (at REAL)")
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < COMMITS_S:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO one VALUES (?)", (took,))
            connection.execute("COMMIT")
            count += 1
        connection.close()
    return {"floor_commits_per_s": Value.of(count / took)}


def import_once() -> tuple[float, float]:
    """How long a fresh interpreter takes until it has imported what the server is made of, in ms,
    and what it then has in memory, in MiB. The interpreter's end, 100 ms and more, is not counted.
    """
    began_ns = time.monotonic_ns()
    done_ns, pages = _run("-c", f"{IMPORTS}; {SAY_TIME}; {SAY_PAGES}").split()
    return (int(done_ns) - began_ns) / 1e6, int(pages) * resource.getpagesize() / 1024**2


def idle_cpu_of_a_bare_server(seconds: float) -> float:
    """What uvicorn uses of a core when nobody calls it, in percent."""
    with _bare_server("route") as (_, pid):
        process = psutil.Process(pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        return (sum(process.cpu_times()[:2]) - before) / seconds * 100


def gaps_of_a_bare_server(seconds: float) -> list[float]:
    """What the probe of `loop_stall_ms` sees of a route that nobody else calls, in ms."""
    with _bare_server("route") as (port, _):
        return gaps_ms(port, "nobody", "/mcp", seconds)


def _calls(kind: str) -> Figures:
    with _bare_server(kind) as (port, _):
        request = tool_call(port, "nobody", "report_status", '{"text":"Half of it is done."}')
        alone = closed_loop(port, [request], LOAD_S)
        together = closed_loop(port, [request] * CLIENTS, LOAD_S)
    return {
        f"floor_{kind}_1_ms": Distribution.of(alone.latencies_ms),
        f"floor_{kind}_50_per_s": Value.of(together.per_s),
    }


def _start_ms() -> float:
    """From the call that starts an interpreter to its first statement."""
    began_ns = time.monotonic_ns()
    return (int(_run("-SEI", "-c", SAY_TIME)) - began_ns) / 1e6


def _all_started_s(count: int) -> float:
    """How long *count* interpreters take from start to end, a few of them at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in [pool.submit(_start_ms) for _ in range(count)]:
            start.result()
    return time.perf_counter() - began


def _run(*arguments: str) -> str:
    done = subprocess.run((sys.executable, *arguments), stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


@contextmanager
def _bare_server(kind: str) -> Generator[tuple[int, int]]:
    """The port and the pid of a bare server that listens."""
    process = subprocess.Popen(
        (sys.executable, "-m", "bench.bare_server", kind),
        cwd=Path(ROOT),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline()
        if not port:
            raise MeasurementFailed(f"The bare {kind} server did not start.")
        yield int(port), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
