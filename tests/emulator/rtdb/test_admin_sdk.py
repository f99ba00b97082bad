"""Every call of the unmodified firebase_admin.db."""

import threading
from collections.abc import Callable
from typing import Any

import firebase_admin
import pytest
from firebase_admin import db, exceptions
from support.waiting import eventually

Reference = Callable[..., db.Reference]


def test_set_get_update_push_delete(reference: Reference) -> None:
    root = reference("/")
    root.child("users/ann").set({"name": "Änn", "tags": ["x", "y"], "at": {".sv": "timestamp"}})
    user = root.child("users/ann").get()
    assert user["name"] == "Änn"
    assert user["tags"] == ["x", "y"]
    assert user["at"] > 1_600_000_000_000
    assert root.child("users").get(shallow=True) == {"ann": True}
    root.update({"users/ann/at": None, "users/bob": {"name": "Bob"}, "count": {".sv": {"increment": 5}}})
    root.update({"count": {".sv": {"increment": -2}}})
    assert root.get() == {
        "users": {"ann": {"name": "Änn", "tags": ["x", "y"]}, "bob": {"name": "Bob"}},
        "count": 3,
    }
    keys = [root.child("log").push(f"line {number}").key for number in range(3)]
    assert keys == sorted(keys)
    assert list(root.child("log").get().values()) == ["line 0", "line 1", "line 2"]
    assert root.child("log").push().get() == ""
    root.child("users/ann").delete()
    assert root.child("users").get() == {"bob": {"name": "Bob"}}
    root.delete()
    assert root.get() is None


def test_etags(reference: Reference) -> None:
    counter = reference("/counter")
    value, etag = counter.get(etag=True)
    assert value is None
    assert counter.set_if_unchanged(etag, 1)[0]
    value, etag = counter.get(etag=True)
    assert counter.get_if_changed(etag) == (False, None, None)
    counter.set(2)
    changed, value, current = counter.get_if_changed(etag)
    assert (changed, value) == (True, 2)
    assert counter.set_if_unchanged(etag, 9) == (False, 2, current)
    assert counter.get() == 2


def test_transactions_of_several_threads_lose_nothing(reference: Reference) -> None:
    counter = reference("/counter")
    counter.set(0)
    errors: list[BaseException] = []

    def add() -> None:
        try:
            for _ in range(5):
                counter.transaction(lambda current: (current or 0) + 1)
        except exceptions.FirebaseError as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert counter.get() == 15


def test_queries(reference: Reference) -> None:
    animals = reference("/indexed/animals")
    animals.set({"a": {"height": 3}, "b": {"height": 1}, "c": {"height": 2}, "10": {"height": 2}, "9": {"height": 2}})
    assert list(animals.order_by_child("height").get()) == ["b", "10", "9", "c", "a"]  # the SDK sorts keys as text
    assert list(animals.order_by_child("height").limit_to_first(2).get()) == ["b", "9"]
    assert list(animals.order_by_child("height").start_at(2).limit_to_last(2).get()) == ["c", "a"]
    assert list(animals.order_by_child("height").equal_to(3).get()) == ["a"]
    assert list(animals.order_by_key().start_at("b").end_at("c").get()) == ["b", "c"]
    scores = reference("/indexed/scores")
    scores.set({"x": 3, "y": "text", "z": True})
    assert list(scores.order_by_value().get()) == ["z", "x", "y"]
    assert list(scores.order_by_value().equal_to("text").get()) == ["y"]


def test_errors_reach_the_caller(reference: Reference) -> None:
    with pytest.raises(exceptions.InvalidArgumentError, match="Index not defined"):
        reference("/plain").order_by_child("x").get()
    with pytest.raises(exceptions.InvalidArgumentError, match="couldn't parse key"):
        reference("/plain").set({"a.b": 1})


def test_listen(start: Callable[..., Any], namespace: str) -> None:
    events: list[tuple[str, str, Any]] = []
    with start() as service:
        app = firebase_admin.initialize_app(options={"databaseURL": f"{service.url}/?ns={namespace}"}, name=namespace)
        target = db.reference("/listened", app)
        target.set({"a": 1})
        registration = target.listen(lambda event: events.append((event.event_type, event.path, event.data)))
        eventually(lambda: len(events) == 1)
        target.child("b").set("ünï😀")
        target.update({"c": 3, "d/e": 4})
        target.child("a").delete()
        eventually(lambda: len(events) == 4)
        # The SDK's thread only ends in order if the server cuts the stream while it may no longer reconnect.
        registration._sse.should_connect = False
        registration._sse.retry = 0
    registration.close()
    firebase_admin.delete_app(app)
    assert events == [
        ("put", "/", {"a": 1}),
        ("put", "/b", "ünï😀"),
        ("patch", "/", {"c": 3, "d/e": 4}),
        ("put", "/a", None),
    ]


def test_an_override_is_judged_by_the_rules(rtdb: Any, namespace: str) -> None:
    apps = []
    for name, override in (("somebody", {"uid": "ann"}), ("nobody", None)):
        options = {"databaseURL": f"{rtdb.url}/?ns={namespace}", "databaseAuthVariableOverride": override}
        apps.append(firebase_admin.initialize_app(options=options, name=f"{namespace}-{name}"))
    try:
        db.reference("/x", apps[0]).set(1)
        assert db.reference("/x", apps[0]).get() == 1
        with pytest.raises(exceptions.UnauthenticatedError, match="Permission denied"):
            db.reference("/x", apps[1]).get()
        db.reference("/open", apps[1]).set(1)
    finally:
        for app in apps:
            firebase_admin.delete_app(app)


def test_the_emulator_host_variable(rtdb: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREBASE_DATABASE_EMULATOR_HOST", rtdb.url.removeprefix("http://"))
    app = firebase_admin.initialize_app(
        options={"databaseURL": f"https://{namespace}.firebaseio.com"}, name=f"{namespace}-host"
    )
    try:
        db.reference("/x", app).set("there")
    finally:
        firebase_admin.delete_app(app)
    assert rtdb.root(namespace) == {"x": "there"}
