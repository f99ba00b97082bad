"""Cloud Scheduler: the jobs of scheduled functions, run by the clock of the embedded Firebase or by hand.

A job whose time passed several times while the clock was moved, or while it still ran, runs once, as on the platform.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from emulator.backoff import Backoff
from emulator.clock import Clock
from emulator.functions import FunctionSpec, Message, Outcome
from emulator.triggers import cron
from emulator.triggers.cron import Schedule
from emulator.triggers.deliveries import Deliveries
from emulator.triggers.host import FunctionsHost


@dataclass(frozen=True, slots=True)
class Job:
    """A scheduled function. `max_retry_seconds` 0 sets no time limit. Defaults are Cloud Scheduler's."""

    spec: FunctionSpec
    schedule: Schedule
    retry_count: int
    max_retry_seconds: float
    backoff: Backoff


def job(spec: FunctionSpec) -> Job:
    """Reads a scheduleTrigger. Raises ValueError for a schedule that cannot be understood."""
    retry = spec.trigger.get("retryConfig") or {}
    return Job(
        spec=spec,
        schedule=cron.parse(spec.trigger["schedule"], spec.trigger.get("timeZone")),
        retry_count=retry.get("retryCount", 0),
        max_retry_seconds=retry.get("maxRetrySeconds", 0),
        backoff=Backoff(
            min_seconds=retry.get("minBackoffSeconds", 5),
            max_seconds=retry.get("maxBackoffSeconds", 3600),
            max_doublings=retry.get("maxDoublings", 5),
        ),
    )


class Schedules:
    """All jobs. With `enabled=False` they run by hand only."""

    def __init__(
        self, *, host: FunctionsHost, deliveries: Deliveries, clock: Clock, region: str, enabled: bool = True
    ) -> None:
        self.jobs: Mapping[str, Job] = {}
        self.enabled = enabled
        self._deliveries = deliveries
        self._clock = clock
        self._region = region
        self._log = host.log
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._next_ms: dict[str, int] = {}
        host.on_ready(self._configure)

    def busy(self) -> bool:
        """True if a job is due and has not started yet."""
        now_ms = self._clock.now_ms()
        return any(at_ms <= now_ms for at_ms in self._next_ms.values())

    async def stop(self) -> None:
        """From now on jobs run by hand only."""
        self.enabled = False
        loops = list(self._loops.values())
        self._loops = {}
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        self._next_ms = {}

    async def run_now(self, name: str) -> Outcome:
        """Runs a job once, now, and waits for its end; a failure is not retried. Raises KeyError if there is none."""
        return await self._run(self.jobs[name], self._clock.now(), attempt=1)

    def _configure(self, functions: Mapping[str, FunctionSpec]) -> None:
        jobs: dict[str, Job] = {}
        for spec in functions.values():
            if spec.kind == "schedule":
                try:
                    jobs[spec.name] = job(spec)
                except ValueError as error:
                    self._log(f"{spec.name} is not scheduled: {error}")
        if self.enabled:
            self._start_loops(jobs)
        self.jobs = jobs

    def _start_loops(self, jobs: Mapping[str, Job]) -> None:
        """A job that did not change keeps its loop: it may be in a run that waits for the restarted functions."""
        for name, old in self.jobs.items():
            if (name not in jobs or jobs[name].spec != old.spec) and name in self._loops:
                self._loops.pop(name).cancel()
        for name, each in jobs.items():
            if name not in self._loops:
                self._loops[name] = asyncio.get_running_loop().create_task(self._loop(each))

    async def _loop(self, each: Job) -> None:
        name = each.spec.name
        try:
            while True:
                at = each.schedule.next_after(self._clock.now())
                self._next_ms[name] = int(at.timestamp() * 1000)
                await self._clock.wait_until(self._next_ms[name])
                await self._run_with_retries(each, at)
        finally:
            self._next_ms.pop(name, None)

    async def _run_with_retries(self, each: Job, at: datetime) -> None:
        started_ms = self._clock.now_ms()
        attempt = 1
        while True:
            # Nothing suspends between here and where the delivery counts itself as in flight.
            self._next_ms.pop(each.spec.name, None)
            outcome = await self._run(each, at, attempt)
            elapsed = (self._clock.now_ms() - started_ms) / 1000
            if outcome.ok or attempt > each.retry_count or 0 < each.max_retry_seconds < elapsed:
                return
            await self._clock.wait_until(self._clock.now_ms() + int(each.backoff.seconds_after(attempt) * 1000))
            attempt += 1

    async def _run(self, each: Job, at: datetime, attempt: int) -> Outcome:
        name = each.spec.name
        scheduled = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        headers = {
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": f"firebase-schedule-{name}-{self._region}",
            "X-CloudScheduler-ScheduleTime": scheduled,
        }
        message = Message(
            function=name,
            origin="schedule",
            event_id=f"{name}@{scheduled}",
            headers=headers,
            body=b"",
            attempt=attempt,
            timeout_seconds=each.spec.timeout_seconds,
        )
        return await self._deliveries.deliver(message)
