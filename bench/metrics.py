"""The metrics: their bars, their floors, the original's figures, and what measures them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from bench import calls, deaths, drain, floors, jobs, limits, process, restart, workflows
from bench.figures import Figures

Measure: TypeAlias = Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit for one statistic of a metric; with *of*, times that metric's typical figure."""

    sign: Literal["≤", "≥"]
    limit: float
    of: str = ""
    statistic: str = ""  #: `p50`, `p99`, `max`; empty for a metric that is one value

    def __str__(self) -> str:
        limit = f"{self.limit:g}" + (f" x {self.of}" if self.of else "")
        return f"{self.statistic} {self.sign} {limit}".strip()

    def limit_in(self, figures: Figures) -> float | None:
        """The limit as a number; None when what it is relative to was not measured."""
        if not self.of:
            return self.limit
        return self.limit * figures[self.of].typical if self.of in figures else None

    def is_met(self, name: str, figures: Figures) -> bool | None:
        """Whether the figure of *name* keeps the bar; None when that cannot be said."""
        limit = self.limit_in(figures)
        if limit is None:
            return None
        measured = getattr(figures[name], self.statistic or "value")
        return measured <= limit if self.sign == "≤" else measured >= limit


@dataclass(frozen=True, slots=True)
class Metric:
    """One promised name."""

    name: str
    measure: Measure  #: gives it, together with others
    bars: tuple[Bar, ...] = ()
    floor: str = ""  #: the metric of the bare cost of the same work
    original: str = ""  #: what the system that this one replaces did


_CREATE = "create_20_per_s"

METRICS = (
    Metric(
        "dispatch_ms",
        jobs.measure,
        (Bar("≤", 60, statistic="p50"), Bar("≤", 250, statistic="p99")),
        "floor_process_start_ms",
        "854",
    ),
    Metric(
        "wake_ms",
        jobs.measure,
        (Bar("≤", 10, statistic="p50"), Bar("≤", 50, statistic="p99")),
        "floor_tool_1_ms",
        "1,032",
    ),
    Metric("fanout100_s", jobs.measure, (Bar("≤", 8),), "floor_fanout100_s", "200"),
    Metric(
        "status_1_ms",
        calls.measure_status,
        (Bar("≤", 2.5, statistic="p50"),),
        "floor_tool_1_ms",
        "1.1",
    ),
    Metric(
        "status_50_per_s",
        calls.measure_status,
        (Bar("≥", 600),),
        "floor_tool_50_per_s",
        "680 to 1,000",
    ),
    Metric(_CREATE, calls.measure_create, (Bar("≥", 400),), "floor_tool_50_per_s"),
    Metric(
        "create_20_at_10k_queued_per_s",
        calls.measure_create,
        (Bar("≥", 0.8, _CREATE),),
        "floor_tool_50_per_s",
    ),
    Metric(
        "create_20_at_100k_done_per_s",
        calls.measure_create,
        (Bar("≥", 0.8, _CREATE),),
        "floor_tool_50_per_s",
    ),
    Metric(
        "start_ms",
        process.measure_start,
        (Bar("≤", 1.25, "floor_import_ms", "p50"),),
        "floor_import_ms",
        "492",
    ),
    Metric("idle_rss_mib", process.measure_memory, (Bar("≤", 110),), "floor_import_rss_mib", "106"),
    Metric("waiting_200_rss_mib", process.measure_memory, (Bar("≤", 160),), "floor_import_rss_mib"),
    Metric(
        "idle_cpu_percent", process.measure_rest, (Bar("≤", 1),), "floor_idle_cpu_percent", "12.5"
    ),
    Metric(
        "loop_stall_ms",
        process.measure_stall,
        (Bar("≤", 100, statistic="max"),),
        "floor_stall_ms",
        "1,670",
    ),
    Metric("adopted_of_20", restart.measure, (Bar("≥", 20),), original="0"),
    Metric(
        "restart_ms",
        restart.measure,
        (Bar("≤", 500, statistic="max"),),
        "floor_import_ms",
    ),
    Metric("restart_200_ms", restart.measure_many, (Bar("≤", 2000, statistic="max"),)),
    Metric("death_told_ms", deaths.measure_death, (Bar("≤", 1000, statistic="p99"),)),
    Metric("shim_death_told_ms", deaths.measure_death, (Bar("≤", 1000, statistic="p99"),)),
    Metric(
        "death_restart_ms",
        deaths.measure_death,
        (Bar("≤", 1000, statistic="p99"),),
        "floor_process_start_ms",
    ),
    Metric("lost_resume_s", deaths.measure_loss, (Bar("≤", 5, statistic="max"),)),
    Metric(
        "refusal_moved_ms",
        limits.measure_move,
        (Bar("≤", 2000, statistic="p99"),),
        "floor_process_start_ms",
        "208,000",
    ),
    Metric("limit_storm_probes", limits.measure_storm, (Bar("≤", 1),)),
    Metric("limit_storm_s", limits.measure_storm, floor="floor_storm50_s"),
    Metric(
        "phase_follows_ms",
        workflows.measure,
        (Bar("≤", 1000, statistic="p99"),),
        "floor_process_start_ms",
    ),
    Metric("drain_ms", drain.measure, (Bar("≤", 2000, statistic="max"),)),
    Metric("drain_answered_of_50", drain.measure, (Bar("≥", 50),)),
    Metric("schema_bytes_agent", jobs.measure, (Bar("≤", 20 * 1024),)),
    Metric("idle_pss_mib", process.measure_memory),
    Metric("floor_route_1_ms", floors.measure_route),
    Metric("floor_route_50_per_s", floors.measure_route),
    Metric("floor_tool_1_ms", floors.measure_tool, floor="floor_route_1_ms"),
    Metric("floor_tool_50_per_s", floors.measure_tool, floor="floor_route_50_per_s"),
    Metric("floor_process_start_ms", floors.measure_process),
    Metric("floor_fanout100_s", floors.measure_process),
    Metric("floor_storm50_s", floors.measure_storm),
    Metric("floor_commits_per_s", floors.measure_commits),
    Metric("floor_import_ms", process.measure_start),
    Metric("floor_import_rss_mib", process.measure_start),
    Metric("floor_idle_cpu_percent", process.measure_rest),
    Metric("floor_stall_ms", process.measure_stall),
)
BY_NAME = MappingProxyType({metric.name: metric for metric in METRICS})


def measures_for(names: Sequence[str]) -> Sequence[Measure]:
    """What has to be measured for *names* and for all that they are compared with, each once."""
    wanted = [BY_NAME[name] for name in names]
    compared = [metric.floor for metric in wanted] + [bar.of for one in wanted for bar in one.bars]
    wanted += [BY_NAME[name] for name in compared if name]
    return tuple(dict.fromkeys(metric.measure for metric in wanted))
