"""The audit over HTTPS, against sums that are made from the stored bytes without any of the ledger's code."""

import csv
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest
from google.cloud import firestore
from support.api import administrator, call, dump, uid_of
from support.backend import SIGNING_KEY, Backend
from support.histories import MINUTE, START, History, RandomHistory, expected, stored

from cli.client import Client
from concierge.ledger import audit
from concierge.ledger.audit import Auditor, Period
from concierge.ledger.audit_report import account_json, totals_json
from concierge.ledger.audit_sums import AccountAudit, Totals
from concierge.ledger.entries import StoredEntry, entry_hash
from concierge.ledger.repository import entry_to_document
from concierge.ledger.signatures import Keyring


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def ask(backend: Backend, client: Client | None, since: datetime, until: datetime, **parameters: Any) -> httpx.Response:
    return call(
        backend, client, "GET", "/credits/audit", params={"from": moment(since), "to": moment(until)} | parameters
    )


def report(backend: Backend, client: Client, since: datetime, until: datetime, **parameters: Any) -> dict[str, Any]:
    answer = ask(backend, client, since, until, **parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("first", "last"), [(0, 99), (3, 8), (1, 2), (5, 5), (8, 12), (-9, 0), (40, 50), (12, 14), (13, 14)]
)
def test_a_report_is_what_the_entries_add_up_to(backend: Backend, first: int, last: int) -> None:
    """Ranges that begin and end at the very moment of an entry: it is in the one that it begins."""
    client = backend.client()
    History(backend, uid_of(client)).usual()
    since, until = START + first * MINUTE, START + last * MINUTE
    found = report(backend, client, since, until)
    wanted = expected(stored(backend, uid_of(client)), since, until)
    [account] = found["accounts"]
    for part in (account, found["totals"]):
        assert {name: part[name] for name in wanted} == wanted
    moved = sum(counter["amountMicrocredits"] for counter in account["counters"].values())
    change = account["closing"]["postedMicrocredits"] - account["opening"]["postedMicrocredits"]
    assert change + moved == account["doubleEntry"]["imbalanceMicrocredits"] == 0
    assert account["chain"]["findings"] == []
    assert account["chain"]["verified"] == wanted["entries"] == sum(account["chain"]["keyIds"].values())
    assert found["totals"]["sound"] is True
    assert found["next"] is None


def test_ranges_that_meet_miss_nothing_and_count_nothing_twice(backend: Backend) -> None:
    client = backend.client()
    History(backend, uid_of(client)).usual()
    edges = [START + number * MINUTE for number in (0, 1, 4, 5, 9, 13, 60)]
    reports = [report(backend, client, since, until)["totals"] for since, until in pairwise(edges)]
    whole = report(backend, client, edges[0], edges[-1])["totals"]
    assert sum(each["entries"] for each in reports) == whole["entries"] == 13
    for before, after in pairwise(reports):
        assert before["closing"] == after["opening"]
    assert (reports[0]["opening"], reports[-1]["closing"]) == (whole["opening"], whole["closing"])


def test_holds_open_at_the_end_are_those_of_that_moment(backend: Backend) -> None:
    client = backend.client()
    History(backend, uid_of(client)).usual()

    def open_holds(until: datetime) -> dict[str, Any]:
        found: dict[str, Any] = report(backend, client, START, until)["accounts"][0]["openHolds"]
        assert found["unlistedMicrocredits"] == 0
        assert found["count"] == len(found["holds"])
        return {hold["holdId"]: hold["amountMicrocredits"] for hold in found["holds"]}

    assert open_holds(START + 3 * MINUTE) == {}
    assert set(open_holds(START + 8 * MINUTE)) == {"a", "b", "c", "-d", "e"}
    assert set(open_holds(START + 9 * MINUTE)) == {"b", "c", "-d", "e"}
    assert open_holds(START + 60 * MINUTE) == dict.fromkeys(("c", "-d", "e"), 50_000)
    # Of a range without any entry too.
    later = report(backend, client, START + 50 * MINUTE, START + 60 * MINUTE)["accounts"][0]
    assert (later["entries"], later["openHolds"]["count"]) == (0, 3)
    assert later["opening"] == later["closing"]


@pytest.mark.parametrize("entries_max", [1, 2, 3, 5, 13, 1000])
def test_pages_add_up_to_the_whole(backend: Backend, entries_max: int) -> None:
    """Pages inside an account: each is verified from where the one before it ends."""
    uid = uid_of(backend.client())
    History(backend, uid).usual()
    ledger = backend.ledger()
    period = Period(START + 2 * MINUTE, START + 13 * MINUTE)
    whole = Auditor(ledger, lambda uid: {}).page(period, uid, None, limit=10)
    assert whole.following is None
    pages = list(Auditor(ledger, lambda uid: {}, entries_max=entries_max).pages(period, uid, limit=10))
    assert len(pages) == -(-11 // entries_max)
    sums, joined = Totals(), list[AccountAudit]()
    for page in pages:
        for part in page.parts:
            sums.add(part)
            assert part.findings == []
            assert part.imbalance == 0
            if joined:
                joined[0].join(part)
            else:
                joined.append(part)
    assert totals_json(sums) == totals_json(whole.totals)
    assert joined == whole.parts


def test_all_accounts_page_by_page(backend: Backend) -> None:
    """For administrators, and every account of the database once."""
    clients = [backend.client() for _ in range(4)]
    for client in clients:
        History(backend, uid_of(client)).usual()
    admin = administrator(backend)
    since, until = START, datetime.now(UTC) + MINUTE
    whole = report(backend, admin, since, until, limit=100)
    assert whole["next"] is None
    heads = {ref.id: ref.get().to_dict() for ref in backend.firestore.collection("accounts").list_documents()}
    assert [account["uid"] for account in whole["accounts"]] == sorted(heads)
    assert whole["totals"]["closing"]["postedMicrocredits"] == sum(head["posted"] for head in heads.values())
    assert whole["totals"]["closing"]["heldMicrocredits"] == sum(head["held"] for head in heads.values())
    cursor: dict[str, str] = {}
    accounts: list[Any] = []
    entries = 0
    while True:
        page = report(backend, admin, since, until, limit=3, **cursor)
        accounts += page["accounts"]
        entries += page["totals"]["entries"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert accounts == whole["accounts"]
    assert entries == whole["totals"]["entries"]


def test_somebody_else_sees_nothing(backend: Backend) -> None:
    owner, other, admin = backend.client(), backend.client(), administrator(backend)
    History(backend, uid_of(owner)).usual()
    until = START + 60 * MINUTE
    assert ask(backend, None, START, until).status_code == 401
    assert ask(backend, other, START, until, uid=uid_of(owner)).status_code == 403
    # Without an account of one's own there is nothing to be told, and nothing of all the others.
    assert ask(backend, other, START, until).status_code == 404
    assert ask(backend, admin, START, until, uid="nobody").status_code == 404
    assert report(backend, admin, START, until, uid=uid_of(owner))["totals"]["entries"] == 13
    # A cursor is for the question that it came from.
    cursor = report(backend, admin, START, until, limit=1)["next"]
    assert ask(backend, other, START, until, cursor=cursor).json()["field"] == "cursor"
    assert ask(backend, admin, START, until - MINUTE, cursor=cursor).json()["field"] == "cursor"
    assert ask(backend, admin, START, until, uid=uid_of(owner), cursor=cursor).json()["field"] == "cursor"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"from": moment(START + MINUTE), "to": moment(START)}, "from"),
        ({"to": moment(START)}, "from"),
        ({"from": moment(START)}, "to"),
        ({"from": "yesterday", "to": moment(START)}, "from"),
        ({"from": "2026-03-01T00:00:00", "to": moment(START)}, "from"),
        ({"from": moment(START), "to": moment(START), "format": "xml"}, "format"),
        ({"from": moment(START), "to": moment(START), "limit": "0"}, "limit"),
        ({"from": moment(START), "to": moment(START), "limit": "101"}, "limit"),
        ({"from": moment(START), "to": moment(START), "cursor": "bm9uc2Vuc2U"}, "cursor"),
        ({"from": moment(START), "to": moment(START), "uid": "a/b"}, "uid"),
        ({"from": moment(START), "to": moment(START), "page": "2"}, "page"),
    ],
)
def test_bad_questions_are_refused_by_their_field(backend: Backend, parameters: dict[str, str], field: str) -> None:
    client = administrator(backend)
    before = dump(backend)
    answer = call(backend, client, "GET", "/credits/audit", params=parameters)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert dump(backend) == before


def test_an_empty_range_at_one_moment(backend: Backend) -> None:
    client = backend.client()
    History(backend, uid_of(client)).usual()
    found = report(backend, client, START + 5 * MINUTE, START + 5 * MINUTE)
    assert found["totals"]["entries"] == 0
    assert found["totals"]["opening"] == found["totals"]["closing"]
    assert found["accounts"][0]["chain"]["first"] is None


def resign(backend: Backend, uid: str, content: bytes) -> None:
    """Puts other bytes in an entry's place, sealed as if the ledger had, and the head behind them."""
    digest, seq = entry_hash(content), json.loads(content)["seq"]
    key_id, signature = Keyring.from_text(SIGNING_KEY, []).sign(digest)
    account = backend.firestore.collection("accounts").document(uid)
    reference = account.collection("entries").document(f"{seq:012d}")
    reference.set(entry_to_document(StoredEntry(content, digest, key_id, signature)))
    account.update({"headHash": digest})


class TestTampering:
    """Behind the application's back."""

    @pytest.fixture
    def client(self, backend: Backend) -> Client:
        client = backend.client()
        History(backend, uid_of(client)).usual()
        return client

    def entry(self, backend: Backend, client: Client, seq: int) -> Any:
        account = backend.firestore.collection("accounts").document(uid_of(client))
        return account.collection("entries").document(f"{seq:012d}")

    def findings(self, backend: Backend, client: Client, first: int, last: int) -> list[tuple[int, str]]:
        found = report(backend, client, START + first * MINUTE, START + last * MINUTE)
        assert found["totals"]["sound"] is (not found["accounts"][0]["chain"]["findings"])
        return [(each["seq"], each["code"]) for each in found["accounts"][0]["chain"]["findings"]]

    @pytest.mark.parametrize("seq", [2, 5, 8, 12])
    def test_a_changed_amount_is_named_where_it_is(self, backend: Backend, client: Client, seq: int) -> None:
        reference = self.entry(backend, client, seq)
        content = reference.get().get("content")
        amount = json.loads(content)["amount"]
        reference.update({"content": content.replace(b'"amount":%d,' % amount, b'"amount":%d,' % (amount + 1))})
        assert self.findings(backend, client, 2, 13) == [(seq, "HASH_MISMATCH")]
        # Elsewhere nothing is wrong.
        assert self.findings(backend, client, seq + 1, 60) == []
        assert self.findings(backend, client, 0, seq) == []

    def test_bytes_that_cannot_be_read_are_in_no_sum_and_hide_no_moment(self, backend: Backend, client: Client) -> None:
        for seq in (6, 7, 13):
            self.entry(backend, client, seq).update({"content": b"\xff"})
        found = report(backend, client, START + 5 * MINUTE, START + 60 * MINUTE)
        [account] = found["accounts"]
        assert [(each["seq"], each["code"]) for each in account["chain"]["findings"]] == [
            (6, "HASH_MISMATCH"),
            (7, "HASH_MISMATCH"),
            (13, "HASH_MISMATCH"),
        ]
        assert (account["entries"], account["chain"]["verified"], account["chain"]["unreadable"]) == (9, 6, 3)

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("signature", firestore.DELETE_FIELD, "BAD_SIGNATURE"),
            ("signature", "text", "BAD_SIGNATURE"),
            ("content", "text", "HASH_MISMATCH"),
            ("content", firestore.DELETE_FIELD, "HASH_MISMATCH"),
            ("hash", 5, "HASH_MISMATCH"),
            ("keyId", None, "UNKNOWN_KEY"),
        ],
    )
    def test_a_document_that_has_lost_its_shape(
        self, backend: Backend, client: Client, field: str, value: Any, code: str
    ) -> None:
        self.entry(backend, client, 5).update({field: value})
        assert (5, code) in self.findings(backend, client, 2, 60)

    def test_what_is_gone_is_missed(self, backend: Backend, client: Client) -> None:
        self.entry(backend, client, 7).delete()
        assert self.findings(backend, client, 2, 60) == [(7, "MISSING_ENTRY")]
        # At the edge of a range too, which ends before entry 8.
        assert self.findings(backend, client, 2, 8) == [(7, "MISSING_ENTRY")]
        self.entry(backend, client, 13).delete()
        assert self.findings(backend, client, 9, 60) == [(13, "TRUNCATED")]

    def test_a_head_that_was_put_elsewhere(self, backend: Backend, client: Client) -> None:
        account = backend.firestore.collection("accounts").document(uid_of(client))
        account.update({"posted": 99_000_000})
        assert self.findings(backend, client, 2, 60) == [(13, "HEAD_MISMATCH")]
        assert self.findings(backend, client, 40, 60) == [(13, "HEAD_MISMATCH")], "an idle range"
        assert self.findings(backend, client, 2, 13) == [], "the head is of a later moment"

    def test_a_hold_is_freed_whole_also_if_it_was_placed_before_the_range(self, backend: Backend) -> None:
        """Signed with our own key: only the entry of the hold tells that 10 of it are left held."""
        client = backend.client()
        uid = uid_of(client)
        history = History(backend, uid)
        history.step("credit", op_id="g", kind="grant", amount=1_000, counter="expense:bonus")
        history.step("place_hold", "a", request_hash="h", run_id="r", amount=100, minimum=1)
        history.step("release", "a")
        last = backend.ledger().entry(uid, 3)
        assert last is not None
        resign(backend, uid, last.content.replace(b'"heldAfter":0', b'"heldAfter":10').replace(b":100,", b":90,"))
        backend.firestore.collection("accounts").document(uid).update({"held": 10})
        assert self.findings(backend, client, 3, 60) == [(3, "RULE_VIOLATION")]
        assert self.findings(backend, client, 0, 60) == [(3, "RULE_VIOLATION")]

    def test_an_entry_that_was_published_is_not_replaced(self, backend: Backend, client: Client) -> None:
        """Signed again with our own key, and yet not what a checkpoint vouches for."""
        assert backend.checkpoint() == 200
        uid = uid_of(client)
        last = backend.ledger().entry(uid, 13)
        assert last is not None
        covered = report(backend, client, START, START + 60 * MINUTE)["accounts"][0]["chain"]["coveredToSeq"]
        assert covered == 13
        content = last.content.replace(last.fields()["memoHash"].encode(), b"0" * 64)
        resign(backend, uid, content)
        assert self.findings(backend, client, 2, 60) == [(13, "FORKED")]
        assert self.findings(backend, client, 2, 13) == []


def test_csv_says_the_same_and_no_cell_is_a_formula(backend: Backend) -> None:
    client = backend.client()
    History(backend, uid_of(client)).usual()
    since, until = START + 2 * MINUTE, START + 60 * MINUTE
    account = report(backend, client, since, until)["accounts"][0]
    answer = ask(backend, client, since, until, format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    own = {(row["section"], row["name"]): row for row in rows if row["uid"] == uid_of(client)}
    for kind, tally in account["kinds"].items():
        row = own["kind", kind]
        assert (int(row["count"]), int(row["amountMicrocredits"])) == (tally["count"], tally["amountMicrocredits"])
    for counter, tally in account["counters"].items():
        assert int(own["counter", counter]["amountMicrocredits"]) == tally["amountMicrocredits"]
    assert int(own["closing", "posted"]["amountMicrocredits"]) == account["closing"]["postedMicrocredits"]
    assert own["chain", "last"]["text"] == account["chain"]["last"]["hash"]
    # A hold's id is its client's choice; numbers stay numbers.
    assert {name for section, name in own if section == "openHold"} == {"c", "'-d", "e"}
    assert own["kind", "adjust"]["amountMicrocredits"] == "-7"
    for row in rows:
        for column in ("uid", "section", "name", "text"):
            assert row[column][:1] not in ("=", "+", "-", "@", "\t", "\r")


def test_csv_names_the_next_page(backend: Backend) -> None:
    for _ in range(2):
        History(backend, uid_of(backend.client())).usual()
    admin = administrator(backend)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = ask(backend, admin, START, START + 60 * MINUTE, limit=1, format="csv", **cursor)
        rows = csv.DictReader(io.StringIO(answer.text))
        seen += sorted({row["uid"] for row in rows if row["uid"]})
        if "X-Next-Cursor" not in answer.headers:
            break
        cursor = {"cursor": answer.headers["X-Next-Cursor"]}
    assert seen == sorted(ref.id for ref in backend.firestore.collection("accounts").list_documents())


def test_a_page_of_a_long_account_reads_a_bounded_number_of_entries(backend: Backend) -> None:
    """The API's own bound, through its cursor."""
    client = backend.client()
    history = History(backend, uid_of(client))
    history.step("credit", op_id="g", kind="grant", amount=1_000_000, counter="expense:bonus")
    for number in range(audit.ENTRIES_MAX // 2 + 20):
        history.step("place_hold", f"h{number}", request_hash="h", run_id="r", amount=100, minimum=1)
        history.step("capture", f"h{number}", 3, counter="revenue:chat")
    entries = stored(backend, uid_of(client))
    since, until = START + 3 * MINUTE, history.at
    first = report(backend, client, since, until)
    assert first["totals"]["entries"] == audit.ENTRIES_MAX
    assert [(part["isFirst"], part["isLast"]) for part in first["accounts"]] == [(True, False)]
    second = report(backend, client, since, until, cursor=first["next"])
    assert second["next"] is None
    wanted = expected(entries, since, until)
    assert first["totals"]["entries"] + second["totals"]["entries"] == wanted["entries"]
    assert first["totals"]["opening"] == wanted["opening"]
    assert second["totals"]["closing"] == wanted["closing"]
    assert first["accounts"][0]["closing"] == second["accounts"][0]["opening"]
    for kind, tally in wanted["kinds"].items():
        parts = [page["totals"]["kinds"][kind]["amountMicrocredits"] for page in (first, second)]
        assert sum(parts) == tally["amountMicrocredits"]
    assert first["totals"]["sound"] is second["totals"]["sound"] is True


@pytest.mark.parametrize("seed", range(3))
def test_any_history_in_any_pages(backend: Backend, seed: int) -> None:
    """Random operations on two accounts of one organisation, random ranges, random page sizes."""
    chance = random.Random(seed)
    uid, partner = uid_of(backend.client()), uid_of(backend.client())
    history = RandomHistory(backend, uid, partner, chance)
    for _ in range(60):
        history.act()
    entries = stored(backend, uid)
    assert {"transfer-out", "transfer-in", "clawback", "capture"} <= {entry["kind"] for entry in entries}
    for _ in range(8):
        first, last = sorted(chance.randint(-1, len(entries) + 2) for _ in range(2))
        period = Period(START + first * MINUTE, START + last * MINUTE)
        joined: AccountAudit | None = None
        sums = Totals()
        size = chance.choice([1, 2, 3, 7, 50])
        for page in Auditor(backend.ledger(), lambda uid: {}, entries_max=size).pages(period, uid, limit=1):
            assert page.totals.imbalance == 0
            for part in page.parts:
                sums.add(part)
                if joined is None:
                    joined = part
                else:
                    joined.join(part)
        assert joined is not None
        assert joined.findings == []
        wanted = expected(entries, START + first * MINUTE, START + last * MINUTE)
        shown = totals_json(sums)
        assert {name: shown[name] for name in wanted} == wanted
        assert {name: account_json(joined)[name] for name in wanted} == wanted
        assert joined.open_holds.total.amount == wanted["closing"]["heldMicrocredits"]
