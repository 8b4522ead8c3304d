"""What a scripted model does next, given the conversation so far.

A script is a function from a conversation to a move. It is asked anew for every request and keeps
no state, so one script serves any number of agents at once; who asks is told by a tag such as
`[[role:lead]]` in the agent's prompt.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

ROLE = re.compile(r"\[\[role:([\w-]+)\]\]")


@dataclass(frozen=True, slots=True)
class Spent:
    """The tokens that the endpoint says an answer has used."""

    input: int = 1000  #: without those of a cache
    output: int = 50
    cache_write: int = 200  #: Codex is told that they are input: there is no such field
    cache_read: int = 300


USUAL = Spent()


@dataclass(frozen=True, slots=True)
class Say:
    """The model answers with text, which ends the agent's turn."""

    text: str
    spent: Spent = USUAL


@dataclass(frozen=True, slots=True)
class CallTool:
    """The model calls one tool."""

    name: str
    arguments: Mapping[str, object]
    server: str | None = "hurlicane"  #: the MCP server's name; None for a tool of the CLI itself
    group: str | None = None  #: of Codex's own tools, those that it keeps in a namespace
    spent: Spent = USUAL


@dataclass(frozen=True, slots=True)
class HttpError:
    """The endpoint refuses the request; *body* is sent as JSON, as it is."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, object] = field(default_factory=dict[str, object])


Move: TypeAlias = Say | CallTool | HttpError


@dataclass(frozen=True, slots=True)
class Told:
    """Text that the CLI or its user put before the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """Text of an earlier `Say`."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """An earlier `CallTool`."""

    call_id: str
    name: str  #: without the server's prefix


@dataclass(frozen=True, slots=True)
class Returned:
    """What a tool answered."""

    call_id: str
    text: str

    def data(self) -> Any:
        """The first JSON object in the text: a CLI may put words of its own before it."""
        return json.JSONDecoder().raw_decode(self.text, self.text.index("{"))[0]


Turn: TypeAlias = Told | Said | Called | Returned


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that one request tells the model."""

    turns: tuple[Turn, ...]
    model: str
    refusals: int = 0  #: how often this model's next move was an `HttpError` before

    @property
    def prompt(self) -> str:
        """The first text that names a role: the agent's own prompt; empty if there is none."""
        told = (turn.text for turn in self.turns if isinstance(turn, Told))
        return next((text for text in told if ROLE.search(text)), "")

    @property
    def role(self) -> str | None:
        """The first role named in the prompt; None if there is none."""
        tag = ROLE.search(self.prompt)
        return tag[1] if tag else None

    @property
    def moves(self) -> int:
        """How many moves the model has made, resumed sessions included."""
        return sum(isinstance(turn, Said | Called) for turn in self.turns)

    @property
    def calls(self) -> int:
        """How many tools the model has called. Unlike `moves` it does not count what a CLI says in
        the model's name: Claude Code puts such words behind a prompt that was never answered."""
        return sum(isinstance(turn, Called) for turn in self.turns)

    @property
    def told(self) -> str:
        """The text that the model was told last."""
        return next(turn.text for turn in reversed(self.turns) if isinstance(turn, Told))

    def results(self, tool: str) -> list[Returned]:
        """What the calls of *tool* answered, oldest first."""
        calls = {
            turn.call_id for turn in self.turns if isinstance(turn, Called) and turn.name == tool
        }
        return [turn for turn in self.turns if isinstance(turn, Returned) and turn.call_id in calls]


Script: TypeAlias = Callable[[Conversation], Move]


def in_order(*steps: Move | Script) -> Script:
    """A script that takes one step after the other; a step may be worked out from what came before.

    A refused request counts as no move, so a bare `HttpError` is repeated for ever; `refusing`
    ends it.
    """

    def script(conversation: Conversation) -> Move:
        step = steps[conversation.moves]
        return step(conversation) if callable(step) else step

    return script


def refusing(times: int, error: HttpError, then: Move) -> Script:
    """A step that is refused with *error* so many times before it is *then*."""
    return lambda conversation: error if conversation.refusals < times else then


@dataclass(frozen=True, slots=True)
class Limit:
    """A model that refuses to answer."""

    model: str  #: part of its id
    error: HttpError
    after: int = 0  #: tool calls of the agent before

    def holds(self, conversation: Conversation) -> bool:
        """Whether this request is refused."""
        return self.model in conversation.model and conversation.calls >= self.after


def limited(script: Script, *limits: Limit) -> Script:
    """*script* for all that none of the *limits*, in this order, refuses."""

    def answer(conversation: Conversation) -> Move:
        errors = (limit.error for limit in limits if limit.holds(conversation))
        return next(errors, None) or script(conversation)

    return answer


def by_role(roles: Mapping[str, Script]) -> Script:
    """A script that leaves each move to the script of whoever asks."""

    def script(conversation: Conversation) -> Move:
        role = conversation.role
        if role is None:
            raise LookupError(f"the prompt names no role: {conversation.told[:500]}")
        return roles[role](conversation)

    return script
