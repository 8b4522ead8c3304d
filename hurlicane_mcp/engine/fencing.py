"""Texts of others inside a prompt: cut to the room there is, in fences that they cannot end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hurlicane_mcp.domain.texts import storable

#: Shorter ones are common in what is fenced.
MIN_FENCE = 4
_RUNS = re.compile(r"`+|~+")


@dataclass(frozen=True, slots=True)
class Block:
    """A text, or its beginning, as templates show it."""

    text: str
    size: int  #: bytes of the whole
    fenced: str  #: `text` between fences longer than any run of their character in it
    key: str = ""  #: of the note that it is

    @property
    def shown(self) -> int:
        """Bytes of the part that is there."""
        return len(self.text.encode())

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than this."""
        return self.shown < self.size

    @property
    def quoted(self) -> str:
        """The text as a quotation, which ends where its lines do."""
        return "\n".join(f"> {line}".rstrip() for line in self.text.split("\n"))


def block(text: str, room: int | None, language: str = "text", key: str = "") -> Block:
    """*text* in fences; with *room*, in at most so many bytes, fences included.

    It is cut behind a line if that loses little. Too little room for anything makes it empty.
    """
    is_longer = room is not None and len(text) > room  # then only its beginning has to be read
    whole = storable(text[:room] if is_longer else text).replace("\r\n", "\n").replace("\r", "\n")
    whole = whole.rstrip("\n")
    size = len((text if is_longer else whole).encode(errors="replace"))
    if room is None:
        return Block(whole, size, _fenced(whole, language), key)
    first = _cut(whole, room)
    # A run of backticks makes both fences longer: at worst each of them is as long as the text.
    for part in (first, _cut(first, room - _overhead(first, language)), _cut(first, room // 4)):
        fenced = _fenced(part, language)
        if len(fenced.encode()) <= room:
            return Block(part, size, fenced, key)
    return Block("", size, "", key)


def shares(wanted: Sequence[tuple[int, int]], room: int) -> list[int]:
    """How many bytes of *room* each gets of those that want `(size, at first)`, the dearest first.

    Everybody gets what it wants up to its second number; what is left then goes to the first that
    want more. Nobody gets more than it wants, and all together not more than *room*.
    """
    given: list[int] = []
    left = max(room, 0)
    for size, at_first in wanted:
        given.append(min(size, at_first, left))
        left -= given[-1]
    for number, (size, _) in enumerate(wanted):
        more = min(size - given[number], left)
        given[number] += more
        left -= more
    return given


def _fenced(text: str, language: str) -> str:
    fence = _fence(text)
    return f"{fence}{language}\n{text}\n{fence}"


def _overhead(text: str, language: str) -> int:
    return 2 * len(_fence(text)) + len(language) + 2


def _fence(text: str) -> str:
    longest = {"`": 0, "~": 0}
    for run in _RUNS.findall(text):
        longest[run[0]] = max(longest[run[0]], len(run))
    # Tildes only where they are much shorter: models know backticks better.
    character = "~" if longest["`"] > longest["~"] + 20 else "`"
    return character * max(MIN_FENCE, longest[character] + 1)


def _cut(text: str, room: int) -> str:
    """The first *room* bytes of *text* at most, without a broken character or, mostly, line."""
    if room <= 0:
        return ""
    part = text.encode()[:room].decode(errors="ignore")
    if len(part) == len(text):
        return part
    at = part.rfind("\n")
    return part[:at] if at > len(part) // 2 else part
