"""Usage: counted once in the commit that ends a request, rolled up once, and never different from the ledger."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.api_core import exceptions as google_exceptions
from support.api import administrator, call, uid_of
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from concierge.credits.usage import cells
from concierge.credits.usage.reconciler import Reconciler
from concierge.credits.usage.reconciliation import revenue_of
from concierge.credits.usage.recorder import End, UsageRecorder
from concierge.credits.usage.repository import UsageRepository
from concierge.credits.usage.rollup import UsageRollup
from concierge.errors import Conflict, HoldExpired
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.repository import LedgerRepository, Work, bucket_of

ANSWER_COST = 20 * 10 + 4 * 40
FAULT_POINTS = ["decided", "committed", "checked"]
LONG_AGO = {"from": "2000-01-01", "to": "2000-02-01"}


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


def rollup(backend: Backend, accounts_per_commit: int = 50) -> UsageRollup:
    """One more instance of the scheduled function."""
    repository = UsageRepository(backend.firestore)
    reconciler = Reconciler(repository, LedgerRepository(backend.firestore))
    return UsageRollup(repository, ChangeFeed(backend.firestore), reconciler, accounts_per_commit=accounts_per_commit)


def analytics(backend: Backend, client: Any, **parameters: str) -> dict[str, Any]:
    answer = call(backend, client, "GET", "/credits/analytics", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def counted(backend: Backend, client: Any) -> dict[str, int]:
    """All counters that are not 0, durations left out."""
    totals = analytics(backend, client)["totals"]
    return {name: totals[name] for name in cells.FIELDS if totals[name] and name != "durationMs"}


def overall(backend: Backend) -> tuple[Counter[str], dict[str, Any] | None]:
    """Sums over the months of all, and the last check."""
    sums: Counter[str] = Counter()
    check = None
    for snapshot in backend.firestore.collection("usageOverall").stream():
        if snapshot.id == "check":
            check = snapshot.to_dict()
        for counters in cells.from_document(snapshot.to_dict()).values():
            sums.update(counters)
    return sums, check


def everybody(backend: Backend) -> Counter[str]:
    """Sums over the months of each person, read one by one."""
    sums: Counter[str] = Counter()
    for account in backend.firestore.collection("accounts").list_documents():
        for snapshot in account.collection("usage").stream():
            for counters in cells.from_document(snapshot.to_dict()).values():
                sums.update(counters)
    return sums


def captured(backend: Backend, uid: str) -> int:
    """What the ledger's entries themselves say was captured."""
    fields = [entry.fields() for entry in backend.ledger().entries(uid)]
    return sum(entry["amount"] for entry in fields if entry["kind"] == "capture")


def logged(backend: Backend, event: str) -> list[dict[str, Any]]:
    lines = [line for line in backend.log.read_text().splitlines() if f'"{event}"' in line]
    return [json.loads(line[line.index('{"severity"') :]) for line in lines if '{"severity"' in line]


def hold(backend: Backend, uid: str, amount: int = 1_000, **fields: Any) -> str:
    """An open hold of a request's run."""
    hold_id = uuid4().hex
    values = {"request_hash": "h", "run_id": "r", "work": Work("chat", "scripted"), **fields}
    backend.ledger().place_hold(uid, hold_id, amount=amount, minimum=amount, **values)
    return hold_id


def use(backend: Backend, uid: str, cost: int, *, now: datetime | None = None, end: End | None = None) -> None:
    """One request that was captured, counted by whatever clock."""
    ledger = backend.ledger(now=(lambda: now) if now is not None else lambda: datetime.now(UTC))
    hold_id = uuid4().hex
    ledger.place_hold(
        uid, hold_id, request_hash="h", run_id="r", amount=cost, minimum=cost, work=Work("chat", "scripted")
    )
    counting = UsageRecorder(backend.firestore).beside(end or End("done", "scripted", 10, 0, 5))
    ledger.capture(uid, hold_id, cost, counter="revenue:chat", beside=counting)


def account(backend: Backend, posted: int = 10_000_000, bucket: int | None = None) -> str:
    """A new account, in one range of the change feed if it matters: its accounts are rolled up in one batch."""
    uid = uuid4().hex
    while bucket is not None and bucket_of(uid) != bucket:
        uid = uuid4().hex
    backend.ledger().credit(uid, op_id="grant", kind="grant", amount=posted, counter="expense:test")
    return uid


# Counting.


def test_an_answer_is_counted_by_day_kind_and_model(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    assert counted(backend, client) == {}
    response = backend.answer(client, "hello")
    (month,) = backend.firestore.collection(f"accounts/{uid_of(client)}/usage").stream()
    entry = backend.ledger().entry(uid_of(client), response["receipt"]["entrySeq"])
    assert entry is not None
    assert month.id == entry.fields()["at"][:7]
    (place, counters), *rest = cells.from_document(month.to_dict()).items()
    assert not rest
    assert place == (entry.fields()["at"][8:10], "chat", "scripted")
    assert counters.pop("durationMs") > 0
    assert counters == {
        "requests": 1,
        "done": 1,
        "inputTokens": 20,
        "outputTokens": 4,
        "costMicrocredits": response["cost"]["chargedMicrocredits"],
    }


def test_every_way_a_request_may_end_is_counted(backend: Backend, provider: ScriptedProvider) -> None:
    """Done, cancelled while it streams and before the first word, failed before and after it, killed, expired."""
    client = backend.funded(100_000_000)
    uid = uid_of(client)
    backend.answer(client, "hello")
    gate = threading.Event()
    provider.on("usage-cancelled", Behaviour(gate=gate, gate_at=2))
    provider.on("usage-silent", Behaviour(silence=gate))
    for marker, status in (("usage-cancelled", "streaming"), ("usage-silent", "accepted")):
        request_id = backend.ask(client, marker)
        backend.await_status(client, request_id, status)
        client.put(f"cancellations/{uid}/{request_id}", True)
        assert backend.await_status(client, request_id)["status"] == "cancelled"
    gate.set()
    provider.on("usage-down", Behaviour(statuses=[400] * 9))
    provider.on("usage-broken", Behaviour(die_after=2))
    assert backend.answer(client, "usage-down")["status"] == "failed"
    broken = backend.answer(client, "usage-broken")
    assert broken["status"] == "failed"
    # Killed in the middle, and ended by the sweeper.
    killed = Behaviour(gate=threading.Event(), gate_at=2)
    provider.on("usage-killed", killed)
    request_id = backend.ask(client, "usage-killed")
    backend.await_status(client, request_id, "streaming")
    backend.kill_functions()
    backend.restart_functions()

    def swept() -> bool:
        backend.sweep()
        return bool(backend.response(client, request_id).get("status") == "failed")

    eventually(swept, "the sweep")
    # Nobody resolved it in time.
    short = backend.ledger(hold_lifetime=timedelta(milliseconds=1))
    short.place_hold(uid, "late", request_hash="h", run_id="r", amount=400, minimum=400, work=Work("chat", "scripted"))
    eventually(lambda: backend.ledger().due_holds(500), "the hold's time")
    backend.sweep()
    found = counted(backend, client)
    assert {name: found[name] for name in ("requests", "done", "cancelled", "failed", "expired")} == {
        "requests": 7,
        "done": 1,
        "cancelled": 2,
        "failed": 3,
        "expired": 1,
    }
    assert found["costMicrocredits"] == captured(backend, uid) > ANSWER_COST
    by_model = analytics(backend, client, groupBy="model")["groups"]
    assert [group["key"] for group in by_model] == ["scripted"], "who was asked, where nobody answered"
    backend.audit(client)


def test_a_used_id_is_counted_as_a_failure(backend: Backend) -> None:
    """Refused once before there was a hold, and then asked for under the same id: held, and given back."""
    client = backend.funded(10_000_000)
    request_id = backend.ask(client, "hello", kind="image")
    assert backend.await_status(client, request_id)["error"]["code"] == "INVALID_ARGUMENT"
    backend.idle()
    assert counted(backend, client) == {}
    backend.ask(client, "hello", request_id)
    eventually(lambda: backend.kinds(client) == ["grant", "hold", "release"], "the release")
    assert counted(backend, client) == {"requests": 1, "failed": 1}


def test_a_fallback_is_counted_for_the_model_that_answered(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("usage-fallback", Behaviour(models_failing=frozenset({"dear"})))
    client = backend.funded(1_000_000_000)
    response = backend.answer(client, "usage-fallback", options={"model": "dear"})
    assert response["model"] == "scripted"
    (group,) = analytics(backend, client, groupBy="model")["groups"]
    assert (group["key"], group["requests"], group["costMicrocredits"]) == ("scripted", 1, ANSWER_COST)


def test_reservations_of_the_api_are_no_requests(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    placed = call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1_000})
    assert placed.status_code == 201
    body = {"reservationId": placed.json()["reservationId"]}
    assert call(backend, client, "POST", "/credits/release-reservation", body).status_code == 200
    short = backend.ledger(hold_lifetime=timedelta(milliseconds=1))
    short.place_hold(uid_of(client), "api-late", request_hash="h", run_id="api", amount=400, minimum=400)
    eventually(lambda: backend.ledger().due_holds(500), "the hold's time")
    backend.sweep()
    assert backend.ledger().find_hold(uid_of(client), "api-late").state == "expired"  # type: ignore[union-attr]
    assert counted(backend, client) == {}


@pytest.mark.parametrize("fault", ["error", "error_after", "abort"])
def test_a_capture_whose_commit_fails_or_whose_answer_is_lost_is_counted_once(backend: Backend, fault: str) -> None:
    uid = account(backend)
    hold_id = hold(backend, uid)
    backend.fault("firestore.Commit", fault, count=3 if fault == "abort" else 1)
    ledger, counting = backend.ledger(), UsageRecorder(backend.firestore).beside(End("done", "scripted", 10, 0, 5))
    for _ in range(3):
        ledger.capture(uid, hold_id, 700, counter="revenue:chat", beside=counting)
    (month,) = UsageRepository(backend.firestore).all_months(uid).values()
    (counters,) = month.values()
    assert (counters["requests"], counters["costMicrocredits"]) == (1, 700)


@pytest.mark.parametrize("point", ["commit.before", "commit.after"])
def test_an_instance_that_dies_around_the_hold_counts_once(backend: Backend, point: str) -> None:
    """`commit.before` dies at the hold, so that the sweeper runs the request again; `commit.after` with the hold
    placed, so that it is released."""
    client = backend.funded(10_000_000)
    backend.restart_functions(CONCIERGE_FAULT=f"{point}:exit")
    request_id = backend.ask(client, "hello")
    backend.await_crash()

    def swept() -> bool:
        backend.sweep()
        return backend.response(client, request_id).get("status") in ("done", "failed")

    eventually(swept, "the sweep")
    found = counted(backend, client)
    assert found["requests"] == 1
    assert found.get("costMicrocredits", 0) == captured(backend, uid_of(client))
    assert analytics(backend, client)["reconciled"] is True


@pytest.mark.parametrize("point", ["capture.before", "capture.after", "finish.before"])
def test_an_instance_that_dies_at_the_settlement_counts_once(backend: Backend, point: str) -> None:
    client = backend.funded(10_000_000)
    backend.restart_functions(CONCIERGE_FAULT=f"{point}:exit")
    request_id = backend.ask(client, "hello")
    backend.await_crash()

    def swept() -> bool:
        backend.sweep()
        return backend.response(client, request_id).get("status") in ("done", "failed")

    eventually(swept, "the sweep")
    found = counted(backend, client)
    ends = {"failed": 1} if point == "capture.before" else {"done": 1, "costMicrocredits": ANSWER_COST}
    assert found["requests"] == 1
    assert {name: found[name] for name in ends} == ends
    assert found.get("costMicrocredits", 0) == captured(backend, uid_of(client))


def test_a_settlement_that_waited_is_counted_with_its_tokens(backend: Backend, provider: ScriptedProvider) -> None:
    """The account is under repair while its answer ends; the sweeper captures later."""
    client = backend.funded(10_000_000)
    gate = threading.Event()
    request_id = uuid4().hex
    reference = backend.firestore.document(f"accounts/{uid_of(client)}")
    try:
        provider.on(request_id, Behaviour(gate=gate, gate_at=1))
        backend.ask(client, request_id, request_id)
        backend.await_status(client, request_id, "streaming")
        reference.update({"quarantined": True})
        gate.set()
        postponed = backend.admin(f"housekeeping/settlements/{uid_of(client)}~{request_id}")
        eventually(postponed.get, "the postponed settlement")
    finally:
        reference.update({"quarantined": False})
    assert counted(backend, client) == {}
    backend.sweep()
    assert backend.await_status(client, request_id)["status"] == "done"
    assert counted(backend, client) == {
        "requests": 1,
        "done": 1,
        "inputTokens": 20,
        "outputTokens": 4,
        "costMicrocredits": ANSWER_COST,
    }


def test_a_capture_that_comes_too_late_counts_as_expired(backend: Backend) -> None:
    uid = account(backend)
    short = backend.ledger(hold_lifetime=timedelta(milliseconds=1))
    short.place_hold(uid, "late", request_hash="h", run_id="r", amount=400, minimum=400, work=Work("chat", "scripted"))
    eventually(lambda: backend.ledger().due_holds(500), "the hold's time")
    counting = UsageRecorder(backend.firestore).beside(End("done", "scripted", 10, 0, 5))
    with pytest.raises(HoldExpired):
        backend.ledger().capture(uid, "late", 400, counter="revenue:chat", beside=counting)
    with pytest.raises((HoldExpired, Conflict)):
        backend.ledger().capture(uid, "late", 400, counter="revenue:chat", beside=counting)
    (month,) = UsageRepository(backend.firestore).all_months(uid).values()
    (counters,) = month.values()
    counters.pop("durationMs", None)
    assert counters == {"requests": 1, "expired": 1}


@pytest.mark.parametrize("model", ["a.b/c`d", "__reserved__", "ключ", "x" * 200, "~", "*"])
def test_any_model_id_can_be_counted(backend: Backend, model: str) -> None:
    uid = account(backend)
    for _ in range(2):
        use(backend, uid, 100, end=End("done", model, 10, 0, 5))
    (month,) = UsageRepository(backend.firestore).all_months(uid).values()
    ((_, _, name),) = month
    assert name == ("~__reserved__" if model == "__reserved__" else model)
    assert next(iter(month.values()))["requests"] == 2


def test_the_month_is_that_of_the_settlement(backend: Backend) -> None:
    uid = account(backend)
    night = datetime(2031, 1, 31, 23, 59, 59, tzinfo=UTC)
    ledger = backend.ledger(now=lambda: night)
    ledger.place_hold(uid, "n", request_hash="h", run_id="r", amount=400, minimum=400, work=Work("chat", "scripted"))
    counting = UsageRecorder(backend.firestore).beside(End("done", "scripted", 10, 0, 5))
    later = backend.ledger(now=lambda: night + timedelta(seconds=2))
    later.capture(uid, "n", 400, counter="revenue:chat", beside=counting)
    months = UsageRepository(backend.firestore).all_months(uid)
    assert {month: list(counted) for month, counted in months.items()} == {"2031-02": [("01", "chat", "scripted")]}
    assert next(iter(months["2031-02"].values()))["durationMs"] == 2_000


# Rolling up.


def test_many_requests_at_once_reconcile_to_the_microcredit(backend: Backend) -> None:
    """Of several people, from several instances, while roll-ups run all the time."""
    backend.run_schedule("usage_rollup")
    clients = [backend.funded(100_000_000) for _ in range(3)]
    uids = [account(backend) for _ in range(3)]
    ended = threading.Event()

    def roll() -> int:
        runs = 0
        while not ended.is_set():
            rollup(backend, accounts_per_commit=2).run()
            runs += 1
        return runs

    def spend(number: int) -> None:
        for step in range(6):
            use(backend, uids[number], 101 + step)

    with ThreadPoolExecutor(12) as pool:
        rollers = [pool.submit(roll) for _ in range(2)]
        spenders = [pool.submit(spend, number) for number in range(3)]
        asked = [pool.submit(backend.answer, clients[number % 3], "hello") for number in range(18)]
        try:
            assert {each.result()["status"] for each in asked} == {"done"}
            for spender in spenders:
                spender.result()
        finally:
            ended.set()
        assert all(roller.result() > 0 for roller in rollers)
    assert backend.run_schedule("usage_rollup") == 200
    for client in clients:
        found = analytics(backend, client)
        assert found["reconciled"] is True
        assert found["totals"]["costMicrocredits"] == captured(backend, uid_of(client)) == 6 * ANSWER_COST
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None
    assert (check["difference"], check["unreconciled"], check["cost"]) == (0, 0, sums["costMicrocredits"])
    shown = analytics(backend, administrator(backend), scope="overall")
    assert shown["reconciled"] is True
    assert shown["totals"]["costMicrocredits"] <= sums["costMicrocredits"]


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_roll_up_that_dies_at_any_step_adds_nothing_twice(backend: Backend, point: str) -> None:
    backend.run_schedule("usage_rollup")
    uids = [account(backend) for _ in range(4)]
    for uid in uids:
        use(backend, uid, 500)
    backend.restart_functions(CONCIERGE_FAULT=f"usage_rollup.{point}:exit")
    assert backend.run_schedule("usage_rollup") != 200
    backend.await_crash()
    # They go on between the crash and the next run.
    use(backend, uids[0], 77)
    for _ in range(2):
        assert backend.run_schedule("usage_rollup") == 200
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None and (check["difference"], check["unreconciled"]) == (0, 0)


def test_runs_at_the_same_time_add_nothing_twice(backend: Backend) -> None:
    uids = [account(backend) for _ in range(10)]
    for step in range(3):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda uid: use(backend, uid, 100 + step), uids))  # noqa: B023  # used up within the turn
            runs = [pool.submit(rollup(backend, accounts_per_commit=3).run) for _ in range(4)]
            statuses = [pool.submit(backend.run_schedule, "usage_rollup") for _ in range(2)]
            assert all(run.result()["error"] == 0 for run in runs)
            assert {status.result() for status in statuses} == {200}
    rollup(backend).run()
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None and check["difference"] == 0


def test_a_stale_roll_up_is_refused(backend: Backend) -> None:
    """An instance that looked, and stood still while another one rolled the same account up."""
    rollup(backend).run()
    uid = account(backend)
    use(backend, uid, 500)
    repository = UsageRepository(backend.firestore)
    slow = Reconciler(repository, LedgerRepository(backend.firestore))
    (look,) = repository.look([uid])
    rollup(backend).run()
    before, _ = overall(backend)
    rolled = slow.advance(look, lambda: datetime.now(UTC))
    assert rolled is not None
    with pytest.raises((google_exceptions.FailedPrecondition, google_exceptions.AlreadyExists)):
        repository.commit([rolled], rolled.changes, 500, 0)
    assert overall(backend)[0] == before


def test_an_account_is_looked_at_as_of_one_moment(backend: Backend) -> None:
    """A request that ends between the two round trips of a look is in neither of them."""
    uid = account(backend)
    use(backend, uid, 500)
    rollup(backend).run()
    use(backend, uid, 20)

    class Interrupted(UsageRepository):
        reads = 0

        def _read(self, references: Any, at: datetime | None = None) -> dict[str, Any]:
            self.reads += 1
            if self.reads == 2:
                use(backend, uid, 33)
            return super()._read(references, at)

    (look,) = Interrupted(backend.firestore).look([uid])
    assert look.head is not None
    assert revenue_of(look.head) == cells.cost_of(look.months.values()) == 520
    assert cells.cost_of(look.rolled.values()) == 500


def test_a_run_looks_at_what_changed_and_no_more(backend: Backend) -> None:
    for _ in range(5):
        account(backend)
    rollup(backend).run()
    uid = account(backend)
    use(backend, uid, 500)
    # Beyond the margin of the feed nobody else is met.
    feed = ChangeFeed(backend.firestore)
    for bucket in range(16):
        cursor = feed.load_cursor(f"usage-{bucket:02d}")
        if cursor is not None:
            feed.save_cursor(f"usage-{bucket:02d}", cursor + timedelta(seconds=10))
    report = rollup(backend).run()
    assert (report["changed"], report["unchanged"], report["error"]) == (1, 0, 0)


def test_an_account_that_cannot_be_rolled_up_keeps_nobody_waiting(backend: Backend) -> None:
    rollup(backend).run()
    uids = [account(backend, bucket=3) for _ in range(4)]
    for uid in uids:
        use(backend, uid, 300)
    rollup(backend).run()
    state = backend.firestore.document(f"accounts/{uids[0]}/usageRollup/state")
    sound = state.get().to_dict()
    state.set({"seq": "broken"})
    for uid in uids:
        use(backend, uid, 40)
    report = rollup(backend).run()
    assert report["error"] == 1
    sums, _ = overall(backend)
    missing = everybody(backend) - sums
    assert missing["costMicrocredits"] == 40, "the others are rolled up"
    state.set(sound)
    # It is met again when it changes, and nothing of it is lost.
    use(backend, uids[0], 2)
    assert rollup(backend).run()["error"] == 0
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None and check["difference"] == 0


@pytest.mark.parametrize("fault", ["error", "error_after", "abort"])
def test_a_roll_up_whose_commit_fails_or_whose_answer_is_lost_adds_once(backend: Backend, fault: str) -> None:
    rollup(backend).run()
    uid = account(backend)
    use(backend, uid, 300)
    backend.fault("firestore.Commit", fault)
    for _ in range(2):
        rollup(backend).run()
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None and (check["difference"], check["unreconciled"]) == (0, 0)


def test_a_roll_up_that_loses_all_races_is_made_up_for(backend: Backend) -> None:
    """The account does not change again: its range is looked at again from where the cursor stands."""
    rollup(backend).run()
    uid = account(backend)
    use(backend, uid, 300)

    class Losing(UsageRepository):
        def commit(self, *arguments: Any) -> None:
            raise google_exceptions.FailedPrecondition("somebody else was faster")

    losing = UsageRollup(
        Losing(backend.firestore),
        ChangeFeed(backend.firestore),
        Reconciler(Losing(backend.firestore), LedgerRepository(backend.firestore)),
    )
    report = losing.run()
    assert (report["changed"], report["error"]) == (0, 0)
    assert report["postponed"] >= 1
    assert rollup(backend).run()["changed"] >= 1
    assert overall(backend)[0] == everybody(backend)


def test_what_a_wrong_clock_counted_is_found(backend: Backend) -> None:
    """A month far from now: nobody looks there until costs and revenue differ."""
    rollup(backend).run()
    uid = account(backend)
    use(backend, uid, 300)
    rollup(backend).run()
    use(backend, uid, 41, now=datetime.now(UTC) + timedelta(days=400))
    rollup(backend).run()
    sums, check = overall(backend)
    assert sums == everybody(backend)
    assert check is not None and (check["difference"], check["unreconciled"]) == (0, 0)


# Reconciling.


@pytest.fixture
def alerts(backend: Backend) -> Callable[[str], list[dict[str, Any]]]:
    """The alerts about an account, of deployed roll-ups since the test began."""
    known = len(logged(backend, "usage.unreconciled"))
    return lambda uid: [line for line in logged(backend, "usage.unreconciled")[known:] if line.get("uid") == uid]


def test_a_charge_that_was_not_counted_is_an_alert(
    backend: Backend, alerts: Callable[[str], list[dict[str, Any]]]
) -> None:
    backend.run_schedule("usage_rollup")
    client = backend.funded(10_000_000)
    uid = uid_of(client)
    backend.answer(client, "hello")
    assert backend.run_schedule("usage_rollup") == 200
    assert analytics(backend, client)["reconciled"] is True
    backend.ledger().capture(uid, hold(backend, uid), 123, counter="revenue:chat")
    assert analytics(backend, client)["reconciled"] is False
    assert backend.run_schedule("usage_rollup") == 200
    eventually(lambda: alerts(uid), "the alert")
    assert [alert["differenceMicrocredits"] for alert in alerts(uid)] == [-123]
    assert alerts(uid)[0]["severity"] == "ERROR"
    admin = administrator(backend)
    assert analytics(backend, admin, scope="overall")["reconciled"] is False
    assert analytics(backend, admin, uid=uid)["reconciled"] is False
    # Later requests that are counted do not hide it, and it is no other difference either.
    backend.answer(client, "hello")
    assert analytics(backend, client)["reconciled"] is False
    # An order that gives it back does not hide it; only the missing count does away with it.
    month = next(iter(backend.firestore.collection(f"accounts/{uid}/usage").list_documents()))
    day = f"{datetime.now(UTC):%d}"
    month.set({"days": {day: {"chat": {"lost": {"costMicrocredits": 123}}}}}, merge=True)
    assert analytics(backend, client)["reconciled"] is True
    use(backend, uid, 10)
    assert backend.run_schedule("usage_rollup") == 200
    assert analytics(backend, admin, scope="overall")["reconciled"] is True


def test_a_count_that_was_edited_is_an_alert(backend: Backend, alerts: Callable[[str], list[dict[str, Any]]]) -> None:
    backend.run_schedule("usage_rollup")
    client = backend.funded(10_000_000)
    uid = uid_of(client)
    backend.answer(client, "hello")
    month = next(iter(backend.firestore.collection(f"accounts/{uid}/usage").list_documents()))
    sound = month.get().to_dict()
    day = next(iter(sound["days"]))
    month.set({"days": {day: {"chat": {"scripted": {"costMicrocredits": ANSWER_COST + 1}}}}}, merge=True)
    assert analytics(backend, client)["reconciled"] is False
    assert backend.run_schedule("usage_rollup") == 200
    eventually(lambda: alerts(uid), "the alert")
    month.set(sound)
    use(backend, uid, 5)
    assert backend.run_schedule("usage_rollup") == 200
    assert analytics(backend, client)["reconciled"] is True


def test_what_was_given_back_is_no_difference(backend: Backend, alerts: Callable[[str], list[dict[str, Any]]]) -> None:
    backend.run_schedule("usage_rollup")
    client = backend.funded(10_000_000)
    uid = uid_of(client)
    ledger = backend.ledger()
    backend.answer(client, "hello")
    ledger.credit(uid, op_id="r1", kind="refund", amount=100, counter="revenue:chat")
    assert analytics(backend, client)["reconciled"] is True
    assert backend.run_schedule("usage_rollup") == 200
    backend.answer(client, "hello")
    ledger.credit(uid, op_id="r2", kind="refund", amount=ANSWER_COST, counter="revenue:chat")
    ledger.adjust(uid, op_id="a1", amount=-7, counter="revenue:chat", memo="m", actor="a")
    ledger.clawback(uid, op_id="c1", amount=9, counter="revenue:chat")
    assert backend.run_schedule("usage_rollup") == 200
    assert analytics(backend, client)["reconciled"] is True
    assert alerts(uid) == []
    found = backend.firestore.document(f"accounts/{uid}/usageRollup/state").get().to_dict()
    assert found["givenBack"] == 100 + ANSWER_COST - 7 - 9
    assert found["cost"] == 2 * ANSWER_COST


def test_an_account_from_before_the_counters_starts_where_its_ledger_is(
    backend: Backend, alerts: Callable[[str], list[dict[str, Any]]]
) -> None:
    client = backend.client()
    uid = uid_of(client)
    then = datetime.now(UTC) - timedelta(days=900)
    old = backend.ledger(now=lambda: then)
    old.credit(uid, op_id="welcome-bonus", kind="grant", amount=10_000_000, counter="expense:bonus")
    old.place_hold(uid, "old", request_hash="h", run_id="r", amount=4_000, minimum=4_000)
    old.capture(uid, "old", 3_000, counter="revenue:chat")
    backend.answer(client, "hello")
    assert analytics(backend, client)["reconciled"] is True
    assert backend.run_schedule("usage_rollup") == 200
    state = backend.firestore.document(f"accounts/{uid}/usageRollup/state").get().to_dict()
    assert (state["opening"], state["cost"]) == (3_000, ANSWER_COST)
    backend.answer(client, "hello")
    assert backend.run_schedule("usage_rollup") == 200
    assert alerts(uid) == []
    assert analytics(backend, client)["reconciled"] is True
    # From here on, nothing is let pass any more.
    backend.ledger().capture(uid, hold(backend, uid), 5, counter="revenue:chat")
    assert backend.run_schedule("usage_rollup") == 200
    eventually(lambda: alerts(uid), "the alert")
    use(backend, uid, 5)


def test_an_account_opened_later_has_no_starting_point(
    backend: Backend, alerts: Callable[[str], list[dict[str, Any]]]
) -> None:
    backend.run_schedule("usage_rollup")
    uid = account(backend)
    backend.ledger().capture(uid, hold(backend, uid), 55, counter="revenue:chat")
    assert backend.run_schedule("usage_rollup") == 200
    eventually(lambda: alerts(uid), "the alert")
    assert alerts(uid)[0]["differenceMicrocredits"] == -55


# Asking.


def test_analytics_of_a_person_by_day_model_and_kind(backend: Backend) -> None:
    client = backend.client()
    uid = uid_of(client)
    backend.ledger().credit(uid, op_id="welcome-bonus", kind="grant", amount=10_000_000, counter="expense:bonus")
    for day, end in [
        (datetime(2030, 1, 31, 12, tzinfo=UTC), End("done", "a", 100, 40, 10)),
        (datetime(2030, 2, 1, 0, tzinfo=UTC), End("cancelled", "b", 7, 0, 3)),
        (datetime(2030, 2, 1, 23, 59, 59, tzinfo=UTC), End("failed", "a", 1, 0, 1, images=2)),
        (datetime(2030, 3, 1, tzinfo=UTC), End("done", "a", 1, 0, 1)),
    ]:
        use(backend, uid, 1_001, now=day, end=end)
    found = analytics(backend, client, **{"from": "2030-01-31", "to": "2030-02-28"})
    assert (found["scope"], found["uid"], found["groupBy"]) == ("user", uid, "day")
    assert (found["from"], found["to"]) == ("2030-01-31", "2030-02-28")
    assert [(group["key"], group["requests"]) for group in found["groups"]] == [("2030-01-31", 1), ("2030-02-01", 2)]
    totals = found["totals"]
    assert {name: totals[name] for name in cells.FIELDS if name != "durationMs"} == {
        "requests": 3,
        "done": 1,
        "cancelled": 1,
        "failed": 1,
        "expired": 0,
        "inputTokens": 108,
        "cachedInputTokens": 40,
        "outputTokens": 14,
        "images": 2,
        "costMicrocredits": 3_003,
    }
    assert totals["averages"] == {"costMicrocredits": 1_001, "inputTokens": 36, "outputTokens": 5, "durationMs": 0}
    # 3,003,000 / 14 = 214,500
    assert totals["efficiency"] == {
        "costMicrocreditsPer1000OutputTokens": 214_500,
        "cancelledShare": 0.333333,
        "failedShare": 0.333333,
    }
    by_model = analytics(backend, client, groupBy="model", **{"from": "2030-01-01", "to": "2030-12-31"})["groups"]
    assert [(group["key"], group["costMicrocredits"]) for group in by_model] == [("a", 3_003), ("b", 1_001)]
    by_kind = analytics(backend, client, groupBy="kind", **{"from": "2030-03-01", "to": "2030-03-01"})["groups"]
    assert [(group["key"], group["requests"]) for group in by_kind] == [("chat", 1)]
    empty = analytics(backend, client, **LONG_AGO)
    assert empty["groups"] == []
    assert empty["totals"]["efficiency"] == {
        "costMicrocreditsPer1000OutputTokens": None,
        "cancelledShare": None,
        "failedShare": None,
    }


def test_without_dates_the_last_thirty_days_are_shown(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    backend.answer(client, "hello")
    found = analytics(backend, client)
    days = (datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"])).days
    assert days == 29
    assert found["totals"]["requests"] == 1
    until = analytics(backend, client, to="2024-03-01")
    assert (until["from"], until["to"]) == ("2024-02-01", "2024-03-01")
    assert analytics(backend, client, to="0001-01-05")["from"] == "0001-01-01"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"from": "2030-02-30"}, "from"),
        ({"from": "2030-2-3"}, "from"),
        ({"from": "20300203"}, "from"),
        ({"from": "2030-W01-1"}, "from"),
        ({"from": "2030-02-03T00:00:00Z"}, "from"),
        ({"from": ""}, "from"),
        ({"from": "٢٠٣٠-٠١-٠١"}, "from"),
        ({"to": "yesterday"}, "to"),
        ({"to": "0000-01-01"}, "to"),
        ({"to": "2030-01-01\n"}, "to"),
        ({"from": "2030-02-02", "to": "2030-02-01"}, "from"),
        ({"from": "2028-01-01", "to": "2029-01-01"}, "to"),
        ({"from": "2000-01-01"}, "to"),
        ({"groupBy": "hour"}, "groupBy"),
        ({"scope": "everything"}, "scope"),
        ({"uid": ""}, "uid"),
        ({"uid": "a/b"}, "uid"),
        ({"uid": "x" * 129}, "uid"),
        ({"limit": "3"}, "limit"),
        ([("to", "2030-01-01"), ("to", "2030-01-02")], "to"),
    ],
)
def test_malformed_questions_are_named(backend: Backend, parameters: Any, field: str) -> None:
    client = backend.client()
    answer = call(backend, client, "GET", "/credits/analytics", params=parameters)
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


def test_a_leap_year_is_not_too_long_and_no_year_too_far(backend: Backend) -> None:
    client = backend.client()
    analytics(backend, client, **{"from": "2028-01-01", "to": "2028-12-31"})
    for first, last in (("0001-01-01", "0001-12-31"), ("9999-01-01", "9999-12-31")):
        assert analytics(backend, client, **{"from": first, "to": last})["groups"] == []


def test_usage_is_its_owners_and_the_administrators(backend: Backend) -> None:
    owner, stranger = backend.funded(10_000_000), backend.client()
    backend.answer(owner, "hello")
    for parameters in ({"uid": uid_of(owner)}, {"scope": "overall"}):
        answer = call(backend, stranger, "GET", "/credits/analytics", params=parameters)
        assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    assert call(backend, None, "GET", "/credits/analytics").status_code == 401
    admin = administrator(backend)
    assert analytics(backend, admin, uid=uid_of(owner))["totals"]["requests"] == 1
    both = call(backend, admin, "GET", "/credits/analytics", params={"scope": "overall", "uid": uid_of(owner)})
    assert (both.status_code, both.json()["field"]) == (400, "uid")
    nobody = analytics(backend, admin, uid="nobody")
    assert (nobody["totals"]["requests"], nobody["reconciled"]) == (0, True)
