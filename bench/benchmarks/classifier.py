"""The task classifier, which runs before everything else in a request.

Measured: classify over requests of several lengths. Floor: a call of a function that does nothing. Budget: the median
is under 1 ms.
"""

from bench.environment import Bench
from bench.rows import Budget, Row
from bench.series import interleaved, timed
from concierge.assistant.classify import classify
from concierge.assistant.schemas import parse_request

NAME = "classifier"
_CALLS = 200


def measure(bench: Bench) -> list[Row]:
    requests = [
        parse_request(
            f"request-{length}",
            {"kind": "auto", "conversationId": "bench", "text": "word " * length, "createdAt": 1},
        )
        for length in (5, 100, 1000, 6000)
    ]

    def all_classified() -> None:
        for number in range(_CALLS):
            classify(requests[number % len(requests)])

    def nothing() -> None:
        for number in range(_CALLS):
            _idle(requests[number % len(requests)])

    pairs = interleaved(
        lambda: timed(all_classified) * 1000 / _CALLS,
        lambda: timed(nothing) * 1000 / _CALLS,
        rounds=bench.rounds(100, 20),
        seconds_max=bench.seconds_max,
    )
    return [
        Row(
            name=NAME,
            title="classifier",
            unit="us",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title="an empty call",
            figure=pairs.measured.median,
            figure_unit="us",
            budget=Budget(1000, "at most"),
        )
    ]


def _idle(_: object) -> None:
    return None
