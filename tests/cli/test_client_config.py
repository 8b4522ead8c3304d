"""Configurations of clients: merged into what is there, and never anything else changed."""

import json
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from hurlicane_mcp.cli.client_config import Client, merged
from hurlicane_mcp.cli.whereabouts import Server
from hurlicane_mcp.errors import Conflict
from tests.cli.command import Command

SERVER = Server("http://127.0.0.1:7717", "hco_token", None)
URL = "http://127.0.0.1:7717/mcp"
BEARER = "Bearer hco_token"


@pytest.fixture
def hurlicane(tmp_path: Path) -> Command:
    """Commands for a data folder whose server has stopped: its configuration stays valid."""
    command = Command(tmp_path / "data", tmp_path)
    command.data_dir.mkdir()
    known = {"url": SERVER.url, "pid": 1}
    (command.data_dir / "server.json").write_text(json.dumps(known))
    (command.data_dir / "operator.token").write_text(f"{SERVER.token}\n")
    return command


@pytest.mark.parametrize(
    ("client", "key"),
    [(Client.CLAUDE, "mcpServers"), (Client.VSCODE, "servers"), (Client.CURSOR, "mcpServers")],
)
def test_json_keeps_what_others_have_written(client: Client, key: str) -> None:
    before = {"inputs": [1], key: {"other": {"command": "x"}, "hurlicane": {"url": "old"}}}
    after = json.loads(merged(client, SERVER, json.dumps(before)))
    ours = {"type": "http", "url": URL, "headers": {"Authorization": BEARER}}
    assert after == {"inputs": [1], key: {"other": {"command": "x"}, "hurlicane": ours}}


@pytest.mark.parametrize("before", ["// a comment\n{}", "[]", '{"mcpServers": []}', "null"])
def test_json_that_cannot_be_merged_is_refused(before: str) -> None:
    with pytest.raises(Conflict):
        merged(Client.CLAUDE, SERVER, before)


TOML = """\
model = "m" # mine

[mcp_servers.other]
command = "x"

[mcp_servers.hurlicane]
url = "old"

[mcp_servers.hurlicane.env]
A = "1"

# about the tools
[tools]
web = true
"""


def test_toml_keeps_everything_else_as_it_was_written() -> None:
    after = merged(Client.CODEX, SERVER, TOML)
    start = TOML.index("[mcp_servers.hurlicane]")
    rest = TOML[:start] + TOML[TOML.index("\n# about") :]
    assert after.startswith(rest.rstrip())
    ours = {"url": URL, "http_headers": {"Authorization": BEARER}}
    assert tomllib.loads(after)["mcp_servers"] == {"other": {"command": "x"}, "hurlicane": ours}


def test_writing_toml_twice_changes_nothing() -> None:
    once = merged(Client.CODEX, SERVER, TOML)
    assert merged(Client.CODEX, SERVER, once) == once
    assert tomllib.loads(merged(Client.CODEX, SERVER, ""))["mcp_servers"].keys() == {"hurlicane"}


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("not toml", id="broken"),
        pytest.param('mcp_servers = { other = { command = "x" } }\n', id="inline"),
        pytest.param('a = """\n[mcp_servers.hurlicane]\n"""\n', id="a header inside a string"),
    ],
)
def test_toml_that_cannot_be_changed_safely_is_refused(before: str) -> None:
    with pytest.raises(Conflict, match="cannot be changed safely"):
        merged(Client.CODEX, SERVER, before)


@pytest.mark.parametrize(
    ("client", "file"),
    [
        ("claude", ".mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("codex", ".codex/config.toml"),
    ],
)
def test_a_file_is_written_for_the_owner_only(hurlicane: Command, client: str, file: str) -> None:
    path = hurlicane.cwd / file
    path.parent.mkdir(exist_ok=True)
    path.touch(0o644)
    written = hurlicane("mcp-config", client, "--write")
    assert (written.returncode, written.stderr) == (0, f"Wrote {path}.\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert URL in path.read_text()


def test_a_token_that_git_would_take_is_warned_of(hurlicane: Command) -> None:
    subprocess.run(["git", "init", "--quiet", hurlicane.cwd], check=True)
    assert "git does not ignore it" in hurlicane("mcp-config", "claude", "--write").stderr
    (hurlicane.cwd / ".gitignore").write_text(".mcp.json\n")
    assert "git does not" not in hurlicane("mcp-config", "claude", "--write").stderr


def test_a_link_stays_one_and_a_refusal_changes_nothing(hurlicane: Command) -> None:
    target = hurlicane.cwd / "dotfiles.json"
    target.write_text("{}")
    link = hurlicane.cwd / ".mcp.json"
    link.symlink_to(target)
    assert hurlicane("mcp-config", "claude", "--write").returncode == 0
    assert link.is_symlink()
    assert URL in target.read_text()
    target.write_text("broken")
    refused = hurlicane("mcp-config", "claude", "--write")
    assert (refused.returncode, target.read_text()) == (1, "broken")
    assert refused.stderr.startswith(f"error: {link} is not plain JSON")
