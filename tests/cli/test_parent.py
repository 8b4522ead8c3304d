"""The parent of `hurlicane serve`, with real processes, signals and sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil
import pytest

pytestmark = pytest.mark.timeout(20)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux only: prctl, /proc")

PROGRAM = Path(__file__).with_name("answering_program.py")
ROOT = Path(__file__).parents[2]
#: Runs its arguments as systemd would: the socket as descriptor 3, and this process named.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


class Answer(NamedTuple):
    pid: int
    version: str


def ask(port: int) -> Answer:
    """The answer to one request on a new connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"?")
        return answer_on(connection)


def answer_on(connection: socket.socket) -> Answer:
    pid, version = connection.makefile().read().split()
    return Answer(int(pid), version)


def until(condition: Callable[[], bool], within: float = 10) -> None:
    """Return as soon as *condition* holds; fail after *within* seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether nothing of the process runs any more; its parent may not have reaped it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@dataclass
class Program:
    """A running `answering_program.py`."""

    process: subprocess.Popen[str]
    directory: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def ready(self) -> int:
        """Wait for the ready line; return its port."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready 127.0.0.1 "), self.log()
        return int(line.split()[2])

    def exit_code(self) -> int:
        return self.process.wait(timeout=15)

    def rest_of_output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def workers(self) -> list[int]:
        """The process ids of all workers so far."""
        return [int(pid) for pid in (self.directory / "starts").read_text().split()]

    def kill_orphans(self) -> None:
        """End the workers that have outlived their parent, those and no others."""
        if (self.directory / "starts").exists():
            for pid in self.workers():
                with suppress(psutil.NoSuchProcess):
                    worker = psutil.Process(pid)
                    if str(self.directory) in worker.cmdline():
                        worker.kill()

    def install(self, version: str) -> None:
        (self.directory / "version").write_text(version)


class Start(Protocol):
    def __call__(
        self, mode: str = "answering", *extra: str, port: int = 0, via: tuple[str, ...] = ()
    ) -> Program: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the program; whatever of it still runs after the test is killed."""
    running: list[Program] = []
    (tmp_path / "version").write_text("1")

    def call(
        mode: str = "answering", *extra: str, port: int = 0, via: tuple[str, ...] = ()
    ) -> Program:
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *via, str(PROGRAM), str(tmp_path), str(port), mode, *extra],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=(int(via[2]),) if via else (),
                start_new_session=True,
            )
        running.append(Program(process, tmp_path))
        return running[-1]

    yield call
    for program in running:
        with program.process as process:
            process.kill()
        program.kill_orphans()


def test_the_ready_line_names_the_port_that_answers(start: Start) -> None:
    program = start()
    answer = ask(program.ready())
    assert answer.version == "1"
    assert psutil.Process(answer.pid).ppid() == program.pid


def test_a_client_that_comes_during_the_import_waits_and_is_answered(
    start: Start, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    program = start("loading_slowly", port=port)
    until((tmp_path / "loading").exists)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as early:
        early.sendall(b"?")
        (tmp_path / "go").touch()
        assert answer_on(early).version == "1"
    assert program.ready() == port


def test_a_request_made_while_no_worker_runs_only_takes_longer(start: Start) -> None:
    program = start()
    port = program.ready()
    killed = ask(port).pid
    os.kill(program.pid, signal.SIGSTOP)  # so that the outage lasts until we say so
    os.kill(killed, signal.SIGKILL)
    until(lambda: is_gone(killed))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"?")
        os.kill(program.pid, signal.SIGCONT)
        answer = answer_on(connection)
    assert answer.pid != killed
    assert psutil.Process(answer.pid).ppid() == program.pid


def test_deaths_after_readiness_are_no_crashes_however_many(start: Start) -> None:
    program = start()
    port = program.ready()
    for _ in range(8):
        killed = ask(port).pid
        os.kill(killed, signal.SIGKILL)
        until(lambda pid=killed: is_gone(pid))
        assert ask(port).pid != killed
    assert "before it was ready" not in program.log()


def test_five_workers_that_never_get_ready_end_the_server(start: Start) -> None:
    program = start("dying_early")
    assert program.exit_code() == 1
    assert len(program.workers()) == 5
    assert (
        program.log()
        .splitlines()[-1]
        .endswith("No worker gets ready (5 tries): see the messages above.")
    )
    assert program.rest_of_output() == ""


def test_a_worker_may_need_several_tries_to_get_ready(start: Start) -> None:
    program = start("dying_at_first")
    program.ready()
    assert len(program.workers()) == 3
    assert "exited with code 3 before it was ready" in program.log()


def test_a_bug_in_the_worker_is_logged_with_its_traceback(start: Start) -> None:
    program = start("failing")
    assert program.exit_code() == 1
    assert program.log().count("RuntimeError: a bug") == 5


@pytest.mark.parametrize("mode", ["refusing", "held_by_another"])
def test_a_worker_that_a_restart_cannot_help_ends_the_server_at_once(
    start: Start, mode: str
) -> None:
    program = start(mode)
    assert program.exit_code() == 1
    assert len(program.workers()) == 1


def test_a_data_directory_held_by_another_server_is_told_in_one_line(start: Start) -> None:
    program = start("held_by_another")
    program.exit_code()
    [line] = program.log().splitlines()
    assert line.endswith("The data directory is held by another server (pid 1).")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains_the_worker_and_frees_the_port(
    start: Start, tmp_path: Path, stop: signal.Signals
) -> None:
    program = start()
    port = program.ready()
    worker = ask(port).pid
    program.process.send_signal(stop)
    assert program.exit_code() == 0
    assert is_gone(worker)
    assert (tmp_path / f"drained.{worker}").exists()
    assert is_free(port)


def test_a_stop_during_the_import_starts_no_worker(start: Start, tmp_path: Path) -> None:
    program = start("loading_slowly")
    until((tmp_path / "loading").exists)
    program.process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert program.exit_code() == 0
    assert not (tmp_path / "starts").exists()


def test_a_stop_ends_the_pause_before_the_next_try(start: Start, tmp_path: Path) -> None:
    program = start("dying_early")
    until((tmp_path / "starts").exists)
    program.process.send_signal(signal.SIGTERM)
    assert program.exit_code() == 0
    assert len(program.workers()) < 5


def test_a_worker_that_does_not_drain_is_killed_after_the_grace(start: Start) -> None:
    program = start("stubborn", "0.3")
    program.ready()
    program.process.send_signal(signal.SIGTERM)
    assert program.exit_code() == 0
    assert is_gone(program.workers()[0])
    assert "killed before it has drained" in program.log()


def test_a_second_interrupt_kills_the_worker_at_once(start: Start, tmp_path: Path) -> None:
    program = start("stubborn", "60")
    program.ready()
    program.process.send_signal(signal.SIGINT)
    until((tmp_path / "asked").exists)
    program.process.send_signal(signal.SIGINT)
    assert program.exit_code() == 0
    assert is_gone(program.workers()[0])


@pytest.mark.parametrize(
    "mode",
    [
        "answering",
        "without_death_signal",
        pytest.param("heeding_the_death_signal_only", marks=linux_only),
    ],
)
def test_a_worker_whose_parent_is_killed_drains_and_leaves(
    start: Start, tmp_path: Path, mode: str
) -> None:
    program = start(mode)
    port = program.ready()
    worker = ask(port).pid
    program.process.kill()
    until(lambda: is_gone(worker))
    assert (tmp_path / f"drained.{worker}").exists()
    assert is_free(port)


def test_sighup_takes_up_new_code_and_no_request_is_refused(start: Start, tmp_path: Path) -> None:
    program = start()
    port = program.ready()
    old = ask(port)
    program.install("2")
    program.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 15
    while (answer := ask(port)).version == "1":
        assert answer.pid == old.pid
        assert time.monotonic() < deadline
    assert answer.version == "2"
    assert psutil.Process(answer.pid).ppid() == program.pid
    assert (tmp_path / f"drained.{old.pid}").exists()

    os.kill(answer.pid, signal.SIGKILL)  # the successor keeps its worker alive as well
    until(lambda: is_gone(answer.pid))
    assert ask(port).version == "2"
    program.process.terminate()
    assert program.exit_code() == 0
    assert program.rest_of_output() == ""  # announced once


def test_sighup_with_code_that_cannot_be_loaded_changes_nothing(start: Start) -> None:
    program = start()
    port = program.ready()
    before = ask(port)
    program.install("broken")
    program.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP changes nothing" in program.log())
    assert "this version is broken" in program.log()
    assert ask(port) == before


def test_sighup_helps_a_server_whose_workers_die(start: Start, tmp_path: Path) -> None:
    program = start("dying_at_first")
    until((tmp_path / "starts").exists)
    program.install("2")
    program.process.send_signal(signal.SIGHUP)
    port = program.ready()
    until(lambda: ask(port).version == "2")


def test_closing_its_terminal_stops_the_server(start: Start) -> None:
    controller, terminal = os.openpty()
    program = start("in_a_terminal", os.ttyname(terminal))
    program.ready()
    os.close(terminal)
    os.close(controller)
    assert program.exit_code() == 0


@linux_only
def test_a_worker_holds_what_it_was_given_and_its_children_nothing_of_it(
    start: Start, tmp_path: Path
) -> None:
    program = start("listing_descriptors")
    path = tmp_path / "descriptors"
    for version in ("1", "2"):  # the second after an exec, which has to inherit the sockets
        if version == "2":
            program.install(version)
            program.process.send_signal(signal.SIGHUP)
        until(lambda wanted=version: path.exists() and f'"version": "{wanted}"' in path.read_text())
        told = json.loads(path.read_text())
        assert sorted(told["worker"]) == [0, 1, 2, *sorted(told["given"])]
        assert len(told["child"]) == 4  # the standard three, and the listing of them
        assert told["environment"] == []
        assert told["blocked"] == []


def test_a_port_in_use_is_told_in_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = start(port=port)
        assert program.exit_code() == 1
    text = f"error: Port {port} is in use: stop the other program or choose --port.\n"
    assert program.log() == text


def test_a_socket_of_systemd_takes_the_place_of_a_bind(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        program = start(via=("-c", ACTIVATE, str(given.fileno()), "1"))
        port = given.getsockname()[1]
    assert program.ready() == port
    assert psutil.Process(ask(port).pid).ppid() == program.pid


@pytest.mark.parametrize(
    ("count", "message"),
    [
        pytest.param("2", "LISTEN_FDS is '2': pass exactly one", id="two sockets"),
        pytest.param("1", "File descriptor 3 is no socket", id="a file"),
    ],
)
def test_a_wrong_activation_is_refused(
    start: Start, tmp_path: Path, count: str, message: str
) -> None:
    with (tmp_path / "file").open("w") as file:
        program = start(via=("-c", ACTIVATE, str(file.fileno()), count))
        assert program.exit_code() == 1
    assert message in program.log()


def test_an_application_that_starts_a_thread_is_not_forked(start: Start, tmp_path: Path) -> None:
    program = start("starting_a_thread")
    assert program.exit_code() == 1
    assert "a thread was started before the fork" in program.log()
    assert not (tmp_path / "starts").exists()
