"""The queues of Cloud Tasks: what is waiting, what runs, what is due next. Pure state; rows are written through.

Sources: https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues (retries, rates) and
.../tasks/create (names are taken for an hour after a task ended). Defaults are those with which the Firebase CLI
deploys task queue functions.
"""

import base64
import heapq
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.backoff import Backoff
from emulator.persistence import Store

SERVICE = "tasks"
NAME_TAKEN_MS = 60 * 60 * 1000
SCHEDULE_AHEAD_MS_MAX = 30 * 24 * 3600 * 1000
DISPATCH_DEADLINE_SECONDS_DEFAULT = 600.0
BACKOFF_DEFAULT = Backoff(min_seconds=0.1, max_seconds=3600, max_doublings=16)


class UnknownQueue(Exception):
    """No task queue function has this name."""


class TaskExists(Exception):
    """A task of this name is waiting, or ended less than an hour ago."""


class TaskNotFound(Exception):
    """No such task is waiting or running."""


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """`max_attempts` -1 is unlimited. With `max_retry_seconds` above 0 attempts go on until both limits are reached."""

    max_attempts: int = 3
    max_retry_seconds: float = 0
    backoff: Backoff = BACKOFF_DEFAULT
    max_concurrent_dispatches: int = 1000
    max_dispatches_per_second: float = 500


def queue_config(trigger: Mapping[str, Any]) -> QueueConfig:
    """Reads a taskQueueTrigger of the manifest."""
    retry = trigger.get("retryConfig") or {}
    rates = trigger.get("rateLimits") or {}
    default = QueueConfig()
    return QueueConfig(
        max_attempts=retry.get("maxAttempts", default.max_attempts),
        max_retry_seconds=retry.get("maxRetrySeconds", default.max_retry_seconds),
        backoff=Backoff(
            min_seconds=retry.get("minBackoffSeconds", default.backoff.min_seconds),
            max_seconds=retry.get("maxBackoffSeconds", default.backoff.max_seconds),
            max_doublings=retry.get("maxDoublings", default.backoff.max_doublings),
        ),
        max_concurrent_dispatches=rates.get("maxConcurrentDispatches", default.max_concurrent_dispatches),
        max_dispatches_per_second=rates.get("maxDispatchesPerSecond") or default.max_dispatches_per_second,
    )


@dataclass(slots=True)
class Task:
    """A task that has not ended. `dispatches` counts attempts that were begun, `responses` those that were answered."""

    queue: str
    name: str
    named: bool
    headers: Mapping[str, str]
    body: bytes
    created_at_ms: int
    due_at_ms: int
    deadline_seconds: float = DISPATCH_DEADLINE_SECONDS_DEFAULT
    dispatches: int = 0
    responses: int = 0
    first_dispatch_ms: int | None = None
    last_status: int | None = None

    def to_row(self) -> bytes:
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**values, "body": base64.b64encode(self.body).decode()}).encode()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Task":
        return cls(**{**row, "body": base64.b64decode(row["body"])})


@dataclass(slots=True)
class _Queue:
    config: QueueConfig | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    # (due, order of arrival, name); entries of tasks that ended or moved are skipped when they come up.
    heap: list[tuple[int, int, str]] = field(default_factory=list)
    tokens: float = 0
    tokens_at_ms: int = 0
    paused: bool = False

    def burst(self) -> float:
        """How many dispatches a rested queue may make at once: a fifth of a second's, at least one."""
        assert self.config is not None
        return max(1, math.ceil(self.config.max_dispatches_per_second / 5))

    def refill(self, now_ms: int) -> None:
        assert self.config is not None
        gained = (now_ms - self.tokens_at_ms) * self.config.max_dispatches_per_second / 1000
        self.tokens = min(self.burst(), self.tokens + gained)
        self.tokens_at_ms = now_ms

    def head(self) -> Task | None:
        """The task that is due first and is not running."""
        while self.heap:
            due_at_ms, _, name = self.heap[0]
            task = self.tasks.get(name)
            if task is not None and name not in self.running and task.due_at_ms == due_at_ms:
                return task
            heapq.heappop(self.heap)
        return None


class Queues:
    """All queues. Times are milliseconds since the epoch, given by the caller."""

    def __init__(self, store: Store) -> None:
        """Loads what an earlier process left. A task that was running then is due again: it may run twice."""
        self._store = store
        self._queues: dict[str, _Queue] = {}
        self._taken: dict[tuple[str, str], int] = {}
        self._arrivals = 0
        waiting: list[Task] = []
        taken: list[tuple[int, str, str]] = []
        for key, value in store.rows(SERVICE):
            row = json.loads(value)
            if "takenUntilMs" in row:
                queue, _, name = key.partition("/")
                taken.append((row["takenUntilMs"], queue, name))
            else:
                waiting.append(Task.from_row(row))
        for until_ms, queue, name in sorted(taken):
            self._taken[queue, name] = until_ms
        for task in sorted(waiting, key=lambda each: each.created_at_ms):
            queue_state = self._queues.setdefault(task.queue, _Queue())
            queue_state.tasks[task.name] = task
            self._push(queue_state, task)

    def configure(self, configs: Mapping[str, QueueConfig]) -> None:
        """Sets the queues there are. The tasks of a queue whose function is gone wait until it is back."""
        for name, queue in self._queues.items():
            if name not in configs:
                queue.config = None
        for name, config in configs.items():
            self._queues.setdefault(name, _Queue()).config = config

    def names(self) -> list[str]:
        return [name for name, queue in self._queues.items() if queue.config is not None]

    def create(
        self,
        queue_name: str,
        *,
        now_ms: int,
        name: str | None = None,
        headers: Mapping[str, str],
        body: bytes,
        due_at_ms: int | None = None,
        deadline_seconds: float = DISPATCH_DEADLINE_SECONDS_DEFAULT,
    ) -> Task:
        """Adds a task. Raises UnknownQueue, TaskExists."""
        queue = self._known(queue_name)
        self._forget_names(now_ms)
        if name is not None and (name in queue.tasks or (queue_name, name) in self._taken):
            raise TaskExists(name)
        task = Task(
            queue=queue_name,
            name=name or str(uuid.uuid4().int % 10**20),
            named=name is not None,
            headers=headers,
            body=body,
            created_at_ms=now_ms,
            due_at_ms=max(now_ms, due_at_ms or 0),
            deadline_seconds=deadline_seconds,
        )
        queue.tasks[task.name] = task
        self._push(queue, task)
        self._save(task)
        return task

    def get(self, queue_name: str, name: str) -> Task:
        """Raises UnknownQueue, TaskNotFound."""
        task = self._known(queue_name).tasks.get(name)
        if task is None:
            raise TaskNotFound(name)
        return task

    def tasks(self, queue_name: str) -> list[Task]:
        """Raises UnknownQueue."""
        return list(self._known(queue_name).tasks.values())

    def delete(self, queue_name: str, name: str, now_ms: int) -> None:
        """Removes a task; one that runs will not be tried again. Raises UnknownQueue, TaskNotFound."""
        self._remove(self.get(queue_name, name), now_ms)

    def purge(self, queue_name: str, now_ms: int) -> None:
        """Removes all tasks. Raises UnknownQueue."""
        for task in self.tasks(queue_name):
            self._remove(task, now_ms)

    def set_paused(self, queue_name: str, paused: bool) -> None:
        """A paused queue takes tasks but dispatches none. Raises UnknownQueue."""
        self._known(queue_name).paused = paused

    def take(self, now_ms: int) -> list[Task]:
        """The tasks to dispatch now, marked as running, with the attempt counted before it is made."""
        taken: list[Task] = []
        for queue in self._open_queues():
            assert queue.config is not None
            queue.refill(now_ms)
            while (task := queue.head()) is not None and task.due_at_ms <= now_ms:
                if queue.tokens < 1 or len(queue.running) >= queue.config.max_concurrent_dispatches:
                    break
                heapq.heappop(queue.heap)
                queue.tokens -= 1
                queue.running.add(task.name)
                task.dispatches += 1
                if task.first_dispatch_ms is None:
                    task.first_dispatch_ms = now_ms
                self._save(task)
                taken.append(task)
        return taken

    def finish(self, task: Task, *, ok: bool, status: int | None, now_ms: int) -> bool:
        """Ends an attempt. True if the task is over, by success or because no attempt is left.

        `status` is the function's HTTP status, None if it never answered.
        """
        queue = self._queues[task.queue]
        queue.running.discard(task.name)
        if queue.tasks.get(task.name) is not task:
            return True  # It was deleted while it ran.
        task.last_status = status
        task.responses += status is not None
        if ok or self._exhausted(queue, task, now_ms):
            self._remove(task, now_ms)
            return True
        backoff = (queue.config or QueueConfig()).backoff
        task.due_at_ms = now_ms + int(backoff.seconds_after(task.dispatches) * 1000)
        self._push(queue, task)
        self._save(task)
        return False

    def wake_at(self, now_ms: int) -> int | None:
        """When take() may give something next, as long as nothing ends or arrives before; None if never."""
        wakes: list[int] = []
        for queue in self._open_queues():
            assert queue.config is not None
            task = queue.head()
            if task is None or len(queue.running) >= queue.config.max_concurrent_dispatches:
                continue
            queue.refill(now_ms)
            missing = max(0.0, 1 - queue.tokens)
            token_at_ms = now_ms + math.ceil(missing * 1000 / queue.config.max_dispatches_per_second)
            wakes.append(max(task.due_at_ms, token_at_ms))
        return min(wakes, default=None)

    def busy(self, now_ms: int) -> bool:
        """True if a task runs or is due; one that waits for its time or for its next attempt is neither."""
        if any(queue.running for queue in self._queues.values()):
            return True
        heads = (queue.head() for queue in self._open_queues())
        return any(task is not None and task.due_at_ms <= now_ms for task in heads)

    def _known(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None or queue.config is None:
            raise UnknownQueue(name)
        return queue

    def _open_queues(self) -> Iterable[_Queue]:
        return (queue for queue in self._queues.values() if queue.config is not None and not queue.paused)

    def _exhausted(self, queue: _Queue, task: Task, now_ms: int) -> bool:
        config = queue.config or QueueConfig()
        if config.max_attempts < 0 or task.dispatches < config.max_attempts:
            return False
        age_seconds = (now_ms - (task.first_dispatch_ms or now_ms)) / 1000
        return config.max_retry_seconds <= 0 or age_seconds >= config.max_retry_seconds

    def _push(self, queue: _Queue, task: Task) -> None:
        self._arrivals += 1
        heapq.heappush(queue.heap, (task.due_at_ms, self._arrivals, task.name))

    def _remove(self, task: Task, now_ms: int) -> None:
        del self._queues[task.queue].tasks[task.name]
        row = None
        if task.named:
            until_ms = now_ms + NAME_TAKEN_MS
            self._taken[task.queue, task.name] = until_ms
            row = json.dumps({"takenUntilMs": until_ms}).encode()
        self._store.write(SERVICE, {f"{task.queue}/{task.name}": row})

    def _forget_names(self, now_ms: int) -> None:
        expired: dict[str, bytes | None] = {}
        while self._taken:
            # Names are taken in the order of time, so the first one is always the first to be free again.
            (queue, name), until_ms = next(iter(self._taken.items()))
            if until_ms > now_ms:
                break
            del self._taken[queue, name]
            expired[f"{queue}/{name}"] = None
        if expired:
            self._store.write(SERVICE, expired)

    def _save(self, task: Task) -> None:
        if self._store.durable:
            self._store.write(SERVICE, {f"{task.queue}/{task.name}": task.to_row()})
