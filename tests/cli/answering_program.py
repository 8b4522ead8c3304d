"""A program under `run_parent` for the tests: each request is answered with `pid version`.

    python answering_program.py DIR PORT MODE [EXTRA]

The version is read from DIR/version when the application is loaded, so it tells old code from new.
MODE is the name of one of the `WORKS`, or a word that `load` or `main` knows. EXTRA is the grace of
a stubborn worker in seconds, or the terminal to open.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType

from hurlicane_mcp import logs
from hurlicane_mcp.cli.parent import DO_NOT_RESTART, Bind, Work, WorkerLinks, run_parent
from hurlicane_mcp.errors import AlreadyServing, HurlicaneError

HERE = Path(sys.argv[1])
MODE = sys.argv[3]
EXTRA = sys.argv[4] if len(sys.argv) > 4 else ""
#: A child that inherits every descriptor which exec does not close prints them.
LIST_DESCRIPTORS = "import os; print(*os.listdir('/proc/self/fd'))"


def serve(links: WorkerLinks, version: str, heed_life: bool = True) -> None:
    """Answer one connection after the other until SIGTERM or until the parent is gone."""
    told = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, note)
    links.listener.settimeout(0.02)
    links.life.setblocking(False)
    links.ready()
    while not told.is_set() and (parent_lives(links.life) or not heed_life):
        try:
            connection, _ = links.listener.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            connection.recv(100)
            connection.sendall(f"{os.getpid()} {version}".encode())
    (HERE / f"drained.{os.getpid()}").touch()


def parent_lives(life: socket.socket) -> bool:
    try:
        return life.recv(1) != b""
    except BlockingIOError:
        return True


def note_start() -> None:
    with (HERE / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")


def answering(links: WorkerLinks, version: str) -> None:
    serve(links, version)


def dying_early(links: WorkerLinks, version: str) -> None:
    os._exit(3)


def dying_at_first(links: WorkerLinks, version: str) -> None:
    if len((HERE / "starts").read_text().split()) < 3:
        os._exit(3)
    serve(links, version)


def refusing(links: WorkerLinks, version: str) -> None:
    sys.exit(DO_NOT_RESTART)


def held_by_another(links: WorkerLinks, version: str) -> None:
    raise AlreadyServing("The data directory is held by another server (pid 1).")


def failing(links: WorkerLinks, version: str) -> None:
    raise RuntimeError("a bug")


def stubborn(links: WorkerLinks, version: str) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        (HERE / "asked").touch()

    signal.signal(signal.SIGTERM, note)
    links.ready()
    while True:
        signal.pause()


def without_death_signal(links: WorkerLinks, version: str) -> None:
    if sys.platform == "linux":  # macOS has none anyway
        ctypes.CDLL(None).prctl(1, 0)
    serve(links, version)


def heeding_the_death_signal_only(links: WorkerLinks, version: str) -> None:
    serve(links, version, heed_life=False)


def listing_descriptors(links: WorkerLinks, version: str) -> None:
    seen = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    argv = [sys.executable, "-c", LIST_DESCRIPTORS]
    child = subprocess.run(argv, close_fds=False, capture_output=True, text=True, check=True)
    told = {
        "version": version,
        "worker": [fd for fd in seen if Path(f"/proc/self/fd/{fd}").exists()],
        "given": [links.listener.fileno(), links.life.fileno()],
        "child": [int(fd) for fd in child.stdout.split()],
        "environment": [name for name in os.environ if name.startswith(("_HURLICANE", "LISTEN_"))],
        "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    }
    (HERE / "descriptors.part").write_text(json.dumps(told))
    (HERE / "descriptors.part").rename(HERE / "descriptors")
    serve(links, version)


WORKS = (
    answering,
    dying_early,
    dying_at_first,
    refusing,
    held_by_another,
    failing,
    stubborn,
    without_death_signal,
    heeding_the_death_signal_only,
    listing_descriptors,
)


def load() -> Work:
    if MODE == "loading_slowly":
        (HERE / "loading").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    if MODE == "starting_a_thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    version = (HERE / "version").read_text()
    if version == "broken":
        raise ImportError("this version is broken")
    chosen = next((work for work in WORKS if work.__name__ == MODE), answering)

    def work(links: WorkerLinks) -> None:
        note_start()
        chosen(links, version)

    return work


def announce(host: str, port: int) -> None:
    sys.stdout.write(f"ready {host} {port}\n")
    sys.stdout.flush()


def main() -> int:
    logs.configure("info")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    if MODE == "in_a_terminal":
        os.open(EXTRA, os.O_RDWR)  # a session leader gets its terminal by opening it
    grace = timedelta(seconds=float(EXTRA) if MODE == "stubborn" else 15)
    try:
        return run_parent(Bind("127.0.0.1", int(sys.argv[2])), load, announce, grace)
    except HurlicaneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
