"""Marks, and what is read from them."""

from pathlib import Path
from typing import Any

import pytest

from bench import trace
from bench.trace import Mark, Step
from bench.tracing import Marker, wrapped


def mark(at_ms: float, name: str, value: str = "", thread: int = 1) -> Mark:
    return Mark(int(at_ms * 1e6), 1, thread, name, value)


def step(title: str, name: str) -> Step:
    return Step(title, lambda each: each.name == name)


def test_steps_add_up_to_the_whole() -> None:
    marks = [mark(11, "a"), mark(14, "b"), mark(15, "a"), mark(20, "c")]
    found = trace.steps(marks, [step("A", "a"), step("B", "b"), step("C", "c")], int(10e6), int(22e6))
    assert found == {"A": 1.0, "B": 3.0, "C": 6.0, "the rest": 2.0}


def test_a_missing_mark_joins_its_step_to_the_next() -> None:
    marks = [mark(11, "a"), mark(20, "c")]
    found = trace.steps(marks, [step("A", "a"), step("B", "b"), step("C", "c")], int(10e6), int(22e6))
    assert found == {"A": 1.0, "C": 9.0, "the rest": 2.0}


def test_a_mark_before_the_step_in_front_of_it_does_not_count() -> None:
    marks = [mark(11, "b"), mark(12, "a"), mark(13, "b")]
    found = trace.steps(marks, [step("A", "a"), step("B", "b")], int(10e6), int(13e6))
    assert found == {"A": 2.0, "B": 1.0, "the rest": 0.0}


def test_calls_at_once_are_those_that_overlap() -> None:
    marks = [
        mark(1, "write.begin", thread=1),
        mark(2, "write.end", thread=1),
        mark(2, "write.begin", thread=2),
        mark(3, "write.begin", thread=1),
        mark(4, "write.end", thread=2),
        mark(5, "write.end", thread=1),
        mark(6, "write.begin", thread=1),
    ]
    calls = list(trace.spans(marks, "write"))
    assert [(begin.at_ns // 1_000_000, end.at_ns // 1_000_000) for begin, end in calls] == [(1, 2), (2, 4), (3, 5)]
    assert trace.most_at_once(calls) == 2
    assert trace.most_at_once(calls[:2]) == 1, "one that begins where another ends does not overlap it"


def test_documents_are_summed() -> None:
    marks = [
        mark(1, "firestore.end", "BatchGetDocuments,2,0"),
        mark(2, "firestore.end", "Commit,0,3"),
        mark(3, "other"),
    ]
    assert trace.documents(marks) == (2, 3)


def test_marks_go_through_a_file(tmp_path: Path) -> None:
    file = tmp_path / "marks"
    marker = Marker(str(file))

    def double(number: int) -> int:
        if number < 0:
            raise ValueError
        return 2 * number

    async def later() -> int:
        return 1

    observed = wrapped(double, marker, "double", lambda number: f"of {number}")
    assert observed(4) == 8
    with pytest.raises(ValueError):
        observed(-1)
    coroutine: Any = wrapped(later, marker, "later", None)()
    coroutine.close()
    found = trace.read_marks(file)
    assert [(each.name, each.value) for each in found] == [
        ("double.begin", "of 4"),
        ("double.end", ""),
        ("double.begin", "of -1"),
        ("double.end", ""),
        ("later.begin", ""),
    ]
    file.write_text(file.read_text() + "5 1 1 cut of")
    assert len(trace.read_marks(file)) == 5, "a line that is being written is left for later"
