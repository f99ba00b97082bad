"""Trigger to first token, over the provider's own.

Measured: from a client's write of a request until the first chunk is visible to the same client, which listens by
server-sent events. Floor: the same provider called directly through the openai package, from the call to the first
piece of text. In turns, warm, one request at a time, with the functions idle before each. Budget: the median of the
differences is at most 25 ms. Where the time goes is measured on a second stack, which leaves marks.
"""

import time
from functools import partial
from statistics import fmean
from typing import Any
from uuid import uuid4

import openai

from bench import provider, trace
from bench.environment import MODEL, Bench, RunningStack, ended, first_chunk
from bench.rows import Budget, Row
from bench.series import interleaved
from bench.trace import Mark, Step

NAME = "first_token"
BUDGET_MS = 25
_QUESTION = provider.message(10, 0)
_CHUNK = "/chunks/0"


def measure(bench: Bench) -> list[Row]:
    client = openai.OpenAI(base_url=bench.provider_url, api_key="bench", max_retries=0)
    stack = bench.plain
    pairs = interleaved(
        partial(_through_concierge, stack),
        partial(_directly, client),
        rounds=bench.rounds(60, 15),
        seconds_max=bench.seconds_max,
        warm_up=3,
    )
    client.close()
    breakdown = _breakdown(bench)
    differences = pairs.differences
    return [
        Row(
            name=NAME,
            title="first token, over the provider's own",
            unit="ms",
            measured=pairs.measured,
            floor=pairs.floor,
            floor_title="provider called directly",
            figure=differences.median,
            figure_unit="ms over",
            budget=Budget(BUDGET_MS, "at most"),
            notes=_notes(breakdown),
            details={"differences": differences.as_json(), "ratios": pairs.ratios.as_json(), "breakdown": breakdown},
        )
    ]


def _notes(breakdown: dict[str, Any]) -> tuple[str, ...]:
    firestore_ms = breakdown["firestore_calls_before_provider"]["server_ms"]
    return (
        f"  {breakdown['total_ms']:7.2f} ms  a usual request on a stack that leaves marks:",
        *(f"  {milliseconds:7.2f} ms    {title}" for title, milliseconds in breakdown["steps_ms"].items()),
        f"  {firestore_ms:7.2f} ms  of it inside the embedded Firestore",
    )


def _through_concierge(stack: RunningStack) -> float:
    start_ns, seen_ns = _ask(stack)
    return (seen_ns - start_ns) / 1e6


def _ask(stack: RunningStack) -> tuple[int, int]:
    """(time of the write, time of the first chunk) in nanoseconds; returns when everything is quiet again."""
    request_id = uuid4().hex
    person = stack.person
    with person.listen(request_id) as listener:
        start_ns = time.monotonic_ns()
        person.ask(request_id, _QUESTION)
        response = first_chunk(listener)
        seen_ns = time.monotonic_ns()
        if response["status"] != "done":
            ended(listener)
    stack.idle()
    return start_ns, seen_ns


def _directly(client: openai.OpenAI) -> float:
    start_ns = time.monotonic_ns()
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": _QUESTION},
        ],
        max_tokens=1024,
        stream=True,
        stream_options={"include_usage": True},
    )
    first_ns = 0
    for chunk in stream:
        if not first_ns and chunk.choices and chunk.choices[0].delta.content:
            first_ns = time.monotonic_ns()
    return (first_ns - start_ns) / 1e6


def _named(name: str, part: str = "") -> Any:
    return lambda mark: mark.name == name and part in mark.value


STEPS = (
    Step("client's write: HTTP, rules, commit", _named("rtdb.commit.begin", "requests/")),
    Step("trigger: matching, building the event", _named("delivery.begin", "request_created")),
    Step("delivery to the functions process, reading the event", _named("function.event.begin")),
    Step("dispatch to the handler", _named("request.begin")),
    Step("validate, classify, route", _named("hold.begin")),
    Step("hold: up to BeginTransaction", _named("firestore.begin", "BeginTransaction")),
    Step("hold: up to BatchGetDocuments", _named("firestore.begin", "BatchGetDocuments")),
    Step("hold: up to Commit", _named("firestore.begin", "Commit")),
    Step("hold: Commit and return", _named("hold.end")),
    Step("waiting for what was read beside the hold", _named("generation.begin")),
    Step("starting the pump", _named("provider.call.begin")),
    Step("provider: request on its way", _named("provider.request")),
    Step("provider: its first token", _named("provider.first_token")),
    Step("provider: answer read, token handed over", _named("token.begin")),
    Step("write: up to its call", _named("response.write.begin")),
    Step("write: HTTP, commit", _named("rtdb.commit.begin", _CHUNK)),
)
_SEEN = "event to the client"


def _breakdown(bench: Bench) -> dict[str, Any]:
    """The mean of each step over the requests of the middle half, so that the steps add up to a usual request; and
    what else happens before the provider is called."""
    stack = bench.observed
    windows = sorted((_ask(stack) for _ in range(bench.rounds(40, 8))), key=lambda window: window[1] - window[0])
    windows = windows[len(windows) // 4 : -(len(windows) // 4)]
    marks = stack.marks()
    samples = [_steps_of(marks, start_ns, seen_ns) for start_ns, seen_ns in windows]
    titles = [*(step.title for step in STEPS), _SEEN]
    means = {
        title: round(fmean(sample.get(title, 0.0) for sample in samples), 3)
        for title in titles
        if any(title in sample for sample in samples)
    }
    return {
        "steps_ms": means,
        "missing_marks": [title for title in titles if title not in means],
        "firestore_calls_before_provider": _firestore_calls(marks, windows),
        "total_ms": round(fmean((seen_ns - start_ns) / 1e6 for start_ns, seen_ns in windows), 3),
    }


def _steps_of(marks: list[Mark], start_ns: int, seen_ns: int) -> dict[str, float]:
    found = trace.steps(trace.between(marks, start_ns, seen_ns), STEPS, start_ns, seen_ns)
    found[_SEEN] = found.pop("the rest")
    return found


def _firestore_calls(marks: list[Mark], windows: list[tuple[int, int]]) -> dict[str, Any]:
    """The calls between the write and the provider's request: their names once, and the server's own time."""
    names: dict[str, int] = {}
    server_ms: list[float] = []
    for start_ns, seen_ns in windows:
        inside = trace.between(marks, start_ns, seen_ns)
        asked_ns = next((mark.at_ns for mark in inside if mark.name == "provider.request"), seen_ns)
        began: list[int] = []
        spent_ns = 0
        for mark in trace.between(inside, start_ns, asked_ns):
            if mark.name == "firestore.begin":
                names[mark.value] = names.get(mark.value, 0) + 1
                began.append(mark.at_ns)
            elif mark.name == "firestore.end" and began:
                spent_ns += mark.at_ns - began.pop(0)
        server_ms.append(spent_ns / 1e6)
    calls = {name: count / len(windows) for name, count in names.items()}
    return {"per_request": calls, "server_ms": round(fmean(server_ms), 3)}
