"""Settings that let Claude Code tell our server what it does, and ask before it edits, by hooks.

Measured with version 2.1.330 in November 2026. They are added to the user's own hooks. While the
server is away the CLI notes a failed hook and goes on. `allowedHttpHookUrls` in the user's settings
may forbid them; we do not set it, since it would forbid the user's own. `disableAllHooks` ends them
all, and with them the enforcement of file locks.

Before an edit the CLI goes on as well if an HTTP hook answers with an error, not in time or not at
all, and if a command cannot be found, exits with 1 or takes too long. Only an answer that denies
and exit code 2 keep it. So locks are enforced by a command that ends in time and fails with 2, and
by an HTTP hook only where edits may pass while the server is away.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hurlicane_mcp.providers import edit_gate
from hurlicane_mcp.providers.base import EditGate, LaunchRequest

# Seconds. As long as this may a server that does not answer hold up each step of an agent.
TIMEOUT_S = 3
# Seconds that an edit waits for an answer: as long as a restart of the server takes. The CLI itself
# has to wait for longer, since it lets the edit pass when its own time is up.
GATE_PATIENCE_S = 10
GATE_TIMEOUT_S = 60
# What agents ask of our own server it hears anyway.
OTHER_TOOLS = "^(?!mcp__hurlicane__)"
EDITS = "Edit|Write|MultiEdit|NotebookEdit"
GATE = "edit_gate.json"  # a file of a run


def has_hooks(request: LaunchRequest) -> bool:
    """Whether the run needs a settings file."""
    return request.hooks_url is not None or request.edit_gate is not None


def hook_files(request: LaunchRequest, settings: Path) -> Mapping[Path, str]:
    """The files that the run's hooks need, by path: *settings*, and what its command reads."""
    files: dict[Path, str] = {}
    hooks: dict[str, list[Any]] = {}
    if request.hooks_url is not None:
        hooks = _told(request.hooks_url, request.token, has_stream=not request.interactive)
    gate = request.edit_gate
    if gate is not None:
        hooks.setdefault("PreToolUse", []).append(_gate(gate, request))
        if not gate.fail_open:
            files[request.run_dir / GATE] = _target(gate, request.token)
    if hooks:
        files[settings] = json.dumps({"hooks": hooks}, indent=2)
    return files


def _told(url: str, token: str, *, has_stream: bool) -> dict[str, list[Any]]:
    """Each of the events is posted to *url* with the bearer *token*.

    `Stop` may be answered with a reason to go on and `PostToolUse` with more context for the model.
    The others are signs of life. That a tool is about to run is posted only if no stream tells it:
    a hook that fails there makes the CLI say that the action was not checked.
    """
    hook = _post(url, token)
    always, others = {"hooks": [hook]}, {"matcher": OTHER_TOOLS, "hooks": [hook]}
    return {
        **({} if has_stream else {"PreToolUse": [others]}),
        "PostToolUse": [others],
        "PostToolUseFailure": [others],
        "Stop": [always],
    }


def _gate(gate: EditGate, request: LaunchRequest) -> dict[str, Any]:
    if gate.fail_open:
        hook = _post(gate.url, request.token)
    else:
        # The CLI takes a line for a shell. A program that cannot be started refuses the edit, too.
        argv = (sys.executable, "-I", "-S", edit_gate.__file__, str(request.run_dir / GATE))
        command = f"{shlex.join(argv)} || exit {edit_gate.REFUSED}"
        hook = {"type": "command", "command": command, "timeout": GATE_TIMEOUT_S}
    return {"matcher": EDITS, "hooks": [hook]}


def _target(gate: EditGate, token: str) -> str:
    """Where the command asks. The token is not in its arguments, which every user can see."""
    url = urlsplit(gate.url)
    target = {"host": url.hostname, "port": url.port, "path": url.path, "token": token}
    return json.dumps({**target, "patience_s": GATE_PATIENCE_S})


def _post(url: str, token: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    return {"type": "http", "url": url, "headers": headers, "timeout": TIMEOUT_S}
