"""The rows of a database in the store: one for each scalar and one for each priority.

The key of a scalar is `namespace/a/b/`, that of a priority `namespace/a/b/.p`, the value is JSON. A path and everything
below it share a prefix, so a write costs rows in proportion to what changed.
"""

import json
from collections.abc import Iterable, Sequence

from emulator.contracts import RtdbPath
from emulator.persistence import Store
from emulator.rtdb.tree import Branch, Leaf, Node, Priority, Scalar, branch_of, get, leaves

SERVICE = "rtdb"
_PRIORITY = ".p"
# The store drops prefixes up to U+10FFFF, so a key must not contain it. No key of Firebase contains a full stop.
_HIGHEST = "\U0010ffff"
_HIGHEST_ESCAPED = ".h"


def row_key(namespace: str, path: RtdbPath) -> str:
    key = "/".join((namespace, *path, ""))
    return key if key.isascii() else key.replace(_HIGHEST, _HIGHEST_ESCAPED)


class RowChanges:
    """The rows of one commit."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._rows: dict[str, bytes | None] = {}
        self._dropped: list[str] = []

    def add(self, path: RtdbPath, before: Node | None, after: Node | None) -> None:
        """Collects what differs at a path between two roots."""
        for depth in range(len(path)):
            above = path[:depth]
            old, new = get(before, above), get(after, above)
            if new is None:
                if old is not None:  # the last child is gone, and so is everything up to here
                    self._dropped.append(row_key(self._namespace, above))
                return
            if isinstance(old, Leaf):
                if isinstance(new, Leaf):
                    return
                self._rows[row_key(self._namespace, above)] = None
        old, new = get(before, path), get(after, path)
        if isinstance(old, Leaf) and isinstance(new, Leaf) and old.priority is None:
            pass  # the row is replaced, there is nothing else to drop
        elif old is not None:
            self._dropped.append(row_key(self._namespace, path))
        for at, node in leaves(new, path):
            key = row_key(self._namespace, at)
            if isinstance(node, Leaf):
                self._rows[key] = _encode(node.value)
            if node.priority is not None:
                self._rows[key + _PRIORITY] = _encode(node.priority)

    def write(self, store: Store) -> None:
        store.write(SERVICE, self._rows, drop_prefixes=self._dropped)


def _encode(value: Scalar) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


class _Loading:
    """A node of which rows are still being read."""

    __slots__ = ("children", "priority", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Loading] = {}
        self.priority: Priority = None
        self.value: Scalar | None = None

    def node(self) -> Node | None:
        if self.value is not None:
            return Leaf(self.value, self.priority)
        children = {key: node for key, child in self.children.items() if (node := child.node()) is not None}
        return branch_of(children, self.priority)


def load(rows: Iterable[tuple[str, bytes]]) -> dict[str, Branch | Leaf]:
    """The roots of all namespaces that hold anything."""
    loading: dict[str, _Loading] = {}
    for key, encoded in rows:
        namespace, *segments = key.split("/")
        node = loading.setdefault(namespace, _Loading())
        for segment in _path(segments):
            node = node.children.setdefault(segment, _Loading())
        value = json.loads(encoded)
        if segments[-1] == _PRIORITY:
            node.priority = value
        else:
            node.value = value
    return {namespace: root for namespace, state in loading.items() if (root := state.node()) is not None}


def _path(segments: Sequence[str]) -> RtdbPath:
    return tuple(segment.replace(_HIGHEST_ESCAPED, _HIGHEST) for segment in segments[:-1])
