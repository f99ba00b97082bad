"""Scheduled functions, run by hand and by the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from support.functions_harness import REGION, Harness
from support.waiting import eventually

from emulator.backoff import Backoff
from emulator.triggers.schedules import Schedules


def test_a_job_is_run_by_hand(functions: Harness) -> None:
    outcome = functions.thread.run(functions.schedules.run_now("sweep"))
    assert outcome.ok and outcome.status == 200
    (record,) = functions.records("sweep")
    assert record["job"] == f"firebase-schedule-sweep-{REGION}"
    age = functions.clock.now() - datetime.fromisoformat(record["time"])
    assert -1 < age.total_seconds() < 60
    functions.flag("sweep-fails")
    failed = functions.thread.run(functions.schedules.run_now("sweep"))
    assert (failed.result, failed.status) == ("failed", 500)
    assert len(functions.records("sweep")) == 2, "by hand, nothing is retried"
    with pytest.raises(KeyError):
        functions.thread.run(functions.schedules.run_now("api"))


@pytest.fixture
def enabled(functions: Harness) -> Iterator[Schedules]:
    def build() -> Schedules:
        return Schedules(
            host=functions.host, deliveries=functions.deliveries, clock=functions.clock, region=REGION, enabled=True
        )

    schedules = functions.thread.call(build)
    yield schedules
    functions.thread.run(schedules.stop())


def runs(functions: Harness, count: int) -> list[datetime]:
    eventually(lambda: len(functions.log("sweep")) >= count, f"run {count}")
    return [datetime.fromisoformat(record["time"]) for record in functions.records("sweep")]


def test_jobs_run_by_the_clock_once_for_each_move(functions: Harness, enabled: Schedules) -> None:
    assert not enabled.busy() and not functions.records("sweep")
    functions.advance(300)
    (first,) = runs(functions, 1)
    assert first.timestamp() % 300 == 0
    eventually(lambda: not functions.deliveries.busy())
    # A day passes at once: the job runs once, for the first time that was missed.
    functions.advance(86_400)
    _, second = runs(functions, 2)
    assert (second - first).total_seconds() == 300
    functions.advance(300)
    third = runs(functions, 3)[2]
    assert (third - second).total_seconds() >= 86_000
    assert third <= functions.clock.now().astimezone(UTC)


def test_a_failing_job_is_tried_again_as_its_retry_options_say(functions: Harness, enabled: Schedules) -> None:
    functions.flag("sweep-fails")
    functions.advance(300)
    for attempt, seconds in ((1, 20), (2, 40)):
        runs(functions, attempt)
        eventually(lambda: not functions.deliveries.busy())
        functions.advance(seconds - 5)
        assert len(functions.log("sweep")) == attempt, "it is not time yet"
        functions.advance(10)
    times = runs(functions, 3)
    assert len(set(times)) == 1, "each attempt names the time that it was scheduled for"
    assert [row.attempt for row in functions.log("sweep")] == [1, 2, 3]
    assert not enabled.busy()


def test_backoff_as_cloud_tasks_documents_it() -> None:
    backoff = Backoff(min_seconds=10, max_seconds=300, max_doublings=3)
    assert [backoff.seconds_after(failures) for failures in range(1, 9)] == [10, 20, 40, 80, 160, 240, 300, 300]
    assert Backoff(min_seconds=5, max_seconds=100, max_doublings=0).seconds_after(4) == 20
    assert Backoff(min_seconds=0.1, max_seconds=3600, max_doublings=16).seconds_after(10**6) == 3600
