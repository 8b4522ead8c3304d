"""A line of a CLI's output, read without trusting it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

DETAIL_LENGTH = 200
# More than any real count, and small enough for a database's 64-bit column after a few sums.
MAX_COUNT = 2**53
# US dollars. The same of any real cost; the store keeps billionths in 64 bits, sums included.
MAX_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value of any shape: what is missing or of another type reads as empty."""

    value: object = None

    @staticmethod
    def parse(line: bytes) -> "Json":
        """The value that *line* spells; an empty one if it is not JSON."""
        try:
            return Json(json.loads(line))
        except (ValueError, RecursionError):
            return Json()

    def __getitem__(self, key: str) -> "Json":
        return Json(self._fields().get(key))

    def __iter__(self) -> Iterator["Json"]:
        """The elements of a list."""
        elements = cast("list[object]", self.value) if _is(list, self.value) else ()
        yield from map(Json, elements)

    @property
    def entries(self) -> tuple[tuple[str, "Json"], ...]:
        """The names and values of an object."""
        return tuple((_storable(name), Json(value)) for name, value in self._fields().items())

    @property
    def text(self) -> str:
        """A string that every database and encoding takes."""
        return _storable(self.value) if isinstance(self.value, str) else ""

    @property
    def count(self) -> int:
        """A whole number from 0 to `MAX_COUNT`; 0 for anything else."""
        number = self.value
        if not isinstance(number, int) or isinstance(number, bool):
            return 0
        return number if 0 <= number <= MAX_COUNT else 0

    @property
    def amount(self) -> Decimal | None:
        """A finite number that is not negative, as exact as it was written."""
        number = self.value
        if not isinstance(number, int | float) or isinstance(number, bool):
            return None
        return Decimal(str(number)) if 0 <= number <= MAX_COUNT else None  # not NaN, not infinity

    @property
    def usd(self) -> Decimal | None:
        """US dollars from 0 to `MAX_USD`; None for anything else."""
        amount = self.amount
        return amount if amount is not None and amount <= MAX_USD else None

    @property
    def is_true(self) -> bool:
        """Whether this is the literal `true`."""
        return self.value is True

    @property
    def brief(self) -> str:
        """One line of at most `DETAIL_LENGTH` characters: a string as it is, the rest as JSON."""
        if isinstance(self.value, str):
            return one_line(self.text)
        if self.value is None:
            return ""
        try:
            return one_line(_storable(json.dumps(self.value, ensure_ascii=False)))
        except RecursionError:
            return ""

    def _fields(self) -> Mapping[str, object]:
        return cast("dict[str, object]", self.value) if _is(dict, self.value) else {}


def _is(kind: type[object], value: object) -> bool:
    """`isinstance` without narrowing, which would leave the type of the elements unknown."""
    return isinstance(value, kind)


def one_line(text: str) -> str:
    """*text* without line breaks, cut to `DETAIL_LENGTH` characters."""
    # A tool's answer may have megabytes; what is cut off need not be split into words.
    line = " ".join(text[: 10 * DETAIL_LENGTH].split())
    return line if len(line) <= DETAIL_LENGTH else line[: DETAIL_LENGTH - 1] + "…"


def content_text(content: Json) -> str:
    """The text of what a tool answered: a string, or a list of MCP's content blocks."""
    texts = (block["text"].text for block in content)
    return content.text or " ".join(text for text in texts if text)


def content_line(content: Json) -> str:
    """The same in one line; JSON for content of another form."""
    return one_line(content_text(content)) or content.brief


def _storable(text: str) -> str:
    """*text* without lone surrogates, which no encoding takes, and NULs, which PostgreSQL refuses.

    JSON can spell both; CLIs cut texts and so leave halves of surrogate pairs.
    """
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
