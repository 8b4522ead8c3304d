"""The two MCP servers, one a role: the same tools where the roles share them."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.types import CallToolResult, ToolAnnotations

from hurlicane_mcp.engine.access import Role
from hurlicane_mcp.mcp_server.jobs import AttemptTools, JobTools
from hurlicane_mcp.mcp_server.notes import NoteTools
from hurlicane_mcp.mcp_server.talk import TalkTools

Tool = Callable[..., Awaitable[CallToolResult]]

#: Tools that may block for minutes: answered as a stream, with progress.
BLOCKING = frozenset({"wait_for_jobs", "watch_notes", "ask_user", "lock_files"})
#: Blocks as well, if the caller's job has checks; otherwise it is quick.
FINISH = "finish_job"
_READS = frozenset(
    {
        "why",
        "list_agents",
        "list_models",
        "get_job",
        "list_jobs",
        "wait_for_jobs",
        "get_workflow",
        "list_workflows",
        "read_note",
        "list_notes",
        "watch_notes",
        "check_file_locks",
    }
)

_FOR_OPERATORS = (
    "hurlicane runs coding agents. create_job queues work for an agent, wait_for_jobs blocks until "
    "it is finished, get_job and list_jobs look. create_workflow has a task planned, reviewed and "
    "implemented on a branch. Waiting is always safe to repeat. A job with a "
    "`question` waits for you: answer_question."
)
_FOR_AGENTS = (
    "You are an agent of hurlicane with one job. Call finish_job with the result when it is done. "
    "create_job gives parts of it to other agents, wait_for_jobs gets their results. `messages` in "
    "an answer are from those who gave you the job: heed them."
)


def build_server(
    role: Role,
    jobs: JobTools,
    notes: NoteTools,
    attempt: AttemptTools,
    talk: TalkTools,
    operators: Sequence[Tool] = (),
    agents: Sequence[Tool] = (),
    prompts: Sequence[Prompt] = (),
) -> MCPServer[Any]:
    """The server that clients of *role* talk to; *operators* and *agents*: more tools for these.

    *prompts* are offered to operators.
    """
    server: MCPServer[Any] = MCPServer(
        "hurlicane",
        version=version("hurlicane-mcp"),
        instructions=_FOR_AGENTS if role is Role.AGENT else _FOR_OPERATORS,
        log_level="WARNING",
        middleware=[talk.deliver] if role is Role.AGENT else [],
    )
    for tool in tools_of(role, jobs, notes, attempt, talk, operators, agents):
        name = getattr(tool, "__name__", "")
        server.add_tool(
            tool,
            name=name,
            description=inspect.getdoc(tool),  # without the indentation of the source
            annotations=ToolAnnotations(read_only_hint=True) if name in _READS else None,
            structured_output=False,  # no output schemas: each would be paid in every context
        )
    for prompt in prompts if role is Role.OPERATOR else ():
        server.add_prompt(prompt)
    return server


def tools_of(
    role: Role,
    jobs: JobTools,
    notes: NoteTools,
    attempt: AttemptTools,
    talk: TalkTools,
    operators: Sequence[Tool] = (),
    agents: Sequence[Tool] = (),
) -> Sequence[Tool]:
    """The tools of *role*, in the order in which clients list them."""
    shared = (
        jobs.create_job,
        jobs.wait_for_jobs,
        jobs.get_job,
        jobs.list_jobs,
        jobs.why,
        jobs.cancel_job,
        notes.read_note,
        notes.write_note,
        notes.list_notes,
        notes.watch_notes,
        talk.send_message,
    )
    if role is Role.AGENT:
        return (attempt.report_status, attempt.finish_job, *shared, talk.ask_user, *agents)
    return (*shared, jobs.list_agents, talk.answer_question, *operators)
