"""Bisection over the times of a chain, against a plain search."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from concierge.ledger.entries import StoredEntry
from concierge.ledger.timeline import newest_where

START = datetime(2026, 1, 1, tzinfo=UTC)


def moment(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


class Stored:
    """Entries in memory: minutes behind the start, or None for one that was tampered with; absent ones are gaps.

    A tampered one says `lies`, or nothing that can be read.
    """

    def __init__(self, minutes: dict[int, int | None], lies: int | None = None) -> None:
        self.minutes, self.lies, self.probes = minutes, lies, 0

    def entries(self, uid: str, after_seq: int, limit: int) -> list[StoredEntry]:
        self.probes += 1
        return [self._entry(place) for place in sorted(self.minutes) if place > after_seq][:limit]

    def is_sealed(self, entry: StoredEntry) -> bool:
        return entry.key_id == "sealed"

    def _entry(self, place: int) -> StoredEntry:
        minutes = self.minutes[place]
        stated = minutes if minutes is not None else self.lies
        content = b"?" if stated is None else b'{"at":"%s"}' % moment(stated).isoformat().encode()
        return StoredEntry(content, "", "broken" if minutes is None else "sealed", b"", place)


@st.composite
def chains(draw: st.DrawFn) -> dict[int, int | None]:
    steps = draw(st.lists(st.integers(0, 3), max_size=40))
    at, minutes = 0, dict[int, int | None]()
    for place, step in enumerate(steps, 1):
        at += step
        fate = draw(st.sampled_from(["sealed"] * 4 + ["broken", "gone"]))
        if fate != "gone":
            minutes[place] = at if fate == "sealed" else None
    return minutes


def plainly(minutes: dict[int, int | None], last: int, limit: int) -> int:
    """One after the other: an entry that cannot be read or is not there lies with the one before it."""
    effective, passing = -1, 0
    for place in range(1, last + 1):
        known = minutes.get(place)
        effective = known if known is not None else effective
        if effective > limit:
            break
        passing = place
    return passing


@given(minutes=chains(), limit=st.integers(-1, 60), beyond=st.integers(0, 2))
@example(minutes={1: None, 2: None}, limit=0, beyond=0)
@example(minutes={1: 0, 2: None, 3: 5}, limit=2, beyond=0)
@example(minutes={}, limit=0, beyond=0)
def test_bisection_finds_what_a_plain_search_does(minutes: dict[int, int | None], limit: int, beyond: int) -> None:
    last = max(minutes, default=0) + beyond
    found = newest_where(_as_ledger(Stored(minutes)), "u", last, lambda at: at <= moment(limit))
    assert found == plainly(minutes, last, limit)


@given(minutes=chains(), limit=st.integers(-1, 60), lies=st.integers(-1000, 1000))
def test_what_was_tampered_with_lies_no_further_than_its_neighbours(
    minutes: dict[int, int | None], limit: int, lies: int
) -> None:
    """Whatever it says: every entry that is sound is on its own side of the moment."""
    last = max(minutes, default=0)
    found = newest_where(_as_ledger(Stored(minutes, lies)), "u", last, lambda at: at <= moment(limit))
    for place, at in minutes.items():
        if at is not None:
            assert (place <= found) is (at <= limit)


def test_a_tampered_entry_between_goes_by_what_it_says() -> None:
    chain = {1: 0, 2: None, 3: None, 4: 10}
    for limit, lies, expected in ((5, 3, 3), (5, 7, 1), (12, 3, 4), (5, -50, 3)):
        found = newest_where(_as_ledger(Stored(chain, lies)), "u", 4, lambda at, limit=limit: at <= moment(limit))
        assert found == expected


class Endless(Stored):
    """A long chain whose n-th entry was made n minutes after the start."""

    def entries(self, uid: str, after_seq: int, limit: int) -> list[StoredEntry]:
        self.probes += 1
        self.minutes = {place: place for place in range(after_seq + 1, after_seq + limit + 1)}
        return [self._entry(place) for place in self.minutes]


def test_it_asks_about_few_entries() -> None:
    chain = Endless({})
    assert newest_where(_as_ledger(chain), "u", 100_000, lambda at: at <= moment(70_123)) == 70_123
    assert chain.probes <= 20
    chain.probes = 0
    assert newest_where(_as_ledger(chain), "u", 100_000, lambda at: True) == 100_000
    assert chain.probes == 1, "the newest entry is asked first"


def _as_ledger(stored: Stored) -> Any:
    return stored
