"""Which nodes a change touches, checked against a plain enumeration of all nodes."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.functions_harness import Tree

from emulator.triggers import patterns
from emulator.triggers.patterns import Path


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/requests/{uid}/{id}", "requests/u/r", True),
        ("requests/{uid}/{id}/", "requests/u", False),
        ("requests/{uid}/{id}", "requests/u/r/x", False),
        ("requests/*/fixed", "requests/u/fixed", True),
        ("requests/*/fixed", "requests/u/other", False),
        ("users/user-*", "users/user-1", True),
        ("users/user-*", "users/admin-1", False),
        ("users/{id=user-*}", "users/user-1", True),
        ("users/{id=user-*}", "users/x", False),
        ("a.b/c", "axb/c", False),
        ("files/**", "files/a/b/c", True),
        ("files/{path=**}/end", "files/a/b/end", True),
        ("files/{path=**}/end", "files/end", True),
        ("files/{path=**}/end", "files/a/b", False),
        ("files/**/x/**/y", "files/1/x/2/3/y", True),
        ("", "", True),
    ],
)
def test_matches(pattern: str, path: str, matches: bool) -> None:
    parts = tuple(part for part in path.split("/") if part)
    assert patterns.parse(pattern).matches(parts) is matches


def _nodes(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _nodes(child, (*path, key))


_keys = st.sampled_from(["a", "b", "c"])
_trees = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(_keys, inner, min_size=1, max_size=3))
_paths = st.lists(_keys, max_size=4).map(tuple)
_patterns = st.lists(st.sampled_from(["a", "b", "*", "{x}", "{y=a*}"]), min_size=1, max_size=4).map("/".join)


@given(_trees, _trees, st.lists(_paths, min_size=1, max_size=3), _patterns)
def test_nodes_are_the_matching_ones_related_to_a_write(before: Any, after: Any, written: list[Path], raw: str) -> None:
    pattern = patterns.parse(raw)
    found = pattern.nodes(written, Tree(before), Tree(after))
    assert len(found) == len(set(found))
    existing = {*_nodes(before), *_nodes(after)}
    related = {
        node
        for node in existing
        for path in written
        if pattern.matches(node) and (node[: len(path)] == path or path[: len(node)] == node)
    }
    # A node that exists on neither side may be named too: it has no value to report.
    assert related <= set(found)
    assert all(pattern.matches(node) for node in found)
    for node in found:
        assert any(node[: len(path)] == path or path[: len(node)] == node for path in written)
    assert all(pattern.touches(path) for path in written if any(node[: len(path)] == path for node in related))


def test_a_multi_segment_wildcard_names_the_node_nearest_to_the_write() -> None:
    before, after = Tree({"files": {"a": {"b": 1}}}), Tree({"files": {"a": {"b": 2, "c": 3}}})
    assert patterns.parse("files/**").nodes([("files", "a", "b")], before, after) == [("files", "a", "b")]
    assert patterns.parse("files/**/c").nodes([("files",)], before, after) == [("files", "a", "c")]
    assert patterns.parse("other/**").nodes([("files",)], before, after) == []
