"""A clean place on this machine for the real CLIs: their own homes, no account, loopback only."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parents[2] / ".clis" / "node_modules" / ".bin"
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once when nothing listens


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a process needs to start the CLIs without an account."""

    environment: Mapping[str, str]  #: the whole environment, for the CLIs or a server of them
    claude: Path
    codex: Path
    work_dir: Path  #: an empty git repository with one commit


def make_sandbox(root: Path, anthropic_url: str = NOWHERE, openai_url: str = NOWHERE) -> Sandbox:
    """A sandbox below *root* whose models are at the addresses of the two scripted endpoints.

    Raises:
        FileNotFoundError: the CLIs, node or git are not installed; the message says what to do.
    """
    claude, codex = PROGRAMS / "claude", PROGRAMS / "codex"
    if not (claude.exists() and codex.exists()):
        raise FileNotFoundError("the agent CLIs are missing: run tests/real_clis/install")
    home, codex_home, temporary = (root / name for name in ("home", "codex", "tmp"))
    for folder in (home, home / "claude", codex_home, temporary):
        folder.mkdir(mode=0o700, parents=True)
    (codex_home / "config.toml").write_text(_codex_config(openai_url), encoding="utf-8")
    (home / ".gitconfig").write_text(_GIT_CONFIG, encoding="utf-8")
    environment = {
        "PATH": _search_path(),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "GIT_CONFIG_NOSYSTEM": "1",
        "HURLICANE_CLAUDE_BIN": str(claude),
        "HURLICANE_CODEX_BIN": str(codex),
        **_claude_variables(home / "claude", temporary, anthropic_url),
        "CODEX_HOME": str(codex_home),
        "SCRIPTED_MODEL_KEY": "sk-dummy",
    }
    return Sandbox(environment, claude, codex, _make_repository(root / "work", environment))


_GIT_CONFIG = """\
[user]
    name = Agent
    email = agent@example.invalid
[init]
    defaultBranch = main
"""


def _claude_variables(config_dir: Path, temporary: Path, url: str) -> dict[str, str]:
    return {
        "CLAUDE_CONFIG_DIR": str(config_dir),
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-dummy",
    }


def _codex_config(url: str) -> str:
    # Codex's sandbox opens the temporary folders, in which the tests are.
    return f"""\
model = "gpt-5-codex"
model_provider = "scripted"
check_for_update_on_startup = false

[analytics]
enabled = false

[feedback]
enabled = false

[sandbox_workspace_write]
exclude_slash_tmp = true
exclude_tmpdir_env_var = true

[features]
apps = false
plugins = false

[model_providers.scripted]
name = "scripted"
base_url = {json.dumps(url + "/v1")}
wire_api = "responses"
env_key = "SCRIPTED_MODEL_KEY"
"""


def _search_path() -> str:
    """The folders of node and git, and the system's own."""
    found = {name: shutil.which(name) for name in ("node", "git")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(f"the real CLIs need {' and '.join(missing)} on the PATH")
    folders = [str(Path(path).parent) for path in found.values() if path]
    return ":".join(dict.fromkeys([*folders, "/usr/bin", "/bin"]))


def _make_repository(path: Path, environment: Mapping[str, str]) -> Path:
    path.mkdir()
    for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", *arguments], cwd=path, env=dict(environment), check=True)
    return path
