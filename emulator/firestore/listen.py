"""Listen: a stream of changes to single documents and queries, as the client library's on_snapshot wants them.

A target is told ADD, its present documents, CURRENT, and NO_CHANGE without target ids, which makes the client show
them. From then on every commit that touches the target gives its changed and removed documents, and NO_CHANGE again. A
client that comes back with a resume token is told RESET and everything anew.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from emulator.firestore.documents import StoredDocument, set_timestamp
from emulator.firestore.errors import FirestoreError, InvalidArgument
from emulator.firestore.names import check_same_root, database_root, document_name
from emulator.firestore.protocol import ListenResponse
from emulator.firestore.query import Query, compile_query
from emulator.firestore.store import Change, DocumentStore

_TargetChange = type(ListenResponse().target_change)


class _Target:
    """What one target of a stream shows: some documents by name, or a query."""

    def __init__(self, target_id: int, names: list[str], query: Query | None, *, once: bool) -> None:
        self.id = target_id
        self.once = once
        self._names = names
        self._query = query
        self._shown: dict[str, int] = {}

    def concerns(self, change: Change) -> bool:
        if self._query is None:
            return change.name in self._names
        before, after = change.before, change.after
        return any(document is not None and self._query.matches(document) for document in (before, after))

    def refresh(self, store: DocumentStore, *, first: bool) -> list[Any]:
        """The messages that lead from what is shown to what should be."""
        present = self._present(store)
        responses = []
        for name, document in present.items():
            if self._shown.get(name) != document.update_us:
                responses.append(_changed(document, self.id))
        gone = [name for name in self._shown if name not in present]
        if first and self._query is None:
            gone += [name for name in self._names if name not in present]
        responses += [_gone(name, self.id, store) for name in gone]
        self._shown = {name: document.update_us for name, document in present.items()}
        return responses

    def _present(self, store: DocumentStore) -> dict[str, StoredDocument]:
        if self._query is not None:
            return {document.name.name: document for document in self._query.run(store)}
        documents = ((name, store.get(name)) for name in self._names)
        return {name: document for name, document in documents if document is not None}


class ListenStream:
    """One Listen call. Feed it requests with handle(), take responses from responses()."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._targets: dict[int, _Target] = {}
        self._stale: set[int] = set()
        self._ready: list[Any] = []
        self._wake = asyncio.Event()
        self._closed = False

    def open(self) -> None:
        self._store.watchers.append(self._watch)

    def close(self) -> None:
        self._store.watchers.remove(self._watch)

    def end(self) -> None:
        """The client sends nothing more; what is ready is still sent."""
        self._closed = True
        self._wake.set()

    def handle(self, request: Any) -> None:
        """Adds or removes a target. Raises InvalidArgument for an id that is in use."""
        match request.WhichOneof("target_change"):
            case "add_target":
                self._add(database_root(request.database), request.add_target)
            case "remove_target":
                self._targets.pop(request.remove_target, None)
                self._ready.append(_target_change(_TargetChange.REMOVE, [request.remove_target]))
            case _:
                raise InvalidArgument("target_change is required")
        self._wake.set()

    async def responses(self) -> AsyncIterator[Any]:
        """All messages, until end()."""
        while True:
            self._refresh_stale()
            while self._ready:
                yield self._ready.pop(0)
            if self._closed:
                return
            await self._wake.wait()
            self._wake.clear()

    def _watch(self, changes: list[Change], _: int) -> None:
        for target in self._targets.values():
            if target.id not in self._stale and any(target.concerns(change) for change in changes):
                self._stale.add(target.id)
                self._wake.set()

    def _refresh_stale(self) -> None:
        if not self._stale:
            return
        stale, self._stale = self._stale, set()
        changed = False
        for target_id in sorted(stale & self._targets.keys()):
            responses = self._targets[target_id].refresh(self._store, first=False)
            changed = changed or bool(responses)
            self._ready += responses
        if changed:
            self._ready.append(self._timed(_TargetChange.NO_CHANGE, []))

    def _add(self, root: str, target: Any) -> None:
        target_id = target.target_id or 1
        if target_id in self._targets:
            raise InvalidArgument(f"Target id {target_id} is already in use.")
        self._ready.append(_target_change(_TargetChange.ADD, [target_id]))
        try:
            added = _make_target(root, target_id, target)
        except FirestoreError as error:
            removal = _target_change(_TargetChange.REMOVE, [target_id])
            removal.target_change.cause.code = error.code
            removal.target_change.cause.message = error.message
            self._ready.append(removal)
            return
        if target.WhichOneof("resume_type") is not None:
            self._ready.append(self._timed(_TargetChange.RESET, [target_id]))
        self._ready += added.refresh(self._store, first=True)
        self._ready.append(self._timed(_TargetChange.CURRENT, [target_id]))
        self._ready.append(self._timed(_TargetChange.NO_CHANGE, []))
        if added.once:
            self._ready.append(_target_change(_TargetChange.REMOVE, [target_id]))
        else:
            self._targets[target_id] = added

    def _timed(self, kind: int, target_ids: list[int]) -> Any:
        """A target change at the present, with the token from which a client may resume."""
        response = _target_change(kind, target_ids)
        read_us = self._store.read_us()
        set_timestamp(response.target_change.read_time, read_us)
        response.target_change.resume_token = read_us.to_bytes(8, "big")
        return response


def _make_target(root: str, target_id: int, target: Any) -> _Target:
    if target.WhichOneof("target_type") == "documents":
        names = list(dict.fromkeys(target.documents.documents))
        for name in names:
            document_name(name)
            check_same_root(name, root)
        return _Target(target_id, names, None, once=target.once)
    if not target.query.HasField("structured_query"):
        raise InvalidArgument("target_type is required")
    check_same_root(f"{target.query.parent}/", root)
    return _Target(target_id, [], compile_query(target.query.parent, target.query.structured_query), once=target.once)


def _target_change(kind: int, target_ids: list[int]) -> Any:
    response = ListenResponse()
    response.target_change.target_change_type = kind
    response.target_change.target_ids.extend(target_ids)
    return response


def _changed(document: StoredDocument, target_id: int) -> Any:
    response = ListenResponse()
    response.document_change.document.CopyFrom(document.message)
    response.document_change.target_ids.append(target_id)
    return response


def _gone(name: str, target_id: int, store: DocumentStore) -> Any:
    """A document that was deleted, or one that is still there but not in the result any more."""
    response = ListenResponse()
    gone = response.document_delete if store.get(name) is None else response.document_remove
    gone.document = name
    gone.removed_target_ids.append(target_id)
    set_timestamp(gone.read_time, store.read_us())
    return response
