"""Transactions over the wire: nothing is lost, nothing is seen half, everybody gets there.

Under contention the official emulator gives up: its shared locks time out after two seconds, and five attempts are soon
used up. Those tests are about the embedded Firestore alone.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore as client_library
from google.cloud.firestore_v1 import FieldFilter

Database = client_library.Client
InParallel = Callable[[int, Callable[[int], Any]], list[Any]]


def increment(database: Database, reference: Any) -> None:
    @client_library.transactional
    def body(transaction: Any) -> None:
        value = reference.get(transaction=transaction).get("n")
        transaction.update(reference, {"n": value + 1})

    body(database.transaction())


def test_read_then_write(database: Database) -> None:
    reference = database.document("counters/one")
    reference.set({"n": 1})
    increment(database, reference)
    assert reference.get().to_dict() == {"n": 2}


def test_an_error_in_the_body_changes_nothing(database: Database) -> None:
    reference = database.document("counters/one")

    @client_library.transactional
    def body(transaction: Any) -> None:
        transaction.set(reference, {"n": 1})
        raise LookupError

    with pytest.raises(LookupError):
        body(database.transaction())
    assert not reference.get().exists


def test_a_failed_precondition_ends_the_transaction(database: Database) -> None:
    transaction = database.transaction()
    transaction._begin()
    transaction.update(database.document("counters/absent"), {"n": 1})
    transaction_id = transaction.id
    with pytest.raises(exceptions.NotFound):
        transaction._commit()
    with pytest.raises(exceptions.InvalidArgument):
        commit(database, transaction_id)


def commit(database: Database, transaction_id: bytes, *names: str) -> Any:
    """A Commit with writes that set `n` to 1."""
    prefix = f"{database._database_string}/documents/"
    writes = [{"update": {"name": prefix + name, "fields": {"n": {"integer_value": 1}}}} for name in names]
    request = {"database": database._database_string, "transaction": transaction_id, "writes": writes}
    return database._firestore_api.commit(request=request, metadata=database._rpc_metadata, retry=None)


def begin(database: Database, **options: Any) -> bytes:
    request = {"database": database._database_string, "options": options}
    response = database._firestore_api.begin_transaction(request=request, metadata=database._rpc_metadata)
    return bytes(response.transaction)


def read(database: Database, transaction_id: bytes, *names: str) -> dict[str, Any]:
    """BatchGetDocuments in a transaction: `n` of each document."""
    prefix = f"{database._database_string}/documents/"
    request = {
        "database": database._database_string,
        "documents": [prefix + name for name in names],
        "transaction": transaction_id,
    }
    found = {}
    for response in database._firestore_api.batch_get_documents(request=request, metadata=database._rpc_metadata):
        if response.found.name:
            found[response.found.name.removeprefix(prefix)] = response.found.fields["n"].integer_value
    return found


def rollback(database: Database, transaction_id: bytes) -> None:
    request = {"database": database._database_string, "transaction": transaction_id}
    database._firestore_api.rollback(request=request, metadata=database._rpc_metadata)


def test_a_transaction_is_used_once(database: Database) -> None:
    transaction_id = begin(database)
    commit(database, transaction_id, "counters/a")
    with pytest.raises(exceptions.InvalidArgument):
        commit(database, transaction_id, "counters/b")
    with pytest.raises(exceptions.InvalidArgument):
        read(database, transaction_id, "counters/a")
    rollback(database, transaction_id)
    assert not database.document("counters/b").get().exists


def test_unknown_transactions_are_refused(database: Database) -> None:
    for call in (commit, read):
        with pytest.raises(exceptions.InvalidArgument):
            call(database, b"unknown", "counters/a")
    with pytest.raises(exceptions.InvalidArgument):
        rollback(database, b"unknown")
    with pytest.raises(exceptions.InvalidArgument):
        begin(database, read_write={"retry_transaction": b"unknown"})


def test_after_a_rollback_nothing_is_left(database: Database) -> None:
    transaction_id = begin(database)
    read(database, transaction_id, "counters/a")
    rollback(database, transaction_id)
    with pytest.raises(exceptions.InvalidArgument):
        commit(database, transaction_id, "counters/a")
    database.document("counters/a").set({"n": 5})
    assert database.document("counters/a").get().get("n") == 5


def test_a_transaction_begun_by_a_read(database: Database) -> None:
    database.document("counters/a").set({"n": 3})
    prefix = f"{database._database_string}/documents/"
    request = {
        "database": database._database_string,
        "documents": [prefix + "counters/a"],
        "new_transaction": {"read_write": {}},
    }
    api, metadata = database._firestore_api, database._rpc_metadata
    responses = list(api.batch_get_documents(request=request, metadata=metadata))
    assert responses[0].transaction
    assert responses[-1].found.fields["n"].integer_value == 3
    commit(database, responses[0].transaction, "counters/a")
    assert database.document("counters/a").get().get("n") == 1


def test_read_only_transactions_see_one_moment(database: Database) -> None:
    collection = database.collection("counters")
    for name in "ab":
        collection.document(name).set({"n": 1})
    transaction = database.transaction(read_only=True)
    transaction._begin()
    assert collection.document("a").get(transaction=transaction).get("n") == 1
    batch = database.batch()
    batch.set(collection.document("a"), {"n": 2})
    batch.delete(collection.document("b"))
    batch.set(collection.document("c"), {"n": 2})
    batch.commit()
    assert collection.document("b").get(transaction=transaction).get("n") == 1
    seen = [(snapshot.id, snapshot.get("n")) for snapshot in collection.stream(transaction=transaction)]
    assert seen == [("a", 1), ("b", 1)]
    assert collection.count().get(transaction=transaction)[0][0].value == 2
    transaction._commit()
    assert [snapshot.id for snapshot in collection.stream()] == ["a", "c"]


def test_read_only_transactions_do_not_write(database: Database) -> None:
    transaction_id = begin(database, read_only={})
    with pytest.raises(exceptions.InvalidArgument):
        commit(database, transaction_id, "counters/a")
    assert not database.document("counters/a").get().exists


def test_a_commit_without_a_transaction_waits_for_the_one_that_has_read(database: Database) -> None:
    """The classic lost update: read in a transaction, write from outside, commit the transaction."""
    reference = database.document("counters/a")
    reference.set({"n": 1})
    transaction_id = begin(database)
    assert read(database, transaction_id, "counters/a") == {"counters/a": 1}
    done = threading.Event()

    def write() -> None:
        reference.update({"n": client_library.Increment(100)})
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    commit(database, transaction_id, "counters/a")
    thread.join(60)
    assert done.is_set()
    assert reference.get().get("n") == 101


@pytest.mark.usefixtures("firestore")
def test_fifty_clients_increment_one_document(database: Database, in_parallel: InParallel) -> None:
    reference = database.document("counters/hot")
    reference.set({"n": 0})
    in_parallel(50, lambda _: increment(database, reference))
    assert reference.get().get("n") == 50


@pytest.mark.usefixtures("firestore")
def test_transfers_in_both_directions_keep_the_sum(database: Database, in_parallel: InParallel) -> None:
    """Locks taken in opposite orders: a deadlock for every pair, unless somebody gives way and comes back."""
    accounts = [database.document(f"accounts/{name}") for name in "ab"]
    for account in accounts:
        account.set({"n": 1000})

    def transfer(index: int) -> None:
        source, target = accounts if index % 2 else accounts[::-1]

        @client_library.transactional
        def body(transaction: Any) -> None:
            taken = source.get(transaction=transaction).get("n")
            given = target.get(transaction=transaction).get("n")
            assert taken + given == 2000, "a transaction saw another one half done"
            transaction.update(source, {"n": taken - index})
            transaction.update(target, {"n": given + index})

        body(database.transaction(max_attempts=30))

    in_parallel(20, transfer)
    left, right = (account.get().get("n") for account in accounts)
    assert left + right == 2000
    assert left == 1000 + sum(index if index % 2 == 0 else -index for index in range(20))


def test_reads_that_depend_on_each_other_are_serialized(database: Database, in_parallel: InParallel) -> None:
    """Write skew: each takes itself off duty only if another one is on duty."""
    doctors = [database.document(f"doctors/{index}") for index in range(4)]
    for doctor in doctors:
        doctor.set({"n": 1})

    def leave(index: int) -> None:
        @client_library.transactional
        def body(transaction: Any) -> None:
            order = doctors[index:] + doctors[:index]
            if sum(doctor.get(transaction=transaction).get("n") for doctor in order) > 1:
                transaction.update(doctors[index], {"n": 0})

        body(database.transaction(max_attempts=30))

    in_parallel(4, leave)
    assert sum(doctor.get().get("n") for doctor in doctors) == 1


@pytest.mark.usefixtures("firestore")
def test_queries_are_guarded_against_phantoms(database: Database, in_parallel: InParallel) -> None:
    """Each inserts the next number after those that its query finds: a phantom makes two of the same."""
    collection = database.collection("sequence")

    def append(_: int) -> None:
        @client_library.transactional
        def body(transaction: Any) -> None:
            found = list(collection.where(filter=FieldFilter("n", ">=", 0)).stream(transaction=transaction))
            transaction.create(collection.document(), {"n": len(found)})

        body(database.transaction(max_attempts=20))

    in_parallel(12, append)
    assert sorted(snapshot.get("n") for snapshot in collection.stream()) == list(range(12))


def test_a_count_is_guarded_against_phantoms(database: Database, is_conformance: bool) -> None:
    collection = database.collection("seats")
    collection.document("a").set({"n": 1})
    transaction = database.transaction()
    transaction._begin()
    assert collection.count().get(transaction=transaction)[0][0].value == 1
    inserted = threading.Thread(target=lambda: collection.document("b").set({"n": 1}))
    inserted.start()
    transaction.set(database.document("seats/c"), {"n": 1})
    # The official emulator does not let it in, so that there is nothing to wait for there.
    inserted.join(1 if is_conformance else 60)
    if inserted.is_alive():
        # This Firestore makes the insertion wait: the transaction was first, and its count was right.
        transaction._commit()
    else:
        with pytest.raises(exceptions.Aborted):
            transaction._commit()
    inserted.join(60)
    assert collection.document("b").get().exists


@pytest.mark.usefixtures("firestore")
def test_a_query_locks_what_it_returns(database: Database, in_parallel: InParallel) -> None:
    for name in "abc":
        database.document(f"jobs/{name}").set({"state": "open", "done": 0})

    def work(_: int) -> None:
        @client_library.transactional
        def body(transaction: Any) -> None:
            jobs = database.collection("jobs").where(filter=FieldFilter("state", "==", "open")).limit(1)
            for snapshot in list(jobs.stream(transaction=transaction)):
                changes = {"state": "closed", "done": client_library.Increment(1)}
                transaction.update(snapshot.reference, changes)

        body(database.transaction(max_attempts=20))

    in_parallel(8, work)
    assert [snapshot.get("done") for snapshot in database.collection("jobs").stream()] == [1, 1, 1]


@pytest.mark.usefixtures("firestore")
def test_the_async_client_loses_nothing_either(host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)

    async def scenario() -> Any:
        database = client_library.AsyncClient(project=project, credentials=AnonymousCredentials())
        reference = database.document("counters/async")
        await reference.set({"n": 0})

        @client_library.async_transactional
        async def body(transaction: Any) -> None:
            value = (await reference.get(transaction=transaction)).get("n")
            transaction.update(reference, {"n": value + 1})

        await asyncio.gather(*(body(database.transaction()) for _ in range(20)))
        found = [snapshot.to_dict() async for snapshot in database.collection("counters").stream()]
        count = await database.collection("counters").count().get()
        await database._firestore_api.transport.close()
        return found, count[0][0].value

    assert asyncio.run(scenario()) == ([{"n": 20}], 1)
