"""Commands by which a person talks with agents: their questions, answers and messages."""

import re
import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from hurlicane_mcp.cli.connection import Connection, ask
from hurlicane_mcp.cli.options import AsJson, DataDir, JobArgument
from hurlicane_mcp.cli.render import age, asked, console, note, print_json, printable
from hurlicane_mcp.errors import Invalid


def questions(*, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """List what agents ask and wait to have answered, oldest first."""
    found = ask(data_dir, lambda server: server.get("/api/questions"))
    if as_json:
        print_json(found)
        return 0
    out = console()
    for one in found["questions"]:
        since = age(one["asked_at"])
        out.print(
            Text(f"{one['question_id']}  {one['job_id']}  {since:>6}  {printable(asked(one))}")
        )
    if found["questions"]:
        note('hurlicane answer QUESTION "the answer"')
    else:
        note("No agent waits for an answer.")
    return 0


def answer(
    whom: Annotated[
        str, typer.Argument(metavar="QUESTION|JOB", help="The question's id, or its job's.")
    ],
    text: Annotated[str, typer.Argument(help="The answer; `-` reads it from standard input.")],
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Answer a question of an agent."""
    given = sys.stdin.read() if text == "-" else text

    async def work(server: Connection) -> Any:
        question_id = await _question_of(server, whom)
        return await server.post(f"/api/questions/{question_id}/answer", {"answer": given})

    answered = ask(data_dir, work)
    if as_json:
        print_json(answered)
    else:
        note(f"{answered['job_id']} is told: {answered['answer']}")
    return 0


def send(
    job: JobArgument,
    text: Annotated[str, typer.Argument(help="The text; `-` reads it from standard input.")],
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Tell the agent of a job something; it reads that with its next tool call."""
    given = sys.stdin.read() if text == "-" else text
    path = f"/api/jobs/{job}/messages"
    sent = ask(data_dir, lambda server: server.post(path, {"text": given}))
    if as_json:
        print_json(sent)
    else:
        note(f"Message {sent['message_id']} is on its way to {job}.")
    return 0


async def _question_of(server: Connection, whom: str) -> str:
    """The id of the question that is meant: itself, or the only open one of a job."""
    if not re.fullmatch(r"\w+", whom, re.ASCII):
        raise Invalid(f"{whom!r} is no id: `hurlicane questions` lists the questions.")
    if not whom.startswith("job_"):
        return whom
    found = (await server.get("/api/questions"))["questions"]
    ids = [one["question_id"] for one in found if one["job_id"] == whom]
    if not ids:
        raise Invalid(f"{whom} has no open question: `hurlicane questions` lists all.")
    if len(ids) > 1:
        raise Invalid(f"{whom} has {len(ids)} open questions, name one: {', '.join(ids)}.")
    return ids[0]
