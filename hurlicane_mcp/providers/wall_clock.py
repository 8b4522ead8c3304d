"""Times of day as the CLIs print them: in the zone of the machine that they run on."""

import os
import time
from datetime import date, datetime
from datetime import time as TimeOfDay
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCALTIME: Final = Path("/etc/localtime")
MONTHS: Final = MappingProxyType(
    {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6}
    | {"jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}
)


def local_zone() -> str:
    """The IANA name of this machine's zone; one of a fixed offset, or empty, if it has no name.

    The agents' environment is the server's own, so they print their times in this zone as well.
    """
    named = os.environ.get("TZ", "").removeprefix(":")
    linked = str(LOCALTIME.resolve()).rpartition("zoneinfo/")[2]
    hours, rest = divmod(time.localtime().tm_gmtoff, 3600)
    fixed = "" if rest else f"Etc/GMT{-hours:+d}"  # POSIX counts from the other side
    return next((name for name in (named, linked, fixed) if name and _exists(name)), "")


def time_of_day(hour: str, minute: str | None, half: str) -> TimeOfDay | None:
    """The time that `11`, `22`, `PM` or `1`, None, `am` name; None if there is no such time."""
    number, minutes = int(hour), int(minute or 0)
    if not 1 <= number <= 12 or minutes > 59:
        return None
    return TimeOfDay(number % 12 + (12 if half.lower() == "pm" else 0), minutes)


def local_moment(year: int, month: int, day: int, at: TimeOfDay) -> datetime | None:
    """That moment in this machine's zone, with its offset; None if there is no such day."""
    try:
        return datetime.combine(date(year, month, day), at).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
