from pathlib import Path
import json, pytest, subprocess, anyio, re
from tests.real_clis.model_script import CallTool, Say, Conversation, by_role, in_order, Told
from tests.real_clis.trial import trial
from tests.real_clis.workflow_script import *
from tests.real_clis.test_workflows import *
pytestmark = [pytest.mark.real_cli, pytest.mark.anyio, pytest.mark.timeout(280)]
def test_long_checks(tmp_path: Path) -> None:
    places = repository(tmp_path)
    script = in_order(finish("Committed."), Say("Bye."))
    with trial(tmp_path, by_role({"lead": script})) as on:
        place = {"work_dir": str(places.folder), "use_worktree": True, "checks": [{"command": ["sleep", "75"]}]}
        js = [on.create("[[role:lead]] Write.", provider=p, **place) for p in ("codex", "claude")]
        import time; time.sleep(40)
        for j in js:
            told = on.outcome(j)
            print("LONG", told["status"], on.attempts(j)[0].get("outcome"), len(on.attempts(j)), [e["kind"] for e in on.events(j)])
        assert 0
def swap(phases):
    out = {}
    for k, steps in phases.items():
        r = []
        for s in steps:
            if isinstance(s, CallTool) and s.name == "Bash": s = shell(s.arguments["command"])
            elif isinstance(s, CallTool) and s.name == "exec_command": s = bash(s.arguments["cmd"])
            elif s is named_diff:
                s = lambda c: bash(named_diff(c).arguments["cmd"])
            elif callable(s) and "write.<locals>" in s.__qualname__:
                f, t = [c.cell_contents for c in s.__closure__]
                s = shell(f"printf '{t}' > {f}".replace("\n", "\\n"))
            r.append(s)
        out[k] = tuple(r)
    return out
async def test_swapped(tmp_path: Path) -> None:
    places = repository(tmp_path)
    with trial(tmp_path, by_phase(swap(TWO_CYCLES))) as on:
        view = await run(on, places.folder, implementer="codex", verify=True)
        print("SWAP", json.dumps(view, indent=1))
        print(subjects(places.remote, f"main..{view['branch']}"))
        for r in on.codex.requests: print(str(r.conversation.turns[-1])[:300])
        assert 0
def test_prompt(tmp_path: Path) -> None:
    script = lambda c: Say("ok")
    with trial(tmp_path, script) as on:
        cfg = {"mcpServers": {"hurlicane": {"type": "http", "url": on.server.url + "/mcp", "headers": {"Authorization": "Bearer " + on.server.token}}}}
        (tmp_path / "mcp.json").write_text(json.dumps(cfg))
        sb = tmp_path / "sandbox"
        import os
        from tests.real_clis.sandbox import PROGRAMS, _claude_variables, _search_path
        env = {"PATH": _search_path(), "HOME": str(sb / "home"), **_claude_variables(sb / "home" / "claude", sb / "tmp", on.claude.url)}
        for text in ("/mcp__hurlicane__assess Write two files", '/mcp__hurlicane__review "Write two files" "- [ ] a plan"', "/mcp__hurlicane__implement", "/hurlicane:assess (MCP) Write"):
            n = len(on.claude.requests)
            p = subprocess.run([str(PROGRAMS / "claude"), "-p", text, "--mcp-config", str(tmp_path / "mcp.json"), "--strict-mcp-config"], env=env, cwd=sb / "work", capture_output=True, text=True, stdin=subprocess.DEVNULL)
            print("PROMPT", text, p.returncode, p.stdout[:500], p.stderr[:500])
            for r in on.claude.requests[n:]:
                for t in r.conversation.turns:
                    if isinstance(t, Told): print("   TOLD", t.text[-1200:] if "## Task" in t.text else t.text[-200:])
        assert 0
