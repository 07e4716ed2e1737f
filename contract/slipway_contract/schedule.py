"""Cron schedules with the syntax of Kubernetes: five fields, or a named schedule.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
"""

import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo

NAMED = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_PART = re.compile(r"(\*|\?|(?P<first>\w+)(-(?P<last>\w+))?)(/(?P<step>[0-9]+))?")


def check_schedule(schedule: str) -> None:
    """Raise ValueError for a text that is not a schedule, with the field that is invalid."""
    if schedule in NAMED:
        return
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{schedule!r:.80} does not have five fields; write minute, hour, day of the month, "
            "month and day of the week, such as '0 4 * * 1'"
        )
    for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _is_valid(part, least, most, names):
                raise ValueError(
                    f"{part!r:.40} is no {name}; write *, a number of {least} to {most}, a "
                    "range such as 1-5, or a step such as */2"
                )


def _is_valid(part: str, least: int, most: int, names: Mapping[str, int]) -> bool:
    found = _PART.fullmatch(part)
    if not found or found["step"] == "0" or len(found["step"] or "") > 2:
        return False
    bounds = [_number(text, names) for text in (found["first"], found["last"]) if text]
    return all(least <= each <= most for each in bounds) and bounds == sorted(bounds)


def _number(text: str, names: Mapping[str, int]) -> int:
    """Return the number of a text or a name; -1, which no field has, for others."""
    return int(text) if re.fullmatch("[0-9]{1,2}", text) else names.get(text.lower(), -1)


def check_time_zone(name: str) -> None:
    """Raise ValueError for a name that is not in the IANA time zone database."""
    try:
        ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError(
            f"{name!r:.80} is not a time zone; write an IANA name, such as Europe/Berlin"
        ) from None
