"""Fixtures of the supervision's tests."""

from collections.abc import Generator
from pathlib import Path

import pytest

from hurlicane_mcp.ids import new_id
from hurlicane_mcp.supervision.identity import kill, marked
from hurlicane_mcp.supervision.shim_host import ShimHost
from tests.supervision.agents import Stage


@pytest.fixture
def host() -> ShimHost:
    return ShimHost()


@pytest.fixture
def stage(tmp_path: Path) -> Generator[Stage]:
    """A place for one agent; whatever it leaves behind is killed after the test."""
    stage = Stage(tmp_path / "run", f"{new_id('test')}.1")
    yield stage
    kill(marked(stage.marker))
