"""What a commit means to those who watch."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import Clock
from emulator.persistence import Store
from emulator.rtdb.credentials import ADMIN
from emulator.rtdb.database import Databases, Location
from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.rules.ruleset import LOCKED, load
from emulator.rtdb.sse import PENDING_BYTES_MAX, EventStream
from emulator.rtdb.tree import Node, export, get, put
from emulator.rtdb.values import Builder
from emulator.rtdb.watches import Commit, Event, Watch, event_for

KEYS = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(KEYS, max_size=3).map(tuple)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(0, 3)), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def databases() -> Databases:
    return Databases(clock=Clock(), store=Store(None), rules=load(LOCKED))


def replay(node: Node | None, event: Event) -> Node | None:
    """What a client does with an event."""
    builder = Builder(0)
    if event.kind == "put":
        return put(node, event.path, builder.node(event.data, depth=0))
    for path, value in event.data.items():
        node = put(node, (*event.path, *path.split("/")), builder.node(value, depth=0))
    return node


@settings(deadline=None)
@given(
    st.lists(PATHS, min_size=1, max_size=4),
    st.lists(
        st.one_of(
            st.tuples(PATHS, VALUES),
            st.tuples(PATHS, st.dictionaries(PATHS.filter(bool).map("/".join), VALUES, min_size=1), st.just("update")),
        ),
        max_size=8,
    ),
)
def test_a_client_that_replays_the_events_has_the_data(watched: list[Any], writes: list[Any]) -> None:
    state = databases()
    views: list[tuple[Any, list[Node | None]]] = []
    for path in watched:
        view: list[Node | None] = [None]

        def on_commit(commit: Commit, path: Any = path, view: Any = view) -> None:
            event = event_for(path, commit)
            if event is not None:
                before = view[0]
                view[0] = replay(before, event)
                assert export(view[0]) != export(before), "an event that changes nothing"

        state.watch("ns", Watch(path, ADMIN, None, on_commit, lambda: None))
        views.append((path, view))
    for base, value, *update in writes:
        try:
            if update:
                state.update("ns", base, value, ADMIN)
            else:
                state.set("ns", Location(base), value, ADMIN)
        except InvalidRequest as error:
            assert "ancestor" in error.message
        for path, view in views:
            assert repr(export(view[0])) == repr(export(get(state.root("ns"), path)))


def commit_of(kind: Any, base: tuple[str, ...], values: dict[tuple[str, ...], Any], start: Any = None) -> Commit:
    builder = Builder(0)
    before = after = builder.node(start, depth=0)
    for path, value in values.items():
        after = put(after, path, builder.node(value, depth=0))
    return Commit(kind, base, tuple(values), before, after)


@pytest.mark.parametrize(
    ("watched", "commit", "event"),
    [
        ((), commit_of("set", ("a",), {("a",): 1}), Event("put", ("a",), 1)),
        (("a",), commit_of("set", ("a",), {("a",): 1}), Event("put", (), 1)),
        (("a", "b"), commit_of("set", ("a",), {("a",): {"b": 1}}), Event("put", (), 1)),
        (("a", "b"), commit_of("set", ("a",), {("a",): {"b": 1, "c": 2}}, {"a": {"b": 1}}), None),
        (("b",), commit_of("set", ("a",), {("a",): 1}), None),
        (("a",), commit_of("set", ("a", "b"), {("a", "b"): None}, {"a": {"b": 1}}), Event("put", ("b",), None)),
        (
            ("a",),
            commit_of("update", ("a",), {("a", "b"): 1, ("a", "c"): 2}),
            Event("patch", (), {"b": 1, "c": 2}),
        ),
        ((), commit_of("update", ("a",), {("a", "b"): 1}), Event("patch", ("a",), {"b": 1})),
        (("a",), commit_of("update", (), {("a", "b", "c"): 1, ("z",): 2}), Event("put", ("b", "c"), 1)),
        (
            ("a",),
            commit_of("update", (), {("a", "b"): 1, ("a", "c", "d"): 2}),
            Event("patch", (), {"b": 1, "c/d": 2}),
        ),
        (("a", "b"), commit_of("update", ("a",), {("a", "b"): {"x": 1}, ("a", "c"): 1}), Event("put", (), {"x": 1})),
    ],
)
def test_events(watched: tuple[str, ...], commit: Commit, event: Event | None) -> None:
    assert event_for(watched, commit) == event


def test_only_the_watches_that_a_commit_touches_are_called() -> None:
    state = databases()
    called: list[str] = []
    watches = {}
    for name in ("", "a", "a/b", "a/b/c", "a/x", "b"):
        path = tuple(name.split("/")) if name else ()
        watches[name] = Watch(path, ADMIN, None, lambda commit, name=name: called.append(name), lambda: None)
        state.watch("ns", watches[name])
    state.set("ns", Location(("a", "b")), 1, ADMIN)
    assert sorted(called) == ["", "a", "a/b", "a/b/c"]
    called.clear()
    for name in ("", "a/b"):
        state.unwatch("ns", watches[name])
        state.unwatch("ns", watches[name])
    state.set("ns", Location(("a", "b")), 2, ADMIN)
    state.set("other", Location(("a", "b")), 2, ADMIN)
    assert sorted(called) == ["a", "a/b/c"]


def test_what_changes_nothing_is_told_to_nobody() -> None:
    state = databases()
    state.set("ns", Location(("a",)), {"b": 1, "c": [1, 2]}, ADMIN)
    told: list[Any] = []
    state.listeners.append(told.append)
    state.watch("ns", Watch((), ADMIN, None, told.append, lambda: None))
    state.set("ns", Location(("a",)), {"b": 1, "c": {"0": 1, "1": 2}}, ADMIN)
    state.set("ns", Location(("z",)), None, ADMIN)
    state.update("ns", (), {"a/b": 1.0, "q": None}, ADMIN)
    assert told == []
    state.update("ns", (), {"a/b": True, "a/c": [1, 2]}, ADMIN)
    assert [change.paths for change in told] == [(("a", "b"),), (("a", "b"),)]


def test_the_published_change_has_both_versions_and_the_author() -> None:
    state = databases()
    changes: list[Any] = []
    state.listeners.append(changes.append)
    state.set("ns", Location(("a",)), {"x": 1}, ADMIN)
    state.update("ns", ("a",), {"x": None, "y/z": 2}, ADMIN)
    state.set("ns", Location(("a",)), None, ADMIN)
    assert [change.paths for change in changes] == [(("a",),), (("a", "x"), ("a", "y", "z")), (("a",),)]
    assert [(change.before.value(()), change.after.value(())) for change in changes] == [
        (None, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": {"y": {"z": 2}}}),
        ({"a": {"y": {"z": 2}}}, None),
    ]
    assert {(change.namespace, change.auth_type, change.auth_id) for change in changes} == {("ns", "admin", None)}
    assert list(changes[1].after.keys(("a",))) == ["y"]


@pytest.mark.parametrize("unsent", ["short", "x" * PENDING_BYTES_MAX])
def test_a_cancelled_stream_shows_nothing_that_was_not_sent_yet(unsent: str) -> None:
    async def run() -> list[bytes | None]:
        state = databases()
        events = EventStream(state, "ns", ("a",), None)
        events.open(ADMIN)
        first = await events.next()
        state.set("ns", Location(("a",)), "secret", ADMIN)
        state.set("ns", Location(("a",)), unsent, ADMIN)
        events.cancel()
        events.revoke()
        state.set("ns", Location(("a",)), "later", ADMIN)
        return [first, await events.next(), await events.next()]

    first, last, end = asyncio.run(run())
    assert first == b'event: put\ndata: {"path":"/","data":null}\n\n'
    assert last == b"event: cancel\ndata: null\n\n"
    assert end is None


def test_events_wait_in_order_until_there_are_too_many_of_them() -> None:
    async def run() -> tuple[bytes | None, bytes | None]:
        state = databases()
        events = EventStream(state, "ns", (), None)
        events.open(ADMIN)
        state.set("ns", Location(("a",)), 1, ADMIN)
        state.set("ns", Location(("a",)), 2, ADMIN)
        queued = await events.next()
        for number in range(5):
            state.set("ns", Location((f"k{number}",)), "x" * (PENDING_BYTES_MAX // 3), ADMIN)
        return queued, await events.next()

    queued, refreshed = asyncio.run(run())
    assert queued is not None
    assert [line for line in queued.decode().splitlines() if line.startswith("data")] == [
        'data: {"path":"/","data":null}',
        'data: {"path":"/a","data":1}',
        'data: {"path":"/a","data":2}',
    ]
    assert refreshed is not None
    assert refreshed.count(b"event: ") == 1
    assert all(f'"k{number}":'.encode() in refreshed for number in range(5))
