"""The time between attempts, as Cloud Tasks and Cloud Scheduler compute it. Pure.

Source: https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#retryconfig
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Starts at `min_seconds`, doubles `max_doublings` times, then grows linearly, up to `max_seconds`."""

    min_seconds: float
    max_seconds: float
    max_doublings: int

    def seconds_after(self, failures: int) -> float:
        """How long to wait after that many failed attempts (1 or more).

        With 10 s, 300 s and 3 doublings: 10, 20, 40, 80, 160, 240, 300, 300, ...
        """
        assert failures >= 1
        doublings = min(failures - 1, self.max_doublings)
        linear = max(failures - self.max_doublings, 1)
        return min(self.min_seconds * 2.0**doublings * linear, self.max_seconds)
