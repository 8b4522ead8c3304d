"""A thousand jobs under kills and freezes: none is lost, none ends twice, no two lives overlap."""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.chaos.checker import violations
from tests.chaos.run import Report, Run, Size

JOBS_PER_KILL = 5
JOBS_PER_FREEZE = 50
SHOWN = 40


def _asked(name: str, default: float) -> float:
    return float(os.environ.get(f"CHAOS_{name}") or default)


JOBS = int(_asked("JOBS", 1000))
SECONDS = _asked("SECONDS", 1500)
SEED = int(_asked("SEED", SystemRandom().randrange(10**6)))


@pytest.mark.anyio
@pytest.mark.chaos
@pytest.mark.timeout(SECONDS + 240)
async def test_nothing_is_lost_under_kills_and_freezes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    size = Size(JOBS, JOBS // JOBS_PER_KILL or 1, JOBS // JOBS_PER_FREEZE or 1, SECONDS)
    report = await Run(tmp_path, SEED, size).whole()
    log = capfd.readouterr().err
    wrong = list(violations(report.record))
    if "Traceback" in log:
        wrong.append(f"the server logged a fault: {log[log.index('Traceback') :][:3000]}")
    with capfd.disabled():
        print(f"\n{_summary(report)}")  # noqa: T201  (the run's figures are its product)
    (tmp_path / "server.log").write_text(log)
    again = f"make chaos SEED={SEED} JOBS={JOBS} SECONDS={SECONDS:.0f}"
    shown = "\n".join(wrong[:SHOWN])
    assert not wrong, f"{len(wrong)} violations; again with: {again} (see {tmp_path})\n{shown}"
    if report.took_s < SECONDS:  # else time was up, and all that happened has been judged
        assert report.kills >= size.kills
        assert report.freezes >= size.freezes


def _summary(report: Report) -> str:
    ends = [
        event.kind for event in report.record.of_kind("job.done", "job.failed", "job.cancelled")
    ]
    attempts = sum(1 for _ in report.record.of_kind("job.running"))
    counted = {kind: ends.count(kind) for kind in sorted(set(ends))}
    return (
        f"seed {SEED}: {len(ends)} jobs {counted}, {attempts} attempts in {report.took_s:.0f} s; "
        f"{report.kills} kills, {report.freezes} freezes: {dict(report.faults)}; "
        f"{report.restarts} times `serve` anew, exits of its own: {list(report.unasked)}"
    )
