"""Named fault points: places where an instance may die, so that tests can make it die exactly there.

`CONCIERGE_FAULT=<point>:<action>` arms one point of a process: `exit` ends the process at once, as a crash would;
`raise` raises InjectedFault, as a bug would. A simulation that runs several instances in one process sees their points
with `observed` instead. Nothing is armed or observed in production, where a point costs two comparisons.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[str], None]


class InjectedFault(Exception):
    """What an armed point raises. No code but tests may expect it."""


_armed_point, _, _armed_action = os.environ.get("CONCIERGE_FAULT", "").partition(":")
_observer: Observer | None = None


def fault_point(name: str) -> None:
    """Marks a place between two steps, named `step.when`: `hold.after`, `capture.before`, ..."""
    if _observer is not None:
        _observer(name)
    if name != _armed_point:
        return
    if _armed_action == "exit":
        os._exit(86)
    raise InjectedFault(name)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """For tests alone: `observer` is called in every thread that comes to a point, with its name, and may raise."""
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before
