"""The scheduled validation: what it costs, what it does not take for damage, and what it finds that nobody changed
openly."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import firestore
from support.api import administrator, call, dump, uid_of
from support.backend import SIGNING_KEY, Backend
from support.integrity import THRESHOLDS, alerts, instance
from support.tampering import STRANGER, Victim
from support.waiting import eventually

from concierge.errors import AccountFrozen
from concierge.ledger.integrity.progress import State, open_state, seal_state
from concierge.ledger.integrity.replay import Derivation, Progress
from concierge.ledger.integrity.validation import _Run
from concierge.ledger.repository import head_from_document
from concierge.ledger.signatures import Keyring

KEYRING = Keyring.from_text(SIGNING_KEY, [])


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


@pytest.fixture
def victim(backend: Backend) -> Victim:
    """An account that was verified before."""
    victim = Victim(backend)
    validate(backend)
    assert state_of(backend, victim) is not None
    return victim


def validate(backend: Backend) -> None:
    assert backend.run_schedule("validate") == 200


def state_of(backend: Backend, victim: Victim) -> State | None:
    document = backend.firestore.document(f"validations/{victim.uid}").get().to_dict()
    return open_state(KEYRING, backend.stack.project, victim.uid, document)


def report_of(backend: Backend, victim: Victim) -> Any:
    return backend.firestore.document(f"integrityReports/{victim.uid}").get().to_dict()


def quarantined(victim: Victim) -> bool:
    return bool(victim.head.get().get("quarantined"))


def findings(backend: Backend, victim: Victim) -> list[tuple[int, str]]:
    return [(damage["seq"], damage["code"]) for damage in (report_of(backend, victim) or {}).get("damages", [])]


def test_nothing_is_suspected_while_accounts_move(backend: Backend) -> None:
    """Several runs at once, the deployed one among them, while holds come and go: no alarm, and all is followed."""
    victims = [Victim(backend) for _ in range(4)]
    ledger, ended = backend.ledger(), threading.Event()

    def move(victim: Victim) -> None:
        for _ in range(60):
            if ended.is_set():
                return
            hold_id = uuid4().hex
            ledger.place_hold(victim.uid, hold_id, request_hash="h", run_id="r", amount=10, minimum=10)
            ledger.capture(victim.uid, hold_id, 1, counter="revenue:chat")
            ledger.credit(victim.uid, op_id=hold_id, kind="purchase", amount=1, counter="liability:test")

    with ThreadPoolExecutor(9) as pool:
        movers = [pool.submit(move, victim) for victim in victims]
        try:
            runs = [pool.submit(lambda: [validate(backend) for _ in range(2)])]
            runs += [pool.submit(lambda: [instance(backend).validate() for _ in range(2)]) for _ in range(2)]
            runs.append(pool.submit(lambda: [backend.checkpoint() for _ in range(2)]))
            pages = [instance(backend).verify_page(victim.uid, None, 5_000) for victim in victims]
            outcomes = [run.result() for run in runs]
        finally:
            ended.set()
        for mover in movers:
            mover.result()
    assert all(report["damaged"] == report["error"] == 0 for run in outcomes[1:3] for report in run)
    assert [page.damages for page in pages] == [[]] * 4
    validate(backend)
    for victim in victims:
        assert report_of(backend, victim) is None and alerts(backend, victim.uid) == []
        state = state_of(backend, victim)
        assert state is not None
        assert state.progress.head == ledger.head(victim.uid)


def test_a_damaged_account_is_closed_however_busy_it_is(backend: Backend, victim: Victim) -> None:
    victim.hold_document("r1").update({"captured": 9})
    ended = threading.Event()

    def move() -> None:
        while not ended.is_set():
            try:
                backend.ledger().credit(
                    victim.uid, op_id=uuid4().hex, kind="purchase", amount=1, counter="liability:test"
                )
            except AccountFrozen:
                return

    with ThreadPoolExecutor(2) as pool:
        movers = [pool.submit(move) for _ in range(2)]
        try:
            validate(backend)
            assert quarantined(victim)
        finally:
            ended.set()
        for mover in movers:
            mover.result()
    assert findings(backend, victim) == [(3, "HOLD_MISMATCH")]
    repair(backend, victim)


def test_a_run_costs_what_has_changed(backend: Backend) -> None:
    """The same documents for an account of 12 entries as for one of 300."""
    ledger, costs = backend.ledger(), []
    for length in (12, 300):
        victim = Victim(backend)
        for number in range(length - 9):
            ledger.credit(victim.uid, op_id=str(number), kind="purchase", amount=1, counter="liability:test")
        run = instance(backend, rotation_documents=0)
        run.validate()
        before = state_of(backend, victim)
        assert before is not None and before.progress.head.seq == length
        victim.hold("more")
        ledger.capture(victim.uid, "more", 5, counter="revenue:chat")
        reads: list[int] = []
        run.validation._examiner.page = counted(run.validation._examiner.page, victim.uid, reads)  # type: ignore[method-assign]
        run.validate()
        after = state_of(backend, victim)
        assert after is not None and after.progress.head.seq == length + 2
        costs.append(reads)
    assert costs == [[2], [2]], "entries that are read"


def counted(page: Any, uid: str, reads: list[int]) -> Any:
    def observed(account: Any, *arguments: Any, **named: Any) -> Any:
        found = page(account, *arguments, **named)
        if account.uid == uid:
            reads.append(found.entries)
        return found

    return observed


def test_a_state_that_was_forged_is_not_believed(backend: Backend, victim: Victim) -> None:
    """A whole chain is signed with another key, and the validation's own record says that it was verified."""
    victim.forge_chain()
    derivation = Derivation()
    for entry in backend.ledger().entries(victim.uid):
        derivation.take(entry)
    victim.head.update({"counters": {"expense:bonus": -victim.head.get().get("posted")}})
    head = replace(head_from_document(victim.head.get().to_dict()), quarantined=False)
    # All there is agrees with it, but for the key; nothing is shown that could contradict.
    backend.idle()
    backend.admin(f"balances/{victim.uid}").delete()
    forged = State(Progress(head, derivation.open, derivation.seals))
    for hold in derivation.holds:
        truth = derivation.holds[hold]
        victim.hold_document(hold).update({"entryHash": truth.entry_hash})
    for op_id, done in derivation.operations.items():
        victim.operation(op_id).update({"hash": done.hash, "amount": done.amount})
    document = backend.firestore.document(f"validations/{victim.uid}")
    document.set(seal_state(STRANGER, backend.stack.project, victim.uid, forged))
    validate(backend)
    assert (1, "UNKNOWN_KEY") in findings(backend, victim)
    assert quarantined(victim)


def test_old_entries_are_read_again_in_turns(backend: Backend) -> None:
    """A budget of one document a run still gets through all accounts, one group after the other."""
    victims = [Victim(backend) for _ in range(25)]
    validate(backend)
    for victim in (victims[0], victims[-1]):
        victim.flip(4, "signature", 5)
    run = instance(backend, rotation_documents=1)
    for _ in range(50):
        run.validate()
        if all(quarantined(victim) for victim in (victims[0], victims[-1])):
            break
    assert [quarantined(victim) for victim in victims] == [True, *[False] * 23, True]


def test_a_first_run_leaves_old_accounts_to_the_rotation(backend: Backend) -> None:
    uid, then = uuid4().hex, datetime.now(UTC) - timedelta(hours=2)
    backend.ledger(now=lambda: then).credit(uid, op_id="o", kind="grant", amount=1, counter="expense:bonus")
    backend.firestore.document(f"accounts/{uid}").update({"changedAt": then})
    backend.firestore.document("housekeeping/validation").delete()
    state = backend.firestore.document(f"validations/{uid}")
    instance(backend).validation._changed(_Run())
    assert not state.get().exists
    validate(backend)
    assert state.get().exists


def test_an_account_that_is_gone_is_missed(backend: Backend, victim: Victim) -> None:
    for reference in [*victim.head.collection("entries").list_documents(), victim.head]:
        reference.delete()
    validate(backend)
    assert findings(backend, victim) == [(1, "TRUNCATED")]


def test_an_unreadable_head_does_not_keep_others_waiting(backend: Backend, victim: Victim) -> None:
    other = Victim(backend)
    victim.head.update({"posted": firestore.DELETE_FIELD, "changedAt": firestore.SERVER_TIMESTAMP})
    validate(backend)
    assert findings(backend, victim) == [(9, "HEAD_MISMATCH")]
    assert state_of(backend, other) is not None
    assert backend.checkpoint() == 200
    # Nothing that was made up for the missing field is signed.
    leaves = backend.firestore.collection("leaves")
    assert leaves.document(other.uid).get().exists
    assert not leaves.document(victim.uid).get().exists
    assert backend.run_schedule("mirror_repair") == 200
    assert backend.run_schedule("backup") == 200
    assert backend.firestore.document(f"backups/{other.uid}").get().get("seq") == 9
    repair(backend, victim)


def repair(backend: Backend, victim: Victim) -> None:
    outcome = instance(backend).repair(victim.uid, actor="somebody", reason="test")
    assert outcome.repaired, outcome
    assert backend.ledger().verify(victim.uid).verified


def test_a_time_in_the_future_does_not_blind_the_consumers(backend: Backend, victim: Victim) -> None:
    victim.head.update({"changedAt": datetime.now(UTC) + timedelta(days=300)})
    validate(backend)
    assert findings(backend, victim) == [(9, "HEAD_MISMATCH")]
    assert backend.run_schedule("mirror_repair") == 200
    assert backend.run_schedule("backup") == 200
    for consumer in ("validation", "mirror", "backup"):
        cursor = backend.firestore.document(f"housekeeping/{consumer}").get().get("cursor")
        assert cursor < datetime.now(UTC) + timedelta(minutes=1), consumer
    repair(backend, victim)


def test_the_fuse_keeps_a_missing_key_from_closing_all_accounts(backend: Backend) -> None:
    """Somebody has rotated the signing key and forgotten the old one's public half: all entries are of unknown keys."""
    for _ in range(5):
        Victim(backend)
    accounts = backend.firestore.collection("accounts")
    before = {snapshot.id for snapshot in accounts.stream() if snapshot.get("quarantined")}
    report = instance(backend, keyring=STRANGER, quarantine_max=2).validate()
    assert report["damaged"] >= 5
    assert ("MASS_DAMAGE", 0) in alerts(backend, None)
    closed = {snapshot.id for snapshot in accounts.stream() if snapshot.get("quarantined")} - before
    assert len(closed) == 2
    run = instance(backend)
    for uid in closed:
        assert run.repair(uid, actor="somebody", reason="the key is back").repaired


@pytest.mark.parametrize("point", ["before_state", "before_cursor", "before_report"])
def test_a_crash_at_any_step_is_made_good_by_the_next_run(backend: Backend, victim: Victim, point: str) -> None:
    victim.flip(2, "content", 30)
    other = Victim(backend)
    backend.restart_functions(CONCIERGE_FAULT=f"validation.{point}:exit")
    assert backend.run_schedule("validate") != 200
    backend.await_crash()
    validate(backend)
    assert findings(backend, victim)[0] == (2, "HASH_MISMATCH")
    assert alerts(backend, victim.uid)[0] == ("HASH_MISMATCH", 2)
    assert quarantined(victim)
    assert state_of(backend, other) is not None


def test_an_alert_that_could_not_be_sent_is_told_again(backend: Backend, victim: Victim) -> None:
    victim.flip(2, "content", 30)
    told: list[str] = []

    def publish(event_id: str, alert: Any) -> None:
        if alert.uid == victim.uid:
            told.append(event_id)
            if deaf:
                raise ConnectionError("nobody listens")

    deaf = True
    run = instance(backend, publish=publish)
    assert run.validate()["error"] >= 1
    assert alerts(backend, victim.uid) == []
    assert quarantined(victim), "it is contained whoever hears of it"
    deaf = False
    run.validate()
    assert alerts(backend, victim.uid) == [("HASH_MISMATCH", 2)]
    assert len(told) >= 2 and len(set(told)) == 1, "the same event, again"
    before = len(told)
    run.validate()
    assert len(told) == before


def test_damage_that_comes_back_after_its_repair_is_news(backend: Backend, victim: Victim) -> None:
    events: list[str] = []

    def publish(event_id: str, alert: Any) -> None:
        if alert.uid == victim.uid:
            events.append(event_id)

    run = instance(backend, publish=publish)
    for _ in range(2):
        victim.head.update({"debt": 5})
        run.validate()
        assert alerts(backend, victim.uid) == [("HEAD_MISMATCH", 9)]
        repair(backend, victim)
        assert alerts(backend, victim.uid) == []
        assert alerts(backend, victim.uid, "resolved") == [("HEAD_MISMATCH", 9)]
    assert len(set(events)) == 2


def test_what_was_mended_by_hand_stays_closed_until_somebody_says_so(backend: Backend, victim: Victim) -> None:
    sound = victim.stored(3)
    victim.flip(3, "content", 30)
    validate(backend)
    victim.entry(3).set(sound)
    validate(backend)
    assert quarantined(victim)
    repair(backend, victim)
    assert not quarantined(victim)
    (record,) = [
        snapshot.to_dict()
        for snapshot in backend.firestore.collection("integrityRepairs").stream()
        if snapshot.get("uid") == victim.uid
    ]
    assert [(damage["seq"], damage["code"]) for damage in record["before"]] == [(3, "HASH_MISMATCH")]


def test_a_shown_balance_that_contradicts_is_told_and_closes_nothing(backend: Backend, victim: Victim) -> None:
    backend.idle()
    backend.admin(f"balances/{victim.uid}").update({"posted": 5, "available": 0})
    validate(backend)
    assert findings(backend, victim) == [(9, "MIRROR_MISMATCH")]
    assert alerts(backend, victim.uid) == [("MIRROR_MISMATCH", 9)]
    assert not quarantined(victim)
    repair(backend, victim)
    assert backend.admin(f"balances/{victim.uid}").get()["posted"] == victim.head.get().get("posted")
    assert report_of(backend, victim)["state"] == "repaired"


def test_what_is_unusual_is_told_once(backend: Backend) -> None:
    victim, ledger = Victim(backend), backend.ledger()
    run = instance(backend, thresholds=replace(THRESHOLDS, credit_max=1_000, adjustments_max=1))
    run.validate()
    assert alerts(backend, victim.uid) == [("LARGE_CREDIT", 1)]
    for number in range(3):
        ledger.adjust(victim.uid, op_id=f"a{number}", amount=-1, counter="expense:support", memo="m", actor="a")
        run.validate()
    ledger.clawback(victim.uid, op_id="dispute", amount=2_000_000, counter="liability:stripe")
    run.validate()
    run.validate()
    assert alerts(backend, victim.uid) == [("DEBT", 13), ("LARGE_CREDIT", 1), ("MANY_ADJUSTMENTS", 11)]
    assert not quarantined(victim) and report_of(backend, victim) is None


def test_a_hold_that_the_sweeper_forgot_is_told(backend: Backend) -> None:
    victim = Victim(backend)
    expired_at = datetime(2026, 1, 1, tzinfo=UTC)
    victim.hold_document("r3").update({"expiresAt": expired_at})
    instance(backend, overdue=datetime.now(UTC) - expired_at + timedelta(minutes=1)).validation._whole_ledger()
    assert alerts(backend, victim.uid) == []
    instance(backend).validation._whole_ledger()
    assert alerts(backend, victim.uid) == [("HOLD_OVERDUE", 0)]


def test_a_ledger_that_does_not_add_up_is_told(backend: Backend, victim: Victim) -> None:
    posted = victim.head.get().get("posted")
    victim.head.update({"posted": posted + 1, "changedAt": firestore.SERVER_TIMESTAMP})
    victim.hold("another")
    assert backend.checkpoint() == 200
    validate(backend)
    assert ("LEDGER_UNBALANCED", 0) in alerts(backend, None)
    # The app has sealed a balance that is wrong: no repair can make that right, and nothing more is built on it.
    assert (10, "RULE_VIOLATION") in findings(backend, victim)
    assert quarantined(victim)
    assert not instance(backend).repair(victim.uid, actor="somebody", reason="test").repaired


def test_the_owner_verifies_in_pages(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    uid, ledger = uid_of(client), backend.ledger()
    for number in range(8):
        ledger.place_hold(uid, f"h{number}", request_hash="h", run_id="r", amount=10, minimum=10)
    for number in range(4):
        ledger.capture(uid, f"h{number}", 3, counter="revenue:chat")
    pages: list[dict[str, Any]] = []
    cursor = None
    while not pages or cursor:
        params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        pages.append(call(backend, client, "GET", "/credits/validate-chain", params=params).json())
        cursor = pages[-1]["next"]
    assert [page["entries"] for page in pages] == [3, 3, 3, 3, 1]
    assert [page["after"] for page in pages] == [0, 3, 6, 9, 12]
    assert all(page["verified"] and page["findings"] == [] for page in pages)
    assert [page["complete"] for page in pages] == [False] * 4 + [True]
    head = ledger.head(uid)
    assert head is not None
    assert pages[-1]["head"] == {
        "seq": 13,
        "hash": head.hash,
        "postedMicrocredits": 10_000_000 - 12,
        "heldMicrocredits": 40,
        "debtMicrocredits": 0,
        "frozen": False,
        "countersMicrocredits": {"expense:bonus": -10_000_000, "revenue:chat": 12},
    }
    # A hold that was open over several pages is compared with its entries in the end.
    backend.firestore.document(f"accounts/{uid}/holds/h6").update({"amount": 11})
    last = call(backend, client, "GET", "/credits/validate-chain", params={"limit": 3, "cursor": pages[3]["next"]})
    assert [(found["seq"], found["code"]) for found in last.json()["findings"]] == [(8, "HOLD_MISMATCH")]


def test_a_page_is_not_held_against_what_came_after_it(backend: Backend, victim: Victim) -> None:
    """Between its look at the account and its look at the validation's record, the account moves and is validated."""
    run = instance(backend)
    state_now = run.validation.state

    def moved(uid: str) -> State | None:
        victim.hold("meanwhile")
        validate(backend)
        return state_now(uid)

    run.validation.state = moved  # type: ignore[method-assign]
    page = run.verify_page(victim.uid, None, 5_000)
    assert (page.damages, page.head.seq, page.complete) == ([], 9, True)


def test_wrong_calls_are_refused_and_write_nothing(backend: Backend) -> None:
    owner, other, admin = backend.funded(1_000), backend.funded(1_000), administrator(backend)
    first = call(backend, owner, "GET", "/credits/validate-chain", params={"limit": 1}).json()
    mine = uid_of(owner)
    eventually(lambda: backend.admin(f"balances/{mine}").get(), "the mirror")
    backend.idle()
    before = dump(backend)
    chain, repairs = "/credits/validate-chain", f"/accounts/{mine}/repair"
    body = {"reason": "r"}
    for client, method, path, options, expected in (
        (None, "GET", chain, {}, (401, None)),
        (other, "GET", chain, {"params": {"uid": mine}}, (403, None)),
        (admin, "GET", chain, {"params": {"uid": "nobody"}}, (404, None)),
        (owner, "GET", chain, {"params": {"limit": 0}}, (400, "limit")),
        (owner, "GET", chain, {"params": {"limit": 5_001}}, (400, "limit")),
        (owner, "GET", chain, {"params": {"limit": "x"}}, (400, "limit")),
        (owner, "GET", chain, {"params": {"cursor": "x"}}, (400, "cursor")),
        (owner, "GET", chain, {"params": {"cursor": ""}}, (400, "cursor")),
        (other, "GET", chain, {"params": {"cursor": first["next"]}}, (400, "cursor")),
        (owner, "GET", chain, {"params": {"cursor": first["next"][:-1]}}, (400, "cursor")),
        (owner, "GET", chain, {"params": {"more": 1}}, (400, "more")),
        (owner, "GET", f"/accounts/{mine}/integrity", {}, (403, None)),
        (owner, "POST", repairs, {"body": body}, (403, None)),
        (admin, "POST", repairs, {"body": {}}, (400, "reason")),
        (admin, "POST", repairs, {"body": {"reason": ""}}, (400, "reason")),
        (admin, "POST", repairs, {"body": {**body, "apply": "yes"}}, (400, "apply")),
        (admin, "POST", "/accounts/nobody/repair", {"body": body}, (404, None)),
        (owner, "GET", "/integrity/alerts", {}, (403, None)),
        (admin, "GET", "/integrity/alerts", {"params": {"state": "x"}}, (400, "state")),
        (admin, "GET", "/integrity/alerts", {"params": {"cursor": "x"}}, (400, "cursor")),
        (owner, "POST", f"/integrity/alerts/{'0' * 32}/resolve", {"body": {}}, (403, None)),
        (admin, "POST", f"/integrity/alerts/{'0' * 32}/resolve", {"body": {}}, (404, None)),
        (admin, "POST", "/integrity/alerts/__x__/resolve", {"body": {}}, (404, None)),
    ):
        answer = call(backend, client, method, path, **options)
        assert (answer.status_code, answer.json().get("field")) == expected, (method, path, options, answer.text)
    assert call(backend, admin, "POST", repairs, {**body, "apply": False}).json()["repaired"] is False
    assert dump(backend) == before


def test_alerts_are_listed_and_closed_by_an_administrator(backend: Backend, victim: Victim) -> None:
    admin = administrator(backend)
    victim.head.update({"debt": 5})
    Victim(backend).head.update({"debt": 5})
    validate(backend)
    # Several threads raise alerts: two of them may have the same time.
    stored = backend.firestore.collection("integrityAlerts").stream()
    alerted = [snapshot for snapshot in stored if snapshot.get("state") == "open"]
    for snapshot in alerted:
        snapshot.reference.update({"at": alerted[0].get("at")})
    listed: list[dict[str, Any]] = []
    cursor = None
    while not listed or cursor:
        params = {"limit": 1 + len(alerted) // 5, **({"cursor": cursor} if cursor else {})}
        page = call(backend, admin, "GET", "/integrity/alerts", params=params).json()
        listed += page["alerts"]
        cursor = page["next"]
    assert sorted(alert["id"] for alert in listed) == sorted(snapshot.id for snapshot in alerted)
    assert len(listed) >= 2
    assert [alert["at"] for alert in listed] == sorted((alert["at"] for alert in listed), reverse=True)
    (mine,) = [alert for alert in listed if alert["uid"] == victim.uid]
    assert (mine["code"], mine["seq"], mine["severity"], mine["state"]) == ("HEAD_MISMATCH", 9, "ERROR", "open")
    closed = call(backend, admin, "POST", f"/integrity/alerts/{mine['id']}/resolve", {}).json()
    assert (closed["state"], closed["resolvedBy"]) == ("resolved", uid_of(admin))
    assert alerts(backend, victim.uid) == []
