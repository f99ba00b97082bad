"""M16: stored documents are edited behind the app's back. The scheduled validation and GET validate-chain both find it,
and say in which account, at which entry, and what kind of damage it is; an account beside it is not suspected."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.api import administrator, call, uid_of
from support.backend import SIGNING_KEY, Backend
from support.tampering import ENTRIES, STRANGER, Change, Victim

from cli.client import Client
from concierge.ledger.signatures import Keyring

# The cases share one stack, hence one process of the tests.
Finding = tuple[str, int, str]
"""(account, entry, kind of damage)"""
OUR_KEY = Keyring.from_text(SIGNING_KEY, []).signing_key_id


@dataclass(frozen=True)
class Case:
    """One way to tamper: what is done, and the finding that has to name it. `repairs`: a repair makes the account
    verify again, from the entries or from the backup. `by_page`: GET validate-chain sees it too; what has no
    entry at all is found by reading everything, which is for the scheduled function."""

    name: str
    change: Change
    seq: int
    code: str
    repairs: bool = True
    by_page: bool = True
    checkpoint: bool = False


def edit_head(**fields: Any) -> Change:
    return lambda victim: victim.head.update(fields)


def edit_hold(hold_id: str, **fields: Any) -> Change:
    return lambda victim: victim.hold_document(hold_id).update(fields)


def edit_operation(**fields: Any) -> Change:
    return lambda victim: victim.operation("bought").update(fields)


def replay_into(place: int) -> Change:
    """An entry of another account, under a number of this one."""

    def change(victim: Victim) -> None:
        other = Victim(victim.backend)
        victim.entry(place).set(other.stored(min(place, ENTRIES)))

    return change


def fork(victim: Victim) -> None:
    """The newest entries are taken back, and the app, which knows nothing of it, makes others in their places."""
    victim.truncate(7, put_head_back=True, forget=True)
    victim.hold("r5")
    victim.backend.ledger().capture(victim.uid, "r5", 1, counter="revenue:chat")


def extra_hold(victim: Victim) -> None:
    victim.hold_document("r9").set(victim.hold_document("r1").get().to_dict())


def extra_operation(victim: Victim) -> None:
    victim.operation("later").set(victim.operation("bought").get().to_dict())


def stray(victim: Victim) -> None:
    victim.head.collection("entries").document("5x").set(victim.stored(5))


CASES = [
    Case("a bit of the content", lambda v: v.flip(3, "content", 40), 3, "HASH_MISMATCH"),
    Case("a bit of the first content", lambda v: v.flip(1, "content", 0), 1, "HASH_MISMATCH"),
    Case("a bit of the last content", lambda v: v.flip(9, "content", -2), 9, "HASH_MISMATCH"),
    Case("a digit of the hash", lambda v: v.flip(4, "hash", 10), 4, "HASH_MISMATCH"),
    Case("a bit of the signature", lambda v: v.flip(5, "signature", 33), 5, "BAD_SIGNATURE"),
    Case("a digit of the key id", lambda v: v.flip(6, "keyId", 3), 6, "UNKNOWN_KEY"),
    Case("a field of another type", lambda v: v.entry(4).update({"content": "text"}), 4, "HASH_MISMATCH"),
    Case("an empty document", lambda v: v.entry(4).set({}), 4, "HASH_MISMATCH"),
    Case("two entries swapped", lambda v: v.swap(3, 4), 3, "BROKEN_SEQUENCE"),
    Case("first and last swapped", lambda v: v.swap(1, 9), 1, "BROKEN_SEQUENCE"),
    Case("the first entry deleted", lambda v: v.entry(1).delete(), 1, "MISSING_ENTRY"),
    Case("an entry in the middle deleted", lambda v: v.entry(5).delete(), 5, "MISSING_ENTRY"),
    Case("the last entry deleted", lambda v: v.entry(9).delete(), 9, "TRUNCATED"),
    Case("an entry inserted behind the last", lambda v: v.insert(10), 10, "UNKNOWN_KEY"),
    # The backup has the true ones, but the head names one more than there ever was.
    Case("an entry inserted in the middle", lambda v: v.insert(5), 5, "UNKNOWN_KEY", repairs=False),
    Case("a document among the entries", stray, 10, "STRAY_DOCUMENT"),
    Case("an own entry repeated at the end", lambda v: v.entry(10).set(v.stored(7)), 10, "BROKEN_SEQUENCE"),
    Case("another account's entry in place of one", replay_into(4), 4, "WRONG_ACCOUNT"),
    Case("another account's entry at the end", replay_into(10), 10, "WRONG_ACCOUNT"),
    Case("an amount changed, signed with another key", lambda v: v.forge(7, amount=5_000), 7, "UNKNOWN_KEY"),
    Case("the same in our key's name", lambda v: v.forge(7, STRANGER, OUR_KEY, amount=5_000), 7, "BAD_SIGNATURE"),
    Case("the whole chain signed with another key", lambda v: v.forge_chain(), 1, "UNKNOWN_KEY"),
    Case("the tail cut off", lambda v: v.truncate(7), 8, "TRUNCATED"),
    Case("the tail cut off, the head put back", lambda v: v.truncate(7, put_head_back=True), 8, "TRUNCATED"),
    Case(
        "the same, unknown to the validation, but published",
        lambda v: v.truncate(7, put_head_back=True, forget=True),
        8,
        "TRUNCATED",
        checkpoint=True,
    ),
    Case("a fork of what was published", fork, 9, "FORKED", repairs=False, checkpoint=True),
    Case("head: seq up", edit_head(seq=10), 10, "HEAD_MISMATCH"),
    Case("head: seq down", edit_head(seq=8), 9, "HEAD_MISMATCH"),
    Case("head: headHash", edit_head(headHash="0" * 64), 9, "HEAD_MISMATCH"),
    Case("head: posted", edit_head(posted=9_000_000), 9, "HEAD_MISMATCH"),
    Case("head: posted of another type", edit_head(posted="998739"), 9, "HEAD_MISMATCH"),
    Case("head: held", edit_head(held=0), 9, "HEAD_MISMATCH"),
    Case("head: debt", edit_head(debt=1), 9, "HEAD_MISMATCH"),
    Case("head: frozen", edit_head(frozen=True), 9, "HEAD_MISMATCH"),
    Case("head: quarantined", edit_head(quarantined=True), 9, "HEAD_MISMATCH", by_page=False),
    Case("head: epoch", edit_head(epoch=2), 9, "HEAD_MISMATCH"),
    Case("head: counters", edit_head(counters={"expense:bonus": -998_739}), 9, "HEAD_MISMATCH"),
    Case("head: bucket", edit_head(bucket=99), 9, "HEAD_MISMATCH"),
    Case("head: deleted", lambda v: v.head.delete(), 9, "HEAD_MISSING"),
    Case("hold: a captured one is open again", edit_hold("r1", state="held"), 3, "HOLD_MISMATCH"),
    Case("hold: an open one was released", edit_hold("r3", state="released"), 6, "HOLD_MISMATCH"),
    Case("hold: amount", edit_hold("r3", amount=9_000), 6, "HOLD_MISMATCH"),
    Case("hold: captured", edit_hold("r1", captured=1), 3, "HOLD_MISMATCH"),
    Case("hold: entrySeq", edit_hold("r1", entrySeq=2), 3, "HOLD_MISMATCH"),
    Case("hold: entryHash", edit_hold("r1", entryHash="0" * 64), 3, "HOLD_MISMATCH"),
    Case("hold: placedSeq", edit_hold("r1", placedSeq=1), 3, "HOLD_MISMATCH"),
    Case("hold: resolvedBy", edit_hold("r1", resolvedBy="somebody"), 3, "HOLD_MISMATCH"),
    Case("hold: deleted", lambda v: v.hold_document("r1").delete(), 3, "HOLD_MISSING"),
    Case("hold: without an entry", extra_hold, 3, "HOLD_UNKNOWN", by_page=False),
    Case("operation: seq", edit_operation(seq=1), 7, "OP_MISMATCH"),
    Case("operation: hash", edit_operation(hash="0" * 64), 7, "OP_MISMATCH"),
    Case("operation: amount", edit_operation(amount=51), 7, "OP_MISMATCH"),
    Case("operation: deleted", lambda v: v.operation("bought").delete(), 7, "OP_MISSING"),
    Case("operation: without an entry", extra_operation, 7, "OP_UNKNOWN", by_page=False),
]


@dataclass
class Evidence:
    """What became of one case: what the entry points said before, after and once it was repaired."""

    victim: Victim
    sound: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    alerts_later: list[dict[str, Any]] = field(default_factory=list)
    repair: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    report_after: dict[str, Any] = field(default_factory=dict)
    findings_after: list[Finding] = field(default_factory=list)
    report_last: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    cases: dict[str, Evidence]
    innocent: Evidence
    admin: Client


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()


@pytest.fixture(scope="module")
def scene(own_backend: Backend) -> Scene:
    """All cases at once, each in an account of its own: the scheduled functions run a few times, not hundreds."""
    backend = own_backend
    # The fuse is for another test: here all accounts are damaged in one run.
    backend.restart_functions(VALIDATION_QUARANTINE_MAX="1000")
    admin = administrator(backend)
    cases = {case.name: Evidence(Victim(backend)) for case in CASES if case.checkpoint}
    assert backend.checkpoint() == 200
    cases |= {case.name: Evidence(Victim(backend)) for case in CASES if not case.checkpoint}
    innocent = Evidence(Victim(backend))
    validate(backend)
    assert backend.run_schedule("backup") == 200
    for evidence in cases.values():
        evidence.sound = evidence.victim.documents()
        assert report(backend, admin, evidence.victim)["report"] is None, "nothing was found before"
    for case in CASES:
        case.change(cases[case.name].victim)
        cases[case.name].findings = page_findings(backend, admin, cases[case.name].victim)
    validate(backend)
    everything = [*cases.values(), innocent]
    for evidence in everything:
        evidence.report = report(backend, admin, evidence.victim)
        evidence.alerts = alerts_of(backend, evidence.victim)
    validate(backend)
    for evidence in everything:
        evidence.alerts_later = alerts_of(backend, evidence.victim)
    for name, evidence in cases.items():
        body = {"reason": name, "apply": True}
        answer = call(backend, admin, "POST", f"/accounts/{evidence.victim.uid}/repair", body, key=evidence.victim.uid)
        assert answer.status_code == 200, (name, answer.text)
        evidence.repair = answer.json()
        evidence.documents = evidence.victim.documents()
        evidence.report_after = report(backend, admin, evidence.victim)
        if evidence.repair["repaired"]:
            # The account goes on.
            evidence.victim.hold("later")
        evidence.findings_after = page_findings(backend, admin, evidence.victim)
    validate(backend)
    for evidence in everything:
        evidence.report_last = report(backend, admin, evidence.victim)
    return Scene(cases, innocent, admin)


def page_findings(backend: Backend, caller: Client, victim: Victim) -> list[Finding]:
    """What GET validate-chain says, in pages of four entries."""
    found: list[Finding] = []
    cursor = None
    while True:
        params = {"uid": victim.uid, "limit": 4, **({"cursor": cursor} if cursor else {})}
        answer = call(backend, caller, "GET", "/credits/validate-chain", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["verified"] is (page["findings"] == [])
        found += [(finding["uid"], finding["seq"], finding["code"]) for finding in page["findings"]]
        cursor = page["next"]
        if cursor is None:
            assert page["complete"] or found
            return found


def report(backend: Backend, admin: Client, victim: Victim) -> dict[str, Any]:
    answer = call(backend, admin, "GET", f"/accounts/{victim.uid}/integrity")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reported(found: dict[str, Any]) -> list[Finding]:
    damages = (found["report"] or {}).get("damages", [])
    return [(damage["uid"], damage["seq"], damage["code"]) for damage in damages]


def validate(backend: Backend) -> None:
    assert backend.run_schedule("validate") == 200


def alerts_of(backend: Backend, victim: Victim) -> list[dict[str, Any]]:
    """The events of an account."""
    events: dict[str, Any] = backend.admin("events").get() or {}
    return [
        event
        for event in events.values()
        if event["topic"] == "integrity.alert" and event["payload"].get("uid") == victim.uid
    ]


@pytest.mark.acceptance("M16")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tampering_is_found_and_named(scene: Scene, case: Case) -> None:
    """By the scheduled function and over HTTPS: the account, the entry, the kind of damage."""
    evidence = scene.cases[case.name]
    expected = (evidence.victim.uid, case.seq, case.code)
    assert expected in reported(evidence.report)
    assert {uid for uid, _, _ in reported(evidence.report)} == {evidence.victim.uid}
    if case.by_page:
        assert expected in evidence.findings
    assert (case.code, case.seq) in [(event["payload"]["code"], event["payload"]["seq"]) for event in evidence.alerts]
    assert evidence.alerts_later == evidence.alerts, "the same again is no news"
    # A head that is gone takes no entry either.
    assert evidence.report["quarantined"] is (case.code != "HEAD_MISSING")


@pytest.mark.acceptance("M16")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_tampered_with_is_repaired_or_stays_closed(scene: Scene, case: Case) -> None:
    evidence = scene.cases[case.name]
    assert evidence.repair["repaired"] is case.repairs, evidence.repair
    if not case.repairs:
        assert evidence.report_after["quarantined"] is True
        assert evidence.repair["remaining"]
        assert evidence.report_last["report"]["state"] == "damaged"
        return
    assert without_times(evidence.documents) == without_times(evidence.sound)
    assert (evidence.report_after["quarantined"], evidence.report_after["report"]["state"]) == (False, "repaired")
    (record,) = evidence.report_after["repairs"]
    assert (record["actor"], record["reason"]) == (uid_of(scene.admin), case.name)
    assert [(damage["seq"], damage["code"]) for damage in record["before"]]
    assert evidence.findings_after == []
    assert evidence.report_last["report"]["state"] == "repaired"


@pytest.mark.acceptance("M16")
def test_an_account_beside_them_is_not_suspected(scene: Scene, backend: Backend) -> None:
    innocent = scene.innocent
    assert innocent.report["report"] is None and innocent.report_last["report"] is None
    assert innocent.alerts == innocent.alerts_later == []
    assert page_findings(backend, scene.admin, innocent.victim) == []
    assert backend.ledger().verify(innocent.victim.uid).verified


def without_times(documents: dict[str, Any]) -> dict[str, Any]:
    """What a repair has to bring back: everything but the moment of the last change, and what of a lost hold or
    operation no entry tells."""
    untold = ("changedAt", "requestHash", "runId", "placedAt", "expiresAt", "note")
    return {
        path: {name: value for name, value in document.items() if name not in untold}
        for path, document in documents.items()
    }


@pytest.mark.acceptance("M16")
def test_any_byte_of_any_entry(backend: Backend, scene: Scene) -> None:
    """Bytes at random places of all that an entry is stored as, one at a time."""
    victim = Victim(backend)
    draw = random.Random(16)
    expected = {
        "content": "HASH_MISMATCH",
        "hash": "HASH_MISMATCH",
        "signature": "BAD_SIGNATURE",
        "keyId": "UNKNOWN_KEY",
    }
    for _ in range(60):
        seq, name = draw.randint(1, ENTRIES), draw.choice(sorted(expected))
        sound = victim.stored(seq)
        position, bit = draw.randrange(len(sound[name])), draw.randrange(8)
        victim.flip(seq, name, position, bit)
        answer = call(backend, scene.admin, "GET", "/credits/validate-chain", params={"uid": victim.uid})
        named = [(finding["seq"], finding["code"]) for finding in answer.json()["findings"]]
        assert (seq, expected[name]) in named, (seq, name, position, bit)
        assert named[0][0] == seq, "the first finding is the one that was changed"
        victim.entry(seq).set(sound)
    assert page_findings(backend, scene.admin, victim) == []
