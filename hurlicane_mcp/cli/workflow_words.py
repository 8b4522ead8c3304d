"""Workflows in words: their events, and one as people read it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hurlicane_mcp.cli.render import age, brief, printable, styled, why

#: The colours of states, those of a job with the same meaning.
_STYLES: Final = (("complete", "done"), ("incomplete", "failed"))
_TEXT: Final = 200  #: characters of a reason in one line


def event_in_words(kind: str, data: Mapping[str, Any]) -> str | None:
    """What an event `workflow.KIND` tells, in one line; None if it is not worth one."""
    match kind:
        case "created":
            crew = f"{model(data['implementer'])} implements, {model(data['reviewer'])} reviews"
            return f"{crew}, {data['max_cycles']} cycles at most"
        case "phase":
            again = f", try {data['try']}" if data["try"] > 1 else ""
            return f"cycle {data['cycle']}, {data['phase']}{again}; {data['milestones']} milestones"
        case "blocked":
            return f"blocked ({data['blocked']}): {brief(data['reason'], _TEXT)}"
        case "resumed":
            return f"goes on with {data['phase']}, cycle {data['cycle']}"
        case "published":
            return "publishing its branch is over"
        case "ended":
            return f"its phases are over; {data['milestones']} milestones"
        case "reconciled":
            return "was not moved on when its phase ended: the server's log may tell why"
        case "complete" | "incomplete" | "cancelled":
            return f"{kind}; {data['milestones']} milestones"
        case _:
            return None


def model(step: str) -> str:
    """A model as `provider:model`, or the CLI alone where that chooses."""
    return printable(step).removesuffix(":")


def block_lines(workflow: Mapping[str, Any]) -> list[str]:
    """Why a workflow is blocked, since when, and what a person can do; nothing if it is not."""
    block = workflow.get("blocked")
    if block is None:
        return []
    since = f" for {age(block['since'])}" if block.get("since") else ""
    lines = [f"{block['kind']}{since}: {printable(block['reason'])}"]
    if heals_at := block.get("heals_at"):
        moment = datetime.fromisoformat(heals_at).astimezone()
        lines.append(f"It is tried again by itself at {moment:%H:%M:%S}.")
    return [*lines, printable(block["advice"])]


def workflow_table(workflows: Sequence[Mapping[str, Any]]) -> Table:
    """Workflows in lines, as `workflow ps` shows them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("workflow", "state", "cycle", "phase", "done", "cost", "time"):
        table.add_column(name.upper(), no_wrap=True)
    table.add_column("TITLE", overflow="ellipsis", no_wrap=True)
    table.add_column("NOW", overflow="ellipsis", no_wrap=True)
    for one in workflows:
        block = one.get("blocked")
        table.add_row(
            one["workflow_id"],
            _state(one["state"]),
            f"{one['cycle']}/{one['max_cycles']}",
            one["phase"],
            f"{one['milestones_done']}/{one['milestones']}",
            _cost(one),
            age(one["created_at"], one.get("finished_at")),
            Text(brief(one["title"], 40)),
            Text(brief(block["reason"] if block else "", 80)),
        )
    return table


def print_workflow(out: Console, workflow: Mapping[str, Any]) -> None:
    """All about a workflow, for people."""
    heading = Text(f"{workflow['workflow_id']} ").append_text(_state(workflow["state"]))
    out.print(heading.append(f"  {brief(workflow['title'], 100)}", "bold"))
    for name, text, style in _facts(workflow):
        out.print(Text(f"{name:12} {text}", style))
    out.print()
    for one in workflow["plan"]:
        box = "[x]" if one["done"] else "[ ]"
        indent = "  " * (one.get("depth") or 0)
        out.print(Text(f"{indent}{box} {brief(one['text'], 160)}", "dim" if one["done"] else ""))
    if workflow["plan"]:
        out.print()
    out.print(_phase_table(workflow["phases"]))


def _facts(workflow: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Names, texts and styles of its lines."""
    yield "progress", _progress(workflow), ""
    yield "implementer", model(workflow["implementer"]), ""
    yield "reviewer", f"{model(workflow['reviewer'])}. {printable(workflow['reviewer_why'])}", ""
    if branch := workflow.get("branch"):
        base = workflow.get("base_branch")
        yield "branch", printable(f"{branch} (from {base})" if base else branch), ""
    yield "work dir", printable(workflow["work_dir"]), ""
    yield "notes", printable(f"{workflow['notes']}… of project {workflow['project']}"), ""
    if published := workflow.get("published"):
        yield "published", printable(published["note"]), ""
    for number, line in enumerate(block_lines(workflow)):
        yield "" if number else "blocked", line, "bold yellow"
    if failure := workflow.get("failure"):
        yield "failure", printable(why(failure)), "red"


def _progress(workflow: Mapping[str, Any]) -> str:
    again = f", try {workflow['try_number']}" if workflow.get("try_number") else ""
    budget = f" of ${workflow['budget_usd']}" if workflow.get("budget_usd") else ""
    parts = (
        f"cycle {workflow['cycle']} of {workflow['max_cycles']}, {workflow['phase']}{again}",
        f"{workflow['milestones_done']} of {workflow['milestones']} milestones",
        f"{_cost(workflow)}{budget}",
        age(workflow["created_at"], workflow.get("finished_at")),
    )
    return " · ".join(parts)


def _phase_table(phases: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cycle", "phase", "try", "status", "model", "cost", "time", "job"):
        table.add_column(name.upper(), no_wrap=True)
    table.add_column("RESULT", overflow="ellipsis", no_wrap=True)
    for one in phases:
        failure = one.get("failure")
        table.add_row(
            str(one["cycle"]),
            one["phase"],
            str(one["try_number"]),
            styled(one["status"]),
            Text(model(f"{one['provider']}:{one.get('model') or ''}")),
            _cost(one),
            age(one.get("started_at"), one.get("finished_at")),
            one["job_id"],
            Text(brief(why(failure) if failure else one.get("result"), 80)),
        )
    return table


def _state(state: str) -> Text:
    shown = styled(dict(_STYLES).get(state, state))
    return Text(state, style=shown.style)


def _cost(line: Mapping[str, Any]) -> str:
    cost = Decimal(line.get("cost_usd") or 0)
    return f"${cost:,.2f}"
