"""The times at which schedules run."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.triggers import cron

START = "2026-01-31 23:58:30"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "after", "runs"),
    [
        ("* * * * *", None, START, ["2026-01-31 23:59", "2026-02-01 00:00"]),
        ("*/15 * * * *", None, START, ["2026-02-01 00:00", "2026-02-01 00:15"]),
        ("5/20 9-10 * * *", None, START, ["2026-02-01 09:05", "2026-02-01 09:25"]),
        ("0 9 * * mon-fri", None, START, ["2026-02-02 09:00", "2026-02-03 09:00"]),
        ("0 0 13 * 5", None, START, ["2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"]),
        ("0 0 * * 7", None, START, ["2026-02-01 00:00", "2026-02-08 00:00"]),
        ("0 0 29 feb *", None, START, ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("30 2 1,15 jan,jul *", None, START, ["2026-07-01 02:30", "2026-07-15 02:30"]),
        ("0 9 * * *", "America/New_York", "2026-03-07 14:00", ["2026-03-08 13:00", "2026-03-09 13:00"]),
        # 02:30 does not exist on March 8 in New York; 01:30 comes twice on November 1.
        ("30 2 * * *", "America/New_York", "2026-03-07 12:00", ["2026-03-09 06:30"]),
        ("30 1 * * *", "America/New_York", "2026-11-01 00:00", ["2026-11-01 05:30", "2026-11-02 06:30"]),
        ("30 * * * *", "America/New_York", "2026-11-01 05:00", ["2026-11-01 05:30", "2026-11-01 06:30"]),
        ("every 5 minutes", None, START, ["2026-02-01 00:00", "2026-02-01 00:05"]),
        ("every 1 minutes", None, START, ["2026-01-31 23:59"]),
        ("every minute", None, START, ["2026-01-31 23:59"]),
        ("every 1 hours", None, START, ["2026-02-01 00:00", "2026-02-01 01:00"]),
        ("every 24 hours", None, START, ["2026-02-01 00:00", "2026-02-02 00:00"]),
        ("every 12 hours synchronized", None, START, ["2026-02-01 00:00", "2026-02-01 12:00"]),
        ("every 7 minutes", None, "2026-02-01 00:00", ["2026-02-01 00:06", "2026-02-01 00:13"]),
        (
            "every 20 mins from 10:00 to 10:40",
            None,
            START,
            ["2026-02-01 10:00", "2026-02-01 10:20", "2026-02-01 10:40"],
        ),
        ("every day 00:30", "Europe/Berlin", START, ["2026-02-01 23:30"]),
        ("every monday 09:00", None, START, ["2026-02-02 09:00", "2026-02-09 09:00"]),
        ("every mon,wed 09:00", None, START, ["2026-02-02 09:00", "2026-02-04 09:00"]),
        ("1st,third monday of month 09:00", None, START, ["2026-02-02 09:00", "2026-02-16 09:00", "2026-03-02 09:00"]),
        ("2nd wednesday of jan,apr 10:30", None, START, ["2026-04-08 10:30", "2027-01-13 10:30"]),
        ("1,15 of month 00:00", None, START, ["2026-02-01 00:00", "2026-02-15 00:00"]),
    ],
)
def test_next_runs(text: str, zone: str | None, after: str, runs: list[str]) -> None:
    schedule, at = cron.parse(text, zone), moment(after)
    for run in runs:
        at = schedule.next_after(at)
        assert at == moment(run)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "every",
            "every 0 minutes",
            "every 5 parsecs",
            "every someday 10:00",
            "every day 25:00",
            "every day 1:2:3",
        ),
        *(
            "61 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "9-5 * * * *",
            "a * * * *",
        ),
        *("0 0 30 2 *", "0 0 * * xyz", "* * * *", "32 of month 00:00", "1st monday of nomonth 09:00"),
        "every 5 minutes from 10:00 to 09:00",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        cron.parse(text)


def test_an_unknown_time_zone() -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        cron.parse("* * * * *", "Nowhere/Land")


_fields = st.tuples(
    st.sampled_from(["*", "*/7", "0", "5,50"]),
    st.sampled_from(["*", "*/6", "3", "22-23"]),
    st.sampled_from(["*", "1", "28-31"]),
    st.sampled_from(["*", "2", "*/5"]),
    st.sampled_from(["*", "1-5", "sun"]),
)


@given(_fields, st.integers(1_600_000_000, 2_000_000_000), st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]))
def test_runs_are_strictly_later_whole_minutes_and_none_is_skipped(
    fields: tuple[str, ...], second: int, zone: str
) -> None:
    schedule = cron.parse(" ".join(fields), zone)
    start = datetime.fromtimestamp(second, UTC)
    first = schedule.next_after(start)
    assert first > start and (first.second, first.microsecond) == (0, 0)
    middle = start + (first - start) / 2
    assert schedule.next_after(middle) == first
    assert schedule.next_after(first) > first
