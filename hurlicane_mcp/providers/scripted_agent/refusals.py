"""How the real CLIs print that their model's endpoint refuses them for the rate of requests.

The shapes are those of Claude Code 2.1.330 and Codex CLI 0.169.0 (recorded 2026-11-23), less the
fields that nobody reads.
"""

from hurlicane_mcp.providers.scripted_agent.vocabulary import Cli

CLAUDE = "API Error: Request rejected (429) · Number of requests has exceeded your rate limit"
CODEX = (
    "You’ve hit your usage limit. Upgrade to Pro (https://chatgpt.com/explore/pro), visit "  # noqa: RUF001
    "https://chatgpt.com/settings/usage to purchase more credits or try again later."
)


def refusal(cli: Cli, session_id: str) -> tuple[dict[str, object], ...]:
    """The events that *cli* prints from the first refusal to its end, in order."""
    return _claude(session_id) if cli == "claude" else _codex()


def _claude(session_id: str) -> tuple[dict[str, object], ...]:
    retry: dict[str, object] = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 1,
        "retry_delay_ms": 598,
        "error_status": 429,
        "error": "rate_limit",
        "session_id": session_id,
    }
    answer: dict[str, object] = {
        "type": "assistant",
        "message": {
            "model": "<synthetic>",
            "role": "assistant",
            "stop_reason": "stop_sequence",
            "type": "message",
            "usage": {"input_tokens": 0, "output_tokens": 0},
            "content": [{"type": "text", "text": CLAUDE}],
        },
        "session_id": session_id,
        "error": "rate_limit",
        "is_api_error_message": True,
        "api_error_status": 429,
        "api_error_type": "rate_limit_error",
    }
    result: dict[str, object] = {
        "session_id": session_id,
        "total_cost_usd": 0,
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "permission_denials": [],
        "terminal_reason": "api_error",
        "is_error": True,
        "num_turns": 1,
        "subtype": "success",
        "api_error_status": 429,
        "api_error_type": "rate_limit_error",
        "result": CLAUDE,
        "type": "result",
    }
    return retry, answer, result


def _codex() -> tuple[dict[str, object], ...]:
    return (
        {"type": "turn.started"},
        {"type": "error", "message": CODEX},
        {"type": "turn.failed", "error": {"message": CODEX}},
    )
