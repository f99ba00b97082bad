"""When a schedule runs next: unix-cron (`*/5 9-17 * * mon-fri`) and App Engine syntax (`every 5 minutes`). Pure.

Sources: crontab(5) and https://cloud.google.com/appengine/docs/standard/scheduling-jobs-with-cron-yaml#custom_interval
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MINUTES_PER_DAY = 24 * 60
# February 29 may be eight years away, around a century that is no leap year.
_DAYS_AHEAD_MAX = 366 * 8 + 2

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


class Schedule(Protocol):
    def next_after(self, moment: datetime) -> datetime:
        """The first run after a moment, in UTC."""


@dataclass(frozen=True, slots=True)
class CalendarSchedule:
    """Runs at certain minutes of certain days, by the wall clock of a time zone."""

    runs_on: Callable[[date], bool]
    minutes_of_day: tuple[int, ...]
    zone: ZoneInfo
    repeats_hour: bool = False
    """True if it runs in every hour: then it also runs in the second pass of an hour that the clock goes back over."""

    def next_after(self, moment: datetime) -> datetime:
        """Raises ValueError if there is no such day, like February 30."""
        first = moment.astimezone(self.zone).date()
        for offset in range(_DAYS_AHEAD_MAX):
            day = first + timedelta(days=offset)
            if self.runs_on(day):
                later = [run for run in self._runs(day) if run > moment]
                if later:
                    return min(later)
        raise ValueError("this schedule never runs")

    def _runs(self, day: date) -> Iterator[datetime]:
        for minute in self.minutes_of_day:
            local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self.zone)
            run = local.astimezone(UTC)
            if run.astimezone(self.zone).replace(tzinfo=None) != local.replace(tzinfo=None):
                continue  # The clock jumps over this time today.
            yield run
            if self.repeats_hour:
                yield local.replace(fold=1).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class PeriodSchedule:
    """Runs each `minutes`, counted from the epoch, for periods that do not divide a day."""

    minutes: int

    def next_after(self, moment: datetime) -> datetime:
        period = self.minutes * 60
        return datetime.fromtimestamp((int(moment.timestamp()) // period + 1) * period, UTC)


def parse(text: str, time_zone: str | None = None) -> Schedule:
    """Parses a schedule. Raises ValueError for one that cannot be understood or never runs."""
    try:
        zone = ZoneInfo(time_zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {time_zone!r}") from error
    words = text.strip().lower().split()
    schedule: Schedule
    try:
        is_cron = len(words) == 5 and re.fullmatch(r"[\d*,/-]+", words[0]) is not None and words[1] != "of"
        schedule = _cron(words, zone) if is_cron else _app_engine(words, zone)
    except ValueError as error:
        raise ValueError(f"cannot read the schedule {text!r}: {error}") from error
    schedule.next_after(datetime.now(UTC))
    return schedule


def _cron(fields: list[str], zone: ZoneInfo) -> CalendarSchedule:
    minutes = _cron_field(fields[0], 0, 59)
    hours = _cron_field(fields[1], 0, 23)
    days = _cron_field(fields[2], 1, 31)
    months = _cron_field(fields[3], 1, 12, _MONTHS)
    weekdays = {value % 7 for value in _cron_field(fields[4], 0, 7, _WEEKDAYS)}
    any_day, any_weekday = fields[2].startswith("*"), fields[4].startswith("*")

    def runs_on(day: date) -> bool:
        if day.month not in months:
            return False
        in_days, in_weekdays = day.day in days, day.isoweekday() % 7 in weekdays
        # Two restricted day fields mean either of them.
        return (in_days and in_weekdays) if any_day or any_weekday else (in_days or in_weekdays)

    minutes_of_day = tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes))
    return CalendarSchedule(runs_on, minutes_of_day, zone, repeats_hour=len(hours) == 24)


def _cron_field(field: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if slash else 1
        if span == "*":
            low, high = lowest, highest
        else:
            low_text, dash, high_text = span.partition("-")
            low = _cron_value(low_text, lowest, names)
            high = _cron_value(high_text, lowest, names) if dash else (highest if slash else low)
        if step < 1 or not lowest <= low <= high <= highest:
            raise ValueError(f"{part!r} is not within {lowest}-{highest}")
        values.update(range(low, high + 1, step))
    return values


def _cron_value(text: str, lowest: int, names: tuple[str, ...]) -> int:
    if names and text[:3].isalpha():
        return _named(text, names) + lowest
    return int(text)


def _named(text: str, names: tuple[str, ...]) -> int:
    """The index of a name that may be cut to three letters or more."""
    for index, name in enumerate(names):
        if len(text) >= 3 and name.startswith(text):
            return index
    raise ValueError(f"{text!r} is none of {', '.join(names)}")


def _app_engine(words: list[str], zone: ZoneInfo) -> Schedule:
    if words[:1] == ["every"] and len(words) > 1:
        number = words[1] if words[1].isdecimal() else "1"
        unit = words[2] if words[1].isdecimal() and len(words) > 2 else words[1]
        if (minutes := _unit_minutes(unit)) is not None:
            rest = words[3:] if words[1].isdecimal() else words[2:]
            return _every(int(number) * minutes, rest, zone)
        return CalendarSchedule(_weekday_test(words[1]), (_time(words[2:]),), zone)
    if "of" in words:
        return _days_of_months(words, zone)
    raise ValueError("neither five cron fields nor `every ...` nor `... of ...`")


def _unit_minutes(unit: str) -> int | None:
    if unit in ("minute", "minutes", "min", "mins"):
        return 1
    return 60 if unit in ("hour", "hours") else None


def _every(minutes: int, rest: list[str], zone: ZoneInfo) -> Schedule:
    if minutes < 1:
        raise ValueError("the period must be positive")
    first, last = 0, _MINUTES_PER_DAY - 1
    if len(rest) == 4 and rest[0] == "from" and rest[2] == "to":
        first, last = _time(rest[1:2]), _time(rest[3:4])
        if last < first:
            raise ValueError("the window must not span midnight")
    elif rest not in ([], ["synchronized"]):
        raise ValueError(f"unknown words {' '.join(rest)!r}")
    elif _MINUTES_PER_DAY % minutes:
        return PeriodSchedule(minutes)
    return CalendarSchedule(lambda _: True, tuple(range(first, last + 1, minutes)), zone, repeats_hour=minutes <= 60)


def _weekday_test(text: str) -> Callable[[date], bool]:
    if text == "day":
        return lambda _: True
    weekdays = {_named(name, _WEEKDAYS) for name in text.split(",")}
    return lambda day: day.isoweekday() % 7 in weekdays


def _days_of_months(words: list[str], zone: ZoneInfo) -> CalendarSchedule:
    """`1st,third monday of month 09:00`, `2nd wednesday of jan,apr 10:30`, `1,15 of month 00:00`."""
    position = words.index("of")
    left, right = words[:position], words[position + 1 :]
    if not 1 <= len(left) <= 2 or not right:
        raise ValueError("expected `<days> of <months> <time>`")
    numbers = {_ordinal(text) for text in left[0].split(",")}
    of_weekday = _weekday_test(left[1]) if len(left) == 2 and left[1] != "day" else None
    every_month = right[0] in ("month", "months")
    months = set(range(12)) if every_month else {_named(name, _MONTHS) for name in right[0].split(",")}

    def runs_on(day: date) -> bool:
        if day.month - 1 not in months:
            return False
        if of_weekday is None:
            return day.day in numbers
        return of_weekday(day) and (day.day - 1) // 7 + 1 in numbers

    return CalendarSchedule(runs_on, (_time(right[1:]),), zone)


def _ordinal(text: str) -> int:
    if text in _ORDINALS:
        return _ORDINALS.index(text) + 1
    match = re.fullmatch(r"(\d+)(st|nd|rd|th)?", text)
    if match is None or not 1 <= int(match[1]) <= 31:
        raise ValueError(f"{text!r} is no day of a month")
    return int(match[1])


def _time(words: list[str]) -> int:
    """Minutes since midnight of [`HH:MM`]; midnight if nothing is said."""
    if not words:
        return 0
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", words[0])
    if match is None or len(words) > 1 or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError(f"{' '.join(words)!r} is no time of day")
    return int(match[1]) * 60 + int(match[2])
