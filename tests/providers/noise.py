"""Output that no CLI should print, for parsers that must bear it."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import cast

from hypothesis import strategies as st

from hurlicane_mcp.providers.base import Reading, ToolSeen
from hurlicane_mcp.providers.output import DETAIL_LENGTH

NASTY: tuple[object, ...] = (
    *(None, True, -1, 10**400, 1.5, float("nan"), float("inf")),
    *("x", "\ud800", "a\x00b", "\udfff\ud800"),
)
EMPTY = (list[object](), dict[str, object](), ["x", list[object]()], {"type": dict[str, object]()})
WORD = re.compile(rb'"([\w.-]{1,30})"')


def lines_with(recorded: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Lines of JSON objects made of the words of *recorded* lines, with nonsense in between."""
    words = st.sampled_from(sorted({word for line in recorded for word in _words(line)}))
    scalars = words | st.sampled_from(NASTY) | st.integers() | st.floats() | st.text()
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
        max_leaves=15,
    )
    return st.dictionaries(words, values, max_size=8).map(lambda value: json.dumps(value).encode())


@st.composite
def spoiled(draw: st.DrawFn, recorded: Sequence[bytes]) -> bytes:
    """A recorded line in which every value of one name is replaced by nonsense."""
    line = draw(st.sampled_from(recorded))
    name = draw(st.sampled_from(sorted(set(_words(line)))))
    nonsense = draw(st.sampled_from(NASTY + EMPTY))

    def replace(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {key: nonsense if key == name else value for key, value in pairs}

    return json.dumps(json.loads(line, object_pairs_hook=replace)).encode()


def check_storable(readings: Iterable[Reading]) -> None:
    """Fail if a database or an encoding would refuse one of *readings*."""
    for reading in readings:
        for value in _leaves(astuple(reading)):
            match value:
                case str():
                    assert b"\x00" not in value.encode()
                case int():
                    assert 0 <= value < 2**63
                case Decimal():
                    assert value.is_finite()
                    assert value >= 0
                case datetime():
                    assert value.tzinfo is not None
                case timedelta():
                    assert value >= timedelta()
                case time():
                    pass
                case _:
                    assert value is None
        if isinstance(reading, ToolSeen):
            assert len(reading.detail) <= DETAIL_LENGTH
            assert "\n" not in reading.detail


def _words(line: bytes) -> list[str]:
    return [word.decode() for word in WORD.findall(line)]


def _leaves(values: tuple[object, ...]) -> Iterator[object]:
    for value in values:
        if isinstance(value, tuple):
            yield from _leaves(cast("tuple[object, ...]", value))
        else:
            yield value
