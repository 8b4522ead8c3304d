"""`python -m bench [METRIC…]`: measure, print a table, write results.json.

Exit code 0 when everything could be measured, be it met or missed; 1 when something could not; 2
on wrong usage.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench.figures import Figure, write_results
from bench.metrics import BY_NAME, METRICS, measures_for
from bench.table import table_of

RESULTS = Path(__file__).with_name("results.json")


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("python -m bench", description="Measure the server.")
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help=", ".join(BY_NAME))
    names: list[str] = parser.parse_args(arguments).metrics
    if unknown := sorted(set(names) - set(BY_NAME)):
        parser.error(f"unknown metric {unknown[0]!r}; known: {', '.join(BY_NAME)}")
    signal.signal(signal.SIGTERM, _leave)
    figures: dict[str, Figure] = {}
    failed = False
    progress = Console(stderr=True)
    for measure in measures_for(names or [metric.name for metric in METRICS]):
        promised = [metric.name for metric in METRICS if metric.measure is measure]
        what = ", ".join(promised)
        with progress.status(f"Measuring {what}"):
            try:
                measured = measure()
                figures |= {name: measured[name] for name in promised}
            except Exception:  # top-level handler: the other figures are worth having
                failed = True
                progress.print_exception()
                progress.print(f"[red]Not measured:[/] {what}")
    Console(width=150).print(table_of(figures))
    write_results(RESULTS, figures)
    return int(failed)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Close whatever is open, so that a killed bench leaves no agents either."""
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
