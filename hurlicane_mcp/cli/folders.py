"""`hurlicane worktrees` and `hurlicane diff`: where agents work, and what they changed."""

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.connection import ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.render import brief, console, note, print_json, printable

#: How a line of a patch looks, by its beginning; the first that fits.
_STYLES: Final = (
    ("diff --git", "bold"),
    ("index ", "bold"),
    ("--- ", "bold"),
    ("+++ ", "bold"),
    ("@@", "cyan"),
    ("+", "green"),
    ("-", "red"),
)


def worktrees(
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those that are removed.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the worktrees made for jobs: state, branch, and refs that keep what was left in them."""
    found = ask(data_dir, lambda server: server.get("/api/worktrees", removed=everything))
    if as_json:
        print_json(found)
        return 0
    if not found["worktrees"]:
        note("There are no worktrees: `hurlicane run --worktree` makes one.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "branch", "from", "path", "kept"):
        table.add_column(name.upper(), no_wrap=True)
    for one in found["worktrees"]:
        base = one.get("base_branch") or one["base_sha"][:12]
        kept = ", ".join(one.get("salvaged") or ())
        texts = (one["job_id"], one["state"], one["branch"], base, one["path"], kept)
        table.add_row(*(Text(printable(text)) for text in texts))
    console().print(table)
    for one in found["worktrees"]:
        if trouble := one.get("trouble"):
            console().print(Text(f"{one['job_id']}: {printable(trouble)}", "yellow"))
    return 0


def diff(
    job: JobArgument,
    *,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt. Default: the last with a diff.")
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only which files, and how much.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Show what an attempt of a job changed in its git repository, committed or not."""
    found = ask(data_dir, lambda server: server.get(f"/api/jobs/{job}/diff", attempt=attempt))
    if as_json:
        print_json(found)
        return 0
    if stat:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in found["stat"].splitlines()))
    else:
        _print_patch(found["patch"].split("\n"))
    note(_summary(found))
    return 0


def _print_patch(lines: Iterable[str]) -> None:
    if not sys.stdout.isatty():  # for `git apply`: as it is
        sys.stdout.write("\n".join(lines))
        return
    out = console()
    for line in lines:
        style = next((style for start, style in _STYLES if line.startswith(start)), "")
        out.print(Text(printable(line), style), soft_wrap=True)


def _summary(found: Mapping[str, Any]) -> str:
    counts = (
        f"{found['files']} files, +{found['insertions']} -{found['deletions']}, "
        f"{found['commits']} commits"
    )
    cut = "; not all of it is kept" if found["is_cut"] else ""
    return brief(f"Attempt {found['attempt']} from {found['base_sha'][:12]}: {counts}{cut}.", 200)
