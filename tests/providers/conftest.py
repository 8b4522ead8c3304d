"""Fixtures of the providers' tests."""

from datetime import timedelta
from pathlib import Path

import pytest

from hurlicane_mcp.providers.base import LaunchRequest


@pytest.fixture
def asked(tmp_path: Path) -> LaunchRequest:
    """A fresh attempt that names no model and lets a call wait for half an hour."""
    return LaunchRequest(
        prompt="Do it.",
        work_dir=tmp_path,
        run_dir=tmp_path / "run",
        model=None,
        mcp_url="http://127.0.0.1:7717/mcp",
        token="hca_secret",
        resume=None,
        wait_limit=timedelta(minutes=30),
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs called `claude` and `codex`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("claude", "codex"):
        program = folder / name
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    return folder
