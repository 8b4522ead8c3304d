"""The variables that a launched program finds, as its provider asks for them."""

import os

from hurlicane_mcp.providers.base import LaunchSpec


def environment_of(spec: LaunchSpec) -> dict[str, str]:
    """The program's whole environment: the server's, without what is the server's own business."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HURLICANE_") and name not in spec.unset
    }
    return inherited | dict(spec.env)
