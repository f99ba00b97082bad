"""Documents as messages are what the client library reads."""

from uuid import uuid4

import pytest
from google.api_core.exceptions import FailedPrecondition
from google.cloud.firestore import FieldFilter
from support.backend import Backend

from concierge.kit.documents import get_documents, stream_query


def test_what_exists_is_read_with_its_update_time(backend: Backend) -> None:
    collection = backend.firestore.collection(f"raw-{uuid4().hex}")
    first = collection.document("a%b ü")
    first.set({"text": "ü", "number": -5, "map": {"x.y": 1}})
    collection.document("other").set({"text": "no"})
    (document,) = get_documents(backend.firestore, [first, collection.document("missing")])
    assert document.id == first.id
    assert document.fields["text"].string_value == "ü"
    assert document.fields["number"].integer_value == -5
    assert document.fields["map"].map_value.fields["x.y"].integer_value == 1
    # The update time is one that preconditions take.
    first.update({"number": 1}, option=backend.firestore.write_option(last_update_time=document.update_time))
    with pytest.raises(FailedPrecondition):
        first.update({"number": 2}, option=backend.firestore.write_option(last_update_time=document.update_time))


def test_a_query_is_read_in_its_order_and_as_of_its_moment(backend: Backend) -> None:
    collection = backend.firestore.collection(f"raw-{uuid4().hex}")
    for number in (3, 1, 2, 9):
        collection.document(f"d{number}").set({"number": number, "other": "left out"})
    moment = collection.document("d9").get().read_time
    collection.document("d2").delete()
    query = collection.where(filter=FieldFilter("number", "<", 9)).order_by("number").select(["number"])

    def numbers(at: object) -> list[int]:
        found = list(stream_query(backend.firestore, query, at))  # type: ignore[arg-type]
        assert all("other" not in document.fields for document in found)
        return [document.fields["number"].integer_value for document in found]

    assert numbers(None) == [1, 3]
    assert numbers(moment) == [1, 2, 3]
    assert list(stream_query(backend.firestore, collection.where(filter=FieldFilter("number", "==", 77)))) == []
