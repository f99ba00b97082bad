"""How often one long answer is written to the Realtime Database.

Measured: the updates of one response that bring a chunk, counted as its client receives them, for an answer of 300
tokens at 10 ms; and the writes that are under way at the same time, from the marks of the writing process. Floor: the
provider's tokens. Budget: about 10 writes a second, at most one at a time.
"""

import time
from uuid import uuid4

from bench import provider, trace
from bench.environment import Bench, RunningStack
from bench.rows import Budget, Row
from bench.series import Series
from cli.client import numbered

NAME = "streaming"
_TOKENS, _INTERVAL_MS = 300, 10
# "About 10" of the design: a writer that flushes every 100 ms, plus the first chunk at once and the last at the end.
_WRITES_PER_SECOND_MAX = 11


def measure(bench: Bench) -> list[Row]:
    stack = bench.observed
    answers = [_answer(stack) for _ in range(bench.rounds(3, 1))]
    marks = stack.marks()
    at_once = []
    looks = []
    for answer in answers:
        inside = trace.between(marks, answer.start_ns, answer.end_ns)
        at_once.append(float(trace.most_at_once(list(trace.spans(inside, "response.write")))))
        looks.append(sum(mark.name == "cancellation.look.begin" for mark in inside) / answer.seconds)
    looks_per_second = sum(looks) / len(looks)
    rates = Series.of([answer.writes / answer.seconds for answer in answers])
    writes_per_token = sum(answer.writes for answer in answers) / (_TOKENS * len(answers))
    return [
        Row(
            name=f"{NAME}_rate",
            title="RTDB writes while streaming",
            unit="a second",
            measured=rates,
            floor=Series.of([_TOKENS / answer.seconds for answer in answers]),
            floor_title="tokens of the provider",
            figure=rates.median,
            figure_unit="a second",
            budget=Budget(_WRITES_PER_SECOND_MAX, "at most", "about 10"),
            notes=(
                f"  {writes_per_token:.3f} writes a token; {looks_per_second:.1f} looks for a cancellation a second",
            ),
            details={"writesPerToken": writes_per_token, "chunks": [answer.writes for answer in answers]},
        ),
        Row(
            name=f"{NAME}_at_once",
            title="RTDB writes in flight at most",
            unit="writes",
            measured=Series.of(at_once),
            floor=None,
            figure=max(at_once),
            figure_unit="writes",
            budget=Budget(1, "at most"),
        ),
    ]


class _Answer:
    """One streamed answer: `writes` brought chunks, from the first to the last of which `seconds` passed."""

    def __init__(self, start_ns: int, end_ns: int, chunk_times_ns: list[int]) -> None:
        self.start_ns, self.end_ns = start_ns, end_ns
        self.writes = len(chunk_times_ns)
        self.seconds = (chunk_times_ns[-1] - chunk_times_ns[0]) / 1e9


def _answer(stack: RunningStack) -> _Answer:
    request_id = uuid4().hex
    chunk_times_ns: list[int] = []
    with stack.person.listen(request_id) as listener:
        start_ns = time.monotonic_ns()
        stack.person.ask(request_id, provider.message(_TOKENS, _INTERVAL_MS))
        seen = 0
        for response in listener.values(30):
            chunks = len(numbered((response or {}).get("chunks")))
            if chunks > seen:
                chunk_times_ns.append(time.monotonic_ns())
                seen = chunks
            if (response or {}).get("status") in ("done", "failed"):
                assert response["status"] == "done", response
                break
    stack.idle()
    return _Answer(start_ns, time.monotonic_ns(), chunk_times_ns)
