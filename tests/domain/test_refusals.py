"""Refusals: when they end, and for how long a CLI is left alone with one."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hurlicane_mcp.domain.failures import FailureKind
from hurlicane_mcp.domain.refusals import Patience, Refusal, WallTime

NOW = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
LIMITED = FailureKind.RATE_LIMIT


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # Dhaka is six hours ahead: 22:00 there now.
        (WallTime(time(1, 30), "Asia/Dhaka"), datetime(2026, 11, 24, 19, 30, tzinfo=UTC)),
        (WallTime(time(22, 0), "Asia/Dhaka"), datetime(2026, 11, 25, 16, 0, tzinfo=UTC)),
        (WallTime(time(17, 0), "America/Los_Angeles"), datetime(2026, 11, 25, 1, 0, tzinfo=UTC)),
        (WallTime(time(13, 0), "", 11, 28), datetime(2026, 11, 28, 13, 0, tzinfo=UTC)),
        (WallTime(time(9, 0), "", 11, 23), datetime(2027, 11, 23, 9, 0, tzinfo=UTC)),
        (WallTime(time(9, 0), "", 2, 29), datetime(2028, 2, 29, 9, 0, tzinfo=UTC)),
        (WallTime(time(17, 0), "Mars/Olympus"), datetime(2026, 11, 24, 17, 0, tzinfo=UTC)),
        (WallTime(time(17, 0), "../etc/passwd"), datetime(2026, 11, 24, 17, 0, tzinfo=UTC)),
    ],
)
def test_a_printed_time_is_the_next_such_moment_where_it_was_printed(
    moment: WallTime, expected: datetime
) -> None:
    assert moment.after(NOW) == expected


@given(
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(["", "Asia/Dhaka", "America/Los_Angeles", "Europe/Berlin", "?"]),
    now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
)
def test_it_is_always_later_and_at_most_a_day_away(
    hour: int, minute: int, zone: str, now: datetime
) -> None:
    moment = WallTime(time(hour, minute), zone).after(now)
    assert now < moment <= now + timedelta(hours=26)  # a day on which clocks go back is longer


def test_what_was_announced_to_end_in_the_past_announces_nothing() -> None:
    assert Refusal(LIMITED, "", resets_at=NOW - timedelta(1)).ends_at(NOW) is None
    assert Refusal(LIMITED, "", retry_after=timedelta(0)).ends_at(NOW) is None
    assert Refusal(LIMITED, "").ends_at(NOW) is None


def test_a_long_wait_of_the_cli_was_announced_by_the_provider() -> None:
    for waits_s, expected in ((25, NOW + timedelta(seconds=25)), (2, None)):
        waits = timedelta(seconds=waits_s)
        assert Refusal(LIMITED, "", is_final=False, cli_waits=waits).ends_at(NOW) == expected


@pytest.mark.parametrize(
    ("waits_s", "refused_for_s", "is_left_alone"),
    [
        (0.5, 0, False),  # the CLI's own back-off: nobody announced it
        (2.1, 0, True),  # a Retry-After
        (20, 0, True),
        (21, 0, False),
        (3600, 0, False),
        (10, 20, True),  # 30 s in all
        (10, 21, False),
        (None, 0, True),  # it does not say: a while
        (None, 20, False),
    ],
)
def test_an_announced_wait_of_up_to_20_s_is_left_to_the_cli_and_30_s_in_all(
    waits_s: float | None, refused_for_s: float, is_left_alone: bool
) -> None:
    waits = timedelta(seconds=waits_s) if waits_s is not None else None
    refusal = Refusal(LIMITED, "", is_final=False, cli_waits=waits)
    since = NOW - timedelta(seconds=refused_for_s)
    assert Patience().covers(refusal, since, NOW) is is_left_alone


def test_a_final_refusal_is_never_waited_for() -> None:
    assert not Patience().covers(Refusal(LIMITED, "", cli_waits=timedelta(seconds=2)), NOW, NOW)
