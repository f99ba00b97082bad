"""Samples and how they are taken: a measured thing and its floor in turns, so that a busy machine slows both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one quantity, at least one."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Series":
        assert values, "nothing was measured"
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return median(self.values)

    def quantile(self, share: float) -> float:
        """The sample below which this share (0..1) of the others lies, by nearest rank."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        return {
            "median": round(self.median, 6),
            "p25": round(self.quantile(0.25), 6),
            "p75": round(self.quantile(0.75), 6),
            "p95": round(self.quantile(0.95), 6),
            "n": len(self.values),
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """A measured thing and its floor, taken in turns: the samples at one place belong together."""

    measured: Series
    floor: Series

    @property
    def differences(self) -> Series:
        """Measured minus floor, pair by pair."""
        return Series(tuple(a - b for a, b in zip(self.measured.values, self.floor.values, strict=True)))

    @property
    def ratios(self) -> Series:
        """Measured over floor, pair by pair."""
        return Series(tuple(a / b for a, b in zip(self.measured.values, self.floor.values, strict=True)))

    @property
    def inverse_ratios(self) -> Series:
        """Floor over measured: the share of the floor's rate that is reached, where the samples are times."""
        return Series(tuple(b / a for a, b in zip(self.measured.values, self.floor.values, strict=True)))


def interleaved(
    measured: Callable[[], float],
    floor: Callable[[], float],
    *,
    rounds: int,
    seconds_max: float,
    warm_up: int = 1,
) -> Pairs:
    """Takes measured, floor, measured, floor, ... for `rounds` rounds, or fewer when the time is up, but one at least.

    The results of the first `warm_up` rounds are thrown away.
    """
    for _ in range(warm_up):
        measured()
        floor()
    pairs: list[tuple[float, float]] = []
    started = time.monotonic()
    while not pairs or (len(pairs) < rounds and time.monotonic() - started < seconds_max):
        pairs.append((measured(), floor()))
    return Pairs(Series.of([a for a, _ in pairs]), Series.of([b for _, b in pairs]))


def timed(action: Callable[[], Any]) -> float:
    """Milliseconds that the action takes."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000
