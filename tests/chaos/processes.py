"""The processes of a chaos run: a server that is started again whenever it is gone, and agents."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from tests.chaos.agent import STAMPS
from tests.stories.server import RunningServer, running_server


@dataclass(frozen=True, slots=True)
class Supervised:
    """An attempt that runs: its shim, and the agent below it once there is one."""

    attempt_id: str
    shim: psutil.Process
    agent: psutil.Process | None

    @property
    def job_id(self) -> str:
        return self.attempt_id.rpartition(".")[0]


class Site:
    """The folders of a run, and its server on a fixed port."""

    def __init__(
        self, folder: Path, program: Path, port: int, server: Mapping[str, str] | None = None
    ) -> None:
        """*server* is added to the server's environment; `SERVER` in it names its module."""
        self.data_dir = folder / "data"
        self.stamps = folder / "stamps"
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.restarts = 0
        self.unasked: list[int] = []  #: exit codes of parents that ended by themselves
        self._folder = folder
        self._settings = {
            "port": str(port),
            "provider": "claude",
            "claude_bin": str(program),
            "slots": "10",
            "leave_grace": "1",
            "kill_grace": "1",
            "log_level": "warning",
        }
        self._server: RunningServer | None = None
        self._environment = dict(server or {})
        self._module = self._environment.pop("SERVER", "hurlicane_mcp")
        self._over: set[str] = set()

    @property
    def server(self) -> RunningServer:
        assert self._server is not None
        return self._server

    @property
    def token(self) -> str:
        return self.server.token

    async def start(self) -> None:
        """Start the server, again and again while the last one is still leaving."""
        inherited = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        inherited |= {STAMPS: str(self.stamps), **self._environment}

        def once() -> RunningServer:
            return running_server(
                self.data_dir, self._folder, self._settings, inherited, self._module
            )

        while True:
            with suppress(AssertionError):  # it was refused: port and data are held
                self._server = await anyio.to_thread.run_sync(once)
                return
            await anyio.sleep(0.2)

    async def keep(self) -> None:
        """Start the server again if its parent has ended."""
        code = self.server.process.poll()
        if code is None:
            return
        if code >= 0:
            self.unasked.append(code)
        self.restarts += 1
        await anyio.to_thread.run_sync(self._close)
        await self.start()

    def parent(self) -> psutil.Process | None:
        """The parent of `hurlicane serve`."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.server.process.pid)
        return None

    def worker(self) -> psutil.Process | None:
        """The worker, ready or not."""
        parent = self.parent()
        if parent is None:
            return None
        with suppress(psutil.NoSuchProcess):
            return next(iter(parent.children()), None)
        return None

    def supervised(self) -> Iterator[Supervised]:
        """The attempts that have processes now."""
        for run_dir in (self.data_dir / "runs").glob("*"):
            if run_dir.name in self._over:
                continue
            named = _content(run_dir / "shim.lock").split()
            if not named:  # it is about to start, or never will
                continue
            try:
                shim = psutil.Process(int(named[0]))
                if str(run_dir) not in shim.cmdline():
                    raise psutil.NoSuchProcess(shim.pid)
                yield Supervised(run_dir.name, shim, next(iter(shim.children()), None))
            except psutil.NoSuchProcess:
                self._over.add(run_dir.name)

    def living(self) -> Iterator[psutil.Process]:
        """Every process that carries our folder in its environment."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get(STAMPS) == str(self.stamps)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def end(self) -> list[str]:
        """Stop the server and kill whatever is left; what that was."""
        server = self.server.process
        server.terminate()
        with suppress(Exception):
            server.wait(20)
        left = list(self.living())
        words = [f"{one.pid} {one.status()} {' '.join(one.cmdline())[:200]}" for one in left]
        while left:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
            left = list(self.living())
        self._close()
        return words

    def _close(self) -> None:
        self.server.process.wait()
        assert self.server.process.stdout is not None
        self.server.process.stdout.close()


def _content(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""
