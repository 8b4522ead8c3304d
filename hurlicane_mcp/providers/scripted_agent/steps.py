"""Following a script: each step is carried out and reported on the stream."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import anyio

from hurlicane_mcp.errors import Conflict, Invalid
from hurlicane_mcp.providers.outage import NOT_CONNECTED
from hurlicane_mcp.providers.scripted_agent import edits, limits, refusals
from hurlicane_mcp.providers.scripted_agent.client import Connection, Endpoint
from hurlicane_mcp.providers.scripted_agent.session import Session
from hurlicane_mcp.providers.scripted_agent.stream import Stream
from hurlicane_mcp.providers.scripted_agent.substitution import fill_mapping, fill_text
from hurlicane_mcp.providers.scripted_agent.vocabulary import (
    Call,
    Commit,
    Crash,
    Deny,
    Disconnect,
    Edit,
    Ending,
    Exit,
    Hang,
    IgnoreTerm,
    OnError,
    Parallel,
    Print,
    PrintBytes,
    RateLimit,
    Refuse,
    Request,
    Run,
    Say,
    Script,
    Sleep,
    Step,
    Usage,
    Warn,
)

MILLION = 1_000_000  # tokens for one US dollar, as the adapter prices them
DETAIL_LIMIT = 2_000  # characters of a call's arguments or answer that an event shows


class Ended(Exception):
    """The agent is to exit with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Start:
    """How a process of the agent was started."""

    model: str  #: that it claims to be
    resumed: bool = False
    max_turns: int | None = None


async def follow(
    script: Script, session: Session, stream: Stream, endpoint: Endpoint, start: Start
) -> int:
    """Follow *script* to its end, from where *session* is; the exit code."""
    code = 0
    try:
        async with anyio.create_task_group() as tasks:
            connection = Connection(endpoint, tasks)
            agent = Agent(script.on_error, session, stream, connection, start)
            if start.resumed and script.on_resume is not None:
                await agent.each(script.on_resume)
            else:
                await agent.remaining(script.steps)
            connection.close()
    except* Ended as ended:
        code = _first(ended).code
    if code == 0:
        stream.event("result", turns=session.turns)
    return code


class Agent:
    """One process's walk along a script."""

    def __init__(
        self,
        on_error: OnError,
        session: Session,
        stream: Stream,
        connection: Connection,
        start: Start,
    ) -> None:
        self.on_error: OnError = on_error
        self.session = session
        self.stream = stream
        self.connection = connection
        self.model = start.model
        self.turns = limits.Turns(session, stream, start.max_turns)

    async def remaining(self, steps: Sequence[Step]) -> None:
        """Do the steps that the session has not done, and note each one done."""
        for number, step in enumerate(
            steps[self.session.steps_done :], self.session.steps_done + 1
        ):
            if isinstance(step, Ending):  # else a resumed session would only end here again
                self._done(number)
            await self.perform(step)
            self._done(number)

    async def each(self, steps: Sequence[Step]) -> None:
        """Do *steps* in their order."""
        for step in steps:
            await self.perform(step)
            self.session.save()

    async def perform(self, step: Step) -> None:
        """Do one step.

        Raises:
            Ended: the agent ends here.
        """
        try:
            await self._perform(step)
        except Invalid as error:  # a reference that leads nowhere
            self._give_up(str(error))

    async def _perform(self, step: Step) -> None:
        match step:
            case Call():
                await self._call(step)
            case Parallel():
                async with anyio.create_task_group() as tasks:
                    for branch in step.branches:
                        tasks.start_soon(self.each, branch)
            case Edit():
                await self._change(step, None)
            case Commit():
                await self._change(step.edit, step.message or f"Edit {step.edit.path}")
            case Run():
                await self._run(step)
            case Sleep():
                await anyio.sleep(step.seconds)
            case Disconnect():
                self.connection.close()
                self.stream.event("disconnected", text=NOT_CONNECTED)
            case IgnoreTerm():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            case Refuse():
                if not await limits.refuse(step, self.model, self.session, self.stream):
                    raise Ended(1)
            case RateLimit() | Exit() | Crash() | Hang():
                await self._end(step)
            case _:
                self._output(step)

    def _output(self, step: Say | Warn | Print | PrintBytes | Usage | Request | Deny) -> None:
        match step:
            case Say():
                self.stream.event("message", text=self._filled(step.text))
            case Warn():
                self.stream.event("warning", text=self._filled(step.text))
            case Print():
                self.stream.line(self._filled(step.text).encode(errors="replace"))
            case PrintBytes():
                self.stream.long_line(step.count)
            case Deny():
                self.stream.event("denied", text=self._filled(step.text))
            case Usage():
                self._use(step)
            case Request():
                self._request(step)

    async def _end(self, step: Ending) -> None:
        match step:
            case Exit():
                raise Ended(step.code)
            case Hang():
                await anyio.sleep_forever()
            case RateLimit():
                for line in refusals.refusal(step.cli, self.session.session_id):
                    self.stream.event("foreign", cli=step.cli, line=line)
                raise Ended(1)
            case Crash():
                if step.signal not in (signal.SIGKILL, signal.SIGSTOP):
                    signal.signal(step.signal, signal.SIG_DFL)
                os.kill(os.getpid(), step.signal)

    async def _call(self, step: Call) -> None:
        args = fill_mapping(step.args, self.session.variables, os.environ)
        self._take_turn()
        self.stream.tool(step.tool, "begin", json.dumps(args)[:DETAIL_LIMIT])

        async def note(progress: float, total: float | None, message: str | None) -> None:
            self.stream.event("progress", progress=progress, total=total, message=message)

        answer = await self.connection.call(step.tool, args, note)
        self.stream.tool(step.tool, "end", answer.text[:DETAIL_LIMIT], is_error=answer.is_error)
        if answer.is_lost:
            self.stream.event("disconnected", text=answer.text)
        if step.store_as is not None:
            self.session.variables[step.store_as] = answer.data
        if step.expect_error is not None:
            if step.expect_error not in ((answer.code, "any") if answer.is_error else ()):
                self._give_up(
                    f"{step.tool} should have failed with {step.expect_error!r}, but it "
                    + (f"failed with: {answer.text}" if answer.is_error else "succeeded.")
                )
        elif answer.is_error:
            self._failed(step.tool, answer.text, step.on_error)

    async def _change(self, edit: Edit, message: str | None) -> None:
        name = "edit" if message is None else "commit"
        filled = Edit(self._filled(edit.path), self._filled(edit.text), edit.append)
        self.stream.tool(name, "begin", filled.path)
        try:
            edits.apply(filled)
            said = filled.path
            if message is not None:
                commit = await edits.commit(filled.path, self._filled(message))
                said = commit or "nothing to commit"
        except (OSError, ValueError, Conflict) as error:
            self.stream.tool(name, "end", str(error)[:DETAIL_LIMIT], is_error=True)
            self._failed(name, str(error), None)
        else:
            self.stream.tool(name, "end", said)

    async def _run(self, step: Run) -> None:
        argv = tuple(self._filled(word) for word in step.argv)
        self.stream.tool("run", "begin", " ".join(argv)[:DETAIL_LIMIT])
        try:
            ran = await edits.run(argv)
        except (OSError, ValueError) as error:
            ran = edits.Ran(127, str(error))
        is_error = ran.exit_code != 0
        self.stream.tool("run", "end", ran.output[-DETAIL_LIMIT:], is_error=is_error)
        if step.store_as is not None:
            self.session.variables[step.store_as] = {
                "exit_code": ran.exit_code,
                "output": ran.output,
            }
        if is_error:
            reason = f"exit code {ran.exit_code}: {ran.output.strip()[-DETAIL_LIMIT:]}"
            self._failed(argv[0], reason, step.on_error)

    def _use(self, step: Usage) -> None:
        self.session.input_tokens += step.input
        self.session.output_tokens += step.output
        self.session.cost_usd += step.cost_usd
        self.stream.event(
            "usage",
            input=self.session.input_tokens,
            output=self.session.output_tokens,
            cost_usd=float(self.session.cost_usd),
        )

    def _request(self, step: Request) -> None:
        request_id = self._take_turn()
        self.session.input_tokens += step.input
        self.session.output_tokens += step.output
        self.session.cost_usd += Decimal(step.input + step.output) / MILLION
        self.stream.event(
            "request", id=request_id, model=self.model, input=step.input, output=step.output
        )

    def _take_turn(self) -> str:
        request_id = self.turns.begin()
        if request_id is None:
            raise Ended(1)
        return request_id

    def _filled(self, text: str) -> str:
        return fill_text(text, self.session.variables, os.environ)

    def _failed(self, what: str, reason: str, on_error: OnError | None) -> None:
        if (on_error or self.on_error) == "fail":
            self._give_up(f"{what} failed: {reason}")

    def _give_up(self, reason: str) -> None:
        self.stream.event("error", text=reason[:DETAIL_LIMIT])
        raise Ended(1)

    def _done(self, number: int) -> None:
        self.session.steps_done = number
        self.session.save()


def _first(group: BaseExceptionGroup[Ended]) -> Ended:
    inner = group.exceptions[0]
    return inner if isinstance(inner, Ended) else _first(inner)
