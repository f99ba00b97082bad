"""From marks to where the time of a request went. Pure, apart from reading the file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of one process; `at_ns` is of time.monotonic_ns()."""

    at_ns: int
    process: int
    thread: int
    name: str
    value: str


def parse_mark(line: str) -> Mark:
    at_ns, process, thread, name, value = line.rstrip("\n").split(" ", 4)
    return Mark(int(at_ns), int(process), int(thread), name, value)


def read_marks(path: Path) -> list[Mark]:
    """All marks of a file in the order of time."""
    with path.open(encoding="utf-8") as lines:
        return sorted((parse_mark(line) for line in lines if line.endswith("\n")), key=lambda mark: mark.at_ns)


def between(marks: Sequence[Mark], start_ns: int, end_ns: int) -> list[Mark]:
    return [mark for mark in marks if start_ns <= mark.at_ns <= end_ns]


@dataclass(frozen=True, slots=True)
class Step:
    """What lies between the mark before and this one. `found` tells the mark by which the step ends."""

    title: str
    found: Callable[[Mark], bool]


def steps(marks: Sequence[Mark], expected: Sequence[Step], start_ns: int, end_ns: int) -> dict[str, float]:
    """Milliseconds of each step of one request, by title; the last one, up to `end_ns`, is called `the rest`.

    A step whose mark is missing is left out, and its time is part of the next one.
    """
    result: dict[str, float] = {}
    at_ns = start_ns
    for step in expected:
        mark = next((mark for mark in marks if mark.at_ns >= at_ns and step.found(mark)), None)
        if mark is not None:
            result[step.title] = (mark.at_ns - at_ns) / 1e6
            at_ns = mark.at_ns
    result["the rest"] = (end_ns - at_ns) / 1e6
    return result


def spans(marks: Sequence[Mark], name: str) -> Iterator[tuple[Mark, Mark]]:
    """(begin, end) of each call with this name; calls of one thread do not overlap."""
    open_calls: dict[tuple[int, int], Mark] = {}
    for mark in marks:
        place = (mark.process, mark.thread)
        if mark.name == f"{name}.begin":
            open_calls[place] = mark
        elif mark.name == f"{name}.end" and place in open_calls:
            yield open_calls.pop(place), mark


def most_at_once(calls: Sequence[tuple[Mark, Mark]]) -> int:
    """How many of these calls were under way at the same time at most."""
    changes = sorted([(begin.at_ns, 1) for begin, _ in calls] + [(end.at_ns, -1) for _, end in calls])
    most = current = 0
    for _, change in changes:
        current += change
        most = max(most, current)
    return most


def documents(marks: Sequence[Mark]) -> tuple[int, int]:
    """(reads, writes) that Firestore was asked for, summed over the marks."""
    reads = writes = 0
    for mark in marks:
        if mark.name == "firestore.end":
            _, read, written = mark.value.split(",")
            reads += int(read)
            writes += int(written)
    return reads, writes
