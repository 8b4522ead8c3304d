"""The table that `make bench` prints."""

from rich.table import Table

from bench.figures import Distribution, Figure, Figures
from bench.metrics import METRICS, Metric


def table_of(figures: Figures) -> Table:
    """One row for each metric of *figures*."""
    table = Table("metric", title="hurlicane bench", caption="Each floor is of the same run.")
    for heading in ("n", "p50", "p95", "p99", "max | value"):
        table.add_column(heading, justify="right")
    table.add_column("bar")
    table.add_column("met")
    table.add_column("of floor", justify="right")
    table.add_column("original", justify="right")
    for metric in METRICS:
        if metric.name in figures:
            table.add_row(metric.name, *_figure(figures[metric.name]), *_judged(metric, figures))
    return table


def _figure(figure: Figure) -> tuple[str, ...]:
    if isinstance(figure, Distribution):
        shown = (figure.p50, figure.p95, figure.p99, figure.max)
        return (str(figure.n), *(f"{one:,.1f}" for one in shown))
    return ("", "", "", "", f"{figure.value:,.1f}")


def _judged(metric: Metric, figures: Figures) -> tuple[str, ...]:
    words = {True: "[green]met[/]", False: "[red]missed[/]", None: "?"}
    met = (words[bar.is_met(metric.name, figures)] for bar in metric.bars)
    ratio = ""
    if metric.floor in figures and (floor := figures[metric.floor].typical):
        ratio = f"{figures[metric.name].typical / floor:.2f}"
    bars = "\n".join(str(bar) for bar in metric.bars)
    return (bars, "\n".join(met), ratio, metric.original)
