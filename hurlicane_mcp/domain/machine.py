"""State machines as tables: a missing entry is the error."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from hurlicane_mcp.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True)
class Machine(Generic[S, E]):
    """A named table of state → event → next state."""

    name: str
    table: Mapping[S, Mapping[E, S]]

    def after(self, state: S, event: E) -> S:
        """The state that *event* leads to.

        Raises:
            IllegalTransition: the table has no such step.
        """
        try:
            return self.table[state][event]
        except KeyError:
            raise IllegalTransition(self.name, state, event) from None

    def sources(self, event: E) -> tuple[S, ...]:
        """Every state in which *event* is allowed, in the order of the table."""
        return tuple(state for state, steps in self.table.items() if event in steps)

    @property
    def final(self) -> frozenset[S]:
        """The states without a way out."""
        return frozenset(state for state, steps in self.table.items() if not steps)
