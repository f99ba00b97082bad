"""When a balance crosses its threshold. Pure.

Judged by what is posted, for a hold is not a spending. A crossing is a fall below the threshold; it is armed again when
the balance is at the threshold or above. An account is armed before its first head, so one that is opened below its
threshold has crossed it.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class State:
    """What is known of an account at entry `seq`, amounts in microcredits. `crossings` counts the falls, `announced` is
    the number of the last one that was told."""

    low: bool = False
    crossings: int = 0
    announced: int = 0
    seq: int = 0
    threshold: int = 0
    posted: int = 0
    available: int = 0

    @property
    def untold(self) -> bool:
        """Whether the owner has still to be told. A fall that was over before anybody looked is nothing to tell."""
        return self.low and self.announced < self.crossings


def judge(before: State | None, *, seq: int, posted: int, available: int, threshold: int) -> State | None:
    """The state after a head; as it was if the head is old news, None if nobody wants to know.

    Heads come late, twice and in any order: only a newer one counts, or the same one with another threshold. A
    threshold of 0 is never crossed.
    """
    if before is None and threshold == 0:
        return None
    state = before or State(threshold=threshold)
    if seq < state.seq or (seq == state.seq and threshold == state.threshold):
        return before
    low = threshold > 0 and posted < threshold
    fell = low and not state.low
    return replace(
        state,
        low=low,
        crossings=state.crossings + fell,
        seq=seq,
        threshold=threshold,
        posted=posted,
        available=available,
    )


def from_json(found: Any) -> State | None:
    """None for nothing, and for what no version of ours has written."""
    if not isinstance(found, dict) or type(found.get("low")) is not bool:
        return None
    numbers = {
        name: found.get(name, 0) for name in ("crossings", "announced", "seq", "threshold", "posted", "available")
    }
    if any(type(number) is not int for number in numbers.values()):
        return None
    return State(low=found["low"], **numbers)
