"""The variables that a launched program finds, as its provider asks for them."""

import os
import re
from collections.abc import Iterator
from typing import Final

from hurlicane_mcp.providers.base import LaunchSpec

_SECRET: Final = re.compile(
    r"(^|_)(API_?KEY|KEY|KEY_BASE|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PAT|AUTH|CREDENTIALS?)$"
    r"|_PWD$|^PGPASSWORD$",
    re.IGNORECASE,
)


def environment_of(spec: LaunchSpec) -> dict[str, str]:
    """The program's whole environment: the server's, without what is the server's own business."""
    inherited = {name: value for name, value in _inherited() if name not in spec.unset}
    return inherited | dict(spec.env)


def environment_of_commands() -> dict[str, str]:
    """What a user's own command finds: the server's variables, without its business and without
    those that hold secrets, by their names. A command that needs one reads it from a file."""
    return {name: value for name, value in _inherited() if not _SECRET.search(name)}


def _inherited() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if not name.startswith("HURLICANE_"):
            yield name, value
