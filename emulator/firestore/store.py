"""All documents of all databases, by name, by collection and by collection group, and what they were a while ago.

The present is read from the DocumentStore itself, the past through a Snapshot; both are a View. A commit replaces
versions of documents in one synchronous step; its time is later than every time that was ever handed out.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet

from emulator.clock import Clock
from emulator.firestore.documents import StoredDocument, timestamp_us
from emulator.firestore.errors import FailedPrecondition, InvalidArgument
from emulator.firestore.names import document_name
from emulator.firestore.protocol import Document
from emulator.persistence import Store

SERVICE = "firestore"
HISTORY_ENTRIES_MAX = 10_000
HISTORY_US_MAX = 3_600_000_000
"""A read_time may lie one hour back, as long as not too many changes came after it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents a query looks at: those of the collections with an id (any, if empty) directly below a parent, or
    anywhere below it."""

    parent: str
    collection_id: str
    all_descendants: bool = False

    def matches(self, collection: str) -> bool:
        """True if documents of the collection with this full path are selected."""
        if not collection.startswith(self.parent + "/"):
            return False
        below = collection[len(self.parent) + 1 :]
        if not self.all_descendants and "/" in below:
            return False
        return not self.collection_id or below.rpartition("/")[2] == self.collection_id


@dataclass(frozen=True, slots=True)
class Change:
    """One document before and after a commit; None where it does not exist."""

    name: str
    before: StoredDocument | None
    after: StoredDocument | None


Watcher = Callable[[list[Change], int], None]


class View(Protocol):
    """The documents at one moment."""

    def get(self, name: str) -> StoredDocument | None:
        """The document with a full name."""

    def select(self, selection: Selection) -> Iterator[StoredDocument]:
        """The selected documents in the order of their names."""


class _Collection:
    """The documents of one collection, with their ids kept in order."""

    __slots__ = ("documents", "ids")

    def __init__(self) -> None:
        self.documents: dict[str, StoredDocument] = {}
        self.ids: list[str] = []

    def put(self, document: StoredDocument) -> None:
        if document.name.id not in self.documents:
            insort(self.ids, document.name.id)
        self.documents[document.name.id] = document

    def remove(self, document_id: str) -> None:
        del self.documents[document_id]
        del self.ids[bisect_left(self.ids, document_id)]

    def __iter__(self) -> Iterator[StoredDocument]:
        return map(self.documents.__getitem__, self.ids)


class DocumentStore:
    """The present. Reads everything that was persisted when it is made, and writes every commit through."""

    def __init__(self, clock: Clock, persistence: Store) -> None:
        self._clock = clock
        self._persistence = persistence
        self._documents: dict[str, StoredDocument] = {}
        self._collections: dict[str, _Collection] = {}
        # Collection paths by (root, collection id): what a collection group is made of.
        self._groups: dict[tuple[str, str], set[str]] = {}
        # For each path, its children with the number of collections at or below them: finds subcollections and the
        # documents that exist only as their parents.
        self._children: dict[str, dict[str, int]] = {}
        self._versions: dict[str, int] = {}
        self._last_us = 0
        self._history: list[tuple[int, str, StoredDocument | None]] = []
        self._history_dropped = 0
        self._history_floor_us = 0
        self._snapshots: WeakSet[Snapshot] = WeakSet()
        self.watchers: list[Watcher] = []
        """Called after each commit with its changes and its time in microseconds, on the event loop; must not block."""
        self._load()

    def _load(self) -> None:
        for key, row in self._persistence.rows(SERVICE):
            message = Document.FromString(row)
            document = StoredDocument(
                document_name(key), message, timestamp_us(message.create_time), timestamp_us(message.update_time)
            )
            self._put(document)
            self._last_us = max(self._last_us, document.update_us)
        self._history_floor_us = self._last_us

    def read_us(self) -> int:
        """The present as a read time: every later commit gets a later time."""
        self._last_us = max(self._last_us, self._clock.now_ms() * 1000)
        return self._last_us

    def commit_us(self) -> int:
        """The time for the next commit, later than all others that were handed out."""
        self._last_us = max(self._last_us + 1, self._clock.now_ms() * 1000)
        return self._last_us

    def get(self, name: str) -> StoredDocument | None:
        return self._documents.get(name)

    def select(self, selection: Selection) -> Iterator[StoredDocument]:
        if selection.collection_id and not selection.all_descendants:
            return iter(self._collections.get(f"{selection.parent}/{selection.collection_id}", ()))
        paths = self._selected_collections(selection)
        if len(paths) == 1:
            return iter(self._collections[paths[0]])
        documents = [document for path in paths for document in self._collections[path]]
        documents.sort(key=lambda document: document.segments)
        return iter(documents)

    def _selected_collections(self, selection: Selection) -> list[str]:
        if selection.collection_id:
            root = "/".join(selection.parent.split("/", 5)[:5])
            return [path for path in self._groups.get((root, selection.collection_id), ()) if selection.matches(path)]
        return [path for path in self._collections if selection.matches(path)]

    def collection_version(self, selection: Selection) -> int:
        """A number that changes whenever a selected document does (and perhaps more often)."""
        if selection.collection_id and not selection.all_descendants:
            return self._versions.get(f"{selection.parent}/{selection.collection_id}", 0)
        return self._history_dropped + len(self._history)

    def collection_ids(self, parent: str) -> list[str]:
        """The ids of the collections directly below a root or document that hold anything, in order."""
        return sorted(path.rpartition("/")[2] for path in self._children.get(parent, ()))

    def missing_ids(self, collection: str) -> list[str]:
        """The ids in a collection that have subcollections but no document, in order."""
        children = self._children.get(collection, ())
        return sorted(path.rpartition("/")[2] for path in children if path not in self._documents)

    def roots(self, project: str) -> set[str]:
        """The roots of the databases of a project that hold documents."""
        prefix = f"projects/{project}/"
        return {document.name.root for name, document in self._documents.items() if name.startswith(prefix)}

    def documents(self) -> Mapping[str, StoredDocument]:
        """Every document of every database by its full name. Not to be changed."""
        return self._documents

    def apply(self, changes: list[Change], commit_us: int) -> None:
        """Makes a commit durable, then visible, then known to the watchers. Raises what the persistence raises, and has
        changed nothing then."""
        if self._persistence.durable and changes:
            self._persistence.write(
                SERVICE,
                {
                    change.name: None if change.after is None else change.after.message.SerializeToString()
                    for change in changes
                },
            )
        for change in changes:
            self._history.append((commit_us, change.name, change.before))
            if change.after is not None:
                self._put(change.after)
            elif change.before is not None:
                self._remove(change.before)
        if len(self._history) > 2 * HISTORY_ENTRIES_MAX:
            self._trim_history()
        for watcher in tuple(self.watchers):
            watcher(changes, commit_us)

    def clear(self, project: str) -> list[Change]:
        """Removes everything of a project, as one commit. Returns what was removed."""
        prefix = f"projects/{project}/"
        changes = [
            Change(name, document, None) for name, document in self._documents.items() if name.startswith(prefix)
        ]
        self.apply(changes, self.commit_us())
        return changes

    def snapshot(self, at_us: int | None = None) -> "Snapshot":
        """The documents as they were at a time (now, if None), however they change later.

        Raises InvalidArgument for a time to come, FailedPrecondition for one that is no longer known.
        """
        now_us = self.read_us()
        if at_us is None:
            at_us = now_us
        if at_us > now_us:
            raise InvalidArgument("The requested 'read_time' cannot be in the future.")
        if at_us < self._history_floor_us or at_us < now_us - HISTORY_US_MAX:
            raise FailedPrecondition("The requested 'read_time' is too old.")
        position = bisect_right(self._history, at_us, key=lambda entry: entry[0])
        snapshot = Snapshot(self, at_us, self._history_dropped + position)
        self._snapshots.add(snapshot)
        return snapshot

    def history_since(self, position: int) -> list[tuple[int, str, StoredDocument | None]]:
        """The changes from a position on, counted since the store was made: time, name and version before."""
        return self._history[position - self._history_dropped :]

    def _trim_history(self) -> None:
        for snapshot in self._snapshots:
            snapshot.catch_up()
        drop = len(self._history) - HISTORY_ENTRIES_MAX
        # Changes of one commit share a time, so that a snapshot at that time needs none of them.
        self._history_floor_us = self._history[drop - 1][0]
        del self._history[:drop]
        self._history_dropped += drop

    def _put(self, document: StoredDocument) -> None:
        path = document.name.collection
        collection = self._collections.get(path)
        if collection is None:
            collection = self._collections[path] = _Collection()
            self._groups.setdefault((document.name.root, document.name.segments[-2]), set()).add(path)
            self._count_collection(document, 1)
        collection.put(document)
        self._documents[document.name.name] = document
        self._versions[path] = self._versions.get(path, 0) + 1

    def _remove(self, document: StoredDocument) -> None:
        path = document.name.collection
        collection = self._collections[path]
        collection.remove(document.name.id)
        del self._documents[document.name.name]
        self._versions[path] += 1
        if not collection.ids:
            del self._collections[path]
            group = self._groups[document.name.root, document.name.segments[-2]]
            group.discard(path)
            self._count_collection(document, -1)

    def _count_collection(self, document: StoredDocument, step: int) -> None:
        parent = document.name.root
        for segment in document.name.segments[:-1]:
            child = f"{parent}/{segment}"
            children = self._children.setdefault(parent, {})
            children[child] = children.get(child, 0) + step
            if not children[child]:
                del children[child]
                if not children:
                    del self._children[parent]
            parent = child


class Snapshot:
    """The past: the present with the changes since then undone."""

    def __init__(self, store: DocumentStore, at_us: int, position: int) -> None:
        self._store = store
        self.at_us = at_us
        self._position = position
        self._overlay: dict[str, StoredDocument | None] = {}

    def catch_up(self) -> None:
        """Learns of the changes since the last time; the first change of a document tells what it was."""
        entries = self._store.history_since(self._position)
        for _, name, before in entries:
            self._overlay.setdefault(name, before)
        self._position += len(entries)

    def get(self, name: str) -> StoredDocument | None:
        self.catch_up()
        if name in self._overlay:
            return self._overlay[name]
        return self._store.get(name)

    def select(self, selection: Selection) -> Iterator[StoredDocument]:
        self.catch_up()
        present = self._store.select(selection)
        undone = {name: before for name, before in self._overlay.items() if selection.matches(name.rpartition("/")[0])}
        if not undone:
            return present
        documents = [document for document in present if document.name.name not in undone]
        documents += [before for before in undone.values() if before is not None]
        documents.sort(key=lambda document: document.segments)
        return iter(documents)


def version_us(document: StoredDocument | None) -> int:
    """The update time that tells one version of a document from another; 0 for none."""
    return 0 if document is None else document.update_us
