"""Pages of a history over the embedded Firestore, counted document by document."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import grpc.aio
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backend import SIGNING_KEY
from support.loop import LoopThread

from bench.firestore_calls import observed_server
from concierge.credits.history import CLOCK_SKEW, SCAN_MAX, Filters, page
from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.repository import LedgerRepository, account_to_document, entry_to_document
from concierge.ledger.service import Ledger
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head
from emulator.firestore import FirestoreServer

LEDGER = "demo-history"
KEYRING = Keyring.from_text(SIGNING_KEY, [])
START = datetime(2026, 1, 1, tzinfo=UTC)
SHORT, LONG = 11, 1203
# How far the clock of the instance that made an entry was ahead: never by more than instances may differ.
AHEAD = [timedelta(seconds=seconds) for seconds in (0, 9, 0, 4, 0, 0, 7)]
Marks = list[tuple[str, str]]


def at(seq: int) -> datetime:
    """When an entry says that it was made: every 3 seconds one, on clocks that differ."""
    return START + seq * timedelta(seconds=3) + AHEAD[seq % len(AHEAD)]


def kind_of(seq: int) -> str:
    return "grant" if seq == 1 else ("hold", "release")[seq % 2]


@pytest.fixture(scope="module")
def marks() -> Marks:
    return []


@pytest.fixture(scope="module")
def ledger(marks: Marks) -> Iterator[Ledger]:
    """A ledger with accounts of SHORT and LONG entries."""
    observed = observed_server(grpc.aio.server, lambda name, value: marks.append((name, value)))
    with LoopThread() as loop, mock.patch.object(grpc.aio, "server", observed):
        server = FirestoreServer()
        port = loop.run(server.start())
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}"}):
            client = firestore.Client(project=LEDGER, credentials=AnonymousCredentials())
        for uid, entries in (("short", SHORT), ("long", LONG)):
            _load(client, uid, entries)
        repository = LedgerRepository(client)
        yield Ledger(repository, KEYRING, ledger_id=LEDGER, hold_lifetime=timedelta(minutes=10))
        client.close()
        loop.run(server.stop())


def _load(client: firestore.Client, uid: str, entries: int) -> None:
    """The documents that the ledger would have made: a grant, then holds that are released at once."""
    head, account = Head(), client.collection("accounts").document(uid)
    writes: list[tuple[Any, dict[str, Any]]] = []
    for seq in range(1, entries + 1):
        if seq == 1:
            movement: Any = transfers.credit(head, "grant", 1000, "expense:bonus")
        elif kind_of(seq) == "hold":
            movement = transfers.hold(head, 10, 10)
        else:
            movement = transfers.resolve(head, "release", 10, 0, transfers.COUNTER_HELD)
        content = entry_content(
            ledger_id=LEDGER,
            uid=uid,
            head=head,
            movement=movement,
            op_id=f"op-{seq}",
            at=at(seq).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        digest = entry_hash(content)
        writes.append(
            (
                account.collection("entries").document(f"{seq:012d}"),
                entry_to_document(StoredEntry(content, digest, *KEYRING.sign(digest))),
            )
        )
        head = transfers.advance(head, movement, digest)
    writes.append((account, account_to_document(uid, head)))
    for first in range(0, len(writes), 400):
        batch = client.batch()
        for reference, document in writes[first : first + 400]:
            batch.create(reference, document)
        batch.commit()


def pages(ledger: Ledger, uid: str, filters: Filters, limit: int) -> Iterator[list[int]]:
    before = None
    while True:
        found = page(ledger, uid, filters, limit=limit, before=before)
        assert len(found.entries) <= limit
        yield [entry.place for entry in found.entries]
        if found.next_before is None:
            return
        assert before is None or found.next_before < before, "every page makes progress"
        before = found.next_before


def numbers(ledger: Ledger, uid: str, filters: Filters, limit: int) -> list[int]:
    return [seq for found in pages(ledger, uid, filters, limit) for seq in found]


def reads(marks: Marks, ledger: Ledger, uid: str, filters: Filters, **asked: Any) -> int:
    """How many documents one page reads."""
    marks.clear()
    page(ledger, uid, filters, **asked)
    return sum(int(value.split(",")[1]) for name, value in marks if name == "firestore.end")


times = st.builds(
    lambda seq, milliseconds: at(seq) + timedelta(milliseconds=milliseconds),
    st.integers(-5, SHORT + 5),
    st.sampled_from([-CLOCK_SKEW.total_seconds() * 1000, -1, 0, 1, CLOCK_SKEW.total_seconds() * 1000]),
)


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.frozensets(st.sampled_from(["grant", "hold", "release", "clawback"])),
    since=st.none() | times,
    until=st.none() | times,
    limit=st.integers(1, SHORT + 2),
)
def test_pages_are_what_a_look_at_every_entry_finds(
    ledger: Ledger, kinds: frozenset[str], since: datetime | None, until: datetime | None, limit: int
) -> None:
    """Whatever the clocks: an entry that says it was made in the range is found, and no other."""
    wanted = [
        seq
        for seq in range(SHORT, 0, -1)
        if (not kinds or kind_of(seq) in kinds)
        and (since is None or at(seq) >= since)
        and (until is None or at(seq) <= until)
    ]
    assert numbers(ledger, "short", Filters(kinds, since, until), limit) == wanted


@pytest.mark.parametrize("seq", [1, 2, 600, LONG - 1, LONG])
def test_a_moment_is_found_in_a_long_history(ledger: Ledger, seq: int) -> None:
    same = [other for other in range(LONG, 0, -1) if at(other) == at(seq)]
    assert numbers(ledger, "long", Filters(since=at(seq), until=at(seq)), 5) == same


def test_a_page_costs_the_same_however_long_the_history_is(ledger: Ledger, marks: Marks) -> None:
    for limit in (1, 5, 10):
        short, long = (reads(marks, ledger, uid, Filters(), limit=limit) for uid in ("short", "long"))
        # The head, the entries of the page, and the one that says that there are more.
        assert short == long == 1 + limit + 1
    # A later page does not need the head.
    assert reads(marks, ledger, "long", Filters(), limit=10, before=700) == 11


def test_a_page_that_finds_little_reads_so_much_and_no_more(ledger: Ledger, marks: Marks) -> None:
    grants = Filters(frozenset({"grant"}))
    assert reads(marks, ledger, "long", grants, limit=10) == 1 + SCAN_MAX
    assert [len(found) for found in pages(ledger, "long", grants, 10)] == [0, 0, 1]
    # A moment in the middle: the head, the bisection, and one batch around it.
    moment = Filters(since=at(600), until=at(600))
    assert reads(marks, ledger, "long", moment, limit=10) <= 1 + (LONG.bit_length() + 1) + 100
    # Before the first entry there is nothing to read.
    early = Filters(until=START - CLOCK_SKEW - timedelta(days=1))
    assert reads(marks, ledger, "long", early, limit=10) <= 1 + (LONG.bit_length() + 1)


def test_nobody_has_no_history(ledger: Ledger) -> None:
    assert list(pages(ledger, "nobody", Filters(), 5)) == [[]]
    assert list(pages(ledger, "nobody", Filters(hold_id="h"), 5)) == [[]]
