"""How each CLI is asked once, as a call and not as an agent."""

import subprocess
from pathlib import Path

import pytest

from hurlicane_mcp.errors import LaunchFailed
from hurlicane_mcp.providers.base import LaunchSpec, MessageSeen, Provider
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.scripted import ScriptedProvider

PROMPT = "Say\n> ? say one\n?haiku say two\n> ?opus say three\n! finish four\nReally? say five\n"


def program(folder: Path, name: str) -> Path:
    """An executable file of this name."""
    path = folder / name
    path.touch(0o755)
    return path


def pairs(spec: LaunchSpec) -> list[tuple[str, str]]:
    return list(zip(spec.argv, spec.argv[1:], strict=False))


def test_claude_gets_neither_tools_nor_servers_nor_a_session(tmp_path: Path) -> None:
    spec = ClaudeProvider(str(program(tmp_path, "claude"))).ask("How?", "haiku", tmp_path)
    assert {("--tools", ""), ("--max-turns", "1"), ("--model", "haiku")} <= set(pairs(spec))
    assert {"--print", "--strict-mcp-config", "--safe-mode", "--no-session-persistence"} <= set(
        spec.argv
    )
    assert (spec.stdin, spec.files, spec.env) == ("How?", {}, {})
    assert "CLAUDECODE" in spec.unset


def test_codex_may_only_read_and_keeps_no_thread(tmp_path: Path) -> None:
    spec = CodexProvider(str(program(tmp_path, "codex"))).ask("How?", "gpt-5", tmp_path)
    assert {("--sandbox", "read-only"), ("-m", "gpt-5")} <= set(pairs(spec))
    assert spec.argv[1] == "exec"
    assert {"--json", "--skip-git-repo-check", "--ephemeral"} <= set(spec.argv)
    assert (spec.argv[-1], spec.stdin, spec.files, spec.env) == ("-", "How?", {}, {})


@pytest.mark.parametrize("provider", [ClaudeProvider("/no/such"), CodexProvider("/no/such")])
def test_a_program_that_is_missing_is_told_of(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="Install"):
        provider.ask("How?", "sonnet", tmp_path)


@pytest.mark.parametrize(
    ("model", "said"), [("haiku", ["one", "two"]), ("opus", ["one", "three"]), ("x", ["one"])]
)
def test_the_scripted_agent_follows_the_steps_for_its_model(
    model: str, said: list[str], tmp_path: Path
) -> None:
    provider = ScriptedProvider()
    spec = provider.ask(PROMPT, model, tmp_path)
    ended = subprocess.run(
        spec.argv, input=spec.stdin.encode(), env=dict(spec.env), stdout=subprocess.PIPE, check=True
    )
    readings = [one for line in ended.stdout.splitlines() for one in provider.parse_line(line)]
    assert [one.text for one in readings if isinstance(one, MessageSeen)] == said
