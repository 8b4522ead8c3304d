"""A disk that is full or may not be written to: nothing is lost, and all goes on by itself."""

import subprocess
import sys
import time
from pathlib import Path

from tests.faults.asking import (
    UNTIL_GO,
    create,
    created,
    events,
    eventually,
    get,
    outcome,
    readiness,
)
from tests.faults.conftest import MIB, Serve

LONG = 60_000  #: characters of a long description


def fill(disk: Path) -> Path:
    """A file that takes all that is left of *disk*."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def test_on_a_full_disk_writes_are_refused_plainly_and_all_goes_on_when_there_is_space(
    disk: Path, serve: Serve, tmp_path: Path
) -> None:
    server = serve(disk / "data")
    working = created(server, UNTIL_GO, "finish lived through it")
    eventually(lambda: get(server, f"/api/jobs/{working}")["status"] == "running")
    eventually(lambda: [one for one in events(server, working) if "session" in one["kind"]])
    worker = server.worker_pid
    filler = fill(disk)

    answers = [create(server, "finish", padding=LONG) for _ in range(40)]
    refused = next(one for one in answers if not one.is_success)
    problem = refused.json()
    assert (refused.status_code, problem["error"]) == (503, "store_unavailable"), problem
    assert "nothing was written" in problem["message"]
    assert "again" in problem["message"]
    monitor = readiness(server)
    assert monitor.status_code == 503
    assert "full" in monitor.json()["message"]
    stored = [one.json()["job_id"] for one in answers if one.is_success]
    time.sleep(1.5)
    assert server.worker_pid == worker
    assert all(get(server, f"/api/jobs/{one}")["status"] != "failed" for one in stored)

    filler.unlink()
    for job_id in stored:
        assert outcome(server, job_id)["status"] == "done"
    (tmp_path / "go").touch()
    answer = outcome(server, working)
    assert (answer["result"], answer["attempt"]) == ("lived through it", 1)
    assert eventually(lambda: readiness(server).is_success)
    assert server.worker_pid == worker
    known = {one["job_id"] for one in get(server, "/api/jobs")["jobs"]}
    assert known == {working, *stored}  # what was refused left nothing behind


def test_an_agent_is_not_started_on_a_full_disk_but_later(
    disk: Path, serve: Serve, tmp_path: Path
) -> None:
    """The database may still have room, here because it lies elsewhere."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "runs").symlink_to(disk)
    server = serve(tmp_path / "data")
    filler = fill(disk)
    job_id = created(server, "finish")
    warned = eventually(
        lambda: [one for one in events(server, job_id) if one["kind"] == "attempt.warning"]
    )
    assert "no space left" in warned[0]["data"]["text"].lower()
    cancelled = created(server, "finish")
    eventually(lambda: get(server, f"/api/jobs/{cancelled}")["status"] == "running")
    with server.rest() as rest:
        rest.post(f"/api/jobs/{cancelled}/cancel", json={}).raise_for_status()
    filler.unlink()
    answer = outcome(server, job_id)
    assert (answer["status"], answer["attempt"]) == ("done", 1)
    assert outcome(server, cancelled)["status"] == "cancelled"
    eventually(lambda: get(server, "/api/agents")["agents"] == [])
    assert not (disk / f"{cancelled}.1" / "shim.json").exists()


def test_the_exit_of_an_agent_is_kept_although_its_disk_is_full(
    disk: Path, serve: Serve, tmp_path: Path
) -> None:
    server = serve(disk / "data")
    job_id = created(server, UNTIL_GO, "exit 7", completion="exit")
    run_dir = disk / "data" / "runs" / f"{job_id}.1"
    eventually((run_dir / "shim.json").exists)
    filler = fill(disk)
    (tmp_path / "go").touch()
    eventually((run_dir / "exit.json").exists)
    filler.unlink()
    failure = outcome(server, job_id)["failure"]
    assert "exited with code" in failure["reason"]  # that of a program that cannot print


def remount(disk: Path, how: str) -> None:
    subprocess.run(("mount", "-o", f"remount,{how}", str(disk)), check=True)


def test_an_agent_is_not_started_in_a_read_only_folder_but_later(
    disk: Path, serve: Serve, tmp_path: Path
) -> None:
    """The kernel makes a file system read-only that has errors."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "runs").symlink_to(disk)
    server = serve(tmp_path / "data")
    remount(disk, "ro")
    job_id = created(server, "finish")
    warned = eventually(
        lambda: [one for one in events(server, job_id) if one["kind"] == "attempt.warning"]
    )
    assert "Read-only" in warned[0]["data"]["text"]
    remount(disk, "rw")
    answer = outcome(server, job_id)
    assert (answer["status"], answer["attempt"]) == ("done", 1)


def test_a_server_is_not_started_on_a_read_only_data_folder(disk: Path) -> None:
    argv = (sys.executable, "-m", "hurlicane_mcp", "serve", "--port", "0", "--data-dir")
    remount(disk, "ro")
    refused = subprocess.run(
        (*argv, str(disk / "data")), capture_output=True, text=True, timeout=40, check=False
    )
    assert refused.returncode in (1, 2)
    assert "Traceback" not in refused.stderr
    assert "Read-only" in refused.stderr.splitlines()[-1]
    assert "--data-dir" in refused.stderr.splitlines()[-1]
    remount(disk, "rw")
