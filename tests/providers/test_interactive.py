"""How the CLIs are started on a terminal."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hurlicane_mcp.providers.base import LaunchRequest, LaunchSpec, Provider
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.scripted import ScriptedProvider

LONG = "Dö it.\n" * 20_000


@pytest.fixture
def on_terminal(asked: LaunchRequest) -> LaunchRequest:
    """The usual launch, on a terminal."""
    return replace(asked, interactive=True)


@pytest.fixture(params=["claude", "codex"])
def provider(request: pytest.FixtureRequest, programs: Path) -> Provider:
    """Each provider of a CLI with a screen, in turn."""
    providers: dict[str, Provider] = {
        "claude": ClaudeProvider(search_path=str(programs)),
        "codex": CodexProvider(search_path=str(programs)),
    }
    return providers[request.param]


def overrides(argv: Sequence[str]) -> dict[str, Any]:
    """The configuration that Codex's `-c` come to."""
    return tomllib.loads("\n".join(value for flag, value in pairwise(argv) if flag == "-c"))


def test_the_prompt_is_the_last_argument_and_nothing_comes_by_stdin(
    provider: Provider, on_terminal: LaunchRequest
) -> None:
    spec = provider.launch(replace(on_terminal, prompt="--help “me”\n$(x)"))

    assert spec.argv[-2:] == ("--", "--help “me”\n$(x)")
    assert spec.stdin == ""
    assert not {"--print", "--output-format", "exec", "--json"} & set(spec.argv)


def test_a_long_prompt_is_in_a_file_that_the_argument_names(
    provider: Provider, on_terminal: LaunchRequest
) -> None:
    spec = provider.launch(replace(on_terminal, prompt=LONG))

    file = on_terminal.run_dir / "prompt.md"
    assert spec.files[file] == LONG
    assert str(file) in spec.argv[-1]
    assert max(len(argument.encode()) for argument in spec.argv) < 128 * 1024


def test_a_prompt_that_fits_is_in_no_file(provider: Provider, on_terminal: LaunchRequest) -> None:
    spec = provider.launch(replace(on_terminal, prompt="x" * 100_000))

    assert not any(file.name == "prompt.md" for file in spec.files)


def test_the_token_is_in_no_argument(provider: Provider, on_terminal: LaunchRequest) -> None:
    assert "hca_secret" not in " ".join(provider.launch(on_terminal).argv)


def test_claude_gets_the_same_permissions_and_a_session_of_our_naming(
    on_terminal: LaunchRequest, programs: Path
) -> None:
    claude = ClaudeProvider(search_path=str(programs))
    spec, other = claude.launch(on_terminal), claude.launch(on_terminal)

    assert spec.session_id is not None
    assert UUID(spec.session_id).version == 4
    assert spec.argv[1:] == (
        *("--mcp-config", str(on_terminal.run_dir / "mcp.json"), "--strict-mcp-config"),
        *("--permission-mode", "acceptEdits", "--allowedTools", "mcp__hurlicane", "Bash"),
        *("--session-id", spec.session_id, "--", "Do it."),
    )
    assert spec.env["CLAUDE_CODE_SANDBOXED"] == "1"  # no question whether to trust the folder
    assert other.session_id != spec.session_id


def test_claude_goes_on_with_a_session_under_its_own_name(
    on_terminal: LaunchRequest, programs: Path
) -> None:
    request = replace(on_terminal, resume="0a64c6d7", model="opus")
    spec = ClaudeProvider(search_path=str(programs)).launch(request)

    assert spec.argv[-6:] == ("--model", "opus", "--resume", "0a64c6d7", "--", "Do it.")
    assert spec.session_id == "0a64c6d7"


def test_claude_may_read_the_file_of_a_long_prompt_and_no_other(
    on_terminal: LaunchRequest, programs: Path
) -> None:
    argv = ClaudeProvider(search_path=str(programs)).launch(replace(on_terminal, prompt=LONG)).argv

    allowed = argv[argv.index("--allowedTools") + 1 : argv.index("--session-id")]
    assert allowed == ("mcp__hurlicane", "Bash", f"Read(/{on_terminal.run_dir / 'prompt.md'})")


def test_codex_gets_the_same_configuration_and_asks_nothing(
    on_terminal: LaunchRequest, programs: Path
) -> None:
    codex = CodexProvider(search_path=str(programs))
    spec, headless = (
        codex.launch(on_terminal),
        codex.launch(replace(on_terminal, interactive=False)),
    )

    assert spec.argv[1:3] == ("--no-daemon", "--no-alt-screen")
    assert overrides(spec.argv) == overrides(headless.argv) | {
        "check_for_update_on_startup": False,
        "projects": {str(on_terminal.work_dir): {"trust_level": "trusted"}},
    }
    # There its standard error is the screen.
    assert spec.env == {k: v for k, v in headless.env.items() if k != "RUST_LOG"}
    assert spec.session_id is None


def test_codex_goes_on_with_a_session(on_terminal: LaunchRequest, programs: Path) -> None:
    request = replace(on_terminal, resume="01a20ae8", model="gpt-6-sol")
    spec = CodexProvider(search_path=str(programs)).launch(request)

    assert spec.argv[-6:] == ("-m", "gpt-6-sol", "resume", "01a20ae8", "--", "Do it.")
    assert spec.session_id == "01a20ae8"


@pytest.mark.parametrize(
    ("configured", "work_dir", "is_trusted"),
    [
        pytest.param("repository/.codex/config.toml", "repository", False, id="its own"),
        pytest.param("repository/.codex/hooks.json", "repository/src", False, id="its project's"),
        pytest.param(".codex/config.toml", "repository/src", True, id="one beyond its project"),
        pytest.param("repository/.codex/", "repository", True, id="an empty folder"),
        pytest.param("repository/.codex", "repository", False, id="no folder"),
    ],
)
def test_whether_codex_may_load_a_projects_configuration_is_left_to_people(
    configured: str, work_dir: str, is_trusted: bool, on_terminal: LaunchRequest, programs: Path
) -> None:
    root = on_terminal.work_dir
    for folder in ("repository/.git", "repository/src"):
        (root / folder).mkdir(parents=True)
    path = root / configured
    path.parent.mkdir(exist_ok=True)
    if configured.endswith("/"):
        path.mkdir()
    else:
        path.touch()

    request = replace(on_terminal, work_dir=root / work_dir)
    argv = CodexProvider(search_path=str(programs)).launch(request).argv

    assert ("projects" in overrides(argv)) == is_trusted


def test_a_scripted_agent_gets_its_prompt_in_a_file_and_a_session_of_our_naming(
    on_terminal: LaunchRequest,
) -> None:
    spec: LaunchSpec = ScriptedProvider().launch(on_terminal)

    file = on_terminal.run_dir / "prompt.md"
    assert spec.files == {file: "Do it."}
    assert spec.stdin == ""
    assert spec.argv[-4:] == ("--prompt-file", str(file), "--session", spec.session_id)
    resumed = ScriptedProvider().launch(replace(on_terminal, resume="s-1"))
    assert resumed.argv[-4:] == ("--resume", "s-1", "--prompt-file", str(file))
    assert resumed.session_id == "s-1"
