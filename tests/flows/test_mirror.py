"""The balance mirror when deliveries are lost, when it is edited, and when the ledger loses its newest entries."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from firebase_admin import db
from firebase_admin import exceptions as firebase_exceptions
from support.backend import Backend

from concierge.credits import mirror_repair
from concierge.credits.mirror import BalanceMirror, MirrorSync, Strategy
from concierge.errors import Conflict, NotFound, Unavailable
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.transfers import Head

STRATEGIES: tuple[Strategy, ...] = ("authoritative-wins", "newest-seq", "manual-review")


@pytest.fixture
def credited(own_backend: Backend) -> Callable[..., str]:
    """Makes an account of 1,000 microcredits at entry 2, whose mirror has followed; its uid."""

    def build(uid: str | None = None) -> str:
        uid = uid or uuid4().hex
        ledger = own_backend.ledger()
        ledger.credit(uid, op_id="welcome-bonus", kind="grant", amount=600, counter="expense:bonus")
        ledger.credit(uid, op_id="gift", kind="grant", amount=400, counter="expense:support")
        own_backend.idle()
        assert shown(own_backend, uid) == amounts(posted=1_000, seq=2)
        return uid

    return build


def mirror_of(backend: Backend, strategy: Strategy = "authoritative-wins") -> BalanceMirror:
    return BalanceMirror(backend.admin_app, backend.ledger().head, strategy)


def shown(backend: Backend, uid: str) -> Any:
    found = backend.admin(f"balances/{uid}").get()
    return {key: value for key, value in found.items() if key != "updatedAt"} if isinstance(found, dict) else found


def amounts(*, posted: int, seq: int, held: int = 0) -> dict[str, int]:
    return {"posted": posted, "held": held, "available": posted - held, "seq": seq}


def logged(capfd: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("there", [None, amounts(posted=600, seq=1)], ids=["missing", "older"])
def test_what_is_only_late_is_brought_up_by_every_strategy(
    own_backend: Backend, credited: Callable[..., str], strategy: Strategy, there: Any
) -> None:
    uid = credited()
    own_backend.admin(f"balances/{uid}").delete()
    if there is not None:
        own_backend.admin(f"balances/{uid}").set(there)
    synced = mirror_of(own_backend, strategy).sync(uid)
    assert synced == MirrorSync(there, amounts(posted=1_000, seq=2), "written")
    assert shown(own_backend, uid) == amounts(posted=1_000, seq=2)
    assert mirror_of(own_backend, strategy).sync(uid).action == "none"


@pytest.mark.parametrize(
    "there",
    [
        amounts(posted=9_000, seq=2),
        {**amounts(posted=1_000, seq=2), "vip": True},
        {"posted": 1_000, "seq": 2},
        {"posted": 9_000},
        "rich",
        {**amounts(posted=1_000, seq=2), "seq": "2"},
    ],
    ids=["other amount", "more fields", "fewer fields", "no entry", "a text", "entry is a text"],
)
def test_an_edited_mirror_is_repaired_or_left_to_an_administrator(
    own_backend: Backend, credited: Callable[..., str], there: Any
) -> None:
    uid = credited()
    for strategy in STRATEGIES:
        own_backend.admin(f"balances/{uid}").set(there)
        synced = mirror_of(own_backend).sync(uid, strategy)
        if strategy == "manual-review":
            assert (synced.action, synced.before) == ("review", synced.after)
            assert own_backend.admin(f"balances/{uid}").get() == there
            assert own_backend.admin(f"housekeeping/mirrorReviews/{uid}/shown").get() == there
        else:
            assert (synced.action, synced.after) == ("written", amounts(posted=1_000, seq=2))
            assert shown(own_backend, uid) == amounts(posted=1_000, seq=2)
    mirror_of(own_backend).resolve_review(uid, decision_id="d0", actor="admin")


@pytest.mark.parametrize(
    ("strategy", "action", "after"),
    [("authoritative-wins", "written", 2), ("newest-seq", "left", 9), ("manual-review", "review", 9)],
)
def test_a_mirror_ahead_of_the_ledger_is_always_reported(
    own_backend: Backend,
    credited: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
    strategy: Strategy,
    action: str,
    after: int,
) -> None:
    """The ledger may have lost its newest entries: the mirror is then the last witness."""
    uid = credited()
    own_backend.admin(f"balances/{uid}").set(amounts(posted=5_000, seq=9))
    capfd.readouterr()
    synced = mirror_of(own_backend, strategy).sync(uid)
    assert (synced.action, synced.before) == (action, amounts(posted=5_000, seq=9))
    assert shown(own_backend, uid)["seq"] == after
    (report,) = logged(capfd, "mirror.ahead")
    assert report["severity"] == "CRITICAL"
    assert (report["shown"]["seq"], report["shown"]["posted"], report["ledger"]["seq"]) == (9, 5_000, 2)


def test_a_mirror_ahead_of_an_old_reading_is_not_ahead_of_the_ledger(
    own_backend: Backend, credited: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The ledger moves between two looks: the head that counts is read after the mirror."""
    uid = credited()
    ledger = own_backend.ledger()
    reads: list[Head | None] = []

    def find_head(wanted: str) -> Head | None:
        if not reads:
            ledger.credit(wanted, op_id="more", kind="grant", amount=5, counter="expense:support")
            own_backend.idle()
        reads.append(ledger.head(wanted))
        return reads[-1]

    capfd.readouterr()
    assert BalanceMirror(own_backend.admin_app, find_head, "authoritative-wins").sync(uid).action == "none"
    # The mirror was older than the first head that was read, and had followed before it could be written.
    assert len(reads) == 2
    assert logged(capfd, "mirror.ahead") == []


def test_a_repair_never_overwrites_what_is_written_meanwhile(
    own_backend: Backend, credited: Callable[..., str]
) -> None:
    """A newer head arrives after the repair has read an older one: it stays."""
    uid = credited()
    reference = own_backend.admin(f"balances/{uid}")
    old = own_backend.ledger().head(uid)
    assert old is not None
    heads = iter([old])

    def find_head(wanted: str) -> Head | None:
        stale = next(heads, None)
        if stale is None:
            return own_backend.ledger().head(wanted)
        own_backend.ledger().credit(wanted, op_id="more", kind="grant", amount=5, counter="expense:support")
        own_backend.idle()
        return stale

    reference.delete()
    synced = BalanceMirror(own_backend.admin_app, find_head, "authoritative-wins").sync(uid)
    assert (synced.action, shown(own_backend, uid)) == ("none", amounts(posted=1_005, seq=3))


def test_a_balance_that_never_holds_still_is_given_up(own_backend: Backend, credited: Callable[..., str]) -> None:
    uid = credited()
    numbers = iter(range(1, 100))

    def find_head(wanted: str) -> Head | None:
        own_backend.admin(f"balances/{uid}").set(amounts(posted=next(numbers), seq=1))
        return own_backend.ledger().head(wanted)

    own_backend.admin(f"balances/{uid}").set(amounts(posted=0, seq=1))
    with pytest.raises(Unavailable):
        BalanceMirror(own_backend.admin_app, find_head, "authoritative-wins").sync(uid)


def test_somebody_without_an_account_has_nothing_to_show(own_backend: Backend) -> None:
    uid = uuid4().hex
    assert mirror_of(own_backend).sync(uid) == MirrorSync(None, None, "none")
    own_backend.admin(f"balances/{uid}").set(amounts(posted=7, seq=3))
    assert mirror_of(own_backend, "newest-seq").sync(uid).action == "left"
    assert mirror_of(own_backend).sync(uid).after == amounts(posted=0, seq=0)


def test_a_review_holds_both_sides_and_is_resolved_once(own_backend: Backend, credited: Callable[..., str]) -> None:
    uid = credited()
    there = amounts(posted=9_000, seq=4)
    own_backend.admin(f"balances/{uid}").set(there)
    reviewing = mirror_of(own_backend, "manual-review")
    assert [reviewing.sync(uid).action for _ in range(2)] == ["review", "review"]
    review = reviewing.reviews()[uid]
    assert (review["shown"], review["ledger"]) == (there, amounts(posted=1_000, seq=2))
    assert type(review["at"]) is int
    resolved = reviewing.resolve_review(uid, decision_id="d1", actor="admin-1")
    assert resolved == MirrorSync(there, amounts(posted=1_000, seq=2), "written")
    assert uid not in reviewing.reviews()
    # Whoever was not told of it may say so again; another decision finds nothing to decide.
    assert reviewing.resolve_review(uid, decision_id="d1", actor="admin-1").action == "none"
    with pytest.raises(NotFound):
        reviewing.resolve_review(uid, decision_id="d2", actor="admin-2")
    assert own_backend.admin(f"housekeeping/mirrorReviews/{uid}/resolvedBy").get() == "admin-1"
    # A later conflict is a new review.
    own_backend.admin(f"balances/{uid}").set(amounts(posted=8_000, seq=4))
    assert reviewing.sync(uid).action == "review"
    assert reviewing.reviews()[uid]["shown"] == amounts(posted=8_000, seq=4)


def test_two_administrators_do_not_resolve_the_same_review(own_backend: Backend, credited: Callable[..., str]) -> None:
    uid = credited()
    own_backend.admin(f"balances/{uid}").set("rich")
    reviewing = mirror_of(own_backend, "manual-review")
    reviewing.sync(uid)
    get = db.Reference.get

    def overtaken(reference: db.Reference, *arguments: Any, **options: Any) -> Any:
        found = get(reference, *arguments, **options)
        if reference.path.startswith("/housekeeping/mirrorReviews"):
            own_backend.admin(f"housekeeping/mirrorReviews/{uid}/resolvedBy").set("admin-2")
        return found

    with mock.patch.object(db.Reference, "get", overtaken), pytest.raises(Conflict):
        reviewing.resolve_review(uid, decision_id="d1", actor="admin-1")
    reviewing.resolve_review(uid, decision_id="d2", actor="admin-2")


def test_lost_deliveries_and_edits_are_found_on_a_schedule(own_backend: Backend, credited: Callable[..., str]) -> None:
    lost, edited, honest = credited(), credited(), credited()
    assert own_backend.repair_mirrors() == 200
    own_backend.fault("trigger.account_written", "drop")
    own_backend.ledger().credit(lost, op_id="lost", kind="grant", amount=5, counter="expense:support")
    own_backend.idle()
    assert shown(own_backend, lost)["seq"] == 2, "the delivery was lost"
    own_backend.admin(f"balances/{edited}/posted").set(10**9)
    before = own_backend.admin(f"balances/{honest}").get()
    assert own_backend.repair_mirrors() == 200
    assert shown(own_backend, lost) == amounts(posted=1_005, seq=3)
    assert shown(own_backend, edited) == amounts(posted=1_000, seq=2)
    assert own_backend.admin(f"balances/{honest}").get() == before, "what agrees is not written"


class CountingMirror(BalanceMirror):
    """Notes whose mirrors are looked at; `broken` ones cannot be."""

    def __init__(self, backend: Backend, broken: str = "") -> None:
        super().__init__(backend.admin_app, backend.ledger().head, "authoritative-wins")
        self.broken = broken
        self.looked_at: list[str] = []

    def agrees(self, uid: str, head: Head) -> bool:
        self.looked_at.append(uid)
        if uid == self.broken:
            raise firebase_exceptions.UnavailableError("the database is down")
        return super().agrees(uid, head)


@dataclass
class Feed(ChangeFeed):
    """A feed whose cursor is past all that other tests did; changes of this test are put behind `start`."""

    backend: Backend
    start: datetime

    def __post_init__(self) -> None:
        super().__init__(self.backend.firestore)
        self.save_cursor("mirror", self.start)

    def changed(self, uid: str, after: timedelta) -> None:
        """Stamps an account as changed then, as the server would have done."""
        self.backend.firestore.document(f"accounts/{uid}").update({"changedAt": self.start + after})
        self.backend.idle()


_starts = (datetime.now(UTC) + timedelta(days=day) for day in count(1))


@pytest.fixture
def feed(own_backend: Backend) -> Feed:
    return Feed(own_backend, next(_starts))


def test_the_cost_follows_what_changed(own_backend: Backend, credited: Callable[..., str], feed: Feed) -> None:
    changed, old = credited(), credited()
    feed.changed(changed, timedelta(minutes=2))
    counting = CountingMirror(own_backend)
    noted: list[tuple[str, int]] = []
    report = mirror_repair.repair(counting, feed, lambda uid, head: noted.append((uid, head.seq)), rotation_accounts=1)
    assert counting.looked_at[0] == changed
    assert old not in counting.looked_at[:1]
    # One more comes from the rotation, whoever's turn it is.
    assert len(counting.looked_at) == 2
    assert sum(report.values()) == 2
    assert (changed, 2) in noted
    # Once more: the cursor has moved to the change, and the margin before it shows the change again, and no other.
    counting.looked_at.clear()
    mirror_repair.repair(counting, feed, rotation_accounts=1)
    assert counting.looked_at[:-1] == [changed]


def test_all_accounts_come_in_turns(own_backend: Backend, credited: Callable[..., str], feed: Feed) -> None:
    uids = {credited() for _ in range(3)}
    counting = CountingMirror(own_backend)
    everybody = sum(1 for _ in own_backend.firestore.collection("accounts").stream())
    # Whoever's turn it was: after as many turns as there are accounts, and one for the end of the list, all were seen.
    for _ in range(everybody + 1):
        mirror_repair.repair(counting, feed, rotation_accounts=1)
    assert len(counting.looked_at) == everybody
    assert uids <= set(counting.looked_at)


def test_what_fails_is_looked_at_again_and_does_not_stop_the_others(
    own_backend: Backend, credited: Callable[..., str], feed: Feed
) -> None:
    broken, fine = credited(), credited()
    for uid, minutes in ((broken, 2), (fine, 4)):
        feed.changed(uid, timedelta(minutes=minutes))
        own_backend.admin(f"balances/{uid}").delete()
    report = mirror_repair.repair(CountingMirror(own_backend, broken), feed, rotation_accounts=1)
    assert (report["error"] >= 1, shown(own_backend, broken), shown(own_backend, fine)["seq"]) == (True, None, 2)
    mirror_repair.repair(CountingMirror(own_backend), feed, rotation_accounts=1)
    assert shown(own_backend, broken) == amounts(posted=1_000, seq=2)


def test_what_keeps_failing_does_not_hold_the_cursor_for_ever(
    own_backend: Backend, credited: Callable[..., str], feed: Feed
) -> None:
    broken, fine = credited(), credited()
    for uid, hours in ((broken, 1), (fine, 9)):
        feed.changed(uid, timedelta(hours=hours))
    counting = CountingMirror(own_backend, broken)

    def later() -> datetime:
        return feed.start + timedelta(hours=10)

    for _ in range(2):
        counting.looked_at.clear()
        mirror_repair.repair(counting, feed, now=later, rotation_accounts=1)
    assert counting.looked_at[:-1] == [fine]


def test_a_first_run_leaves_old_accounts_to_the_rotation(
    own_backend: Backend, credited: Callable[..., str], feed: Feed
) -> None:
    old, lately = credited(), credited()
    feed.changed(old, -timedelta(hours=3))
    feed.changed(lately, timedelta(0))
    own_backend.firestore.document("housekeeping/mirror").delete()
    counting = CountingMirror(own_backend)
    mirror_repair.repair(counting, feed, now=lambda: feed.start, rotation_accounts=1)
    assert lately in counting.looked_at
    assert old not in counting.looked_at[:-1]
