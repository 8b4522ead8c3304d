"""Settings that let Claude Code tell our server what it does, by HTTP hooks.

Measured with version 2.1.330 in November 2026. They are added to the user's own hooks. While the
server is away the CLI notes a failed hook and goes on. `allowedHttpHookUrls` in the user's settings
may forbid them; we do not set it, since it would forbid the user's own.
"""

import json

# Seconds. As long as this may a server that does not answer hold up each step of an agent.
TIMEOUT_S = 3
# What agents ask of our own server it hears anyway.
OTHER_TOOLS = "^(?!mcp__hurlicane__)"


def hook_settings(url: str, token: str, *, has_stream: bool) -> str:
    """A settings file: each of the events is posted to *url* with the bearer *token*.

    `Stop` may be answered with a reason to go on and `PostToolUse` with more context for the model.
    The others are signs of life. That a tool is about to run is posted only if no stream tells it:
    a hook that fails there makes the CLI say that the action was not checked.
    """
    hook = {
        "type": "http",
        "url": url,
        "headers": {"Authorization": f"Bearer {token}"},
        "timeout": TIMEOUT_S,
    }
    always, others = {"hooks": [hook]}, {"matcher": OTHER_TOOLS, "hooks": [hook]}
    hooks = {
        **({} if has_stream else {"PreToolUse": [others]}),
        "PostToolUse": [others],
        "PostToolUseFailure": [others],
        "Stop": [always],
    }
    return json.dumps({"hooks": hooks}, indent=2)
