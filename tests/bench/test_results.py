"""What `make bench` promises of its results, whatever the figures are."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.__main__ import main
from bench.figures import Distribution, Figure, Value, write_results
from bench.metrics import BY_NAME, METRICS, Bar
from bench.table import table_of
from bench.wire import is_whole

PROMISED = frozenset(
    {
        "dispatch_ms",
        "wake_ms",
        "fanout100_s",
        "status_1_ms",
        "status_50_per_s",
        "create_20_per_s",
        "create_20_at_10k_queued_per_s",
        "create_20_at_100k_done_per_s",
        "start_ms",
        "idle_rss_mib",
        "waiting_200_rss_mib",
        "idle_cpu_percent",
        "loop_stall_ms",
        "adopted_of_20",
        "restart_ms",
        "restart_200_ms",
        "death_told_ms",
        "shim_death_told_ms",
        "death_restart_ms",
        "lost_resume_s",
        "refusal_moved_ms",
        "limit_storm_probes",
        "limit_storm_s",
        "phase_follows_ms",
        "drain_ms",
        "drain_answered_of_50",
        "schema_bytes_agent",
        "floor_import_ms",
    }
)


def test_every_promised_metric_is_measured() -> None:
    assert set(BY_NAME) >= PROMISED


def test_every_floor_and_every_limit_names_a_metric() -> None:
    named = {metric.floor for metric in METRICS if metric.floor}
    named |= {bar.of for metric in METRICS for bar in metric.bars if bar.of}
    assert named <= set(BY_NAME)


def test_a_distribution_consists_of_values_that_were_measured() -> None:
    figure = Distribution.of([float(one) for one in range(200, 0, -1)])
    assert figure == Distribution(n=200, p50=100, p95=190, p99=198, max=200)


def test_results_have_the_promised_shapes(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, {"wake_ms": Distribution.of([1.0, 2.0]), "fanout100_s": Value.of(2.5)})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "wake_ms": {"n": 2, "p50": 1.0, "p95": 2.0, "p99": 2.0, "max": 2.0},
        "fanout100_s": {"value": 2.5},
    }


def test_the_table_judges_each_metric_by_its_bars_and_its_floor() -> None:
    figures: dict[str, Figure] = {
        "start_ms": Distribution.of([300.0]),
        "floor_import_ms": Distribution.of([200.0]),
        "fanout100_s": Value.of(2.5),
    }
    console = Console(width=200, record=True)
    console.print(table_of(figures))
    rows = {line.split()[1]: line for line in console.export_text().splitlines() if "│" in line}
    assert "missed" in rows["start_ms"]
    assert "1.50" in rows["start_ms"]
    assert "met" in rows["fanout100_s"]


def test_a_bar_that_is_relative_to_nothing_measured_is_not_judged() -> None:
    bar = Bar("≥", 0.8, of="create_20_per_s")
    assert bar.is_met("fanout100_s", {"fanout100_s": Value.of(2.5)}) is None


def test_an_unknown_metric_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["dispatch"])
    assert left.value.code == 2
    assert "unknown metric 'dispatch'; known: dispatch_ms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", False, id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", False, id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True, id="a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n4\r\nab\r\n\r\n", False, id="a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n4\r\nab\r\n\r\n0\r\n\r\n", True, id="all chunks"),
    ],
)
def test_an_answer_is_whole_when_its_last_byte_is_there(data: bytes, whole: bool) -> None:
    assert is_whole(data) is whole
