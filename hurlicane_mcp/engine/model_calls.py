"""The server's own questions to models: one process each, heard out, and billed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import anyio.to_thread

from hurlicane_mcp.clock import Clock
from hurlicane_mcp.domain.failures import POLICIES
from hurlicane_mcp.domain.refusals import Patience, Refusal
from hurlicane_mcp.engine.chains import Step
from hurlicane_mcp.engine.environment import environment_of
from hurlicane_mcp.engine.fallback import Limited
from hurlicane_mcp.ids import new_id
from hurlicane_mcp.providers.base import (
    ErrorCleared,
    ErrorSeen,
    MessageSeen,
    ModelSeen,
    Provider,
    Reading,
    Refused,
    RequestUsage,
    RunUsage,
    SessionUsage,
    Tokens,
    TurnSeen,
)
from hurlicane_mcp.providers.output import MAX_USD
from hurlicane_mcp.providers.registry import Providers
from hurlicane_mcp.supervision.host import Command
from hurlicane_mcp.supervision.one_shot import TIME_LIMIT, Heard, OneShots


class NoAnswer(Exception):
    """The call has failed, and not for a limit of the model. The message says why."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one call has used."""

    provider: str
    model: str  #: its resolved id
    turns: int
    tokens: Tokens
    cost_usd: Decimal | None  #: None if neither the CLI nor the catalog tells


class ModelCalls:
    """Asks models through the user's own CLIs."""

    def __init__(
        self, clock: Clock, providers: Providers, one_shots: OneShots, patience: Patience
    ) -> None:
        self._clock = clock
        self._providers = providers
        self._one_shots = one_shots
        self._patience = patience

    async def clear(self) -> None:
        """End what a server that was killed has asked; before anything is asked."""
        await self._one_shots.clear()

    async def ask(self, step: Step, prompt: str, bill: Callable[[Bill], None]) -> str:
        """The last words of the model of *step*, which must have one, on *prompt*.

        A refusal that the CLI is about to wait out is left to it as those of agents are; any other
        one ends the call at once. *bill* hears what the call has used, also when it fails.

        Raises:
            Limited: the model refused.
            NoAnswer: the call failed for another reason, or took longer than 60 s.
            LaunchFailed: the CLI is missing, or no process can be started.
        """
        provider, name = self._providers.get(step.provider), new_id("ask")
        model = step.model or ""
        spec = provider.ask(prompt, model, self._one_shots.work_dir(name))
        ear = _Ear(self._clock, self._patience, provider)
        command = Command(
            argv=spec.argv,
            cwd=self._one_shots.work_dir(name),
            env=environment_of(spec),
            stdin=spec.stdin.encode(),
            marker=name,
        )
        heard = await self._one_shots.run(command, ear.is_enough)
        # All over again: the last lines may have come with the end, and a line may be huge.
        answer = _Answer()
        await anyio.to_thread.run_sync(answer.read, heard.lines, provider)
        if (made := answer.bill(provider, model)) is not None:
            bill(made)
        return answer.text_of(heard, ear.refusal)


class _Ear:
    """Listens while the CLI speaks, for a refusal that it would wait out for too long."""

    def __init__(self, clock: Clock, patience: Patience, provider: Provider) -> None:
        self.refusal: Refusal | None = None
        self._since: datetime | None = None
        self._clock = clock
        self._patience = patience
        self._provider = provider

    def is_enough(self, line: bytes) -> bool:
        """Whether nothing that follows *line* is worth waiting for."""
        for reading in self._provider.parse_line(line):
            match reading:
                case TurnSeen() | ErrorCleared():
                    self._since = None
                case Refused(refusal) if refusal.kind in POLICIES:
                    now = self._clock.now()
                    self._since = self._since or now
                    if not self._patience.covers(refusal, self._since, now):
                        self.refusal = refusal
                        return True
                case _:
                    pass
        return False


class _Answer:
    """What a whole output says."""

    def __init__(self) -> None:
        self._text = ""
        self._error: str | None = None
        self._refusal: Refusal | None = None
        self._model = ""
        self._turns: set[str] = set()
        self._requests: dict[str, Tokens] = {}
        self._total: Tokens | None = None  #: the CLI's final figure, which replaces the requests'
        self._cost_usd: Decimal | None = None

    def read(self, lines: Iterable[bytes], provider: Provider) -> None:
        for line in lines:
            for reading in provider.parse_line(line):
                self._add(reading)

    def _add(self, reading: Reading) -> None:
        match reading:
            case MessageSeen(text):
                self._text = text
            case Refused(refusal):
                self._refusal = refusal
            case ErrorSeen(text):
                self._error = text
            case ErrorCleared():
                self._error = self._refusal = None
            case TurnSeen(name):
                self._turns.add(name)
                self._refusal = None
            case _:
                self._measure(reading)

    def _measure(self, reading: Reading) -> None:
        match reading:
            case ModelSeen(model):
                self._model = model
            case RequestUsage(name, _, tokens):
                self._requests[name] = tokens
            case RunUsage(tokens):
                self._total = tokens
            case SessionUsage(tokens, cost_usd):
                self._total = tokens or self._total
                self._cost_usd = cost_usd
            case _:
                pass

    def bill(self, provider: Provider, asked: str) -> Bill | None:
        """What it cost; None if that is nothing."""
        tokens = self._total or _sum(self._requests.values())
        model = self._model or asked
        cost = self._cost_usd if self._cost_usd is not None else provider.cost(model, tokens)
        if not (self._turns or cost or tokens != Tokens()):
            return None
        cost = min(cost, Decimal(MAX_USD)) if cost is not None else None
        return Bill(provider.name, provider.resolve_model(model), len(self._turns), tokens, cost)

    def text_of(self, heard: Heard, refusal: Refusal | None) -> str:
        """The answer. *refusal* is what ended the call early."""
        refusal = refusal or self._refusal
        if refusal is not None and refusal.kind in POLICIES:
            raise Limited(refusal)
        if heard.exit.limit == "time":
            raise NoAnswer(f"No answer came within {TIME_LIMIT.total_seconds():.0f} s.")
        if refusal is not None or self._error is not None:
            raise NoAnswer(refusal.text if refusal is not None else self._error)
        if heard.exit.code != 0:
            raise NoAnswer(f"The CLI has failed: {_how(heard)}")
        if not self._text.strip():
            raise NoAnswer("The CLI has ended without an answer.")
        return self._text


def _how(heard: Heard) -> str:
    """What is known of a call's bad end."""
    said, exit_ = heard.complaint.strip()[-500:], heard.exit
    end = f"signal {exit_.signal}" if exit_.code is None else f"exit code {exit_.code}"
    return exit_.launch_error or said or f"it ended with {end}."


def _sum(each: Iterable[Tokens]) -> Tokens:
    total = Tokens()
    for one in each:
        total = Tokens(
            total.input + one.input,
            total.output + one.output,
            total.cache_read + one.cache_read,
            total.cache_write + one.cache_write,
        )
    return total
