"""Resource names and field paths: what is a valid one, and its parts.

A document is named `projects/{project}/databases/{database}/documents/{collection}/{id}[/{collection}/{id}...]`; the
part up to `documents` is called its root here.
Source: https://firebase.google.com/docs/firestore/quotas ("Collections, documents, and fields").
"""

import re
from functools import lru_cache
from typing import NamedTuple

from emulator.firestore.errors import InvalidArgument

NAME_BYTES_MAX = 1500
SEGMENTS_MAX = 200
"""100 levels of subcollections, a collection and a document each."""

FieldPath = tuple[str, ...]
NAME_PATH: FieldPath = ("__name__",)

_RESERVED = re.compile(r"__.*__", re.DOTALL)
_SIMPLE_SEGMENT = re.compile(r"[a-zA-Z_][a-zA-Z_0-9]*")
_PATH_SEGMENT = re.compile(r"(?:([a-zA-Z_][a-zA-Z_0-9]*)|`((?:[^`\\]|\\.)+)`)(\.|$)", re.DOTALL)


class DocumentName(NamedTuple):
    """A parsed document name. `collection` is the full path of its collection, `segments` the path below the root."""

    name: str
    root: str
    collection: str
    id: str
    segments: tuple[str, ...]

    @property
    def project(self) -> str:
        return self.root.split("/", 2)[1]


def is_reserved(text: str) -> bool:
    """True for ids and field names of the form `__x__`, which belong to Firestore itself."""
    return text.startswith("__") and _RESERVED.fullmatch(text) is not None


def _fixed_parts(name: str, noun: str) -> list[str]:
    """Splits a name and checks its first five parts. Raises InvalidArgument."""
    parts = name.split("/")
    index = 0
    for position, expected in ((0, "projects"), (2, "databases"), (4, "documents")):
        if len(parts) <= position:
            raise InvalidArgument(f'{noun} name "{name}" lacks "/" at index {len(name)}.')
        if parts[position] != expected:
            raise InvalidArgument(f'{noun} name "{name}" lacks "{expected}" at index {index}.')
        if position < 4:
            if len(parts) <= position + 1 or not parts[position + 1]:
                raise InvalidArgument(f'{noun} name "{name}" has an empty resource id.')
            index += len(expected) + len(parts[position + 1]) + 2
    return parts


def _check_segments(name: str, segments: list[str], noun: str) -> None:
    if len(segments) > SEGMENTS_MAX:
        raise InvalidArgument(f'{noun} name "{name}" has more than {SEGMENTS_MAX // 2} levels.')
    for position, segment in enumerate(segments):
        if segment in ("", ".", ".."):
            index = len(name) - len("/".join(segments[position:]))
            problem = f'a resource id "{segment}"' if segment else 'an invalid "//"'
            raise InvalidArgument(f'{noun} name "{name}" contains {problem} at index {index}.')
        if is_reserved(segment):
            kind = "Resource" if position % 2 else "Collection"
            raise InvalidArgument(f'{kind} id "{segment}" is invalid because it is reserved.')
        if len(segment) > NAME_BYTES_MAX // 4 and len(segment.encode()) > NAME_BYTES_MAX:
            raise InvalidArgument(f"The key path element name is longer than {NAME_BYTES_MAX} bytes.")


@lru_cache(maxsize=8192)
def document_name(name: str, noun: str = "Document") -> DocumentName:
    """Parses the full name of a document. Raises InvalidArgument for anything else."""
    parts = _fixed_parts(name, noun)
    segments = parts[5:]
    if not segments or len(segments) % 2:
        raise InvalidArgument(f'{noun} name "{name}" lacks "/" at index {len(name)}.')
    _check_segments(name, segments, noun)
    return DocumentName(
        name=name,
        root="/".join(parts[:5]),
        collection=name[: -len(parts[-1]) - 1],
        id=parts[-1],
        segments=tuple(segments),
    )


@lru_cache(maxsize=1024)
def parent_root(parent: str) -> str:
    """The root of a parent, which is a root itself or a document. Raises InvalidArgument."""
    parts = _fixed_parts(parent, "Parent")
    if len(parts) % 2 == 0:
        raise InvalidArgument(f'Parent name "{parent}" lacks "/" at index {len(parent)}.')
    _check_segments(parent, parts[5:], "Parent")
    return "/".join(parts[:5])


@lru_cache(maxsize=256)
def database_root(database: str) -> str:
    """The root of `projects/{project}/databases/{database}`. Raises InvalidArgument."""
    root = f"{database}/documents"
    if len(_fixed_parts(root, "Database")) != 5:
        raise InvalidArgument(f'Invalid database name "{database}".')
    return root


def check_same_root(name: str, root: str) -> None:
    """Raises InvalidArgument if a document is of another database than the request."""
    if not name.startswith(root + "/"):
        database = root.removesuffix("/documents")
        foreign = "/".join(name.split("/")[:4])
        raise InvalidArgument(
            f"The request was for database '{database}' but was attempting to access database '{foreign}'"
        )


def check_collection_id(collection_id: str) -> None:
    """Raises InvalidArgument unless this may be the id of a collection."""
    if "/" in collection_id or collection_id in ("", ".", ".."):
        raise InvalidArgument(f'Collection id "{collection_id}" is invalid because it contains "/" or is empty.')
    if is_reserved(collection_id):
        raise InvalidArgument(f'Collection id "{collection_id}" is invalid because it is reserved.')


@lru_cache(maxsize=4096)
def field_path(text: str) -> FieldPath:
    """Parses `a.b` or `` `a-b`.c ``. Raises InvalidArgument."""
    segments: list[str] = []
    position = 0
    separator = "."
    while separator == ".":
        match = _PATH_SEGMENT.match(text, position)
        if match is None:
            raise InvalidArgument(
                f'Invalid property path "{text}". Unquoted property paths must match regex '
                "([a-zA-Z_][a-zA-Z_0-9]*), and quoted property paths must match regex (`(?:[^`\\\\]|(?:\\\\.))+`)"
            )
        simple, quoted, separator = match.groups()
        segments.append(simple if simple is not None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        position = match.end()
    return tuple(segments)


def format_path(path: FieldPath) -> str:
    """The text of a field path, quoted where needed: the inverse of field_path."""
    return ".".join(
        segment if _SIMPLE_SEGMENT.fullmatch(segment) else "`" + segment.replace("\\", "\\\\").replace("`", "\\`") + "`"
        for segment in path
    )
