"""Crossings and recommendations, without any storage."""

from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.credits.low_balance.crossings import State, from_json, judge
from concierge.credits.low_balance.recommendation import burn_per_day, days_left, recommend, top_up
from concierge.credits.low_balance.service import crossing_id, threshold_from
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS

TODAY = date(2030, 3, 15)
THRESHOLD = 50

amounts = st.integers(-100, 200)
costs = st.dictionaries(st.integers(0, 29).map(lambda ago: TODAY - timedelta(days=ago)), st.integers(1, 10**12))


def heard(state: State | None, seq: int, posted: int, threshold: int = THRESHOLD) -> State | None:
    return judge(state, seq=seq, posted=posted, available=posted, threshold=threshold)


@given(st.lists(amounts, min_size=1, max_size=20))
def test_each_fall_is_one_crossing(balances: list[int]) -> None:
    state: State | None = None
    for seq, posted in enumerate(balances, start=1):
        state = heard(state, seq, posted)
    assert state is not None
    lows = [False, *(posted < THRESHOLD for posted in balances)]
    falls = sum(not before and after for before, after in pairwise(lows))
    assert (state.low, state.crossings) == (lows[-1], falls)


@given(st.lists(amounts, min_size=1, max_size=8), st.data())
def test_old_news_changes_nothing(balances: list[int], data: Any) -> None:
    """Duplicates and late heads in any order: no more crossings than in order, and the same end."""
    heads = list(enumerate(balances, start=1))
    shuffled = data.draw(st.permutations([*heads, *data.draw(st.lists(st.sampled_from(heads), max_size=8))]))
    in_order: State | None = None
    for seq, posted in heads:
        in_order = heard(in_order, seq, posted)
    state: State | None = None
    for seq, posted in shuffled:
        before = state
        state = heard(state, seq, posted)
        if before is not None and seq <= before.seq:
            assert state == before
    assert state is not None and in_order is not None
    assert (state.low, state.seq, state.posted) == (in_order.low, in_order.seq, in_order.posted)
    assert state.crossings <= in_order.crossings
    assert (state.crossings > 0) or not state.low


def test_another_threshold_is_news_at_the_same_entry() -> None:
    state = heard(None, 3, 60)
    assert state is not None and not state.low
    raised = heard(state, 3, 60, threshold=70)
    assert raised is not None and (raised.low, raised.crossings) == (True, 1)
    assert heard(raised, 2, 90, threshold=10) == raised
    lowered = heard(raised, 3, 60, threshold=10)
    assert lowered is not None and (lowered.low, lowered.crossings) == (False, 1)


def test_a_threshold_of_nothing_is_never_crossed() -> None:
    assert heard(None, 1, -5, threshold=0) is None
    state = heard(heard(None, 1, 10), 2, -5, threshold=0)
    assert state is not None and not state.low


def test_what_was_over_before_it_was_told_is_not_told() -> None:
    fallen = heard(heard(None, 1, 60), 2, 10)
    assert fallen is not None and fallen.untold
    risen = heard(fallen, 3, 60)
    assert risen is not None and not risen.untold
    again = heard(risen, 4, 10)
    assert again is not None and again.untold and again.crossings == 2


@pytest.mark.parametrize(
    "found", [None, 5, "low", [], {}, {"low": 1}, {"low": True, "seq": "1"}, {"low": True, "seq": 1.5}]
)
def test_what_is_no_state_is_none(found: Any) -> None:
    assert from_json(found) is None


@given(costs)
def test_the_burn_lies_between_the_days_it_may_be_spread_over(spent: dict[date, int]) -> None:
    burn, total = burn_per_day(spent, TODAY), sum(spent.values())
    assert Fraction(total, 30) <= burn <= Fraction(total, 7) + 1
    if spent:
        days = max(7, (TODAY - min(spent)).days + 1)
        assert (burn - 1) * days < total <= burn * days


def test_days_outside_do_not_count() -> None:
    assert burn_per_day({TODAY - timedelta(days=30): 700, TODAY + timedelta(days=1): 700}, TODAY) == 0
    assert burn_per_day({TODAY: 700}, TODAY) == 100
    assert burn_per_day({TODAY - timedelta(days=29): 3_000}, TODAY) == 100


@given(costs, st.integers(-(10**12), 10**12), st.integers(0, 10**12), st.integers(1, 10**10))
def test_a_recommendation_is_enough_and_no_more_than_a_step_too_much(
    spent: dict[date, int], available: int, threshold: int, step: int
) -> None:
    found = recommend(spent, TODAY, available=available, threshold=threshold, step=step)
    assert found.recommended % step == 0
    wanted = max(30 * found.burn_per_day, threshold)
    if found.recommended < AMOUNT_MAX_MICROCREDITS // step * step:
        assert available + found.recommended >= wanted
    if found.recommended > step or (found.recommended == step and found.burn_per_day):
        assert available + found.recommended - step < wanted
    if not spent:
        assert found.days_left is None
        assert found.recommended >= step
    elif found.days_left is not None:
        exact = Fraction(max(0, available), found.burn_per_day)
        assert 0 <= exact - Fraction(round(found.days_left * 10), 10) < Fraction(1, 10)


def test_days_left_are_rounded_down() -> None:
    assert days_left(299, 100) == 2.9
    assert days_left(-5, 100) == 0.0
    assert days_left(5, 0) is None


def test_what_lasts_needs_no_top_up() -> None:
    assert top_up(10, 300, 50, 100) == 0
    assert top_up(10, 299, 50, 100) == 100
    assert top_up(0, 10_000, 50, 100) == 100
    assert top_up(10**15, 0, 0, 500) == AMOUNT_MAX_MICROCREDITS // 500 * 500


@pytest.mark.parametrize(
    ("preference", "threshold"),
    [
        (None, 7),
        (True, 7),
        ("5", 7),
        (-1, 7),
        (float("nan"), 7),
        (float("inf"), 7),
        (10**9 + 1, 7),
        (0, 0),
        (5, 5_000_000),
        (0.29, 290_000),
        (0.1234567, 123_456),
        (10**9, 10**15),
    ],
)
def test_a_preference_is_a_number_of_credits(preference: Any, threshold: int) -> None:
    assert threshold_from(preference, 7) == threshold


def test_crossings_of_any_user_id_have_database_keys() -> None:
    ids = {crossing_id(uid, number) for uid in ("a", "a.b", "a/b", "$[]#", "ключ", "x" * 128) for number in (1, 2)}
    assert len(ids) == 12
    assert all(not set(key) & set(".#$[]/") and len(key.encode()) <= 768 for key in ids)
