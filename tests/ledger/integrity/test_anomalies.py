"""Anomalies, pure: each is told by the entry that goes beyond its threshold, once a day."""

from typing import Any

import pytest

from concierge.ledger.integrity.anomalies import Thresholds, observe

THRESHOLDS = Thresholds(credit_max=1_000, adjustments_max=2, credits_max=3, burn_factor=10, burn_min=500)


def entry(seq: int, kind: str, amount: int, *, day: int = 1, counter: str = "c", posted: int = 0) -> dict[str, Any]:
    at = f"2026-01-{day:02d}T10:00:00.000Z"
    return {"seq": seq, "kind": kind, "amount": amount, "counter": counter, "postedAfter": posted, "at": at}


def codes(entries: list[dict[str, Any]], habits: dict[str, Any] | None = None) -> list[tuple[int, str]]:
    return [(anomaly.seq, anomaly.code) for anomaly in observe(habits or {}, entries, THRESHOLDS)[1]]


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [
        ("grant", 1_000, []),
        ("grant", 1_001, [(1, "LARGE_CREDIT")]),
        ("purchase", 1_001, [(1, "LARGE_CREDIT")]),
        ("refund", 1_001, [(1, "LARGE_CREDIT")]),
        ("adjust", -1_001, [(1, "LARGE_CREDIT")]),
        ("capture", 5_000, []),
        ("hold", 5_000, []),
    ],
)
def test_a_large_credit(kind: str, amount: int, expected: list[tuple[int, str]]) -> None:
    assert codes([entry(1, kind, amount)]) == expected


def test_many_adjustments_of_one_day() -> None:
    day = [entry(seq, "adjust", 1) for seq in range(1, 6)]
    assert codes(day) == [(3, "MANY_ADJUSTMENTS")]
    assert codes([entry(seq, "adjust", 1, day=seq) for seq in range(1, 6)]) == []
    assert codes([entry(seq, "adjust", 0, counter="control:freeze") for seq in range(1, 6)]) == []


def test_many_grants_and_refunds_of_one_day() -> None:
    assert codes([entry(seq, ("grant", "refund")[seq % 2], 1) for seq in range(1, 8)]) == [(4, "MANY_CREDITS")]
    assert codes([entry(seq, "purchase", 1) for seq in range(1, 8)]) == []


def test_counts_go_on_over_several_runs() -> None:
    habits: dict[str, Any] = {}
    found = []
    for seq in range(1, 6):
        habits, anomalies = observe(habits, [entry(seq, "adjust", 1)], THRESHOLDS)
        found += [(anomaly.seq, anomaly.code) for anomaly in anomalies]
    assert found == [(3, "MANY_ADJUSTMENTS")]


def test_debt_is_told_when_it_begins() -> None:
    entries = [entry(1, "clawback", 5, posted=-5), entry(2, "clawback", 5, posted=-10), entry(3, "grant", 10)]
    assert codes([*entries, entry(4, "clawback", 1, posted=-1)]) == [(1, "DEBT"), (4, "DEBT")]


def test_spending_many_times_the_usual() -> None:
    usual = [entry(day, "capture", 100, day=day) for day in range(1, 5)]
    assert codes([*usual, entry(5, "capture", 1_000, day=5)]) == []
    high = [entry(5, "capture", 600, day=5), entry(6, "capture", 401, day=5), entry(7, "capture", 400, day=5)]
    assert codes([*usual, *high]) == [(6, "UNUSUAL_BURN")]
    # Nobody has habits on the first days, and small sums are nobody's concern.
    assert codes([*usual[:2], entry(5, "capture", 9_000, day=5)]) == []
    assert codes([*(entry(day, "capture", 1, day=day) for day in range(1, 5)), entry(5, "capture", 500, day=5)]) == []
