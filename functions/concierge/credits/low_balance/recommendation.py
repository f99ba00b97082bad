"""What to top up, from what was spent. Pure; whole microcredits, always rounded in favour of enough.

burn         what the last 30 days cost, by the day: from the first of them on which anything was spent, today included,
             but over 7 days at least, so that one busy day is not taken for a habit; rounded up
days left    what is available, by the burn; to one decimal place, rounded down
recommended  what 30 days will burn, and no less than the threshold, less what is available, in whole top-up steps; one
             step at least where nothing was spent
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS

BURN_DAYS = 30
BURN_DAYS_MIN = 7
COVERED_DAYS = 30
_TENTHS = 10


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Amounts in microcredits. `days_left` is None where nothing is spent."""

    burn_per_day: int
    days_left: float | None
    recommended: int


def recommend(costs: Mapping[date, int], today: date, *, available: int, threshold: int, step: int) -> Recommendation:
    """`costs` are those of the last days by day; `step` is positive."""
    assert step > 0
    burn = burn_per_day(costs, today)
    return Recommendation(burn, days_left(available, burn), top_up(burn, available, threshold, step))


def burn_per_day(costs: Mapping[date, int], today: date) -> int:
    """Microcredits a day, 0 if nothing was spent."""
    spent = {day: cost for day, cost in costs.items() if cost > 0 and 0 <= (today - day).days < BURN_DAYS}
    if not spent:
        return 0
    days = max(BURN_DAYS_MIN, (today - min(spent)).days + 1)
    return -(-sum(spent.values()) // days)


def days_left(available: int, burn: int) -> float | None:
    return max(0, available) * _TENTHS // burn / _TENTHS if burn > 0 else None


def top_up(burn: int, available: int, threshold: int, step: int) -> int:
    """Microcredits, a multiple of the step; 0 if what is available lasts."""
    missing = max(COVERED_DAYS * burn, threshold) - available
    steps = max(0, -(-missing // step))
    if burn == 0:
        steps = max(1, steps)
    return min(steps, AMOUNT_MAX_MICROCREDITS // step) * step
