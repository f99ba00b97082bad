"""Firestore documents read and written for one chat request.

Measured: everything that Firestore is asked for from a client's write until the functions are idle again, counted by
an interceptor of the embedded server, as Cloud Firestore bills it. For somebody who has asked often and, in the
details, for somebody's very first request. Budget: at most 6 reads and 8 writes. There is no floor below what the
ledger's two appends take: 4 reads and 6 writes; the seventh write counts what was used.
"""

import time
from uuid import uuid4

from bench import provider, trace
from bench.environment import Bench, Person, RunningStack, ended
from bench.rows import Budget, Row
from bench.series import Series

NAME = "firestore_documents"
_FLOOR = {"reads": 4.0, "writes": 6.0}
_BUDGET = {"reads": 6, "writes": 8}


def measure(bench: Bench) -> list[Row]:
    stack = bench.observed
    regular = [_count(stack, stack.person) for _ in range(bench.rounds(12, 4))]
    first = _count(stack, stack.newcomer())
    columns = {"reads": [float(reads) for reads, _ in regular], "writes": [float(writes) for _, writes in regular]}
    first_of = dict(zip(columns, first, strict=True))
    return [
        Row(
            name=f"{NAME}_{name}",
            title=f"Firestore {name} for one chat request",
            unit="documents",
            measured=Series.of(values),
            floor=Series.of([_FLOOR[name]]),
            floor_title="two ledger appends",
            figure=max(values),
            figure_unit="documents",
            budget=Budget(_BUDGET[name], "at most"),
            notes=(f"  {first_of[name]} {name} for somebody's very first request, which opens the account",),
            details={"firstRequest": first_of[name], "requests": len(values)},
        )
        for name, values in columns.items()
    ]


def _count(stack: RunningStack, person: Person) -> tuple[int, int]:
    """(reads, writes) of one request."""
    request_id = uuid4().hex
    with person.listen(request_id) as listener:
        start_ns = time.monotonic_ns()
        person.ask(request_id, provider.message(10, 0))
        ended(listener)
        stack.idle()
        end_ns = time.monotonic_ns()
    return trace.documents(trace.between(stack.marks(), start_ns, end_ns))
