"""The immutable tree of one database.

A node is a Leaf (a scalar) or a Branch (children by key, never empty); nothing at all is None. A change makes new
nodes along its path only and shares the rest, so every version is a cheap snapshot: rules, triggers and listeners hold
one for as long as they like. Wide branches stay fast because children are a persistent map with logarithmic updates.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from immutables import Map

from emulator.contracts import Json, RtdbPath
from emulator.rtdb.ordering import key_order

Scalar = bool | int | float | str
Priority = int | float | str | None


class Leaf:
    """A scalar and its priority. Treat as immutable."""

    __slots__ = ("digest", "priority", "value")

    def __init__(self, value: Scalar, priority: Priority = None) -> None:
        self.value: Final = value
        self.priority: Final = priority
        self.digest: str | None = None  # filled by hashing.digest on first use


class Branch:
    """Children by key, at least one. Treat as immutable."""

    __slots__ = ("_keys", "children", "digest", "priority")

    def __init__(self, children: "Map[str, Node]", priority: Priority = None) -> None:
        self.children: Final = children
        self.priority: Final = priority
        self.digest: str | None = None
        self._keys: tuple[str, ...] | None = None

    def sorted_keys(self) -> tuple[str, ...]:
        """The keys in the order of Firebase; sorted once for each version of the branch."""
        if self._keys is None:
            self._keys = tuple(sorted(self.children, key=key_order))
        return self._keys


Node = Leaf | Branch

_NO_CHILDREN: "Map[str, Node]" = Map()
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


def get(node: Node | None, path: RtdbPath) -> Node | None:
    """What is at a path below a node."""
    for key in path:
        if not isinstance(node, Branch):
            return None
        node = node.children.get(key)
    return node


def put(node: Node | None, path: RtdbPath, new: Node | None, depth: int = 0) -> Node | None:
    """The node with `new` at a path below it (None removes). Branches that lose their last child vanish.

    Returns the very same node if nothing was there to remove.
    """
    if depth == len(path):
        return new
    key = path[depth]
    if not isinstance(node, Branch):
        # A child below a scalar replaces the scalar and keeps its priority; removing such a child changes nothing.
        child = put(None, path, new, depth + 1)
        if child is None:
            return node
        return Branch(_NO_CHILDREN.set(key, child), None if node is None else node.priority)
    before = node.children.get(key)
    after = put(before, path, new, depth + 1)
    if after is before:
        return node
    if after is not None:
        return Branch(node.children.set(key, after), node.priority)
    children = node.children.delete(key)
    return Branch(children, node.priority) if children else None


def with_priority(node: Node | None, priority: Priority) -> Node | None:
    """The same content with another priority; nothing has no priority."""
    if node is None:
        return None
    if isinstance(node, Leaf):
        return Leaf(node.value, priority)
    return Branch(node.children, priority)


def same(left: Node | None, right: Node | None) -> bool:
    """Whether two nodes hold the same content; shared parts are not compared again."""
    if left is right:
        return True
    if left is None or right is None or not _same_scalar(left.priority, right.priority):
        return False
    if isinstance(left, Leaf) or isinstance(right, Leaf):
        return isinstance(left, Leaf) and isinstance(right, Leaf) and _same_scalar(left.value, right.value)
    if len(left.children) != len(right.children):
        return False
    return all(same(child, right.children.get(key)) for key, child in left.children.items())


def _same_scalar(left: Scalar | None, right: Scalar | None) -> bool:
    # In Python True == 1; in JSON it is not.
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def export(node: Node | None) -> Json:
    """JSON as clients see it: without priorities, and maps whose keys are mostly an array's indices as arrays."""
    if node is None:
        return None
    if isinstance(node, Leaf):
        return node.value
    keys = node.sorted_keys()
    highest = _highest_index(keys)
    if highest is not None and highest < 2 * len(keys):
        array: list[Json] = [None] * (highest + 1)
        for key, child in node.children.items():
            array[int(key)] = export(child)
        return array
    return {key: export(node.children[key]) for key in keys}


def _highest_index(keys: tuple[str, ...]) -> int | None:
    """The highest key if all keys are array indices. Integers sort first, so the last key decides almost always."""
    if not _ARRAY_INDEX.fullmatch(keys[-1]) or not all(_ARRAY_INDEX.fullmatch(key) for key in keys):
        return None
    return max(int(key) for key in keys)


def export_with_priorities(node: Node | None) -> Json:
    """JSON with `.priority` and, for scalars that have one, `.value` (REST: `format=export`); never arrays."""
    if node is None:
        return None
    if isinstance(node, Leaf):
        return node.value if node.priority is None else {".value": node.value, ".priority": node.priority}
    exported: dict[str, Json] = {key: export_with_priorities(node.children[key]) for key in node.sorted_keys()}
    if node.priority is not None:
        exported[".priority"] = node.priority
    return exported


def shallow(node: Node | None) -> Json:
    """A scalar, or true for each key of an object (REST: `shallow=true`)."""
    if isinstance(node, Branch):
        return dict.fromkeys(node.sorted_keys(), True)
    return export(node)


def leaves(node: Node | None, path: RtdbPath = ()) -> Iterator[tuple[RtdbPath, Node]]:
    """Every node below and at `node` that carries a scalar or a priority, with its path."""
    if node is None:
        return
    if isinstance(node, Leaf) or node.priority is not None:
        yield path, node
    if isinstance(node, Branch):
        for key, child in node.children.items():
            yield from leaves(child, (*path, key))


def branch_of(children: dict[str, Node], priority: Priority = None) -> Branch | None:
    """A branch of these children, or None if there are none."""
    return Branch(Map(children), priority) if children else None


class TreeSnapshot:
    """One version of a database as other services see it (emulator.contracts.RtdbSnapshot)."""

    __slots__ = ("root",)

    def __init__(self, root: Node | None) -> None:
        self.root: Final = root

    def value(self, path: RtdbPath) -> Json:
        return export(get(self.root, path))

    def keys(self, path: RtdbPath) -> tuple[str, ...]:
        node = get(self.root, path)
        return node.sorted_keys() if isinstance(node, Branch) else ()

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TreeSnapshot) and same(self.root, other.root)

    def __hash__(self) -> int:
        return id(self.root)
