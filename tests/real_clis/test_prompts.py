"""The prompts for people, as a command of the real Claude Code. Codex 0.169.0 offers none."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.real_clis.model_script import Say, Told
from tests.real_clis.trial import trial

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(120)]


def test_a_task_behind_a_command_of_claude_code_reaches_the_model_whole(tmp_path: Path) -> None:
    with trial(tmp_path, lambda _: Say("Planned.")) as on:
        headers = {"Authorization": f"Bearer {on.server.token}"}
        server = {"type": "http", "url": f"{on.server.url}/mcp", "headers": headers}
        config = tmp_path / "servers.json"
        config.write_text(json.dumps({"mcpServers": {"hurlicane": server}}), encoding="utf-8")
        command = "/mcp__hurlicane__assess Write two files, one after the other"
        ended = subprocess.run(
            (on.sandbox.claude, "--mcp-config", config, "--strict-mcp-config", "--print", command),
            env=dict(on.sandbox.environment),
            cwd=on.sandbox.work_dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout.strip() == "Planned."
        turns = on.claude.requests[-1].conversation.turns
    told = "\n".join(turn.text for turn in turns if isinstance(turn, Told))
    assert "write the plan and the contract that others will work by" in told
    assert "Write two files, …\n\nThat is only its beginning" in told
    assert "<command-args>Write two files, one after the other</command-args>" in told
    assert "## Plan\n\n````" not in told
