"""The pure state of Cloud Tasks: retries, rates, names, and what survives a restart."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.backoff import Backoff
from emulator.persistence import Store
from emulator.tasks.queues import NAME_TAKEN_MS, QueueConfig, Queues, Task, TaskExists, TaskNotFound, UnknownQueue
from emulator.tasks.queues import queue_config as parse_config

START = 1_700_000_000_000
FAST = Backoff(min_seconds=10, max_seconds=300, max_doublings=3)


def queues(store: Store | None = None, **options: Any) -> Queues:
    state = Queues(store or Store(None))
    state.configure({"work": QueueConfig(**{"backoff": FAST, **options})})
    return state


def create(state: Queues, name: str | None = None, now_ms: int = START, due_at_ms: int | None = None) -> Task:
    return state.create("work", now_ms=now_ms, name=name, headers={}, body=b"{}", due_at_ms=due_at_ms)


def test_a_task_that_keeps_failing_is_tried_at_the_documented_intervals() -> None:
    state = queues(max_attempts=8)
    task = create(state)
    now_ms, waits = START, []
    for _ in range(8):
        assert state.take(now_ms - 1) == []
        assert state.take(now_ms) == [task]
        over = state.finish(task, ok=False, status=500, now_ms=now_ms)
        wake_at_ms = state.wake_at(now_ms)
        if wake_at_ms is not None:
            waits.append((wake_at_ms - now_ms) / 1000)
            now_ms = wake_at_ms
    assert waits == [10, 20, 40, 80, 160, 240, 300]
    assert over and state.tasks("work") == []


def test_both_limits_must_be_reached() -> None:
    state = queues(max_attempts=2, max_retry_seconds=25)
    task = create(state)
    attempts = 0
    now_ms: int | None = START
    while now_ms is not None:
        attempts += len(state.take(now_ms))
        state.finish(task, ok=False, status=None, now_ms=now_ms)
        now_ms = state.wake_at(now_ms)
    assert attempts == 3, "after 10 s the attempts are used up, but not the time: a third one follows at 30 s"


def test_unlimited_attempts() -> None:
    state = queues(max_attempts=-1)
    task = create(state)
    now_ms = START
    for _ in range(50):
        (taken,) = state.take(now_ms)
        assert not state.finish(taken, ok=False, status=500, now_ms=now_ms)
        now_ms = state.wake_at(now_ms) or 0
    assert (task.dispatches, task.responses) == (50, 50)


def test_tasks_run_in_the_order_in_which_they_are_due() -> None:
    state = queues()
    late = create(state, due_at_ms=START + 1000)
    first, second = create(state), create(state, due_at_ms=START - 5000)
    assert state.take(START) == [first, second], "a time in the past is now"
    assert state.wake_at(START) == START + 1000
    assert not state.finish(first, ok=False, status=500, now_ms=START)
    assert state.take(START + 1000) == [late]


def test_names_are_taken_for_an_hour_after_the_end() -> None:
    state = queues()
    task = create(state, "once")
    with pytest.raises(TaskExists):
        create(state, "once")
    state.take(START)
    state.finish(task, ok=True, status=200, now_ms=START + 1)
    with pytest.raises(TaskExists):
        create(state, "once", now_ms=START + NAME_TAKEN_MS)
    create(state, "once", now_ms=START + NAME_TAKEN_MS + 1)
    state.delete("work", "once", START + NAME_TAKEN_MS + 2)
    with pytest.raises(TaskExists):
        create(state, "once", now_ms=START + NAME_TAKEN_MS + 3)
    assert create(state).name != create(state).name


def test_a_deleted_task_is_not_tried_again() -> None:
    state = queues()
    waiting, running = create(state, "waiting", due_at_ms=START + 5), create(state, "running")
    assert state.take(START) == [running]
    state.delete("work", waiting.name, START)
    state.delete("work", running.name, START)
    with pytest.raises(TaskNotFound):
        state.delete("work", running.name, START)
    assert state.busy(START), "its attempt goes on"
    assert state.finish(running, ok=False, status=500, now_ms=START)
    assert state.take(START + 10**9) == [] and not state.busy(START + 10**9)
    with pytest.raises(UnknownQueue):
        state.delete("nothing", "x", START)


def test_pausing_and_purging() -> None:
    state = queues()
    create(state)
    state.set_paused("work", True)
    assert state.take(START) == [] and state.wake_at(START) is None and not state.busy(START)
    state.set_paused("work", False)
    assert len(state.take(START)) == 1
    create(state)
    state.purge("work", START)
    assert state.tasks("work") == []


def test_a_restart_goes_on_with_what_was_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    state = queues(store)
    running, waiting, done = create(state, "running"), create(state, due_at_ms=START + 60_000), create(state, "done")
    assert state.take(START) == [running, done]
    state.finish(done, ok=True, status=200, now_ms=START)
    store.close()

    store = Store(tmp_path)
    loaded = Queues(store)
    assert loaded.take(START) == [] and not loaded.busy(START), "its function is not there yet"
    loaded.configure({"work": QueueConfig(backoff=FAST)})
    with pytest.raises(TaskExists):
        create(loaded, "done", now_ms=START + 1)
    (again,) = loaded.take(START + 1)
    assert (again.name, again.body, again.dispatches) == ("running", b"{}", 2), "it runs again, and that is counted"
    assert loaded.wake_at(START + 1) == START + 60_000
    loaded.finish(again, ok=True, status=200, now_ms=START + 2)
    loaded.delete("work", waiting.name, START + 2)
    create(loaded, now_ms=START + 3 * NAME_TAKEN_MS)
    assert len(list(store.rows("tasks"))) == 1, "ended tasks and free names leave no rows"
    store.close()


def test_manifest_values() -> None:
    assert parse_config({}) == QueueConfig()
    trigger = {
        "retryConfig": {"maxAttempts": 5, "maxRetrySeconds": 60, "minBackoffSeconds": 1, "maxDoublings": 0},
        "rateLimits": {"maxConcurrentDispatches": 2, "maxDispatchesPerSecond": 4},
    }
    assert parse_config(trigger) == QueueConfig(5, 60, Backoff(1, 3600, 0), 2, 4)


@given(
    concurrent=st.integers(1, 4),
    rate=st.sampled_from([0.5, 1, 7, 50]),
    arrivals=st.lists(st.integers(0, 3000), min_size=1, max_size=25),
    run_ms=st.integers(0, 900),
)
def test_rates_and_concurrency_hold_and_nothing_is_forgotten(
    concurrent: int, rate: float, arrivals: list[int], run_ms: int
) -> None:
    """Follows wake_at() alone: it must never sleep past something that could be done."""
    state = queues(max_concurrent_dispatches=concurrent, max_dispatches_per_second=rate)
    for offset in arrivals:
        create(state, due_at_ms=START + offset)
    running: list[tuple[int, Task]] = []
    starts: list[int] = []
    now_ms = START
    for _ in itertools.count():
        for ends_at_ms, task in [each for each in running if each[0] <= now_ms]:
            running.remove((ends_at_ms, task))
            state.finish(task, ok=True, status=200, now_ms=now_ms)
        taken = state.take(now_ms)
        assert all(task.due_at_ms <= now_ms for task in taken)
        starts += [now_ms] * len(taken)
        running += [(now_ms + run_ms, task) for task in taken]
        assert len(running) <= concurrent
        wakes = [ends_at_ms for ends_at_ms, _ in running]
        if (wake_at_ms := state.wake_at(now_ms)) is not None:
            assert wake_at_ms > now_ms
            wakes.append(wake_at_ms)
        if not wakes:
            break
        now_ms = max(min(wakes), now_ms)
    assert len(starts) == len(arrivals) and state.tasks("work") == []
    burst = max(1, -(-rate // 5))
    for first, last in itertools.combinations(range(len(starts)), 2):
        allowed = burst + (starts[last] - starts[first]) * rate / 1000
        assert last - first + 1 <= allowed + 1e-6
