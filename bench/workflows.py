"""The figure of workflows: how soon the next phase's agent runs once the last one's has gone."""

import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.figures import Distribution, Figures, MeasurementFailed
from bench.server import Server, a_folder, a_server

CYCLES = 10
#: An open milestone that nobody checks, and a commit a cycle: it goes on until its cycles are over.
TASK = """\
Go on until the cycles are used up.

```json script
{"phases": {
 "assess": [{"call": {"name": "write_note", "args":
   {"key": "workflow/${phase.workflow}/plan", "value": "- [ ] One"}}}, {"finish": "Planned."}],
 "review": [{"finish": "Reviewed."}],
 "implement": [{"commit": {"path": "a.txt", "append": "a", "message": "Go on"}},
   {"finish": "Done."}]}}
```
"""


def measure() -> Figures:
    """phase_follows_ms: from the end of a phase's last process to the next phase's agent at work.

    In between lie a look at the repository, the decision, the prompt, and the agent's start.
    """
    with a_folder() as folder:
        _new_repository(folder.work_dir / "repo")
        with a_server(folder, settings={"HURLICANE_PROVIDER": "scripted"}) as server:
            asked = {"task": TASK, "work_dir": str(folder.work_dir / "repo"), "publish": "none"}
            made = server.call("create_workflow", **asked, max_cycles=CYCLES)
            server.call("wait_for_jobs", job_ids=[made["workflow_id"]])
            view = server.call("get_workflow", workflow_id=made["workflow_id"])
            if view["state"] != "incomplete":
                raise MeasurementFailed(f"The workflow did not use up its cycles: {view}")
            took = list(_gaps_ms(_events(server)))
    if len(took) != 2 * CYCLES:
        raise MeasurementFailed(f"{len(took)} phases have followed another, not {2 * CYCLES}.")
    return {"phase_follows_ms": Distribution.of(took)}


def _gaps_ms(events: Sequence[dict[str, Any]]) -> Iterator[float]:
    ended: datetime | None = None
    for event in events:
        if event["kind"] == "attempt.ended":
            ended = datetime.fromisoformat(event["at"])
        elif event["kind"] == "attempt.started" and ended is not None:
            yield (datetime.fromisoformat(event["at"]) - ended).total_seconds() * 1000


def _events(server: Server) -> Sequence[dict[str, Any]]:
    """When agents have started and ended, the first one first."""
    kinds = "kind=attempt.ended&kind=attempt.started&limit=200"
    return server.get(f"/api/events?{kinds}")["events"]


def _new_repository(folder: Path) -> None:
    folder.mkdir()
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        (*identity, "commit", "--quiet", "--allow-empty", "--message=Begin"),
    ):
        subprocess.run(("git", "-C", str(folder), *arguments), check=True)
