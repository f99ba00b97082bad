"""Counters, reconciliation and analytics, without any storage."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.credits.usage import cells
from concierge.credits.usage.analytics import Period, daily_costs, described, divided, last_days, report, share
from concierge.credits.usage.reconciliation import Account, given_back, moved_on, opened, revenue_of
from concierge.credits.usage.recorder import End, counters_of, field_name
from concierge.kit.canonical import canonical_bytes
from concierge.ledger.appender import Appended
from concierge.ledger.entries import StoredEntry
from concierge.ledger.repository import Hold, Work
from concierge.ledger.transfers import Head, Movement, posted_change

NOW = datetime(2030, 5, 7, 12, tzinfo=UTC)

names = st.text(min_size=1, max_size=5)
days = st.integers(1, 28).map(lambda day: f"{day:02d}")
counters = st.dictionaries(st.sampled_from(cells.FIELDS), st.integers(1, 10**12), min_size=1)
tables = st.dictionaries(st.tuples(days, st.sampled_from(["chat", "image"]), names), counters, max_size=6)


@given(tables)
def test_a_document_holds_what_was_put_into_it(table: cells.Cells) -> None:
    assert cells.from_document(cells.to_document(table)) == table


@given(tables, tables)
def test_a_difference_makes_the_one_of_the_other(now: cells.Cells, before: cells.Cells) -> None:
    change = cells.difference(now, before)
    assert cells.added(before, change) == now
    assert cells.cost_of([now]) == cells.cost_of([before]) + cells.cost_of([change])
    assert cells.difference(now, now) == {}


@given(st.lists(tables, max_size=5), st.data())
def test_any_order_and_grouping_of_changes_comes_to_the_same(versions: list[cells.Cells], data: Any) -> None:
    """What a roll-up adds, in however many runs: the last version, once."""
    overall: cells.Cells = {}
    rolled: cells.Cells = {}
    for version in versions:
        if data.draw(st.booleans()):
            overall = cells.added(overall, cells.difference(version, rolled))
            rolled = version
    assert overall == rolled


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"days": None},
        {"days": [1]},
        {"days": {"01": 3}},
        {"days": {"01": {"chat": {"m": {"requests": "3"}}}}},
    ],
)
def test_what_is_no_counter_is_none(document: Any) -> None:
    assert cells.from_document(document) == {}


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 1_000))
def test_months_between_are_those_of_all_days(first: date, count: int) -> None:
    last = first + timedelta(days=count)
    wanted = sorted({cells.month_of(first + timedelta(days=each)) for each in range(count + 1)})
    assert cells.months_between(first, last) == wanted


def test_the_last_month_of_all_time() -> None:
    assert cells.months_between(date(9999, 11, 30), date(9999, 12, 31)) == ["9999-11", "9999-12"]


# Counting one end.


ASKED = Work("chat", "asked")


def appended(kind: Any, amount: int, *, run_id: str = "r", work: Work | None = ASKED) -> Appended:
    hold = Hold("h", "u", "held", "x", run_id, 1_000, NOW - timedelta(seconds=3), NOW, work=work)
    return Appended("u", Movement(kind, amount, "revenue:chat", 0, 0), 2, NOW, hold)


def test_tokens_and_cost_are_counted_of_what_was_charged() -> None:
    end = End("cancelled", "answered", input_tokens=9, cached_input_tokens=4, output_tokens=5, images=1)
    assert counters_of(appended("capture", 77), end) == (
        "chat",
        "answered",
        {
            "requests": 1,
            "cancelled": 1,
            "inputTokens": 9,
            "cachedInputTokens": 4,
            "outputTokens": 5,
            "images": 1,
            "costMicrocredits": 77,
            "durationMs": 3_000,
        },
    )
    free = {"requests": 1, "cancelled": 1, "durationMs": 3_000}
    assert counters_of(appended("release", 1_000), end) == ("chat", "answered", free)
    expired = {"requests": 1, "expired": 1, "durationMs": 3_000}
    assert counters_of(appended("expire", 1_000), end) == ("chat", "answered", expired)


def test_what_did_not_answer_is_counted_for_who_was_asked() -> None:
    assert counters_of(appended("release", 1), End("failed"))[:2] == ("chat", "asked")  # type: ignore[index]
    assert counters_of(appended("release", 1, work=None), End("failed"))[:2] == ("chat", "unknown")  # type: ignore[index]
    image = counters_of(appended("release", 1, work=Work("image", "m")), End("failed"))
    assert image is not None and image[:2] == ("image", "m")


def test_what_is_no_request_is_not_counted() -> None:
    assert counters_of(appended("release", 1, run_id="api"), End("failed")) is None
    grant = Appended("u", Movement("grant", 5, "expense:bonus", 5, 0), 1, NOW)
    assert counters_of(grant, End("done")) is None


@pytest.mark.parametrize(("name", "field"), [("__a__", "~__a__"), ("____", "~____"), ("_a_", "_a_"), ("a.b", "a.b")])
def test_reserved_names_are_no_fields(name: str, field: str) -> None:
    assert field_name(name) == field


# Reconciling.


def entry(kind: str, amount: int, counter: str) -> StoredEntry:
    return StoredEntry(canonical_bytes({"kind": kind, "amount": amount, "counter": counter}), "", "", b"", 1)


movements = st.lists(
    st.tuples(
        st.sampled_from(["capture", "refund", "adjust", "clawback", "grant", "hold"]),
        st.integers(1, 10**9),
        st.sampled_from(["revenue:chat", "revenue:image", "expense:bonus"]),
    ),
    max_size=12,
)


@given(movements, st.integers(0, 10**9), st.integers(0, 12))
def test_costs_reconcile_whatever_was_given_back(
    history: Sequence[tuple[str, int, str]], opening: int, looked_after: int
) -> None:
    """However the entries are split between two looks, the costs of captures are what the ledger says; and not when
    one microcredit is missing."""
    sums = {"revenue:chat": opening, "revenue:image": 0, "expense:bonus": 0}
    account = opened(Head(seq=1, counters=dict(sums)), 0)
    assert account.difference == 0
    for part in (history[:looked_after], history[looked_after:]):
        cost = 0
        for kind, amount, counter in part:
            sums[counter] -= posted_change(kind, amount)
            cost += amount if kind == "capture" and counter.startswith("revenue:") else 0
        head = Head(seq=account.seq + len(part), counters=dict(sums))
        returned = given_back(entry(*each) for each in part)
        moved = moved_on(account, head, cost)
        account = Account(moved.seq, moved.cost, moved.revenue, account.given_back + returned, account.opening)
        assert account.difference == 0
        assert moved_on(account, head, -1).difference == -1
    assert account.expected == account.cost == revenue_of(head) + account.given_back - opening


# Asking.


@given(st.integers(0, 10**15), st.integers(1, 10**6))
def test_division_rounds_half_up(amount: int, by: int) -> None:
    assert divided(amount, by) == floor(Fraction(amount, by) + Fraction(1, 2))
    assert divided(amount, 0) is None


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_share_has_six_places(part: int, whole: int) -> None:
    found = share(min(part, whole), whole)
    assert found is not None and 0 <= found <= 1
    assert abs(found - min(part, whole) / whole) <= 0.000_000_501
    assert share(part, 0) is None


@given(tables, st.sampled_from(["day", "model", "kind"]))
def test_groups_add_up_to_the_totals(table: cells.Cells, group_by: Any) -> None:
    found = report({"2030-02": table}, Period(date(2030, 1, 1), date(2030, 12, 31)), group_by)
    for name in cells.FIELDS:
        assert sum(group[name] for group in found["groups"]) == found["totals"][name]
    keys = [group["key"] for group in found["groups"]]
    assert keys == sorted(set(keys))


@given(tables, st.dates(date(2030, 1, 20), date(2030, 3, 10)), st.integers(1, 40))
def test_only_the_period_counts(table: cells.Cells, last: date, count: int) -> None:
    period = last_days(last, count)
    assert period.days == count
    costs = daily_costs({"2030-02": table}, period)
    expected: dict[date, int] = {}
    for (day, _, _), counted in table.items():
        at = date(2030, 2, int(day))
        if period.first <= at <= period.last and counted.get("costMicrocredits"):
            expected[at] = expected.get(at, 0) + counted["costMicrocredits"]
    assert costs == expected
    shown = report({"2030-02": table}, period, "day")["totals"]["costMicrocredits"]
    assert shown == sum(expected.values())


def test_nothing_is_described_without_dividing_by_it() -> None:
    shown = described({})
    assert all(shown[name] == 0 for name in cells.FIELDS)
    assert set(shown["averages"].values()) == {None}
    assert set(shown["efficiency"].values()) == {None}


def test_days_that_are_none_are_left_out() -> None:
    odd = {("32", "chat", "m"): {"requests": 1}, ("x", "chat", "m"): {"requests": 1}}
    assert report({"2030-02": odd}, Period(date(2030, 1, 1), date(2030, 12, 31)), "day")["groups"] == []
