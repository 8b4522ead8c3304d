"""The `hurlicane` command as people call it: in a process, with an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
START = (sys.executable, "-m", "hurlicane_mcp")


@dataclass(frozen=True)
class Command:
    """Calls commands for the server of one data folder, from one working folder."""

    data_dir: Path
    cwd: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.cwd),
            "PYTHONPATH": str(ROOT),
            "HURLICANE_DATA_DIR": str(self.data_dir),
            "HURLICANE_PORT": "0",
            "HURLICANE_PROVIDER": "scripted",
            "HURLICANE_LEAVE_GRACE": "2",
        }

    def __call__(
        self, *arguments: str, text: str = "", **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, with *text* as its input and *variables* set."""
        return subprocess.run(
            [*START, *arguments],
            cwd=self.cwd,
            env={**self.environment, **variables},
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a command; its output is read from pipes."""
        return subprocess.Popen(
            [*START, *arguments],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def task(*steps: str) -> str:
    """The description of a job whose scripted agent follows *steps*."""
    return "\n".join(("A rehearsal.", *(f"! {step}" for step in steps)))
