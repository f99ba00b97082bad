"""The encoded change gives the SDK's own handler exactly the value after it."""

from typing import Any

from firebase_functions import db_fn
from hypothesis import given
from hypothesis import strategies as st
from support.functions_harness import rtdb_change
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from emulator.triggers import deltas, events, worker

_leaves = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
)
_keys = st.sampled_from(["a", "b", "c", "0"])
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.dictionaries(_keys, inner, min_size=1, max_size=3),
        st.lists(st.one_of(st.none(), inner), min_size=1, max_size=3),
    ),
    max_leaves=10,
)
_nodes = st.one_of(st.none(), _values)


def through_the_sdk(before: Any, after: Any) -> db_fn.Change[Any]:
    """What an on_value_written handler receives for a change of one node."""
    event = events.rtdb_event(
        rtdb_change({"x": before}, {"x": after}, "x"),
        ("x",),
        before,
        after,
        event_type="google.firebase.database.ref.v1.written",
        location="us-central1",
        database_host="firebaseio.com",
    )
    headers, body = event.structured()
    request = Request(EnvironBuilder(method="POST", data=body, headers=headers).get_environ())
    received: list[db_fn.Change[Any]] = []

    @db_fn.on_value_written(reference="/x")
    def handler(received_event: db_fn.Event[db_fn.Change[Any]]) -> None:
        received.append(received_event.data)

    handler(worker.cloud_event(request))  # type: ignore[arg-type]
    return received[0]


def without_replaced_children(before: Any, after: Any) -> Any:
    """`before` as the encoding promises it: without children that were no objects and became one."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before
    return {
        key: without_replaced_children(value, after.get(key))
        for key, value in before.items()
        if isinstance(value, dict) or not isinstance(after.get(key), dict)
    }


@given(_nodes, _nodes)
def test_the_sdk_computes_the_exact_value_after(before: Any, after: Any) -> None:
    change = through_the_sdk(before, after)
    assert deltas.same(change.after, after)
    assert deltas.same(change.before, without_replaced_children(before, after))


@given(_values, st.data())
def test_a_small_edit_of_a_large_value(before: Any, data: st.DataObject) -> None:
    if not isinstance(before, dict):
        before = {"a": before}
    after = dict(before)
    key = data.draw(st.sampled_from(sorted(before)))
    if data.draw(st.booleans()):
        del after[key]
    else:
        after[key] = data.draw(_values)
    change = through_the_sdk(before, after)
    assert deltas.same(change.after, after)


def test_a_scalar_child_that_becomes_an_object_does_not_break_the_sdk() -> None:
    change = through_the_sdk({"keep": 1, "child": "text"}, {"keep": 1, "child": {"deep": {"er": 2}}})
    assert change.after == {"keep": 1, "child": {"deep": {"er": 2}}}
    assert change.before == {"keep": 1}


def test_only_what_changed_is_in_the_delta() -> None:
    data, delta = deltas.encode({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5})
    assert data == {"a": {"b": 1, "c": 2}, "d": 3}
    assert delta == {"a": {"c": 4}, "d": None, "e": 5}


def test_true_is_not_one() -> None:
    assert not deltas.same(True, 1) and not deltas.same({"a": [0]}, {"a": [False]})
    assert deltas.same(1, 1.0) and deltas.same({"a": [None]}, {"a": [None]})
    assert through_the_sdk({"a": 1, "b": 2}, {"a": True, "b": 2}).after["a"] is True
