"""Who watches which location, and what a commit means to them.

A watch is called with every commit that touches its location. The protocols (SSE, WebSocket) turn commits into their
own events with `event_for`, which speaks of `put` and `patch` as both of them do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from emulator.contracts import Json, RtdbPath
from emulator.rtdb.credentials import Credentials
from emulator.rtdb.query import Query
from emulator.rtdb.tree import Node, export, get, same


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed operation at `base`. `paths` are the locations that changed: `base` itself for a set, the ones
    below it for an update."""

    kind: Literal["set", "update"]
    base: RtdbPath
    paths: tuple[RtdbPath, ...]
    before: Node | None
    after: Node | None


@dataclass(frozen=True, slots=True)
class Event:
    """`put`: replace what is at `path`. `patch`: replace the children of `path` that `data` names.

    `path` is relative to the location that is watched.
    """

    kind: Literal["put", "patch"]
    path: RtdbPath
    data: Json


@dataclass(eq=False, slots=True)
class Watch:
    """`on_commit` and `on_revoked` (the rules no longer allow this) are called on the event loop and must not block."""

    path: RtdbPath
    credentials: Credentials
    query: Query | None
    on_commit: Callable[[Commit], None]
    on_revoked: Callable[[], None]


def event_for(watched: RtdbPath, commit: Commit) -> Event | None:
    """What a commit changes at and below a watched location; None if nothing."""
    depth = len(watched)
    below: list[RtdbPath] = []
    for path in commit.paths:
        if len(path) > depth and path[:depth] == watched:
            below.append(path)
        elif watched[: len(path)] == path:
            after = get(commit.after, watched)
            if same(get(commit.before, watched), after):
                return None
            return Event("put", (), export(after))
    if not below:
        return None
    if commit.kind == "set":
        return Event("put", below[0][depth:], export(get(commit.after, below[0])))
    # An update from above the watched location is told from that location on, and plainly if one path is left of it.
    base = commit.base if len(commit.base) >= depth else watched
    if len(commit.base) < depth and len(below) == 1:
        return Event("put", below[0][depth:], export(get(commit.after, below[0])))
    data = {"/".join(path[len(base) :]): export(get(commit.after, path)) for path in below}
    return Event("patch", base[depth:], data)


@dataclass(slots=True)
class _Place:
    watches: set[Watch] = field(default_factory=set)
    children: dict[str, "_Place"] = field(default_factory=dict)


class WatchIndex:
    """Watches by location: finding those that a change touches costs the depth of the change, not their number."""

    def __init__(self) -> None:
        self._root = _Place()

    def add(self, watch: Watch) -> None:
        place = self._root
        for key in watch.path:
            place = place.children.setdefault(key, _Place())
        place.watches.add(watch)

    def remove(self, watch: Watch) -> None:
        """Forgets a watch, and the places that only it needed."""
        way = [self._root]
        for key in watch.path:
            place = way[-1].children.get(key)
            if place is None:
                return
            way.append(place)
        way[-1].watches.discard(watch)
        for depth in range(len(watch.path), 0, -1):
            if way[depth].watches or way[depth].children:
                return
            del way[depth - 1].children[watch.path[depth - 1]]

    def touched(self, paths: tuple[RtdbPath, ...]) -> set[Watch]:
        """The watches at, above and below these locations."""
        found: set[Watch] = set()
        for path in paths:
            place: _Place | None = self._root
            for key in path:
                assert place is not None
                found |= place.watches
                place = place.children.get(key)
                if place is None:
                    break
            if place is not None:
                for below in _all(place):
                    found |= below.watches
        return found

    def __iter__(self) -> Iterator[Watch]:
        for place in _all(self._root):
            yield from place.watches


def _all(place: _Place) -> Iterator[_Place]:
    yield place
    for child in place.children.values():
        yield from _all(child)
