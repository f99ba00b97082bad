"""The ledger's operations on real documents, for what no client asks for directly: postings, transfers, long holds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import firestore
from support.backend import Backend

from concierge.errors import AccountFrozen, Conflict, HoldExpired, InsufficientCredits, NotFound, PermissionDenied
from concierge.ledger.changes import MARGIN, ChangeFeed
from concierge.ledger.repository import Hold, Write
from concierge.ledger.service import Ledger

CLOCK_START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = CLOCK_START

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **delta: float) -> None:
        self.time += timedelta(**delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(backend: Backend, clock: Clock) -> Ledger:
    return backend.ledger(now=clock)


@pytest.fixture
def account(ledger: Ledger) -> Callable[[int], str]:
    """Opens an account with this balance."""

    def opened(microcredits: int) -> str:
        uid = uuid4().hex
        ledger.credit(uid, op_id="opening", kind="purchase", amount=microcredits, counter="liability:test")
        return uid

    return opened


def place(ledger: Ledger, uid: str, hold_id: str, amount: int, run_id: str = "run") -> Hold:
    return ledger.place_hold(uid, hold_id, request_hash="h", run_id=run_id, amount=amount, minimum=amount)


def balanced(ledger: Ledger, *uids: str) -> None:
    """Every account verifies, and what all own and all counters come to zero."""
    total = 0
    for uid in uids:
        verification = ledger.verify(uid)
        assert verification.findings == []
        total += verification.head.posted + sum(verification.counters.values())
    assert total == 0
    heads = [ledger.head(uid) for uid in uids]
    assert sum(head.counters.get("account", 0) for head in heads if head) == 0


def test_a_clawback_leaves_a_debt_that_blocks_holds_until_it_is_paid(
    ledger: Ledger, account: Callable[[int], str]
) -> None:
    uid = account(100)
    place(ledger, uid, "spent", 80)
    ledger.capture(uid, "spent", 80, counter="revenue:chat")
    ledger.clawback(uid, op_id="refund:1", amount=100, counter="liability:test")
    head = ledger.head(uid)
    assert head is not None
    assert (head.posted, head.debt) == (-80, 80)
    refused = place(ledger, uid, "next", 1)
    assert refused.refusal is not None
    assert refused.refusal.missing == 81
    ledger.credit(uid, op_id="payment:2", kind="purchase", amount=90, counter="liability:test")
    assert place(ledger, uid, "after", 10).state == "held"
    ledger.release(uid, "after")
    assert ledger.head(uid).debt == 0  # type: ignore[union-attr]
    balanced(ledger, uid)


def test_a_capture_is_possible_after_a_clawback_took_what_was_held(
    ledger: Ledger, account: Callable[[int], str]
) -> None:
    uid = account(100)
    place(ledger, uid, "work", 100)
    ledger.clawback(uid, op_id="refund:1", amount=100, counter="liability:test")
    assert ledger.capture(uid, "work", 60, counter="revenue:chat").head.debt == 60
    balanced(ledger, uid)


def test_a_clawback_is_taken_once(ledger: Ledger, account: Callable[[int], str]) -> None:
    uid = account(100)
    with ThreadPoolExecutor(6) as pool:
        postings = list(
            pool.map(lambda _: ledger.clawback(uid, op_id="refund:1", amount=30, counter="liability:test"), range(6))
        )
    assert sorted(posting.replayed for posting in postings) == [False] + [True] * 5
    assert ledger.head(uid).posted == 70  # type: ignore[union-attr]
    with pytest.raises(Conflict):
        ledger.clawback(uid, op_id="refund:1", amount=31, counter="liability:test")
    balanced(ledger, uid)


def test_an_adjustment_is_signed_and_never_makes_a_debt(ledger: Ledger, account: Callable[[int], str]) -> None:
    uid = account(100)
    ledger.adjust(uid, op_id="a1", amount=50, counter="adjust:goodwill", memo="outage", actor="admin")
    ledger.adjust(uid, op_id="a2", amount=-150, counter="adjust:error", memo="typing error", actor="admin")
    with pytest.raises(InsufficientCredits):
        ledger.adjust(uid, op_id="a3", amount=-1, counter="adjust:error", memo="one more", actor="admin")
    ledger.credit(uid, op_id="later", kind="grant", amount=100, counter="expense:bonus")
    # What was refused once stays refused under its id, whatever the balance is today.
    with pytest.raises(InsufficientCredits):
        ledger.adjust(uid, op_id="a3", amount=-1, counter="adjust:error", memo="one more", actor="admin")
    operation = ledger.outcome(uid, "a1")
    assert operation is not None
    assert (operation.actor, operation.memo) == ("admin", "outage")
    assert ledger.head(uid).posted == 100  # type: ignore[union-attr]
    balanced(ledger, uid)


@pytest.mark.parametrize("amount", [0, 1.5, True, "1", None])
def test_an_adjustment_by_no_amount_is_refused(ledger: Ledger, account: Callable[[int], str], amount: Any) -> None:
    uid = account(100)
    with pytest.raises(ValueError, match="amount"):
        ledger.adjust(uid, op_id="a", amount=amount, counter="adjust:error", memo="m", actor="admin")
    assert ledger.outcome(uid, "a") is None


def test_only_a_credit_opens_an_account(ledger: Ledger) -> None:
    for post in (
        lambda uid: ledger.clawback(uid, op_id="x", amount=1, counter="liability:test"),
        lambda uid: ledger.adjust(uid, op_id="x", amount=1, counter="adjust:error", memo="m", actor="admin"),
        lambda uid: ledger.freeze(uid, op_id="x", reason="r", actor="admin"),
    ):
        uid = uuid4().hex
        with pytest.raises(NotFound):
            post(uid)
        assert ledger.head(uid) is None


def test_a_frozen_account_settles_and_receives_but_does_not_spend(
    ledger: Ledger, account: Callable[[int], str]
) -> None:
    uid, other = account(100), account(1)
    place(ledger, uid, "running", 40)
    ledger.freeze(uid, op_id="f1", reason="dispute", actor="admin")
    with pytest.raises(Conflict):
        ledger.freeze(uid, op_id="f2", reason="again", actor="admin")
    assert ledger.freeze(uid, op_id="f1", reason="dispute", actor="admin").replayed
    refused = place(ledger, uid, "new", 1)
    assert refused.refusal is not None
    assert refused.refusal.reason == "ACCOUNT_FROZEN"
    with pytest.raises(AccountFrozen):
        ledger.transfer(uid, other, op_id="t", amount=1)
    ledger.capture(uid, "running", 30, counter="revenue:chat")
    ledger.credit(uid, op_id="paid", kind="purchase", amount=5, counter="liability:test")
    ledger.unfreeze(uid, op_id="u1", reason="settled", actor="admin")
    assert place(ledger, uid, "newer", 75).state == "held"
    ledger.release(uid, "newer")
    assert [entry.fields()["kind"] for entry in ledger.entries(uid)].count("adjust") == 2
    balanced(ledger, uid)


def test_a_transfer_moves_both_accounts_in_one_commit(ledger: Ledger, account: Callable[[int], str]) -> None:
    source, target = account(100), account(1)
    paid, received = ledger.transfer(source, target, op_id="t1", amount=60)
    assert not (paid.replayed or received.replayed)
    assert ledger.transfer(source, target, op_id="t1", amount=60)[0].replayed
    with pytest.raises(Conflict):
        ledger.transfer(source, target, op_id="t1", amount=61)
    with pytest.raises(InsufficientCredits):
        ledger.transfer(source, target, op_id="t2", amount=41)
    assert [ledger.head(uid).posted for uid in (source, target)] == [40, 61]  # type: ignore[union-attr]
    fields = ledger.entries(source)[-1].fields()
    assert (fields["kind"], fields["counter"]) == ("transfer-out", f"account:{target}")
    # A head does not grow with the number of accounts that it has dealt with.
    assert ledger.head(source).counters == {"liability:test": -100, "account": 60}  # type: ignore[union-attr]
    balanced(ledger, source, target)


def test_a_transfer_whose_answer_is_lost_happens_once(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    source, target = account(100), account(1)
    backend.fault("firestore.Commit", "error_after")
    ledger.transfer(source, target, op_id="t1", amount=60)
    assert [ledger.head(uid).posted for uid in (source, target)] == [40, 61]  # type: ignore[union-attr]
    balanced(ledger, source, target)


def test_transfers_in_both_directions_at_once_lose_nothing(ledger: Ledger, account: Callable[[int], str]) -> None:
    one, other = account(1000), account(1000)

    def move(number: int) -> None:
        pair = (one, other) if number % 2 else (other, one)
        ledger.transfer(*pair, op_id=f"t{number}", amount=number + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(16)))
    assert sum(ledger.head(uid).posted for uid in (one, other)) == 2000  # type: ignore[union-attr]
    balanced(ledger, one, other)


def test_a_transfer_needs_two_accounts(ledger: Ledger, account: Callable[[int], str]) -> None:
    uid = account(10)
    with pytest.raises(ValueError, match="two accounts"):
        ledger.transfer(uid, uid, op_id="t", amount=1)
    with pytest.raises(NotFound):
        ledger.transfer(uid, uuid4().hex, op_id="t", amount=1)
    assert ledger.head(uid).posted == 10  # type: ignore[union-attr]


def test_a_heartbeat_keeps_a_hold_alive_up_to_its_longest(
    ledger: Ledger, account: Callable[[int], str], clock: Clock
) -> None:
    uid = account(100)
    place(ledger, uid, "long", 50)
    for _ in range(10):
        clock.forward(minutes=8)
        ledger.extend(uid, "long", fence=0)
    assert ledger.due_holds(500) == [hold for hold in ledger.due_holds(500) if hold.uid != uid]
    clock.forward(minutes=11)
    with pytest.raises(HoldExpired):
        ledger.extend(uid, "long", fence=0)
    assert ledger.expire(uid, "long").hold.state == "expired"
    balanced(ledger, uid)


def test_no_heartbeat_reaches_beyond_the_longest_life(
    ledger: Ledger, account: Callable[[int], str], clock: Clock
) -> None:
    uid = account(100)
    placed = place(ledger, uid, "endless", 50)
    for _ in range(200):
        clock.forward(minutes=9)
        try:
            extended = ledger.extend(uid, "endless", fence=0)
        except HoldExpired:
            break
        assert extended.expires_at <= placed.placed_at + timedelta(days=1)
    else:
        pytest.fail("a hold lived for more than a day")
    ledger.expire(uid, "endless")
    assert ledger.head(uid).held == 0  # type: ignore[union-attr]


def test_work_that_was_taken_over_is_fenced(ledger: Ledger, account: Callable[[int], str], clock: Clock) -> None:
    uid = account(100)
    stale = place(ledger, uid, "work", 50, run_id="first")
    taken = ledger.take_over(uid, "work", run_id="second")
    assert (taken.fence, ledger.take_over(uid, "work", run_id="second").fence) == (1, 1)
    with pytest.raises(Conflict):
        ledger.extend(uid, "work", fence=stale.fence)
    with pytest.raises(Conflict):
        ledger.capture(uid, "work", 10, counter="revenue:chat", fence=stale.fence)
    with pytest.raises(Conflict):
        ledger.release(uid, "work", fence=stale.fence)
    assert ledger.capture(uid, "work", 20, counter="revenue:chat", fence=taken.fence).hold.captured == 20
    with pytest.raises(Conflict):
        ledger.take_over(uid, "work", run_id="third")
    balanced(ledger, uid)


def test_a_run_that_was_taken_over_cannot_take_the_work_back(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    """Its task may be delivered again at any time, and would fence the run that goes on with the work."""
    uid = account(100)
    place(ledger, uid, "work", 50, run_id="first")
    for run_id in ("second", "third"):
        ledger.take_over(uid, "work", run_id=run_id)
    for run_id in ("first", "second"):
        with pytest.raises(Conflict, match="taken over"):
            ledger.take_over(uid, "work", run_id=run_id)
    # Another instance, which has to read it from the documents.
    taken = backend.ledger(now=ledger._appender.now).take_over(uid, "work", run_id="third")
    assert (taken.run_id, taken.fence, taken.former_runs) == ("third", 2, ("first", "second"))
    assert ledger.capture(uid, "work", 20, counter="revenue:chat", fence=2).hold.captured == 20
    balanced(ledger, uid)


def test_a_hold_whose_time_is_up_cannot_be_taken_over(
    ledger: Ledger, account: Callable[[int], str], clock: Clock
) -> None:
    uid = account(100)
    place(ledger, uid, "late", 50)
    clock.forward(minutes=10)
    with pytest.raises(HoldExpired):
        ledger.take_over(uid, "late", run_id="second")
    ledger.expire(uid, "late")


def test_a_quarantined_account_takes_no_entry(backend: Backend, ledger: Ledger, account: Callable[[int], str]) -> None:
    uid = account(100)
    place(ledger, uid, "open", 50)
    backend.firestore.document(f"accounts/{uid}").update({"quarantined": True})
    for append in (
        lambda: ledger.credit(uid, op_id="c", kind="grant", amount=1, counter="expense:bonus"),
        lambda: ledger.capture(uid, "open", 1, counter="revenue:chat"),
        lambda: place(ledger, uid, "new", 1),
    ):
        with pytest.raises(AccountFrozen):
            append()
    backend.firestore.document(f"accounts/{uid}").update({"quarantined": False})
    ledger.release(uid, "open")
    assert len(ledger.entries(uid)) == 3
    balanced(ledger, uid)


def test_what_is_written_beside_an_entry_shares_its_commit(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    uid, marker = account(100), backend.firestore.document(f"markers/{uuid4().hex}")
    counter = backend.firestore.document(f"markers/{uuid4().hex}")

    def credit(op_id: str) -> None:
        writes = [Write.create(marker, {"by": op_id}), Write.merge(counter, {"count": firestore.Increment(1)})]
        ledger.credit(uid, op_id=op_id, kind="grant", amount=1, counter="expense:bonus", beside=lambda _: writes)

    backend.fault("firestore.Commit", "error_after")
    credit("one")
    credit("one")
    assert marker.get().to_dict() == {"by": "one"}
    assert counter.get().to_dict() == {"count": 1}

    def refuse(_: Any) -> list[Write]:
        raise PermissionDenied("not today")

    with pytest.raises(PermissionDenied):
        ledger.credit(uid, op_id="two", kind="grant", amount=1, counter="expense:bonus", beside=refuse)
    assert ledger.outcome(uid, "two") is None
    balanced(ledger, uid)


def test_of_two_operations_that_create_one_document_the_second_is_refused(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    uids, marker = [account(100) for _ in range(4)], backend.firestore.document(f"markers/{uuid4().hex}")

    def claim(uid: str) -> bool:
        def beside(_: Any) -> list[Write]:
            if marker.get().exists:
                raise PermissionDenied("claimed")
            return [Write.create(marker, {"by": uid})]

        try:
            ledger.credit(uid, op_id="claim", kind="grant", amount=1, counter="expense:bonus", beside=beside)
        except PermissionDenied:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(claim, uids)) == [False, False, False, True]
    assert sorted(ledger.head(uid).posted for uid in uids) == [100, 100, 100, 101]  # type: ignore[union-attr]


def test_a_document_that_changed_meanwhile_is_read_again_before_the_commit(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    uid, reference = account(100), backend.firestore.document(f"markers/{uuid4().hex}")
    seen: list[Any] = []

    def beside(_: Any) -> list[Write]:
        snapshot = reference.get()
        seen.append(snapshot.to_dict())
        if len(seen) == 1:
            reference.set({"by": "somebody else"})
        return [Write.replace(snapshot, {"by": "the ledger"})]

    ledger.credit(uid, op_id="one", kind="grant", amount=1, counter="expense:bonus", beside=beside)
    assert seen == [None, {"by": "somebody else"}]
    assert reference.get().to_dict() == {"by": "the ledger"}
    assert len(ledger.entries(uid)) == 2


def test_the_change_feed_shows_what_moved_and_nothing_else(
    backend: Backend, ledger: Ledger, account: Callable[[int], str]
) -> None:
    feed = ChangeFeed(backend.firestore)
    first = [account(100) for _ in range(5)]
    seen = {changed.uid: changed for changed in feed.since(None)}
    assert set(first) <= set(seen)
    assert all(seen[uid].head == ledger.head(uid) for uid in first)
    # Everything so far lies further back than the margin.
    cursor = max(changed.changed_at for changed in seen.values()) + MARGIN
    feed.save_cursor("test-feed", cursor)
    assert feed.load_cursor("test-feed") == cursor
    assert feed.load_cursor("never-ran") is None
    assert [changed.uid for changed in feed.since(cursor) if changed.uid in first] == []


def test_a_document_that_is_no_entry_ends_nobodys_history(
    backend: Backend, ledger: Ledger, account: Callable[[int], str], capfd: pytest.CaptureFixture[str]
) -> None:
    uid = account(100)
    ledger.credit(uid, op_id="more", kind="grant", amount=1, counter="expense:bonus")
    for name in ("0stray", "stray"):
        backend.firestore.document(f"accounts/{uid}/entries/{name}").set({"content": b"{}"})
    assert [entry.place for entry in ledger.entries(uid)] == [1, 2]
    assert capfd.readouterr().err.count("entry.stray") == 2
    assert ledger.head(uid).posted == 101  # type: ignore[union-attr]
