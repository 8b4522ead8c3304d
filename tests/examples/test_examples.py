"""Every example does what its page says, against a real server."""

import configparser
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stories.server import RunningServer

EXAMPLES = Path(__file__).parents[2] / "examples"
DEFAULT_URL = "http://127.0.0.1:7717"
FAILING = 'call finish_job {"result": "no", "outcome": "failed"}'

pytestmark = pytest.mark.anyio


def environment(server: RunningServer) -> dict[str, str]:
    here = {"HURLICANE_URL": server.url, "HURLICANE_TOKEN": server.token}
    return {"PATH": os.environ["PATH"], **here}


def test_fan_out_prints_each_result(server: RunningServer) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "fan_out.py", "First\n! finish one", "Second\n! " + FAILING],
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "First: done\n  one\n" in done.stdout
    assert "Second: failed\n" in done.stdout


def test_the_dashboard_shows_the_state_and_then_every_change(server: RunningServer) -> None:
    before = done(server, "Before\n! finish x")
    dashboard = subprocess.Popen(
        [sys.executable, EXAMPLES / "dashboard.py"],
        env=environment(server),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert dashboard.stdout is not None
        assert dashboard.stdout.readline() == f"done {before} Before\n"
        after = done(server, "After\n! finish x")
        told = [dashboard.stdout.readline() for _ in range(3)]
    finally:
        dashboard.kill()
        dashboard.communicate()
    assert told == [f"job.{kind} {after}\n" for kind in ("created", "running", "done")]


def done(server: RunningServer, description: str) -> str:
    """The id of a new job that has become final."""
    with server.rest() as rest:
        job_id = rest.post("/api/jobs", json={"description": description}).json()["job_id"]
        rest.get("/api/wait", params={"job_id": job_id}).raise_for_status()
    return job_id


def test_the_dashboard_has_ten_lines() -> None:
    """Besides its docstring, its imports and blank lines."""
    text = (EXAMPLES / "dashboard.py").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines()[1:] if line and not line.startswith("import")]
    assert len(lines) == 10


def git(folder: Path, *args: str) -> str:
    command = ("git", "-c", "user.name=T", "-c", "user.email=t@localhost", "-C", str(folder))
    done = subprocess.run((*command, *args), capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.timeout(180)  # six agents, one after the other
def test_the_workflow_builds_its_module_in_two_cycles_with_a_fix_and_verifies_it(
    server: RunningServer, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(repo))
    git(repo, "commit", "--quiet", "--allow-empty", "--message=Begin")
    asked = {
        "task": (EXAMPLES / "workflow_task.md").read_text(encoding="utf-8"),
        "work_dir": str(repo),
        "max_cycles": 2,
        "verify": True,
        "checks": ["clean_tree"],
    }
    with server.rest() as rest:
        made = rest.post("/api/workflows", json=asked)
        assert made.status_code == 201, made.text
        workflow_id = made.json()["workflow_id"]
        workflow = made.json()
        while workflow["state"] == "running":  # the fixture's client gives up after 30 s
            waited = {"job_id": workflow_id, "timeout_s": 20}
            rest.get("/api/wait", params=waited).raise_for_status()
            workflow = rest.get(f"/api/workflows/{workflow_id}").json()

    assert (workflow["state"], workflow["cycle"]) == ("complete", 2), workflow
    assert [one["text"][:4] for one in workflow["plan"]] == ["`gre", "Fix:"]
    assert all(one["done"] for one in workflow["plan"])
    assert [(one["phase"], one["cycle"]) for one in workflow["phases"]] == [
        ("assess", 0),
        ("review", 1),
        ("implement", 1),
        ("review", 2),
        ("implement", 2),
        ("verify", 2),
    ]
    subjects = git(repo, "log", "--format=%s", f"main..{workflow['branch']}").splitlines()
    assert subjects[::-1] == [
        "Add greet",
        "Test greet",
        "Greet those without a name",
        "Test greet without a name",
    ]
    assert git(repo, "status", "--porcelain") == ""


def parsed(name: str) -> Mapping[str, Any]:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    whole = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    key = {"codex/config.toml": "mcp_servers", "vscode/mcp.json": "servers"}.get(name, "mcpServers")
    return whole[key]["hurlicane"]


@pytest.mark.parametrize(
    "name",
    ["claude-code/.mcp.json", "codex/config.toml", "vscode/mcp.json", "cursor/mcp.json"],
)
async def test_a_client_with_this_configuration_is_an_operator(
    name: str, server: RunningServer
) -> None:
    """What the client will put in for the token's variable is put in here."""
    entry = parsed(name)
    assert entry["url"] == f"{DEFAULT_URL}/mcp"
    if variable := entry.get("bearer_token_env_var"):
        token = environment(server)[variable]
    else:
        scheme, _, reference = entry["headers"]["Authorization"].partition(" ")
        assert scheme == "Bearer"
        assert reference in (
            "${HURLICANE_TOKEN}",
            "${env:HURLICANE_TOKEN}",
            "${input:hurlicane-token}",
        )
        token = server.token
    async with server.client(token) as client:
        assert await client.call("list_jobs") == {"jobs": []}


def test_the_service_starts_our_command_on_the_socket_of_the_same_name_and_spares_agents() -> None:
    service, socket = (unit(f"hurlicane.{kind}") for kind in ("service", "socket"))
    program, command = service["Service"]["ExecStart"].split()
    assert (program, command) == ("%h/.local/bin/hurlicane", "serve")
    shown = subprocess.run(
        [sys.executable, "-m", "hurlicane_mcp", command, "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert shown.returncode == 0
    assert service["Service"]["KillMode"] == "process"
    assert service["Unit"]["Requires"] == "hurlicane.socket"
    assert f"http://{socket['Socket']['ListenStream']}" == DEFAULT_URL


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)  # it reads names in lower case
    parser.read(EXAMPLES / "systemd" / name, encoding="utf-8")
    return parser
