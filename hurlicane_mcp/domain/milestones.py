"""Milestones: the checkboxes of a plan, which is Markdown that agents and people write.

A milestone is a list item with a box: `- [ ] text`, `* [x] text`, `1. [X] text`. Each box counts as
one, also that of an item with boxes below it. What stands in fenced code or in an HTML comment is
no milestone. Where Markdown is strict about indentation, this is not: models are not either.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

#: Where milestones go that are added to a plan.
HEADING = "## Fixes"
#: Characters of a milestone's text that are looked at: cleaning is not linear in them.
MAX_TEXT = 400
TAB = 4

_BREAK = re.compile(r"\r\n|\n|\r")
_INDENT = re.compile(r"[ \t]*")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?=[ \t]|$)[ \t]*")
_MARKERS = re.compile(r"(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*")
# `[~]`, `[-]` and `[]` are boxes too, of what is not done: if such an item were no milestone, a
# plan with one would seem complete. Letters and digits are not: `[1]` is a reference.
_BOX = re.compile(r"\[[ \t]*(?P<mark>[xX]|[^\w\s\[\]]?)[ \t]*\][ \t]+(?P<text>\S.*)")
_FENCE = re.compile(r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})")
_HEADING = re.compile(r"#{1,6}(?=[ \t]|$)")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_INLINE_COMMENT = re.compile(r"<!--.*?-->")
#: Stands for code while emphasis is looked for: from a plane that no text uses.
_MASK = 0x100000
_EMPHASIS = (
    re.compile(r"(?<![\\*\w])(\*{1,3})(?=[^\s*])(.+?)(?<=[^\s*\\])\1(?![*\w])"),
    re.compile(r"(?<![\\_\w])(_{1,3})(?=[^\s_])(.+?)(?<=[^\s_\\])\1(?![_\w]|\.\w)"),
    re.compile(r"(?<![\\~])(~~)(?=[^\s~])(.+?)(?<=[^\s~\\])\1(?!~)"),
)


@dataclass(frozen=True, slots=True)
class Milestone:
    """One checkbox of a plan."""

    text: str  #: one line, without emphasis and comments; at most `MAX_TEXT` characters
    done: bool
    depth: int = 0  #: how many boxes it stands below


@dataclass(frozen=True, slots=True)
class Plan:
    """The milestones of a plan, from the top."""

    milestones: tuple[Milestone, ...]

    @property
    def total(self) -> int:
        """How many there are; an item with others below it is one as well."""
        return len(self.milestones)

    @property
    def done(self) -> int:
        """How many are checked."""
        return sum(one.done for one in self.milestones)

    @property
    def first_open(self) -> Milestone | None:
        """The one to work on: the first that is open and has nothing open below it."""
        best: Milestone | None = None
        for one in self.milestones:
            if best is not None and one.depth <= best.depth:
                break
            if not one.done:
                best = one
        return best


def parse(plan: str) -> Plan:
    """The milestones of *plan*; none for a text that has no boxes. Never raises."""
    return Plan(tuple(found for line in _Reader().lines(plan) if (found := line.milestone)))


def with_milestones(plan: str, texts: Sequence[str]) -> str:
    """*plan* with an open milestone for each of *texts* that has none, below `## Fixes`.

    What has been checked is no open milestone: if it turns out to be wrong again, it is added
    again. Texts become one line each, empty ones are left out. Nothing else is changed, except
    that code or a comment whose end is missing is closed if the new ones would be inside it.
    """
    reader = _Reader()
    lines = list(reader.lines(plan))
    known = {one.milestone.text for one in lines if one.milestone and not one.milestone.done}
    missing: dict[str, str] = {}
    for text in texts:
        flat = " ".join(text.split())
        if flat and clean(flat) not in known:
            missing.setdefault(clean(flat), flat)
    if not missing:
        return plan
    added = [f"- [ ] {text}" for text in missing.values()]
    place = _end_of_fixes(plan, lines)
    if place is None:
        return _inserted(plan, len(plan), [*reader.closing, "", HEADING, "", *added, ""])
    # In the middle nothing is open, but at the end of the text something may be.
    closing = [] if plan[place:].strip() else reader.closing
    blank = [] if _is_item(plan[:place]) else [""]
    return _inserted(plan, place, [*closing, *blank, *added])


def clean(text: str) -> str:
    """Markdown as one line without emphasis and comments; what is in backticks stays as it is."""
    text = _cut(" ".join(text.split()))
    codes: list[str] = []

    def mask(found: re.Match[str]) -> str:
        codes.append(found[0])
        return chr(_MASK + len(codes) - 1)

    plain = _INLINE_COMMENT.sub("", _CODE.sub(mask, text))
    for mark in _EMPHASIS:
        plain = mark.sub(r"\2", plain)
    for number, code in enumerate(codes):
        plain = plain.replace(chr(_MASK + number), code)
    return " ".join(plain.split()) or text


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is neither code nor comment."""

    start: int  #: where it begins in the text
    end: int  #: where its break begins
    column: int  #: of its first character
    text: str  #: without its indentation
    item: str | None = None  #: what follows the marker of a list item
    milestone: Milestone | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """A list item that lines may still belong to."""

    column: int
    content: int  #: the column at which its text begins
    is_box: bool


@dataclass(frozen=True, slots=True)
class _Block:
    """Code or a comment that has begun."""

    fence: str  #: empty: a comment
    content: int  #: it ends before a line that begins further left: with its list item

    def ends_with(self, text: str) -> bool:
        if not self.fence:
            return "-->" in text
        rest = text.rstrip(" \t")
        return len(rest) >= len(self.fence) and not rest.strip(self.fence[0])


@dataclass
class _Reader:
    """Reads lines one after the other, and knows where it is."""

    items: list[_Item] = field(default_factory=list[_Item])
    block: _Block | None = None
    after_text: bool = False

    @property
    def closing(self) -> list[str]:
        """The lines that end what is still open."""
        if self.block is None:
            return []
        return [" " * self.block.content + (self.block.fence or "-->")]

    def lines(self, text: str) -> Iterator[_Line]:
        """Those lines of *text* that are neither blank nor in code or a comment."""
        for start, end in _spans(text):
            line = text[start:end]
            indent = _INDENT.match(line)
            assert indent is not None  # it matches nothing as well
            body, column = line[indent.end() :], _width(indent[0])
            is_text = bool(body) and not self._is_hidden(column, body)
            if is_text:
                yield self._seen(_Line(start, end, column, body))
            self.after_text = is_text

    def _is_hidden(self, column: int, body: str) -> bool:
        """Whether the line belongs to code or a comment; it may begin or end it."""
        block = self.block
        if block is not None and column >= block.content:
            if block.ends_with(body):
                self.block = None
            return True
        if block is not None:
            self.block = None
            self._leave(column)
        markers = _MARKERS.match(body)
        offset = 0 if markers is None else markers.end()
        fence = _FENCE.match(body, offset)
        if fence is None and not body.startswith("<!--", offset):
            return False
        self._leave(column)
        if offset:
            self._seen(_Line(0, 0, column, body))
        column += offset
        inside = [one.content for one in self.items if one.content <= column]
        opened = _Block(fence["fence"] if fence else "", max(inside, default=0))
        if fence is not None or not opened.ends_with(body):
            self.block = opened
        return True

    def _leave(self, column: int) -> None:
        """End the list items that a line which begins at *column* does not belong to."""
        self.items = [one for one in self.items if one.content <= column]

    def _seen(self, line: _Line) -> _Line:
        marker = _ITEM.match(line.text)
        if marker is None:
            # A line that goes on with the text of an item may be indented less than it.
            if not self.after_text or _HEADING.match(line.text) or line.text.startswith(">"):
                self._leave(line.column)
            return line
        while self.items and self.items[-1].column >= line.column:
            self.items.pop()
        rest = line.text[marker.end() :]
        box = _BOX.fullmatch(rest)
        depth = sum(one.is_box for one in self.items)
        content = line.column + max(len(marker[0]), 2)
        self.items.append(_Item(line.column, content, box is not None))
        found = None
        if box is not None:
            found = Milestone(clean(box["text"]), box["mark"] in ("x", "X"), depth)
        return _Line(line.start, line.end, line.column, line.text, rest, found)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for found in _BREAK.finditer(text):
        yield start, found.start()
        start = found.end()
    yield start, len(text)


def _width(indent: str) -> int:
    column = 0
    for character in indent:
        column += TAB - column % TAB if character == "\t" else 1
    return column


def _end_of_fixes(plan: str, lines: Sequence[_Line]) -> int | None:
    """Where the text of the section `## Fixes` ends; None if there is no such section."""
    end: int | None = None
    for line in lines:
        heading = _HEADING.match(line.text)
        if end is not None and heading is not None and len(heading[0]) <= 2:
            end = line.start
            break
        if line.column == 0 and line.text.rstrip("# \t") == HEADING:
            end = len(plan)
    return None if end is None else len(plan[:end].rstrip(" \t\r\n"))


def _is_item(head: str) -> bool:
    """Whether the last line begins a list item or goes on with one."""
    last = head[max(head.rfind("\n"), head.rfind("\r")) + 1 :]
    return last[:1] in (" ", "\t") or _ITEM.match(last) is not None


def _inserted(plan: str, place: int, lines: Sequence[str]) -> str:
    head, body = plan[:place], "\n".join(lines)
    if not head:
        body = body.lstrip("\n")
    elif not head.endswith(("\n", "\r")):
        body = "\n" + body
    return head + body + plan[place:]
