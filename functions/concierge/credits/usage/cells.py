"""Counters by (day, kind, model), as a month's document nests them: `{days: {"07": {chat: {model: {requests: 3}}}}}`.

Pure. Counters are whole numbers; what is no number (anybody with the console can write anything) is taken for absent,
and shows when costs are compared with the ledger.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

FIELDS = (
    "requests",
    "done",
    "cancelled",
    "failed",
    "expired",
    "inputTokens",
    "cachedInputTokens",
    "outputTokens",
    "images",
    "costMicrocredits",
    "durationMs",
)
"""What is counted. `requests` is the sum of the four ends after it; tokens, images and cost are of what was charged."""

COST = "costMicrocredits"

Place = tuple[str, str, str]
Cells = dict[Place, dict[str, int]]
"""Counters by place: the day of the month in two digits, the kind of task, the model."""


def month_of(day: date | datetime) -> str:
    return day.isoformat()[:7]


def months_between(first: date, last: date) -> list[str]:
    """The months from that of `first` to that of `last`, both included."""
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in numbers]


def from_document(document: Mapping[str, Any] | None) -> Cells:
    """The counters of a month's document; none for no document."""
    cells: Cells = {}
    for day, kinds in _children((document or {}).get("days")):
        for kind, models in _children(kinds):
            for model, counters in _children(models):
                known = {name: value for name, value in _children(counters) if type(value) is int and name in FIELDS}
                if known:
                    cells[day, kind, model] = known
    return cells


def to_document(cells: Cells) -> dict[str, Any]:
    days: dict[str, Any] = {}
    for (day, kind, model), counters in cells.items():
        days.setdefault(day, {}).setdefault(kind, {})[model] = dict(counters)
    return {"days": days}


def difference(now: Cells, before: Cells) -> Cells:
    """What has to be added to `before` to make it `now`; places and counters without any change are left out."""
    result: Cells = {}
    for place in now.keys() | before.keys():
        new, old = now.get(place, {}), before.get(place, {})
        changes = {name: new.get(name, 0) - old.get(name, 0) for name in new.keys() | old.keys()}
        if changed := {name: change for name, change in changes.items() if change}:
            result[place] = changed
    return result


def added(base: Cells, *others: Cells) -> Cells:
    """The sum of all; counters that come to 0 are left out."""
    result = {place: dict(counters) for place, counters in base.items()}
    for other in others:
        for place, counters in other.items():
            merge(result.setdefault(place, {}), counters)
    return {
        place: kept
        for place, counters in result.items()
        if (kept := {name: value for name, value in counters.items() if value})
    }


def merge(into: dict[str, int], counters: Mapping[str, int]) -> None:
    for name, value in counters.items():
        into[name] = into.get(name, 0) + value


def cost_of(months: Iterable[Cells]) -> int:
    """Microcredits."""
    return sum(counters.get(COST, 0) for cells in months for counters in cells.values())


def size_of(cells: Cells) -> int:
    """How many counters there are."""
    return sum(len(counters) for counters in cells.values())


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    yield from node.items() if isinstance(node, Mapping) else ()
