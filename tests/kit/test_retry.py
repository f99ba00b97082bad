import threading
import time

import pytest

from concierge.kit.retry import Backoff, call_with_retry

QUICK = Backoff(attempts=4, base_seconds=0.001, cap_seconds=0.004)


class Flaky(Exception):
    pass


def failing(times: int) -> tuple[list[int], object]:
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise Flaky
        return "done"

    return calls, action


def test_waits_grow_to_the_cap_and_are_drawn_from_zero() -> None:
    asked: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    assert list(Backoff(5, 1.0, 4.0).waits(draw)) == [1.0, 2.0, 4.0, 4.0]
    assert {low for low, _ in asked} == {0}


def test_it_tries_until_it_succeeds() -> None:
    calls, action = failing(3)
    assert call_with_retry(action, backoff=QUICK, retry_on=(Flaky,)) == "done"  # type: ignore[arg-type]
    assert len(calls) == 4


def test_it_raises_the_last_error_when_attempts_are_used_up() -> None:
    calls, action = failing(9)
    with pytest.raises(Flaky):
        call_with_retry(action, backoff=QUICK, retry_on=(Flaky,))  # type: ignore[arg-type]
    assert len(calls) == 4


def test_other_errors_are_not_retried() -> None:
    calls, action = failing(9)
    with pytest.raises(Flaky):
        call_with_retry(action, backoff=QUICK, retry_on=(ValueError,))  # type: ignore[arg-type]
    assert len(calls) == 1


def test_a_deadline_or_a_stop_ends_the_waiting() -> None:
    slow = Backoff(attempts=4, base_seconds=100, cap_seconds=100)
    for options in ({"deadline": time.monotonic()}, {"stopped": threading.Event()}):
        if "stopped" in options:
            options["stopped"].set()  # type: ignore[union-attr]
        calls, action = failing(9)
        with pytest.raises(Flaky):
            call_with_retry(action, backoff=slow, retry_on=(Flaky,), **options)  # type: ignore[arg-type]
        assert len(calls) == 1
