"""What only the embedded Firestore does: faults, persistence, change listeners, expiry, access, its own messages."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import firestore as client_library
from google.cloud.firestore_v1 import FieldFilter
from google.cloud.firestore_v1 import types as library_types
from google.protobuf.descriptor import FieldDescriptor
from support.waiting import eventually

from emulator.contracts import FirestoreChange
from emulator.firestore import FirestoreServer, protocol

Database = client_library.Client


def test_a_fault_before_the_commit_changes_nothing(firestore: Any, database: Database) -> None:
    firestore.add_fault(target="firestore.Commit", action="error")
    seen = database.document("faults/a")
    with pytest.raises(exceptions.ServiceUnavailable):
        database._firestore_api.commit(request=creation(database, "faults/a"), retry=None, metadata=owner())
    assert not seen.get().exists
    firestore.add_fault(target="firestore.Commit", action="error")
    seen.create({})
    assert seen.get().exists


def creation(database: Database, path: str) -> dict[str, Any]:
    name = f"{database._database_string}/documents/{path}"
    write = {"update": {"name": name}, "current_document": {"exists": False}}
    return {"database": database._database_string, "writes": [write]}


def owner() -> list[tuple[str, str]]:
    return [("authorization", "Bearer owner")]


def test_a_lost_answer_was_applied(firestore: Any, database: Database) -> None:
    firestore.add_fault(target="firestore.Commit", action="error_after")
    # The library tries again, and finds what its first try has created.
    with pytest.raises(exceptions.AlreadyExists):
        database.document("faults/b").create({})
    firestore.add_fault(target="firestore.BatchGetDocuments", action="error_after")
    with pytest.raises(exceptions.ServiceUnavailable):
        list(
            database._firestore_api.batch_get_documents(
                request={"database": database._database_string, "documents": []}, retry=None, metadata=owner()
            )
        )


def test_a_delay_comes_late_but_comes(firestore: Any, database: Database) -> None:
    firestore.add_fault(target="firestore.Commit", action="delay", delay_ms=150)
    started = time.monotonic()
    database.document("faults/slow").set({})
    assert time.monotonic() - started >= 0.15
    assert database.document("faults/slow").get().exists


@pytest.mark.parametrize("metadata", [[], [("authorization", "Bearer somebody")]])
def test_only_the_admin_gets_in(firestore: Any, database: Database, metadata: list[tuple[str, str]]) -> None:
    database.document("secrets/a").set({"a": 1})
    prefix = f"{database._database_string}/documents"
    calls: list[tuple[str, Any]] = [
        ("GetDocument", library_types.GetDocumentRequest(name=f"{prefix}/secrets/a")),
        ("Commit", library_types.CommitRequest(database=database._database_string)),
    ]
    with grpc.insecure_channel(firestore.address) as channel:
        for method, request in calls:
            call = channel.unary_unary(
                f"/google.firestore.v1.Firestore/{method}", request_serializer=type(request).serialize
            )
            with pytest.raises(grpc.RpcError) as refusal:
                call(request, metadata=metadata, timeout=60)
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        request = library_types.RunQueryRequest(parent=prefix)
        stream = channel.unary_stream(
            "/google.firestore.v1.Firestore/RunQuery", request_serializer=type(request).serialize
        )
        with pytest.raises(grpc.RpcError) as refusal:
            list(stream(request, metadata=metadata, timeout=60))
        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_calls_that_are_not_served(firestore: Any, database: Database) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        list(database.collection_group("any").get_partitions(2))


def test_everything_survives_a_restart(start: Any, connect: Any, project: str, tmp_path: Path) -> None:
    first = start(tmp_path)
    with connect(first.address, project) as database:
        database.document("kept/a").set({"n": 1, "deep": {"list": [1.5, None, b"x"]}})
        database.document("kept/a").update({"n": 2})
        database.document("kept/ä/sub/b").set({"n": 3})
        database.document("kept/gone").set({})
        database.document("kept/gone").delete()
        before = database.document("kept/a").get()
    # As after kill -9: nothing is stopped or closed before the second one reads.
    second = start(tmp_path)
    with connect(second.address, project) as database:
        after = database.document("kept/a").get()
        assert after.to_dict() == before.to_dict()
        assert (after.create_time, after.update_time) == (before.create_time, before.update_time)
        assert [snapshot.id for snapshot in database.collection("kept").stream()] == ["a"]
        assert [snapshot.id for snapshot in database.collection_group("sub").stream()] == ["b"]
        changed = database.document("kept/a").update(
            {"n": 3}, option=database.write_option(last_update_time=after.update_time)
        )
        assert changed.update_time > before.update_time


def test_listeners_are_told_of_every_change_in_order(firestore: Any, database: Database, project: str) -> None:
    heard: list[FirestoreChange] = []
    firestore.server.listeners.append(heard.append)
    try:
        a, b = database.document("told/a"), database.document("told/b")
        batch = database.batch()
        batch.set(b, {"n": 1})
        batch.set(a, {"n": 1})
        batch.update(b, {"n": 2})
        batch.commit()
        a.set({"n": 1})
        a.update({"n": 5})
        a.delete()
        a.delete()
        with pytest.raises(exceptions.NotFound):
            a.update({"n": 6})
    finally:
        firestore.server.listeners.remove(heard.append)

    def n(document: Any) -> int | None:
        return None if document is None else document.fields["n"].integer_value

    told = [(change.name.rpartition("/")[2], n(change.before), n(change.after)) for change in heard]
    assert told == [("b", None, 2), ("a", None, 1), ("a", 1, 5), ("a", 5, None)]
    assert heard[0].name == f"projects/{project}/databases/(default)/documents/told/b"
    # The messages are those of the protocol, byte for byte.
    again = library_types.Document.deserialize(heard[2].after.SerializeToString())
    assert again.fields["n"].integer_value == 5
    assert again.update_time.timestamp() * 1000 // 1 == heard[2].at_ms


def test_clear_empties_one_project(firestore: Any, database: Database, connect: Any, project: str) -> None:
    heard: list[Any] = []
    firestore.server.listeners.append(heard.append)
    with connect(firestore.address, project + "-other") as other:
        other.document("a/kept").set({})
        for path in ("a/b", "a/b/c/d"):
            database.document(path).set({})
        heard.clear()
        assert firestore.thread.call(firestore.server.clear, project) == 2
        assert list(database.collections()) == []
        assert other.document("a/kept").get().exists
    assert heard == []
    firestore.server.listeners.remove(heard.append)


@pytest.mark.parametrize(("step_s", "steps"), [(61, 1), (50, 6)], ids=["idle", "too long"])
def test_transactions_expire(start: Any, connect: Any, project: str, step_s: int, steps: int) -> None:
    server = start()
    with connect(server.address, project) as database:
        reference = database.document("counters/a")
        reference.set({"n": 1})
        transaction = database.transaction()
        transaction._begin()
        reference.get(transaction=transaction)
        for _ in range(steps - 1):
            server.thread.call(server.clock.advance, step_s)
            reference.get(transaction=transaction)
        server.thread.call(server.clock.advance, step_s)
        eventually(lambda: len(server.server.transactions) == 0)
        reference.update({"n": 2})
        transaction.update(reference, {"n": 3})
        with pytest.raises(exceptions.InvalidArgument):
            transaction._commit()
        assert reference.get().get("n") == 2


def test_a_lock_that_is_not_given_in_time(start: Any, connect: Any, project: str) -> None:
    server = start(lock_timeout_s=0.2)
    with connect(server.address, project) as database:
        reference = database.document("counters/a")
        reference.set({"n": 1})
        holder = database.transaction()
        holder._begin()
        reference.get(transaction=holder)
        with pytest.raises(exceptions.Aborted, match=r"Transaction lock timeout\."):
            reference.update({"n": 2})
        # A read is never aborted; the commit behind it is.
        late = database.transaction()
        late._begin()
        assert reference.get(transaction=late).get("n") == 1
        late.update(reference, {"n": 3})
        with pytest.raises(exceptions.Aborted, match=r"Transaction lock timeout\."):
            late._commit()
        holder.update(reference, {"n": 4})
        holder._commit()
        assert reference.get().get("n") == 4


def test_a_client_that_leaves_the_queue_leaves_no_locks(start: Any, connect: Any, project: str) -> None:
    server = start()
    with connect(server.address, project) as database:
        held, free = database.document("counters/held"), database.document("counters/free")
        holder = database.transaction()
        holder._begin()
        held.get(transaction=holder)
        leaver = database.transaction()
        leaver._begin()
        free.get(transaction=leaver)
        with pytest.raises(exceptions.DeadlineExceeded):
            held.get(transaction=leaver, timeout=0.2, retry=None)
        eventually(lambda: len(server.server.transactions) == 1)
        free.set({"n": 1})
        holder._rollback()
        held.set({"n": 1})
        assert held.get().exists


def test_ten_thousand_documents_are_searched_quickly_enough(firestore: Any, database: Database) -> None:
    collection = database.collection("many")
    for start in range(0, 10_000, 500):
        batch = database.batch()
        for number in range(start, start + 500):
            batch.set(collection.document(f"{number:05}"), {"n": number, "parity": number % 2})
        batch.commit()
    query = collection.where(filter=FieldFilter("parity", "==", 1)).where(filter=FieldFilter("n", ">", 9_900))
    assert query.count().get()[0][0].value == 50
    assert [snapshot.id for snapshot in query.limit(2).stream()] == ["09901", "09903"]
    # The second run finds the keys remembered: it does not read a field again.
    name = f"{database._database_string}/documents/many/00000"
    document = firestore.server.documents.get(name)
    assert document is not None
    assert document.key(("parity",)) is document.key(("parity",))


def test_the_schema_is_that_of_the_client_library() -> None:
    """Field by field: number, type, repetition, oneof. `verify` is missing in the Python library alone."""
    pending = [
        (message, getattr(library_types, name).pb()().DESCRIPTOR)
        for name, message in protocol.POOL.FindFileByName(
            "concierge/google.firestore.v1.proto"
        ).message_types_by_name.items()
    ]
    compared = 0
    while pending:
        ours, theirs = pending.pop()
        for field in ours.fields:
            if (ours.name, field.name) == ("Write", "verify"):
                continue
            # proto-plus appends an underscore to the keywords of Python.
            other = theirs.fields_by_name.get(field.name) or theirs.fields_by_name[field.name + "_"]
            assert shape(field) == shape(other), f"{ours.full_name}.{field.name}"
            compared += 1
        for nested in ours.nested_types:
            pending.append((nested, theirs.nested_types_by_name[nested.name]))
        for enum in ours.enum_types:
            values = theirs.enum_types_by_name[enum.name].values_by_name
            assert {value.name: value.number for value in enum.values} == {k: v.number for k, v in values.items()}
    assert compared > 150


def shape(field: FieldDescriptor) -> tuple[Any, ...]:
    oneof = field.containing_oneof.name if field.containing_oneof else None
    target = field.message_type or field.enum_type
    full_name = target.full_name if target else None
    is_map = bool(field.message_type and field.message_type.GetOptions().map_entry)
    return (field.number, field.type, field.is_repeated, oneof, None if is_map else full_name, is_map)


@pytest.mark.parametrize(
    "order", ["emulator.firestore, google.cloud.firestore", "google.cloud.firestore, emulator.firestore"]
)
def test_the_client_library_and_the_server_load_in_any_order(order: str) -> None:
    code = f"import {order}; from google.cloud.firestore_v1 import types; types.Document(name='x')"
    assert subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=False).returncode == 0


def test_the_server_does_not_load_the_client_library() -> None:
    code = "import emulator.firestore, sys; sys.exit('google.cloud.firestore_v1' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_retried_transaction_locks_what_its_query_selects(firestore: Any, database: Database) -> None:
    """The first attempt is beaten by an insertion; the second one makes insertions wait."""
    collection = database.collection("selected")

    def insert(name: str) -> None:
        collection.document(name).set({"n": 1})

    transaction = database.transaction()
    transaction._begin()
    assert list(collection.stream(transaction=transaction)) == []
    first_id = transaction.id
    insert("first")
    transaction.set(collection.document("mine"), {"n": 1})
    with pytest.raises(exceptions.Aborted):
        transaction._commit()
    transaction._clean_up()
    transaction._begin(retry_id=first_id)
    assert [snapshot.id for snapshot in collection.stream(transaction=transaction)] == ["first"]
    inserter = threading.Thread(target=insert, args=("second",))
    inserter.start()
    waiting = firestore.server.transactions.waiting
    eventually(lambda: firestore.thread.call(waiting) == 1 or not inserter.is_alive())
    assert inserter.is_alive(), "the insertion did not wait"
    transaction.set(collection.document("mine"), {"n": 1})
    transaction._commit()
    inserter.join(60)
    assert sorted(snapshot.id for snapshot in collection.stream()) == ["first", "mine", "second"]


def test_a_taken_port_is_told(firestore: Any) -> None:
    port = int(firestore.address.rpartition(":")[2])
    other = FirestoreServer()

    async def start() -> None:
        await other.start("127.0.0.1", port)

    with pytest.raises(OSError, match="cannot listen"):
        firestore.thread.run(start())
