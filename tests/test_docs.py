"""What README.md says is what there is: settings with their defaults, commands, tools, links."""

import re
from pathlib import Path

import pytest
import typer.main

from hurlicane_mcp.cli.main import app
from hurlicane_mcp.engine.access import Role
from hurlicane_mcp.mcp_server.jobs import AttemptTools, JobTools
from hurlicane_mcp.mcp_server.locks import LockTools
from hurlicane_mcp.mcp_server.models import ModelTools
from hurlicane_mcp.mcp_server.notes import NoteTools
from hurlicane_mcp.mcp_server.server import tools_of
from hurlicane_mcp.mcp_server.talk import TalkTools
from hurlicane_mcp.mcp_server.warnings import WarningTools
from hurlicane_mcp.mcp_server.workflows import WorkflowTools
from hurlicane_mcp.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md")
#: Settings whose default depends on the machine; the table says it in words.
FOUND_AT_START = {"data_dir", "work_dir"}


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> dict[str, str]:
    """First and second cell of each row of the tables in a section."""
    found = re.findall(r"^\| `?([^|`]+?)`? \|([^|]*)\|", section(title), re.MULTILINE)
    return {name: value.strip(" `") for name, value in found}


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    documented = {name for name in rows("Configuration") if name.startswith("HURLICANE_")}
    assert documented == {f"HURLICANE_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - FOUND_AT_START))
def test_the_documented_default_is_the_default(name: str) -> None:
    written = rows("Configuration")[f"HURLICANE_{name.upper()}"]
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    if not written:
        assert default in (None, ())
        return
    documented = Settings.model_validate({name: written})
    assert getattr(documented, name) == default


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_setting_describes_itself(name: str) -> None:
    assert Settings.model_fields[name].description


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    group = typer.main.get_command(app)
    known = set(getattr(group, "commands", {}))
    cells = re.findall(r"^\| (`hurlicane .*?) \|", section("Commands"), re.MULTILINE)
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    documented = {span.removeprefix("hurlicane ").split()[0] for span in spans}
    assert documented - {"get", "set"} == known  # `get` and `set` are of `note`


def test_every_tool_is_documented_for_its_roles() -> None:
    table = section("What an agent can do")
    documented = {
        name: role
        for cell, role in re.findall(
            r"^\| (`[^|]+) \| (both|agents|operators) \|", table, re.MULTILINE
        )
        for name in re.findall(r"`(\w+)`", cell)
    }
    parts = (JobTools.__new__(JobTools), NoteTools.__new__(NoteTools))
    others = (AttemptTools.__new__(AttemptTools), TalkTools.__new__(TalkTools))
    warnings, models = WarningTools.__new__(WarningTools), ModelTools.__new__(ModelTools)
    locks, flows = LockTools.__new__(LockTools), WorkflowTools.__new__(WorkflowTools)
    more = (warnings.dismiss_warning, *models.tools, locks.check_file_locks, *flows.tools)
    given = (*parts, *others, more, (*locks.for_agents, *flows.tools))
    names = {
        role: {getattr(tool, "__name__", "") for tool in tools_of(role, *given)} for role in Role
    }
    agents, operators = names[Role.AGENT], names[Role.OPERATOR]
    expected = {
        "both": agents & operators,
        "agents": agents - operators,
        "operators": operators - agents,
    }
    for kind, tools in expected.items():
        assert {name for name, role in documented.items() if role == kind} == tools


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = re.findall(r"`([a-z_]+/[\w./]*\w\.(?:py|toml|json))`", text)
    homes = (ROOT, ROOT / "hurlicane_mcp")
    generated = {"bench/results.json"}
    missing = [name for name in names if not any((home / name).exists() for home in homes)]
    assert set(missing) <= generated
    assert names


def test_the_targets_of_make_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        named = re.findall(r"`?make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"))
        assert [name for name in named if f"\n{name}:" not in makefile and name != "it"] == []
