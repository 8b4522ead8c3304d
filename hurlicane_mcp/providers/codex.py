"""The `codex` provider: Codex, told by `-c` overrides and read as JSON lines or left to its screen.

What is said here of the CLI was measured with version 0.169.0 in November 2026.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias

from hurlicane_mcp.domain.refusals import Refusal
from hurlicane_mcp.providers.base import (
    ConnectionLost,
    ErrorCleared,
    ErrorSeen,
    LaunchRequest,
    LaunchSpec,
    MessageSeen,
    Reading,
    Refused,
    SessionSeen,
    SessionUsage,
    SideFile,
    Tokens,
    ToolSeen,
    TurnSeen,
    WarningSeen,
)
from hurlicane_mcp.providers.catalog import Catalog
from hurlicane_mcp.providers.codex_refusals import announced_wait, refusal_in
from hurlicane_mcp.providers.codex_rollout import Rollout, codex_home, tokens_of
from hurlicane_mcp.providers.interactive import prompt_argument
from hurlicane_mcp.providers.outage import SERVER, codex_says_so
from hurlicane_mcp.providers.output import Json, content_line
from hurlicane_mcp.providers.program import find_program
from hurlicane_mcp.providers.screens import codex_refusal

Sandbox: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]

FULL_ID = re.compile(r"(gpt-|codex-|o[0-9])[a-z0-9.-]*")
TOKEN_VARIABLE = "HURLICANE_AGENT_TOKEN"
STREAM = ("exec", "--json", "--skip-git-repo-check")
# The agent must run below its shim, not in a background server of the user's; and what it says must
# stay in the terminal's history.
TERMINAL = ("--no-daemon", "--no-alt-screen")
# On standard error: its errors, as ever, and for how long it obeys a Retry-After.
TELL_WAITS = "error,codex_core::responses_retry=warn"
# The CLI must not give a call up that the server is about to answer.
CALL_MARGIN = timedelta(seconds=60)
# What Codex puts into its children's environment; see the same list of Claude Code's.
MARKS_OF_A_SESSION = frozenset(
    {
        "CODEX_CI",
        "CODEX_SANDBOX",
        "CODEX_SANDBOX_NETWORK_DISABLED",
        "CODEX_SESSION_ID",
        "CODEX_THREAD_ID",
        "CODEX_TOOL_CALL_ID",
    }
)


@dataclass(frozen=True, slots=True)
class CodexProvider:
    """Starts Codex with the user's own login and config file, and reads its stream.

    *sandbox* bounds the agent's shell commands: `workspace-write` lets them write in the work tree,
    in its git repository and in the temporary folder, without network. A hook that an agent puts
    into the repository then runs outside the sandbox when somebody else commits there.
    """

    program: str = "codex"  #: a name to look up or a path
    sandbox: Sandbox = "workspace-write"
    catalog: Catalog = field(default_factory=Catalog.load)
    search_path: str | None = None  #: where to look; None for this process's PATH
    home: Path = field(default_factory=codex_home)  #: where the CLI keeps its threads

    @property
    def name(self) -> str:
        """`codex`."""
        return "codex"

    @property
    def tells_cost(self) -> bool:
        """False: it counts tokens only."""
        return False

    @property
    def gates_edits(self) -> bool:
        """False: it has no hook before an edit."""
        return False

    def check_model(self, model: str) -> None:
        """Accept the catalog's names and every `gpt-…`, `codex-…` and `o1…`.

        Raises:
            Invalid: *model* is something else; the message lists what is known.
        """
        self.catalog.check(self.name, model, FULL_ID)

    def resolve_model(self, model: str | None) -> str:
        """The full id of *model*, if the catalog knows it."""
        return self.catalog.id_of(self.name, model)

    def keeps_session(self, before: str | None, after: str | None) -> bool:
        """Whether no `family` in the catalog speaks against it.

        Between two that it knows and that differ, Codex has the model of before sum up the thread
        at its resumption. If that one refuses, so ends the turn, as if the new one had refused.
        """
        names = (self.catalog.resolve(self.name, name) for name in (before, after) if name)
        return len({known.family for known in names if known and known.family}) < 2

    def cost(self, model: str, tokens: Tokens) -> Decimal | None:
        """US dollars for *tokens*, by the catalog's prices."""
        return self.catalog.cost(self.name, model, tokens)

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start the CLI for *request*; the prompt goes by standard input (`-`).

        Interactive, it is an argument. The session is not known then, so it cannot be resumed. Two
        dialogs remain: a user who has not logged in is asked to, and one who has not decided it yet
        whether to trust a folder with a `.codex` of its own. That may run programs outside of the
        sandbox, and `codex exec` ignores it in such a folder too.

        Raises:
            LaunchFailed: the program is missing.
        """
        argv = [self._find_program(), *(TERMINAL if request.interactive else STREAM)]
        for key, value in self._overrides(request):
            argv += ["-c", f"{key}={value}"]
        if self.sandbox == "workspace-write":
            # Else `git commit` fails: Codex keeps `.git` read-only inside the work tree.
            own = (request.top,) if request.top is not None else ()
            for folder in (*own, *_git_folders(request.work_dir)):
                argv += ["--add-dir", str(folder)]
        if request.model is not None:
            argv += ["-m", request.model]
        if request.resume is not None:
            argv += ["resume", request.resume]
        spec = LaunchSpec((), {TOKEN_VARIABLE: request.token}, MARKS_OF_A_SESSION)
        if not request.interactive:
            env = {**spec.env, "RUST_LOG": TELL_WAITS}
            return replace(spec, argv=(*argv, "-"), stdin=request.prompt, env=env)
        prompt = prompt_argument(request.prompt, request.run_dir)
        argv += ["--", prompt.text]
        return replace(spec, argv=tuple(argv), files=prompt.files, session_id=request.resume)

    def parse_line(self, line: bytes) -> Sequence[Reading]:
        """What one line of `--json` means; nothing for a line that is not of it."""
        return tuple(_readings(Json.parse(line)))

    def announced_wait(self, refusal: Refusal, complaints: str) -> timedelta | None:
        """The wait that the line of this retry tells, in whole seconds; none below one."""
        return announced_wait(refusal.text, complaints)

    def read_screen(self, screen: str) -> Refusal | None:
        """The refusal that stands above the input; None if there is none."""
        return codex_refusal(screen)

    def side_file(self, session_id: str, thread_id: str) -> SideFile | None:
        """The file that Codex keeps the thread in."""
        return Rollout(self.home, thread_id, "" if thread_id == session_id else thread_id)

    def ask(self, prompt: str, model: str, folder: Path) -> LaunchSpec:
        """How to have *model* answer once, in a sandbox that may only read; no thread is kept.

        Codex cannot be told to leave out its own tools, nor the servers in the user's config file.

        Raises:
            LaunchFailed: the program is missing.
        """
        alone = ("--ephemeral", "--sandbox", "read-only", "-c", 'approval_policy="never"')
        argv = (self._find_program(), *STREAM, *alone, "-m", model, "-")
        return LaunchSpec(argv, unset=MARKS_OF_A_SESSION, stdin=prompt)

    def _find_program(self) -> str:
        return find_program(
            self.program,
            self.search_path,
            "Install Codex (npm install -g @openai/codex) and log in once, "
            "or name its program in HURLICANE_CODEX_BIN.",
        )

    def _overrides(self, request: LaunchRequest) -> Iterator[tuple[str, str]]:
        """Keys of the configuration and their values in TOML."""
        call_limit_s = int((request.wait_limit + CALL_MARGIN).total_seconds())
        ours = f"mcp_servers.{SERVER}"
        yield f"{ours}.url", _toml(request.mcp_url)
        yield f"{ours}.bearer_token_env_var", _toml(TOKEN_VARIABLE)
        yield f"{ours}.tool_timeout_sec", _toml(call_limit_s)
        # Without this every call of our tools fails, and the exit code is still 0.
        yield f"{ours}.default_tools_approval_mode", _toml("approve")
        # Without this, if we cannot be reached at its start, it works on without our tools, never
        # tries again and says so on standard error only. With it, it exits with 1.
        yield f"{ours}.required", "true"
        yield "approval_policy", _toml("never")
        yield "sandbox_mode", _toml(self.sandbox)
        if request.interactive:
            yield "check_for_update_on_startup", "false"
            if not _has_configuration(request.work_dir):
                # As a whole: `-c` takes a dot in the path for one between keys.
                trusted = '{trust_level = "trusted"}'
                yield "projects", f"{{{_toml(str(request.work_dir))} = {trusted}}}"


def _toml(value: str | int) -> str:
    """*value* in TOML, whose strings are JSON's but for surrogate pairs and the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _has_configuration(work_dir: Path) -> bool:
    """Whether the project has settings of its own for Codex: here, or above up to its root."""
    folders = (work_dir, *work_dir.parents)
    root = next((number for number, one in enumerate(folders) if (one / ".git").exists()), 0)
    return any(_is_used(folder / ".codex") for folder in folders[: root + 1])


def _is_used(folder: Path) -> bool:
    """Whether there is anything in *folder*.

    Codex puts empty ones, as places to mount upon, where its commands may write, and leaves them
    there if it is killed.
    """
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _git_folders(work_dir: Path) -> tuple[Path, ...]:
    """The folders that a commit in *work_dir* writes to; none outside a repository."""
    for folder in (work_dir, *work_dir.parents):
        link = folder / ".git"
        if link.is_file() and not link.is_symlink():
            return _worktree_folders(link)
        if link.is_dir():
            return () if link.is_symlink() else (link,)
    return ()


def _worktree_folders(link: Path) -> tuple[Path, ...]:
    """A worktree's part of its repository, and the repository (gitrepository-layout(5)).

    Codex has to be told of both: it finds and protects the inner one as well. The file *link* may
    be an agent's own work and lead anywhere, so it counts only if the other end leads back to it.
    """
    try:
        inner = (link.parent / _one_line_of(link).removeprefix("gitdir: ")).resolve()
        back = (inner / _one_line_of(inner / "gitdir")).resolve()
    except (OSError, ValueError):
        return ()
    is_mutual = back == link.resolve() and inner.parent.name == "worktrees"
    return (inner, inner.parent.parent) if is_mutual else ()


def _one_line_of(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _readings(event: Json) -> Iterator[Reading]:
    match event["type"].text:
        case "thread.started":
            if thread := event["thread_id"].text:
                yield SessionSeen(thread)
        case "item.started" | "item.completed":
            finished = event["type"].text == "item.completed"
            yield from _item(event["item"], finished=finished)
        case "turn.completed":
            yield SessionUsage(tokens_of(event["usage"]))
            yield ErrorCleared()
        case "turn.failed":
            yield from _error(event["error"]["message"])
        case "error":  # often "Reconnecting... 1/5 (…)", after which the turn may still go well
            yield from _error(event["message"])
        case _:
            pass


def _item(item: Json, *, finished: bool) -> Iterator[Reading]:
    """One thing that the model said or did.

    Codex does not tell its requests apart, so each item counts as one when it is completed: a
    request that calls two tools at once, or says something before it calls one, counts twice.
    """
    kind = item["type"].text
    if kind == "error":  # benign, such as a model that this version does not know
        yield WarningSeen(item["message"].brief)
        return
    seen = _message(item) if kind == "agent_message" else _tool(item, kind, finished=finished)
    if seen is None:
        return
    if finished:
        yield TurnSeen(item["id"].text)
    yield ErrorCleared()  # the model has answered since
    yield seen
    if kind == "mcp_tool_call" and item["server"].text == SERVER:
        problem = item["error"]["message"]
        if item["status"].text == "failed" and codex_says_so(problem.text):
            yield ConnectionLost(problem.brief, is_lasting=False)  # it connects at each call


def _message(item: Json) -> MessageSeen | None:
    text = item["text"].text
    return MessageSeen(text) if text else None


def _tool(item: Json, kind: str, *, finished: bool) -> ToolSeen | None:
    match kind:
        case "mcp_tool_call":
            name = f"mcp__{item['server'].brief}__{item['tool'].brief}"
            detail = _outcome(item) if finished else item["arguments"].brief
        case "command_execution":
            name = "shell"
            detail = (item["aggregated_output"] if finished else item["command"]).brief
        case "file_change":
            name, detail = "file_change", item["changes"].brief
        case "web_search":
            name, detail = "web_search", item["query"].brief
        case _:
            return None
    is_error = item["status"].text in ("failed", "declined")
    return ToolSeen(name, detail, finished=finished, is_error=is_error)


def _outcome(call: Json) -> str:
    return call["error"]["message"].brief or content_line(call["result"]["content"])


def _error(message: Json) -> Iterator[Reading]:
    """An error, and the model's refusal if it is one; of the last of a turn Codex tells twice."""
    text = _readable(message)
    yield ErrorSeen(text)
    if (refusal := refusal_in(text)) is not None:
        yield Refused(refusal)


def _readable(message: Json) -> str:
    """The message, or the one inside it: some are the endpoint's answer in JSON."""
    answer = Json.parse(message.text.encode())
    inner = answer["error"]["message"].text or answer["detail"].text
    return inner or message.text or "Codex failed and did not say why."
