"""Output that is lost or too much: the job still ends, and the server stays what it was."""

import os
import signal
import time
from pathlib import Path

import psutil

from tests.faults.asking import UNTIL_GO, created, events, eventually, get, outcome
from tests.faults.conftest import MIB, Serve
from tests.stories.server import RunningServer


def started(server: RunningServer, *steps: str, **values: str) -> tuple[str, Path]:
    """A job whose agent prints no more for now, and the file that holds what it has printed.

    All of it has been read: a file that is cut and filled again before anybody has looked is not
    seen to have been cut.
    """
    job_id = created(server, *steps, **values)
    stdout = server.data_dir / "runs" / f"{job_id}.1" / "stdout"
    eventually(lambda: [one for one in events(server, job_id) if "session" in one["kind"]])
    eventually(lambda: b'"begin"' in stdout.read_bytes())
    time.sleep(1)  # nobody tells that the last line has been read
    return job_id, stdout


def warnings(server: RunningServer, job_id: str) -> list[str]:
    found = [one for one in events(server, job_id) if one["kind"] == "attempt.warning"]
    return [one["data"]["text"] for one in found]


def test_an_agent_whose_output_is_deleted_finishes_all_the_same(
    server: RunningServer, tmp_path: Path
) -> None:
    job_id, stdout = started(server, UNTIL_GO, "say unseen", "finish done without it")
    stdout.unlink()
    (warning,) = eventually(lambda: warnings(server, job_id))
    assert "deleted" in warning
    (tmp_path / "go").touch()
    answer = outcome(server, job_id)
    assert (answer["result"], answer["attempt"]) == ("done without it", 1)
    assert len(warnings(server, job_id)) == 1


def test_after_its_output_was_cut_an_agent_is_read_on_from_there(
    server: RunningServer, tmp_path: Path
) -> None:
    job_id, stdout = started(server, UNTIL_GO, "say still heard", "exit 0", completion="exit")
    os.truncate(stdout, 0)
    (warning,) = eventually(lambda: warnings(server, job_id))
    assert "cut" in warning
    (tmp_path / "go").touch()
    assert outcome(server, job_id)["result"] == "still heard"
    assert len(warnings(server, job_id)) == 1


#: A child of the agent prints lines into the agent's output, so many MiB of them.
FLOOD = "run sh -c 'yes {word} | head -c {size} >> /proc/$PPID/fd/1; sleep 600'"


def test_an_agent_that_prints_without_end_is_stopped_and_the_server_stays_small_and_quick(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(tmp_path / "data", output_limit=str(32 * MIB))
    worker = psutil.Process(server.worker_pid)
    before, slowest, largest = worker.memory_info().rss, 0.0, 0
    flood = FLOOD.format(word="0123456789" * 10, size=200 * MIB)
    job_id = created(server, flood, "finish never")
    while get(server, f"/api/jobs/{job_id}")["status"] not in ("done", "failed"):
        began = time.monotonic()
        with server.rest() as rest:
            rest.get("/healthz").raise_for_status()
        slowest = max(slowest, time.monotonic() - began)
        largest = max(largest, worker.memory_info().rss)
        time.sleep(0.05)
    failure = outcome(server, job_id)["failure"]
    assert failure["kind"] == "output_limit"
    assert "output_limit" in failure["reason"]
    assert largest - before < 64 * MIB
    assert slowest < 2
    assert worker.is_running()


def test_the_limit_is_kept_while_no_server_runs(serve: Serve, tmp_path: Path) -> None:
    first = serve(tmp_path / "data", output_limit=str(MIB))
    flood = FLOOD.format(word="y", size=8 * MIB).replace(
        "sh -c '", "sh -c 'until [ -e go ]; do :; done; "
    )
    job_id, stdout = started(first, flood, "finish never")
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(20)
    (tmp_path / "go").touch()
    eventually((stdout.parent / "exit.json").exists)
    second = serve(tmp_path / "data")
    assert outcome(second, job_id)["failure"]["kind"] == "output_limit"


def test_an_agent_without_a_server_is_stopped_in_the_end_and_resumed_by_the_next(
    serve: Serve, tmp_path: Path
) -> None:
    first = serve(tmp_path / "data", unattended_limit="6")
    job_id, stdout = started(first, UNTIL_GO, "finish at last")
    time.sleep(8)  # with a server it lives on
    assert get(first, f"/api/jobs/{job_id}")["status"] == "running"
    assert not (stdout.parent / "exit.json").exists()
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(20)
    eventually((stdout.parent / "exit.json").exists)
    (tmp_path / "go").touch()
    second = serve(tmp_path / "data")
    answer = outcome(second, job_id)
    assert (answer["result"], answer["attempt"]) == ("at last", 2)
    settled = [one for one in events(second, job_id) if one["kind"] == "attempt.settled"]
    assert settled[0]["data"]["outcome"] == "interrupted"
