"""Analytics from months of counters: totals, groups, averages, efficiency. Pure.

Money is whole microcredits throughout. What is divided is rounded half up to a whole number where it is an amount, a
count or a duration, and to 6 decimal places where it is a share; where there is nothing to divide by, it is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from concierge.credits.usage.cells import FIELDS, Cells, merge

GroupBy = Literal["day", "model", "kind"]

_SHARE_STEPS = 1_000_000
_TOKENS = 1_000


@dataclass(frozen=True, slots=True)
class Period:
    """Days (UTC), both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


def report(months: Mapping[str, Cells], period: Period, group_by: GroupBy) -> dict[str, Any]:
    """`{totals, groups}`: counters with what is derived from them; groups in the order of their keys, those without
    any request left out."""
    totals: dict[str, int] = {}
    groups: dict[str, dict[str, int]] = {}
    for month, cells in months.items():
        for (day, kind, model), counters in cells.items():
            at = _date_of(month, day)
            if at is None or at not in period:
                continue
            merge(totals, counters)
            key = {"day": at.isoformat(), "kind": kind, "model": model}[group_by]
            merge(groups.setdefault(key, {}), counters)
    return {
        "totals": described(totals),
        "groups": [{"key": key, **described(groups[key])} for key in sorted(groups)],
    }


def daily_costs(months: Mapping[str, Cells], period: Period) -> dict[date, int]:
    """Microcredits of each day in the period on which anything was charged."""
    costs: dict[date, int] = {}
    for month, cells in months.items():
        for (day, _, _), counters in cells.items():
            at, cost = _date_of(month, day), counters.get("costMicrocredits", 0)
            if at is not None and at in period and cost:
                costs[at] = costs.get(at, 0) + cost
    return costs


def last_days(today: date, count: int) -> Period:
    """So many days that end today."""
    return Period(today - timedelta(days=count - 1), today)


def described(counters: Mapping[str, int]) -> dict[str, Any]:
    """All counters, 0 where nothing was counted; averages for a request, and how efficient that was."""
    shown = {name: counters.get(name, 0) for name in FIELDS}
    requests = shown["requests"]
    return {
        **shown,
        "averages": {
            "costMicrocredits": divided(shown["costMicrocredits"], requests),
            "inputTokens": divided(shown["inputTokens"], requests),
            "outputTokens": divided(shown["outputTokens"], requests),
            "durationMs": divided(shown["durationMs"], requests),
        },
        "efficiency": {
            "costMicrocreditsPer1000OutputTokens": divided(shown["costMicrocredits"] * _TOKENS, shown["outputTokens"]),
            "cancelledShare": share(shown["cancelled"], requests),
            "failedShare": share(shown["failed"] + shown["expired"], requests),
        },
    }


def divided(amount: int, by: int) -> int | None:
    """Rounded half up, in whole numbers throughout; None for nothing to divide by."""
    return (2 * amount + by) // (2 * by) if by > 0 else None


def share(part: int, whole: int) -> float | None:
    """A share of 0..1 to 6 decimal places, rounded half up."""
    steps = divided(part * _SHARE_STEPS, whole)
    return steps / _SHARE_STEPS if steps is not None else None


def _date_of(month: str, day: str) -> date | None:
    """None for a name that is no date: anybody with the console can write anything."""
    try:
        return date.fromisoformat(f"{month}-{day}")
    except ValueError:
        return None
