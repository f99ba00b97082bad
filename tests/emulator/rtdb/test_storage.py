"""What is stored is what is loaded, and costs what changed."""

import sqlite3
import tempfile
from pathlib import Path
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
from emulator.rtdb.tree import export_with_priorities

KEYS = st.sampled_from(["a", "b", "1", "ü", "a b", "\U0010ffff", "a\U0010ffff", "😀"])
PRIORITIES = st.sampled_from([None, 1, "p"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text("aü", max_size=2))
VALUES = st.recursive(
    st.one_of(LEAVES, st.fixed_dictionaries({".value": LEAVES, ".priority": PRIORITIES})),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3).flatmap(
        lambda children: PRIORITIES.map(lambda priority: {**children, ".priority": priority})
    ),
    max_leaves=8,
)
PATHS = st.lists(KEYS, max_size=3).map(tuple)
WRITES = st.one_of(
    st.tuples(st.just("set"), PATHS, VALUES),
    st.tuples(st.just("priority"), PATHS, PRIORITIES),
    st.tuples(st.just("update"), PATHS, st.dictionaries(PATHS.filter(bool).map("/".join), VALUES, max_size=3)),
)


def open_databases(directory: Path) -> tuple[Databases, Store]:
    store = Store(directory)
    return Databases(clock=Clock(), store=store, rules=load(LOCKED)), store


def apply(databases: Databases, namespace: str, write: Any) -> None:
    kind, path, value = write
    try:
        if kind == "update":
            databases.update(namespace, path, value, ADMIN)
        else:
            databases.set(namespace, Location(path, kind == "priority"), value, ADMIN)
    except InvalidRequest as error:
        assert "ancestor" in error.message  # overlapping paths, which the next property is about


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["one", "one-more"]), WRITES), max_size=10))
def test_a_reload_is_exact(writes: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        databases, store = open_databases(Path(directory))
        for namespace, write in writes:
            apply(databases, namespace, write)
        reloaded, second = open_databases(Path(directory))
        for namespace in ("one", "one-more"):
            expected = export_with_priorities(databases.root(namespace))
            assert repr(export_with_priorities(reloaded.root(namespace))) == repr(expected)
        store.close()
        second.close()


@settings(max_examples=100, deadline=None)
@given(VALUES, st.dictionaries(PATHS.filter(bool), VALUES, min_size=1, max_size=4))
def test_an_update_is_all_its_sets_or_nothing(start: Any, values: dict[Any, Any]) -> None:
    store = Store(None)
    together = Databases(clock=Clock(), store=store, rules=load(LOCKED))
    apart = Databases(clock=Clock(), store=store, rules=load(LOCKED))
    for databases in (together, apart):
        databases.set("ns", Location(()), start, ADMIN)
    commits: list[Any] = []
    together.listeners.append(commits.append)
    before = together.root("ns")
    overlapping = any(one != other and other[: len(one)] == one for one in values for other in values)
    try:
        together.update("ns", (), {"/".join(path): value for path, value in values.items()}, ADMIN)
    except InvalidRequest:
        assert overlapping
        assert together.root("ns") is before
        assert commits == []
        return
    assert not overlapping
    for path, value in values.items():
        apart.set("ns", Location(path), value, ADMIN)
    # Compared as text, because False == 0 in Python.
    result = repr(export_with_priorities(together.root("ns")))
    assert result == repr(export_with_priorities(apart.root("ns")))
    assert len(commits) == (result != repr(export_with_priorities(before)))


def test_a_small_write_touches_few_rows(tmp_path: Path) -> None:
    databases, store = open_databases(tmp_path)
    databases.set("ns", Location(("wide",)), {f"k{number}": {"a": 1, "b": 2} for number in range(500)}, ADMIN)
    with sqlite3.connect(tmp_path / "firebase.sqlite3") as connection:
        before = dict(connection.execute("SELECT key, value FROM rows"))
        databases.set("ns", Location(("wide", "k7", "a")), "new", ADMIN)
        databases.set("ns", Location(("wide", "k8")), None, ADMIN)
        after = dict(connection.execute("SELECT key, value FROM rows"))
    connection.close()
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == {"ns/wide/k7/a/", "ns/wide/k8/a/", "ns/wide/k8/b/"}
    assert store._connection is not None
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    databases.set("ns", Location(("wide", "k9", "a")), "new", ADMIN)
    assert len(statements) <= 4  # begin, at most one drop, one row, commit
    store.close()


def test_a_failed_write_of_rows_changes_nothing(tmp_path: Path) -> None:
    databases, store = open_databases(tmp_path)
    databases.set("ns", Location(("a",)), 1, ADMIN)
    commits: list[Any] = []
    databases.listeners.append(commits.append)
    assert store._connection is not None
    store._connection.execute("DROP TABLE rows")
    with pytest.raises(sqlite3.OperationalError):
        databases.set("ns", Location(("a",)), 2, ADMIN)
    assert export_with_priorities(databases.root("ns")) == {"a": 1}
    assert commits == []
    store.close()


def test_a_scalar_that_loses_its_priority_has_none_after_a_reload(tmp_path: Path) -> None:
    databases, store = open_databases(tmp_path)
    databases.set("ns", Location(("a",)), {".value": 1, ".priority": "p"}, ADMIN)
    databases.set("ns", Location(("a",)), 2, ADMIN)
    store.close()
    reloaded, store = open_databases(tmp_path)
    assert export_with_priorities(reloaded.root("ns")) == {"a": 2}
    store.close()
