"""Where a CLI's program is on this machine."""

import shutil
from pathlib import Path

from hurlicane_mcp.errors import LaunchFailed


def find_program(program: str, search_path: str | None, remedy: str) -> str:
    """The absolute path of *program*, a name to look up or a path.

    *search_path* is written like `PATH`, which stands in for None.

    Raises:
        LaunchFailed: there is no such program; the message ends with *remedy*.
    """
    found = shutil.which(program, path=search_path)
    if found is None:
        raise LaunchFailed(f"The program {program!r} was not found. {remedy}")
    # The agent runs in its own folder, where a relative path would lead elsewhere.
    return str(Path(found).absolute())
