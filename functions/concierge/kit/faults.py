"""Named fault points: places where an instance may die, so that tests can make it die exactly there.

`CONCIERGE_FAULT=<point>:<action>` arms one point of a process: `exit` ends the process at once, as a crash would;
`raise` raises InjectedFault, as a bug would. Nothing is armed in production, where a point costs one comparison.
"""

import os


class InjectedFault(Exception):
    """What an armed point raises. No code but tests may expect it."""


_armed_point, _, _armed_action = os.environ.get("CONCIERGE_FAULT", "").partition(":")


def fault_point(name: str) -> None:
    """Marks a place between two steps, named `step.when`: `hold.after`, `capture.before`, ..."""
    if name != _armed_point:
        return
    if _armed_action == "exit":
        os._exit(86)
    raise InjectedFault(name)
