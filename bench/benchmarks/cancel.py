"""How soon a cancellation in mid-stream ends an answer.

Measured: from a client's write of the cancellation until it sees the terminal status, at random moments of the writer's
rhythm. Floor: one write of a client until its own listener sees it. Budget: 0.5 s (acceptance row S02).
"""

import random
import time
from functools import partial
from itertools import count
from uuid import uuid4

from bench import provider
from bench.environment import Bench, RunningStack, ended, first_chunk
from bench.rows import Budget, Row
from bench.series import interleaved
from cli.client import Listener

NAME = "cancel"
_TOKENS, _INTERVAL_MS = 900, 10
_FLUSH_SECONDS = 0.1
_SECONDS_MAX = 0.5


def measure(bench: Bench) -> list[Row]:
    stack = bench.plain
    person = stack.person
    with person.client.listen(f"preferences/{person.uid}") as listener:
        listener.next(30)
        pairs = interleaved(
            partial(_cancelled, stack, random.Random(8)),
            partial(_round_trip, stack, listener, count()),
            rounds=bench.rounds(20, 6),
            seconds_max=bench.seconds_max,
        )
    return [
        Row(
            name=NAME,
            title="cancel in mid-stream, until the client sees the end",
            unit="ms",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title="one RTDB write to its listener",
            figure=pairs.measured.quantile(0.95) / 1000,
            figure_unit="s (p95)",
            budget=Budget(_SECONDS_MAX, "at most"),
            details={"differences": pairs.differences.as_json()},
        )
    ]


def _cancelled(stack: RunningStack, choice: random.Random) -> float:
    request_id = uuid4().hex
    person = stack.person
    with person.listen(request_id) as listener:
        person.ask(request_id, provider.message(_TOKENS, _INTERVAL_MS))
        first_chunk(listener)
        time.sleep(choice.uniform(0, _FLUSH_SECONDS))
        started = time.perf_counter()
        person.cancel(request_id)
        ended(listener, "cancelled")
        milliseconds = (time.perf_counter() - started) * 1000
    stack.idle()
    return milliseconds


def _round_trip(stack: RunningStack, listener: Listener, numbers: "count[int]") -> float:
    number = next(numbers)
    person = stack.person
    started = time.perf_counter()
    person.client.put(f"preferences/{person.uid}/bench", number)
    while (listener.next(30) or {}).get("bench") != number:
        continue
    return (time.perf_counter() - started) * 1000
