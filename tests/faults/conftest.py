"""Machines with something wrong, for real servers."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import missing
from tests.stories.server import RunningServer, running_server

MIB = 1024 * 1024

Serve = Callable[..., RunningServer]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={8 * MIB},mode=700", "none", str(folder))
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        missing(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(("umount", "--lazy", str(folder)), check=True)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers on any data folder; all are stopped afterwards."""
    servers: list[RunningServer] = []

    def starter(data_dir: Path, **settings: str) -> RunningServer:
        server = running_server(data_dir, tmp_path, settings)
        servers.append(server)
        return server

    yield starter
    for server in servers:
        server.stop()
