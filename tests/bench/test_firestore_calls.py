"""Documents counted on the wire: the official client, the embedded Firestore, and the interceptor between them."""

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import grpc.aio
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from support.loop import LoopThread
from support.waiting import eventually

from bench.firestore_calls import observed_server
from emulator.firestore import FirestoreServer

Marks = list[tuple[str, str]]


@pytest.fixture
def marks() -> Marks:
    return []


@pytest.fixture
def client(marks: Marks) -> Iterator[firestore.Client]:
    observed = observed_server(grpc.aio.server, lambda name, value: marks.append((name, value)))
    with LoopThread() as loop, mock.patch.object(grpc.aio, "server", observed):
        server = FirestoreServer()
        port = loop.run(server.start())
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}"}):
            connected = firestore.Client(project="demo-bench", credentials=AnonymousCredentials())
        yield connected
        connected.close()
        loop.run(server.stop())


def counted(marks: Marks) -> list[str]:
    """Each call that began, once it has ended: a client hears of a refusal just before the server is done with it."""
    begun = sum(name == "firestore.begin" for name, _ in marks)
    eventually(lambda: sum(name == "firestore.end" for name, _ in marks) >= begun, "the end of a call")
    found = [value for name, value in marks if name == "firestore.end"]
    marks.clear()
    return found


def test_a_transaction_counts_each_document_once(client: firestore.Client, marks: Marks) -> None:
    there, missing = client.collection("c").document("there"), client.collection("c").document("missing")
    there.set({"n": 1})
    assert counted(marks) == ["Commit,0,1"]

    def body(transaction: Any) -> None:
        list(client.get_all([there, missing], transaction=transaction))
        transaction.update(there, {"n": 2})
        transaction.create(missing, {"n": 1})
        transaction.delete(client.collection("c").document("other"))

    firestore.transactional(body)(client.transaction())
    assert counted(marks) == ["BeginTransaction,0,0", "BatchGetDocuments,2,0", "Commit,0,3"]


def test_a_query_costs_a_read_even_if_it_finds_nothing(client: firestore.Client, marks: Marks) -> None:
    assert list(client.collection("c").stream()) == []
    assert counted(marks) == ["RunQuery,1,0"]
    for number in range(3):
        client.collection("c").add({"n": number})
    marks.clear()
    assert len(list(client.collection("c").stream())) == 3
    assert counted(marks) == ["RunQuery,3,0"]


def test_a_refused_call_counts(client: firestore.Client, marks: Marks) -> None:
    reference = client.collection("c").document("one")
    reference.create({"n": 1})
    marks.clear()
    with pytest.raises(Exception, match="already exists"):
        reference.create({"n": 1})
    assert counted(marks) == ["Commit,0,1"]
