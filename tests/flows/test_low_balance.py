"""Low balances: told once for each crossing, whatever becomes of the deliveries."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.api import administrator, call, dump, uid_of
from support.backend import Backend
from support.waiting import eventually

from concierge.credits.low_balance.service import LowBalance, crossing_id
from concierge.credits.usage.recorder import End, UsageRecorder
from concierge.ledger.repository import Work
from concierge.ledger.transfers import Head
from concierge.orchestration.events import EventBus

CREDIT = 1_000_000
THRESHOLD = 50 * CREDIT
STEP = 500 * CREDIT


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


def instance(backend: Backend, threshold: int = THRESHOLD) -> LowBalance:
    """One more instance of whoever watches, to be told of heads in any order."""
    return LowBalance(
        backend.admin_app,
        EventBus(backend.admin_app),
        lambda uid: ({}, datetime.now(UTC).date()),
        threshold=threshold,
        step=STEP,
    )


def head(posted: int, seq: int, held: int = 0) -> Head:
    return Head(seq=seq, posted=posted, held=held)


def state(backend: Backend, uid: str) -> dict[str, Any]:
    found: dict[str, Any] = backend.admin(f"housekeeping/lowBalance/{uid}").get() or {}
    return found


def told(backend: Backend, uid: str) -> dict[str, Any]:
    """The events about one person, by id; each has its notification and the other way round."""
    events = backend.admin("events").get() or {}
    about = {name: event for name, event in events.items() if event["payload"].get("uid") == uid}
    notifications = backend.admin(f"notifications/{uid}").get() or {}
    assert set(about) == set(notifications)
    assert all(event["topic"] == "credits.low" and event["key"] == uid for event in about.values())
    return about


def credit(backend: Backend, uid: str, amount: int) -> None:
    backend.ledger().credit(uid, op_id=uuid4().hex, kind="purchase", amount=amount, counter="liability:stripe")


def take(backend: Backend, uid: str, amount: int) -> None:
    backend.ledger().clawback(uid, op_id=uuid4().hex, amount=amount, counter="liability:stripe")


def spent(backend: Backend, uid: str, amount: int, at: datetime) -> None:
    """A request of some day, charged and counted."""
    ledger, hold_id = backend.ledger(now=lambda: at), uuid4().hex
    work = Work("chat", "scripted")
    ledger.place_hold(uid, hold_id, request_hash="h", run_id="r", amount=amount, minimum=amount, work=work)
    counting = UsageRecorder(backend.firestore).beside(End("done", "scripted", 1, 0, 1))
    ledger.capture(uid, hold_id, amount, counter="revenue:chat", beside=counting)


def person(backend: Backend, posted: int) -> str:
    uid = uuid4().hex
    credit(backend, uid, posted)
    backend.idle()
    return uid


def test_a_person_is_told_once_for_each_crossing(backend: Backend) -> None:
    client = backend.client()
    uid = uid_of(client)
    credit(backend, uid, THRESHOLD + 10)
    backend.idle()
    assert told(backend, uid) == {}
    assert (state(backend, uid)["low"], state(backend, uid)["crossings"]) == (False, 0)
    take(backend, uid, 10)
    backend.idle()
    assert told(backend, uid) == {}, "at the threshold nobody is below it"
    take(backend, uid, 1)
    take(backend, uid, 5)
    backend.idle()
    (first,) = told(backend, uid)
    assert first == crossing_id(uid, 1)
    event = told(backend, uid)[first]
    assert event["payload"] == {
        "uid": uid,
        "seq": event["payload"]["seq"],
        "postedMicrocredits": event["payload"]["postedMicrocredits"],
        "thresholdMicrocredits": THRESHOLD,
        "recommendedMicrocredits": STEP,
    }
    # Their client sees it, and marks it as read.
    shown = client.read(f"notifications/{uid}/{first}")
    assert (shown["kind"], shown["data"]["recommendedMicrocredits"]) == ("credits.low", STEP)
    assert "left" in shown["body"]
    client.put(f"notifications/{uid}/{first}/readAt", {".sv": "timestamp"})
    # A little more is not enough to arm it again.
    credit(backend, uid, 5)
    backend.idle()
    take(backend, uid, 5)
    backend.idle()
    assert len(told(backend, uid)) == 1
    credit(backend, uid, 6)
    backend.idle()
    take(backend, uid, 1)
    backend.idle()
    assert set(told(backend, uid)) == {first, crossing_id(uid, 2)}
    assert client.read(f"notifications/{uid}/{first}/readAt") is not None


def test_a_hold_is_not_a_spending(backend: Backend) -> None:
    client = backend.funded(THRESHOLD + 100)
    uid = uid_of(client)
    backend.ledger().place_hold(uid, "h", request_hash="h", run_id="r", amount=CREDIT, minimum=CREDIT)
    backend.idle()
    assert told(backend, uid) == {}
    backend.ledger().capture(uid, "h", 101, counter="revenue:chat")
    backend.idle()
    assert len(told(backend, uid)) == 1


def test_an_answer_that_takes_a_balance_below_is_told(backend: Backend) -> None:
    client = backend.funded(THRESHOLD + 100)
    response = backend.answer(client, "hello")
    backend.idle()
    (event,) = told(backend, uid_of(client)).values()
    assert event["payload"]["postedMicrocredits"] == THRESHOLD + 100 - response["cost"]["chargedMicrocredits"]
    assert event["payload"]["seq"] == response["receipt"]["entrySeq"]


@pytest.mark.parametrize("count", [1, 3])
def test_duplicated_deliveries_tell_once(backend: Backend, count: int) -> None:
    uid = person(backend, THRESHOLD)
    for _ in range(count):
        backend.fault("trigger.account_written", "duplicate")
    take(backend, uid, 1)
    backend.idle()
    take(backend, uid, 1)
    backend.idle()
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    assert state(backend, uid)["crossings"] == state(backend, uid)["announced"] == 1


def test_a_lost_delivery_is_made_good_by_the_repair(backend: Backend) -> None:
    uid = person(backend, THRESHOLD)
    backend.fault("trigger.account_written", "drop")
    take(backend, uid, 1)
    backend.idle()
    assert told(backend, uid) == {}
    assert backend.repair_mirrors() == 200
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    assert backend.repair_mirrors() == 200
    assert len(told(backend, uid)) == 1


def test_a_late_delivery_of_an_older_head_changes_nothing(backend: Backend) -> None:
    """The fall comes after the rise that followed it."""
    uid = person(backend, THRESHOLD)
    backend.fault("trigger.account_written", "delay", delay_ms=1_500)
    take(backend, uid, 1)
    credit(backend, uid, 1)
    eventually(lambda: state(backend, uid).get("seq") == 3, "the newer head")
    backend.idle()
    assert told(backend, uid) == {}
    assert state(backend, uid)["low"] is False
    # And the other way round: the rise is late, and does not arm what fell again after it.
    take(backend, uid, 1)
    backend.idle()
    backend.fault("trigger.account_written", "delay", delay_ms=1_500)
    credit(backend, uid, 1)
    take(backend, uid, 1)
    eventually(lambda: state(backend, uid).get("seq") == 6, "the newer head")
    backend.idle()
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    assert state(backend, uid)["low"] is True


def test_heads_in_any_order_and_at_once_tell_once(backend: Backend) -> None:
    """Instances that hear of the same heads, each in another order."""
    uid = uuid4().hex
    heads = [head(THRESHOLD + 5 - seq, seq) for seq in range(1, 11)]
    start = threading.Barrier(4)

    def hear(turn: int) -> None:
        watching = instance(backend)
        start.wait()
        for each in (heads[turn:] + heads[:turn])[:: 1 if turn % 2 else -1]:
            watching.note(uid, each)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hear, range(4)))
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    found = state(backend, uid)
    assert (found["low"], found["seq"], found["crossings"], found["announced"]) == (True, 10, 1, 1)
    event = told(backend, uid)[crossing_id(uid, 1)]
    assert event["payload"]["postedMicrocredits"] < THRESHOLD


def test_an_instance_that_was_overtaken_does_not_put_the_state_back(backend: Backend) -> None:
    """It read the state and stood still, while another instance heard of a newer head."""
    uid = uuid4().hex
    instance(backend).note(uid, head(THRESHOLD, 1))

    class Overtaken:
        """A head that takes its time to be judged."""

        seq, available = 2, 1

        @property
        def posted(self) -> int:
            if state(backend, uid)["seq"] == 1:
                instance(backend).note(uid, head(THRESHOLD + 7, 3))
            return 1

    instance(backend).note(uid, Overtaken())  # type: ignore[arg-type]
    assert state(backend, uid)["seq"] == 3
    assert state(backend, uid)["low"] is False
    assert told(backend, uid) == {}


@pytest.mark.parametrize("point", ["crossed", "told"])
def test_a_crash_between_the_steps_is_made_good_at_the_next_look(backend: Backend, point: str) -> None:
    uid = person(backend, THRESHOLD)
    backend.restart_functions(CONCIERGE_FAULT=f"low_balance.{point}:exit")
    take(backend, uid, 1)
    backend.await_crash()
    assert len(told(backend, uid)) == (0 if point == "crossed" else 1)
    assert state(backend, uid)["announced"] == (0 if point == "crossed" else 1)
    assert backend.repair_mirrors() == 200
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    assert state(backend, uid)["announced"] == 1


def test_what_is_told_again_stays_read(backend: Backend) -> None:
    """Two instances on the same crossing, the second one slow: the same ids, and the person's mark stays."""
    uid = uuid4().hex
    instance(backend).note(uid, head(1, 1))
    notification = f"notifications/{uid}/{crossing_id(uid, 1)}"
    backend.admin(f"{notification}/readAt").set(5)
    backend.admin(f"housekeeping/lowBalance/{uid}/announced").set(0)
    instance(backend).note(uid, head(1, 1))
    assert list(told(backend, uid)) == [crossing_id(uid, 1)]
    assert backend.admin(f"{notification}/readAt").get() == 5
    assert state(backend, uid)["announced"] == 1


@pytest.mark.parametrize("uid", ["victi%6d", "what?x", "sp ace", "a~b", "ключ", "-x", "x" * 128])
def test_any_user_id_is_told_as_itself(backend: Backend, uid: str) -> None:
    credit(backend, uid, 1)
    backend.idle()
    states = backend.admin("housekeeping/lowBalance").get()
    assert states[uid]["announced"] == 1
    notifications = backend.admin("notifications").get()
    assert list(notifications[uid]) == [crossing_id(uid, 1)]
    assert backend.admin(f"events/{crossing_id(uid, 1)}/key").get() == uid


# Thresholds.


def test_people_set_their_own_threshold(backend: Backend) -> None:
    client = backend.funded(100 * CREDIT)
    uid = uid_of(client)
    backend.idle()
    client.put(f"preferences/{uid}/lowBalanceCredits", 200.5)
    assert check(backend, client)["thresholdMicrocredits"] == 200_500_000
    assert check(backend, client)["low"] is True
    # The repair looks at this account, and finds the same head below another threshold.
    assert backend.repair_mirrors() == 200
    (event,) = told(backend, uid).values()
    assert event["payload"]["thresholdMicrocredits"] == 200_500_000
    # Off, and nobody is told anything.
    client.put(f"preferences/{uid}/lowBalanceCredits", 0)
    take(backend, uid, 99 * CREDIT)
    backend.idle()
    assert len(told(backend, uid)) == 1
    assert check(backend, client)["low"] is False
    assert state(backend, uid)["low"] is False
    # Back to the configured one.
    client.put(f"preferences/{uid}", {})
    take(backend, uid, 1)
    backend.idle()
    assert set(told(backend, uid)) == {crossing_id(uid, 1), crossing_id(uid, 2)}


@pytest.mark.parametrize("nonsense", [-1, "200", True, 1e300, 1_000_000_001])
def test_a_threshold_that_is_none_is_not_one(backend: Backend, nonsense: Any) -> None:
    client = backend.client()
    client.put(f"preferences/{uid_of(client)}/lowBalanceCredits", nonsense)
    assert check(backend, client)["thresholdMicrocredits"] == THRESHOLD


def test_switched_off_nothing_is_kept(backend: Backend) -> None:
    uid = uuid4().hex
    instance(backend, threshold=0).note(uid, head(-5, 3))
    assert state(backend, uid) == {}
    assert told(backend, uid) == {}


def test_a_damaged_state_starts_anew(backend: Backend) -> None:
    uid = uuid4().hex
    backend.admin(f"housekeeping/lowBalance/{uid}").set({"low": "yes", "seq": "many"})
    instance(backend).note(uid, head(1, 7))
    assert state(backend, uid)["announced"] == 1


# Asking.


def check(backend: Backend, client: Any, **parameters: str) -> dict[str, Any]:
    answer = call(backend, client, "GET", "/credits/low-balance-check", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_recommendation_follows_the_last_thirty_days(backend: Backend) -> None:
    client = backend.funded(2_000 * CREDIT)
    uid = uid_of(client)
    now = datetime.now(UTC)
    spent(backend, uid, 700 * CREDIT, now - timedelta(days=31))
    spent(backend, uid, 90 * CREDIT, now - timedelta(days=14))
    spent(backend, uid, 60 * CREDIT, now)
    found = check(backend, client)
    assert found == {
        "uid": uid,
        "low": False,
        "thresholdMicrocredits": THRESHOLD,
        "postedMicrocredits": 1_150 * CREDIT,
        "availableMicrocredits": 1_150 * CREDIT,
        "burnMicrocreditsPerDay": 10 * CREDIT,
        "daysLeft": 115.0,
        "recommendedMicrocredits": 0,
    }
    backend.ledger().place_hold(uid, "h", request_hash="h", run_id="r", amount=450 * CREDIT, minimum=1)
    backend.ledger().capture(uid, "h", 450 * CREDIT, counter="revenue:image")
    backend.ledger().place_hold(uid, "open", request_hash="h", run_id="r", amount=675 * CREDIT, minimum=1)
    held = check(backend, client)
    # 30 days of 10 credits, less the 25 that are available: 275, in steps of 500.
    assert (held["postedMicrocredits"], held["availableMicrocredits"]) == (700 * CREDIT, 25 * CREDIT)
    assert (held["low"], held["daysLeft"], held["recommendedMicrocredits"]) == (False, 2.5, STEP)


def test_what_is_told_recommends_by_the_burn(backend: Backend) -> None:
    uid = person(backend, 2_000 * CREDIT)
    now = datetime.now(UTC)
    # 700 credits within a week are 100 a day: 3,000 for 30 days, less what is left.
    spent(backend, uid, 700 * CREDIT, now)
    backend.idle()
    take(backend, uid, 1_260 * CREDIT)
    backend.idle()
    (event,) = told(backend, uid).values()
    assert event["payload"]["recommendedMicrocredits"] == 3_000 * CREDIT
    assert event["payload"]["postedMicrocredits"] == 40 * CREDIT


def test_a_check_is_its_owners_and_tells_nobody(backend: Backend) -> None:
    owner, stranger = backend.client(), backend.client()
    credit(backend, uid_of(owner), 1)
    backend.idle()
    before = dump(backend)
    assert check(backend, owner)["low"] is True
    assert check(backend, administrator(backend), uid=uid_of(owner))["low"] is True
    refused = call(backend, stranger, "GET", "/credits/low-balance-check", params={"uid": uid_of(owner)})
    assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
    assert call(backend, None, "GET", "/credits/low-balance-check").status_code == 401
    for parameters, field in (({"uid": "a/b"}, "uid"), ({"days": "3"}, "days")):
        answer = call(backend, owner, "GET", "/credits/low-balance-check", params=parameters)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
    nobody = check(backend, stranger)
    assert (nobody["postedMicrocredits"], nobody["daysLeft"], nobody["recommendedMicrocredits"]) == (0, None, STEP)
    assert dump(backend) == before


def test_everything_that_is_kept_of_a_person_is_in_the_export(backend: Backend) -> None:
    client = backend.funded(THRESHOLD + 100)
    backend.answer(client, "hello")
    backend.idle()
    sections = call(backend, client, "GET", f"/accounts/{uid_of(client)}/export").json()["sections"]
    (month,) = sections["usage"]
    ((day, kinds),) = sections["usage"][month]["days"].items()
    assert date.fromisoformat(f"{month}-{day}")
    assert kinds["chat"]["scripted"]["requests"] == 1
    assert sections["lowBalance"]["thresholdMicrocredits"] == THRESHOLD
    assert sections["lowBalance"]["state"]["announced"] == 1
