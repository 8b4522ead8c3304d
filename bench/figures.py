"""What a measurement gives: a distribution or one value, as results.json has it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias


class MeasurementFailed(Exception):
    """Something could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Many measurements of the same thing, in the unit that the metric's name ends with."""

    n: int
    p50: float
    p95: float
    p99: float
    max: float

    @property
    def typical(self) -> float:
        """The figure that stands for all of them."""
        return self.p50

    @staticmethod
    def of(samples: Sequence[float]) -> "Distribution":
        """Percentiles by nearest rank: each is a value that was measured."""
        if not samples:
            raise MeasurementFailed("Nothing was measured.")
        ordered = sorted(samples)

        def rank(percent: int) -> float:
            return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 3)

        return Distribution(len(ordered), rank(50), rank(95), rank(99), rank(100))


@dataclass(frozen=True, slots=True)
class Value:
    """One measurement, or a sum such as calls a second."""

    value: float

    @property
    def typical(self) -> float:
        """The figure itself."""
        return self.value

    @staticmethod
    def of(value: float) -> "Value":
        """*value*, rounded as the distributions are."""
        return Value(round(value, 3))


Figure: TypeAlias = Distribution | Value
Figures: TypeAlias = Mapping[str, Figure]


def write_results(path: Path, figures: Figures) -> None:
    """Write *figures* to *path*: `{"metric": {"n", "p50", "p95", "p99", "max"} | {"value"}}`."""
    content = {name: asdict(figure) for name, figure in figures.items()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
