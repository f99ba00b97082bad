"""Every call that the platform itself makes to a function: events, tasks, schedules.

Faults, the limit of concurrency and the log are here, once for all three.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from emulator.clock import Clock
from emulator.faults import Fault, FaultPlan
from emulator.functions import Message, Origin, Outcome, Result
from emulator.triggers.host import FunctionLost, FunctionsError, FunctionsHost, FunctionTimeout


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the log."""

    function: str
    origin: Origin
    event_id: str
    attempt: int
    result: Result
    status: int | None
    ms: float
    at_ms: int


class Deliveries:
    """Delivers messages to the functions process, one attempt at a time."""

    def __init__(
        self,
        *,
        host: FunctionsHost,
        clock: Clock,
        plan: FaultPlan,
        max_concurrency: int | None = None,
        log_length: int = 1000,
    ) -> None:
        """`max_concurrency` bounds the deliveries of each function that run at the same time; None is unbounded."""
        self.log: deque[Delivery] = deque(maxlen=log_length)
        self._host = host
        self._clock = clock
        self._plan = plan
        self._max_concurrency = max_concurrency
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._in_flight = 0
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def busy(self) -> bool:
        """True while something is on its way to a function or runs in one; a retry that waits its turn does neither."""
        return self._in_flight > 0 or len(self._tasks) > self._waiting

    async def wait_to_retry(self, at_ms: int) -> None:
        """For spawned work: waits until the clock shows that time, without counting as in flight."""
        self._waiting += 1
        try:
            await self._clock.wait_until(at_ms)
        finally:
            self._waiting -= 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work that leads to deliveries beside the caller. It counts as in flight until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Gives up what is in flight."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def deliver(self, message: Message) -> Outcome:
        """Makes one attempt, under the fault that the plan holds for `trigger.<function>`, if any. Never raises."""
        fault = self._plan.take(f"trigger.{message.function}")
        self._in_flight += 1
        try:
            if fault is None:
                return await self._attempt(message)
            return await self._faulty(message, fault)
        finally:
            self._in_flight -= 1

    def record(self, message: Message, outcome: Outcome, started: float | None = None) -> Outcome:
        """Logs how a message ended; `started` is time.perf_counter() at its start, None if it never was sent."""
        ms = 0.0 if started is None else (time.perf_counter() - started) * 1000
        self.log.append(
            Delivery(
                function=message.function,
                origin=message.origin,
                event_id=message.event_id,
                attempt=message.attempt,
                result=outcome.result,
                status=outcome.status,
                ms=round(ms, 3),
                at_ms=self._clock.now_ms(),
            )
        )
        return outcome

    async def _faulty(self, message: Message, fault: Fault) -> Outcome:
        match fault.action:
            case "drop":
                return self.record(message, Outcome("dropped"))
            case "error" | "abort":
                return self.record(message, Outcome("refused"))
            case "delay":
                return await self._late(message, fault.delay_ms)
            case "duplicate":
                first, _ = await asyncio.gather(self._attempt(message), self._late(message, fault.delay_ms))
                return first
            case "error_after":
                await self._attempt(message)
                return self.record(message, Outcome("lost"))

    async def _late(self, message: Message, delay_ms: int) -> Outcome:
        await self._clock.wait_until(self._clock.now_ms() + delay_ms)
        return await self._attempt(message)

    async def _attempt(self, message: Message) -> Outcome:
        if self._max_concurrency is None:
            return await self._call(message)
        slots = self._slots.setdefault(message.function, asyncio.Semaphore(self._max_concurrency))
        async with slots:
            return await self._call(message)

    async def _call(self, message: Message) -> Outcome:
        started = time.perf_counter()
        try:
            answer = await self._host.call(
                message.function,
                headers=message.headers,
                body=message.body,
                timeout_seconds=message.timeout_seconds,
            )
        except FunctionTimeout:
            outcome = Outcome("timeout")
        except FunctionLost:
            outcome = Outcome("lost")
        except FunctionsError:
            outcome = Outcome("unavailable")
        else:
            outcome = Outcome("ok" if 200 <= answer.status < 300 else "failed", answer.status)
        return self.record(message, outcome, started)
