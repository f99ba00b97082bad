"""The history of an account within a range of time: both ends are in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.api import call, uid_of
from support.backend import Backend

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, [5, 4, 3, 2, 1]),
        (2, 4, [4, 3, 2]),
        (3, 3, [3]),
        (None, 2, [2, 1]),
        (4, None, [5, 4]),
        (None, 0, []),
        (6, None, []),
        (None, 99, [5, 4, 3, 2, 1]),
    ],
)
def test_a_range_of_time(backend: Backend, first: int | None, last: int | None, expected: list[int]) -> None:
    client = backend.client()
    for number in range(1, 6):
        at = START + number * MINUTE
        backend.ledger(now=lambda at=at: at).credit(  # type: ignore[misc]
            uid_of(client), op_id=f"g{number}", kind="grant", amount=number, counter="expense:bonus"
        )
    question: dict[str, Any] = {"limit": 2}
    for name, minute in (("from", first), ("to", last)):
        if minute is not None:
            question[name] = (START + minute * MINUTE).isoformat()
    found: list[int] = []
    while True:
        page = call(backend, client, "GET", "/credits/history", params=question).json()
        found += [entry["seq"] for entry in page["entries"]]
        if page["next"] is None:
            break
        question["cursor"] = page["next"]
    assert found == expected
