"""One thread at a time: simulated instances are threads that hand over a baton, so that a seed decides who goes next.

A task runs until it calls `pause`, at a call of Firestore, a fault point or a wait between two attempts. Whoever
resumes tasks decides the interleaving; real time decides nothing.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

_PATIENCE_SECONDS = 300


class Crash(BaseException):
    """The instance dies here: nothing of it runs any further. No code under test catches it."""


class Task:
    """Work in a thread of its own, which runs only while it has the baton."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.over = False
        self.doomed = False
        self.failure: BaseException | None = None
        self.go = threading.Semaphore(0)
        self._work = work
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        self.go.acquire()
        try:
            if not self.doomed:
                self._work()
        except Crash:
            self.doomed = True
        except BaseException as error:  # noqa: BLE001  # raised again by whoever resumes
            self.failure = error
        self.over = True
        self.back.release()

    back: threading.Semaphore


class Baton:
    """Holds all tasks of one simulation. Used from one thread, which is none of theirs."""

    def __init__(self) -> None:
        self._back = threading.Semaphore(0)
        self.running: list[Task] = []
        self.current: Task | None = None

    def start(self, name: str, work: Callable[[], None]) -> Task:
        """A new task, which waits to be resumed."""
        task = Task(name, work)
        task.back = self._back
        self.running.append(task)
        task.thread.start()
        return task

    def resume(self, task: Task) -> None:
        """Lets a task go on to its next pause, or to its end. Raises what it raised, other than Crash."""
        self.current = task
        task.go.release()
        if not self._back.acquire(timeout=_PATIENCE_SECONDS):
            raise RuntimeError(f"{task.name} never hands the baton back")
        self.current = None
        if task.over:
            task.thread.join()
            self.running.remove(task)
            if task.failure is not None:
                raise task.failure

    def pause(self) -> None:
        """Called by a task: others go on, until it is resumed. Raises Crash if it is not to go on."""
        task = self.mine()
        if task is None:
            return
        self._back.release()
        task.go.acquire()
        if task.doomed:
            raise Crash

    def mine(self) -> Task | None:
        """The task of this thread; None for others, such as a pool that a task waits for."""
        task = self.current
        return task if task is not None and task.thread is threading.current_thread() else None

    def end(self) -> None:
        """Every task dies where it is."""
        for task in list(self.running):
            task.doomed = True
            self.resume(task)

    @contextmanager
    def instead_of_sleep(self) -> Iterator[None]:
        """While it lasts, a task that waits for time to pass pauses: the waits between attempts are its only ones."""
        real_sleep = time.sleep

        def sleep(seconds: float) -> None:
            if self.mine() is None:
                real_sleep(seconds)
            else:
                self.pause()

        with mock.patch.object(time, "sleep", sleep):
            yield
