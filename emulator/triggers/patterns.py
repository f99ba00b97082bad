"""Path patterns of event triggers: which nodes of a tree a change touches, and which pattern they match. Pure.

A segment is a literal, a glob inside one segment (`user-*`, `{uid}`, `{uid=user-*}`), or any number of segments (`**`,
`{path=**}`). Source: https://cloud.google.com/eventarc/docs/path-patterns and the SDK's private/path_pattern.py.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

Path = tuple[str, ...]

_CAPTURE = re.compile(r"\{[^/{}]+\}")


class Tree(Protocol):
    """What is needed of a database snapshot."""

    def keys(self, path: Path) -> Iterable[str]: ...


def _glob(segment: str) -> str:
    """The glob of one segment, with captures replaced by what they capture."""

    def captured(match: re.Match[str]) -> str:
        _, equals, glob = match.group()[1:-1].partition("=")
        return glob if equals else "*"

    return _CAPTURE.sub(captured, segment)


def _segment_regex(glob: str) -> re.Pattern[str]:
    return re.compile("".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", glob)), re.DOTALL)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A parsed pattern. `segments` holds a regular expression for each segment, None for any number of them."""

    raw: str
    segments: tuple[re.Pattern[str] | None, ...]

    def matches(self, path: Path) -> bool:
        return _matches(self.segments, path)

    def touches(self, path: Path) -> bool:
        """True if a node at, above or below `path` may match."""
        for segment, key in zip(self.segments, path, strict=False):
            if segment is None:
                return True
            if segment.fullmatch(key) is None:
                return False
        return True

    def nodes(self, written: Iterable[Path], before: Tree, after: Tree) -> list[Path]:
        """The matching nodes whose value the written paths may have changed, each once, in the order of the writes.

        A write at or below a node touches that node; a write above touches every node that is there before or after.
        Of the nodes that a `**` matches on one line from root to leaf, it is the one nearest to what was written.
        """
        found: dict[Path, None] = {}
        for path in written:
            if None in self.segments:
                found.update(dict.fromkeys(self._nearest(path, before, after)))
            elif self.touches(path):
                depth = len(self.segments)
                found.update(dict.fromkeys(self._descend(path[:depth], before, after)))
        return list(found)

    def _descend(self, path: Path, before: Tree, after: Tree) -> Iterator[Path]:
        if len(path) == len(self.segments):
            yield path
            return
        segment = self.segments[len(path)]
        assert segment is not None
        for key in _children(path, before, after):
            if segment.fullmatch(key) is not None:
                yield from self._descend((*path, key), before, after)

    def _nearest(self, path: Path, before: Tree, after: Tree) -> Iterator[Path]:
        for depth in range(len(path), -1, -1):
            if self.matches(path[:depth]):
                yield path[:depth]
                return
        yield from self._below(path, before, after)

    def _below(self, path: Path, before: Tree, after: Tree) -> Iterator[Path]:
        if not self.touches(path):
            return
        for key in _children(path, before, after):
            child = (*path, key)
            if self.matches(child):
                yield child
            else:
                yield from self._below(child, before, after)


def _children(path: Path, before: Tree, after: Tree) -> Iterable[str]:
    return dict.fromkeys((*before.keys(path), *after.keys(path)))


def _matches(segments: tuple[re.Pattern[str] | None, ...], path: Path) -> bool:
    for index, segment in enumerate(segments):
        if segment is None:
            rest = segments[index + 1 :]
            return any(_matches(rest, path[start:]) for start in range(index, len(path) + 1))
        if index >= len(path) or segment.fullmatch(path[index]) is None:
            return False
    return len(path) == len(segments)


def parse(raw: str) -> PathPattern:
    """Parses a pattern; leading and trailing slashes do not matter."""
    normalized = raw.strip("/")
    globs = [_glob(segment) for segment in normalized.split("/")] if normalized else []
    return PathPattern(normalized, tuple(None if "**" in glob else _segment_regex(glob) for glob in globs))
