"""Single documents over the wire: writes, masks, transforms, preconditions, names, limits."""

import datetime
import math
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore as client_library
from google.cloud.firestore_v1 import GeoPoint
from google.cloud.firestore_v1.vector import Vector

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
Database = client_library.Client


def test_every_type_comes_back_as_it_went(database: Database) -> None:
    document = database.document("types/all")
    fields = {
        "null": None,
        "true": True,
        "integer": -(2**63),
        "double": 1.5,
        "infinity": math.inf,
        "time": datetime.datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=datetime.UTC),
        "string": "grüße 😀",
        "bytes": b"\x00\xff",
        "reference": database.document("types/other"),
        "point": GeoPoint(-12.5, 170.25),
        "array": [1, "two", {"three": [3]}],
        "map": {"deep": {"deeper": None}},
        "vector": Vector([1.0, 2.5]),
        "a.b `c`": "a name to be quoted",
    }
    document.set(fields)
    assert document.get().to_dict() == fields
    assert document.get(["map.deep", "`a.b \\`c\\``", "absent"]).to_dict() == {
        "map": {"deep": {"deeper": None}},
        "a.b `c`": "a name to be quoted",
    }


def test_create_set_update_delete(database: Database) -> None:
    document = database.document("things/one")
    assert not document.get().exists
    with pytest.raises(exceptions.NotFound):
        document.update({"a": 1})
    created = document.create({"a": 1, "nested": {"x": 1, "y": 2}})
    with pytest.raises(exceptions.AlreadyExists):
        document.create({"a": 2})
    updated = document.update({"nested.x": 5, "nested.z": 6, "a": client_library.DELETE_FIELD})
    assert updated.update_time > created.update_time
    snapshot = document.get()
    assert snapshot.to_dict() == {"nested": {"x": 5, "y": 2, "z": 6}}
    assert snapshot.create_time == created.update_time
    assert snapshot.update_time == updated.update_time
    assert snapshot.read_time >= snapshot.update_time
    document.set({"nested": {"y": 0}, "b": 1}, merge=True)
    assert document.get().to_dict() == {"nested": {"x": 5, "y": 0, "z": 6}, "b": 1}
    document.set({"only": 1})
    assert document.get().to_dict() == {"only": 1}
    document.delete()
    assert not document.get().exists
    document.delete()


def test_a_document_made_again_is_a_new_one(database: Database) -> None:
    document = database.document("things/again")
    first = document.create({}).update_time
    document.delete()
    document.create({})
    assert document.get().create_time > first


def test_a_write_that_changes_nothing_keeps_the_update_time(database: Database) -> None:
    document = database.document("things/same")
    first = document.set({"a": math.nan, "b": [1, {"c": 2}], "d": 1}).update_time
    assert document.set({"d": 1, "b": [1, {"c": 2}], "a": math.nan}).update_time == first
    assert document.update({"d": 1}).update_time == first
    assert document.set({"a": math.nan, "b": [1, {"c": 2}], "d": 1.0}).update_time > first


def test_update_times_grow_with_every_commit(database: Database) -> None:
    document = database.document("things/clock")
    times = [document.set({"n": number}).update_time for number in range(30)]
    assert times == sorted(set(times))


@pytest.mark.parametrize("exists", [True, False])
def test_precondition_on_existence(database: Database, exists: bool) -> None:
    option = database.write_option(exists=True)
    document = database.document("things/conditional")
    if exists:
        document.set({"a": 1})
        document.delete(option=option)
        assert not document.get().exists
    else:
        with pytest.raises(exceptions.NotFound):
            document.delete(option=option)


def test_precondition_on_the_update_time(database: Database) -> None:
    document = database.document("things/versioned")
    first = document.set({"a": 1}).update_time
    second = document.update({"a": 2}, option=database.write_option(last_update_time=first)).update_time
    for stale in (first, LONG_AGO):
        with pytest.raises(exceptions.FailedPrecondition):
            document.update({"a": 3}, option=database.write_option(last_update_time=stale))
        with pytest.raises(exceptions.FailedPrecondition):
            document.delete(option=database.write_option(last_update_time=stale))
    document.delete(option=database.write_option(last_update_time=second))
    with pytest.raises(exceptions.FailedPrecondition):
        document.update({"a": 3}, option=database.write_option(last_update_time=second))


def test_a_commit_is_all_or_nothing(database: Database) -> None:
    database.document("things/present").set({"a": 1})
    batch = database.batch()
    batch.set(database.document("things/first"), {"a": 1})
    batch.delete(database.document("things/present"))
    batch.update(database.document("things/absent"), {"a": 1})
    with pytest.raises(exceptions.NotFound):
        batch.commit()
    assert not database.document("things/first").get().exists
    assert database.document("things/present").get().exists


def test_several_writes_to_one_document_in_one_commit(database: Database) -> None:
    document = database.document("things/busy")
    batch = database.batch()
    batch.set(document, {"n": 1, "list": []})
    batch.update(document, {"n": client_library.Increment(4)})
    batch.delete(document)
    batch.create(document, {"n": 10})
    batch.update(document, {"n": client_library.Increment(5), "list": client_library.ArrayUnion(["a"])})
    results = batch.commit()
    assert len(results) == 5
    assert document.get().to_dict() == {"n": 15, "list": ["a"]}
    assert document.get().update_time == results[-1].update_time == batch.commit_time


def test_transforms_and_their_results(database: Database) -> None:
    document = database.document("things/transformed")
    document.set({"n": 2**63 - 2, "text": "x", "max": 3, "list": [1, "a", math.nan, None]})
    result = document.update(
        {
            "n": client_library.Increment(5),
            "new": client_library.Increment(1.5),
            "text": client_library.Maximum(7),
            "max": client_library.Maximum(3.0),
            "min.deep": client_library.Minimum(-1),
            "list": client_library.ArrayUnion([1.0, "b", "b"]),
            "at": client_library.SERVER_TIMESTAMP,
            "plain": True,
        }
    )
    snapshot = document.get()
    at = snapshot.get("at")
    assert snapshot.get("n") == 2**63 - 1
    assert (snapshot.get("new"), snapshot.get("text"), snapshot.get("min.deep")) == (1.5, 7, -1)
    assert isinstance(snapshot.get("max"), int)
    assert repr(snapshot.get("list")) == "[1, 'a', nan, None, 'b']"
    assert abs((at - snapshot.update_time).total_seconds()) < 60
    assert at.microsecond % 1000 == 0
    assert len(result.transform_results) == 7
    document.update({"list": client_library.ArrayRemove([1.0, math.nan, "z"]), "max": client_library.ArrayRemove([1])})
    assert document.get().get("list") == ["a", None, "b"]
    assert document.get().get("max") == []


def test_numbers_of_a_transform_compare_with_nan(database: Database) -> None:
    document = database.document("things/nan")
    document.set({"a": math.nan, "b": 1})
    document.update({"a": client_library.Maximum(5), "b": client_library.Minimum(math.nan)})
    assert math.isnan(document.get().get("a"))
    assert math.isnan(document.get().get("b"))


def test_only_numbers_can_be_added(database: Database) -> None:
    increment = {"field_path": "n", "increment": {"string_value": "x"}}
    name = f"{database._database_string}/documents/things/bad"
    request = {
        "database": database._database_string,
        "writes": [{"update": {"name": name}, "update_transforms": [increment]}],
    }
    with pytest.raises(exceptions.InvalidArgument):
        database._firestore_api.commit(request=request, metadata=database._rpc_metadata)


@pytest.mark.parametrize(
    "path",
    ["things/__x__", "__things__/x", "things/..", "things/.", "things/" + "é" * 751],
    ids=["reserved id", "reserved collection", "two dots", "dot", "1502 bytes"],
)
def test_names_that_are_refused(database: Database, path: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        database.document(path).set({})


def nested(levels: int) -> dict[str, Any]:
    return {"v": nested(levels - 1) if levels else 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"__x__": 1},
        {"a": {"__x__": 1}},
        {"a" * 1501: 1},
        {"a": [[1]]},
        {"a": "x" * 1_048_500},
        {"a": "x" * 600_000, "b": "y" * 600_000},
        nested(21),
    ],
    ids=["reserved field", "reserved in map", "long field name", "array in array", "long value", "too big", "too deep"],
)
def test_contents_that_are_refused(database: Database, fields: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        database.document("things/refused").set(fields)
    assert not database.document("things/refused").get().exists


def test_contents_at_the_limits(database: Database) -> None:
    for fields in (nested(20), {"a": "x" * 1_048_000}, {"a" * 1500: 1}, {"_": 1, "__": 2, "__a": 3}):
        database.document("things/limit").set(fields)
        assert database.document("things/limit").get().to_dict() == fields


def test_batch_get_finds_and_misses(database: Database) -> None:
    database.document("things/here").set({"a": 1, "b": 2})
    references = [database.document(f"things/{name}") for name in ("here", "gone", "here")]
    snapshots = list(database.get_all(references, field_paths=["b"]))
    assert sorted((snapshot.id, snapshot.to_dict()) for snapshot in snapshots) == [("gone", None), ("here", {"b": 2})]


def test_batch_write_tells_of_each_write(database: Database) -> None:
    bulk = database.bulk_writer()
    failures: list[Any] = []
    bulk.on_write_error(lambda failure, _: bool(failures.append(failure.code)))
    database.document("bulk/taken").set({})
    for name in ("a", "taken", "b"):
        bulk.create(database.document(f"bulk/{name}"), {"x": 1})
    bulk.close()
    assert failures == [6]
    assert sorted(snapshot.id for snapshot in database.collection("bulk").stream()) == ["a", "b", "taken"]


def test_projects_and_databases_are_kept_apart(database: Database, host: str, connect: Any, project: str) -> None:
    database.document("things/mine").set({"a": 1})
    with connect(host, project + "x") as other:
        assert not other.document("things/mine").get().exists
        assert list(other.collection_group("things").stream()) == []
        other.document("things/mine").set({"a": 2})
    assert database.document("things/mine").get().to_dict() == {"a": 1}


def test_a_document_of_the_past_can_be_read(database: Database) -> None:
    document = database.document("things/history")
    first = document.set({"n": 1})
    document.set({"n": 2})
    document.delete()
    assert document.get(read_time=first.update_time).to_dict() == {"n": 1}
    with pytest.raises(exceptions.FailedPrecondition):
        document.get(read_time=LONG_AGO)
    with pytest.raises(exceptions.InvalidArgument):
        document.get(read_time=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
