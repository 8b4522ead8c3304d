"""`hurlicane merge-preview`: what merging a job's branch would do."""

import sys

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.render import print_json, printable


def merge_preview(job: JobArgument, *, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Say what merging a job's branch into its base would do. Nothing is changed.

    Exit code 1 if there are conflicts, or if that could not be tried.
    """
    found = ask(data_dir, lambda server: server.get(f"/api/jobs/{job}/merge-preview"))
    conflicts: list[str] = found.get("conflicts", [])
    unknown: str = found.get("unknown", "")
    if as_json:
        print_json(found)
        return 1 if conflicts or unknown else 0
    told = [
        f"{found['branch']} is {found['ahead']} ahead of {found['base']}, {found['behind']} behind."
    ]
    if unknown:
        told.append(f"Whether it merges could not be tried: {unknown}.")
    elif conflicts:
        told += ["It conflicts in:", *(f"  {one}" for one in conflicts)]
    else:
        told.append("It merges without conflicts.")
    sys.stdout.write(printable("\n".join(told)) + "\n")
    return 1 if conflicts or unknown else 0
