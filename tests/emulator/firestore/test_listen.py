"""on_snapshot of the synchronous client: what is there, what changes, what goes."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud import firestore as client_library
from google.cloud.firestore_v1 import FieldFilter
from support.waiting import eventually

Database = client_library.Client


class Recorder:
    """The snapshots that a watch has delivered."""

    def __init__(self) -> None:
        self.states: list[list[Any]] = []
        self.changes: list[list[tuple[str, str]]] = []
        self._lock = threading.Lock()

    def __call__(self, documents: Any, changes: Any, read_time: Any) -> None:
        assert read_time is not None
        with self._lock:
            self.states.append([(document.id, document.to_dict()) for document in documents])
            self.changes.append([(change.type.name, change.document.id) for change in changes])

    def last(self) -> Any:
        with self._lock:
            return self.states[-1] if self.states else None


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_document_comes_changes_and_goes(database: Database, recorder: Recorder) -> None:
    reference = database.document("watched/a")
    watch = reference.on_snapshot(recorder)
    try:
        eventually(lambda: recorder.last() == [])
        reference.set({"n": 1})
        eventually(lambda: recorder.last() == [("a", {"n": 1})])
        reference.update({"n": 2})
        eventually(lambda: recorder.last() == [("a", {"n": 2})])
        database.document("watched/b").set({"n": 1})
        reference.delete()
        eventually(lambda: recorder.last() == [])
    finally:
        watch.unsubscribe()
    assert recorder.changes == [[], [("ADDED", "a")], [("MODIFIED", "a")], [("REMOVED", "a")]]


def test_a_query_with_order_and_limit(database: Database, recorder: Recorder) -> None:
    collection = database.collection("watched")
    for name, value in (("a", 1), ("b", 2), ("c", 3), ("out", -1)):
        collection.document(name).set({"n": value})
    query = collection.where(filter=FieldFilter("n", ">", 0)).order_by("n").limit(3)
    watch = query.on_snapshot(recorder)

    def shows(*names: str) -> Callable[[], bool]:
        return lambda: [name for name, _ in recorder.last() or []] == list(names)

    try:
        eventually(shows("a", "b", "c"))
        collection.document("first").set({"n": 0.5})
        eventually(shows("first", "a", "b"))
        collection.document("a").update({"n": -5})
        eventually(shows("first", "b", "c"))
        collection.document("b").delete()
        eventually(shows("first", "c"))
        batch = database.batch()
        batch.set(collection.document("x"), {"n": 0.1})
        batch.set(collection.document("y"), {"n": 0.2})
        batch.commit()
        eventually(shows("x", "y", "first"))
    finally:
        watch.unsubscribe()


def test_two_watches_see_a_stream_of_writes_to_its_end(database: Database) -> None:
    recorders = [Recorder(), Recorder()]
    watches = [database.collection("stream").on_snapshot(recorder) for recorder in recorders]
    try:
        for number in range(30):
            database.document(f"stream/{number:02}").set({"n": number})
        for recorder in recorders:
            eventually(lambda recorder=recorder: len(recorder.last() or []) == 30)
    finally:
        for watch in watches:
            watch.unsubscribe()
