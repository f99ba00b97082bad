"""Sampling: in turns, bounded, and what is made of the samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows import Budget
from bench.series import Pairs, Series, interleaved

SAMPLES = st.lists(st.floats(min_value=0.001, max_value=1e6), min_size=1, max_size=50)


def test_measured_and_floor_take_turns() -> None:
    order: list[str] = []

    def measured() -> float:
        order.append("measured")
        return float(len(order))

    def floor() -> float:
        order.append("floor")
        return 1.0

    pairs = interleaved(measured, floor, rounds=3, seconds_max=60, warm_up=1)
    assert order == ["measured", "floor"] * 4
    assert pairs.measured.values == (3.0, 5.0, 7.0), "the warm-up is thrown away"


def test_sampling_ends_when_its_time_is_up_but_not_before_one_pair() -> None:
    pairs = interleaved(lambda: 2.0, lambda: 1.0, rounds=1_000_000_000, seconds_max=0, warm_up=0)
    assert len(pairs.measured.values) == len(pairs.floor.values) == 1


def test_what_pairs_say() -> None:
    pairs = Pairs(Series((10.0, 30.0, 20.0)), Series((5.0, 10.0, 20.0)))
    assert pairs.differences.values == (5.0, 20.0, 0.0)
    assert pairs.ratios.values == (2.0, 3.0, 1.0)
    assert pairs.inverse_ratios.median == 0.5


@given(SAMPLES)
def test_quantiles_are_samples_in_order(values: list[float]) -> None:
    series = Series.of(values)
    quantiles = [series.quantile(share) for share in (0.0, 0.25, 0.75, 0.95, 1.0)]
    assert quantiles == sorted(quantiles)
    assert set(quantiles) <= set(values)
    assert (quantiles[0], quantiles[-1]) == (min(values), max(values))


@pytest.mark.parametrize(
    ("budget", "figure", "keeps", "used"),
    [
        (Budget(25, "at most"), 20.0, True, 0.8),
        (Budget(25, "at most"), 25.0, True, 1.0),
        (Budget(25, "at most"), 50.0, False, 2.0),
        (Budget(0.8, "at least"), 1.6, True, 0.5),
        (Budget(0.8, "at least"), 0.4, False, 2.0),
        (Budget(0.8, "at least"), 0.0, False, float("inf")),
    ],
)
def test_budgets(budget: Budget, figure: float, keeps: bool, used: float) -> None:
    assert budget.keeps(figure) is keeps
    assert budget.used(figure) == pytest.approx(used)
