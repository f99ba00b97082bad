"""Requests, cancellations and responses in the Realtime Database."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from firebase_admin import App, db

from concierge import paths
from concierge.errors import ConciergeError

SERVER_TIME = {".sv": "timestamp"}
TERMINAL_STATUSES = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that has not come to an end. `response` is what its client sees, None before anything was written."""

    uid: str
    request_id: str
    raw: Any
    response: dict[str, Any] | None


class Responses:
    """What the journey reads and writes. The database's errors are `firebase_admin.exceptions.FirebaseError`."""

    def __init__(self, app: App) -> None:
        self._app = app

    def is_cancelled(self, uid: str, request_id: str) -> bool:
        return self._reference(paths.cancellation(uid, request_id)).get(shallow=True) is not None

    def write(self, uid: str, request_id: str, fields: dict[str, Any]) -> None:
        """One update of a live response; keys may be paths, as `chunks/3`. It counts as the run's heartbeat."""
        self._reference(paths.response(uid, request_id)).update({**fields, "updatedAt": SERVER_TIME})

    def finish(
        self, uid: str, request_id: str, fields: dict[str, Any], *, has_chunks: bool, now_ms: int, close: bool
    ) -> None:
        """The terminal status with all that belongs to it, in one update that also closes the request if asked to.

        `/requests` holds open requests only, which is what lets the sweeper find the lost ones cheaply.
        """
        response = paths.response(uid, request_id)
        update: dict[str, Any] = {f"{response}/{key}": value for key, value in fields.items()}
        update[f"{response}/updatedAt"] = SERVER_TIME
        if close:
            update.update(self._closing(uid, request_id))
        if has_chunks:
            update[paths.chunk_cleanup(uid, request_id)] = now_ms
        self._reference("/").update(update)

    def refuse(self, uid: str, request_id: str, error: ConciergeError) -> None:
        """Ends a request that never started. A response that is there already is left alone: it belongs to the
        request that used the id first, and only gets a note of the conflict."""
        reference = self._reference(paths.response(uid, request_id))
        existing, etag = reference.get(etag=True)
        if existing is None:
            failed = {"status": "failed", "error": error.public(), "updatedAt": SERVER_TIME}
            written, existing, _ = reference.set_if_unchanged(etag, failed)
            if written:
                self.close(uid, request_id)
                return
        if isinstance(existing, dict) and existing.get("error") == error.public():
            # The same refusal, delivered again or told again: nothing new.
            self.close(uid, request_id)
            return
        self.note_conflict(uid, request_id, error, still_running=not is_terminal(existing))

    def note_conflict(self, uid: str, request_id: str, error: ConciergeError, *, still_running: bool) -> None:
        """Tells the client, beside the outcome of the first request, that its second one was refused."""
        update: dict[str, Any] = {f"{paths.response(uid, request_id)}/conflict": error.public()}
        if not still_running:
            update.update(self._closing(uid, request_id))
        self._reference("/").update(update)

    def close(self, uid: str, request_id: str) -> None:
        """Removes a request that has its outcome."""
        self._reference("/").update(self._closing(uid, request_id))

    def exists(self, uid: str, request_id: str) -> bool:
        return self._reference(paths.response(uid, request_id)).get(shallow=True) is not None

    def response(self, uid: str, request_id: str) -> dict[str, Any] | None:
        found = self._reference(paths.response(uid, request_id)).get()
        return found if isinstance(found, dict) else None

    def open_requests(self) -> Iterator[OpenRequest]:
        """All of them, user by user: the cost follows the requests that are open, not those that ever were."""
        users = self._reference(paths.REQUESTS).get(shallow=True) or {}
        for uid in users:
            requests = self._reference(f"{paths.REQUESTS}/{uid}").get() or {}
            for request_id, raw in _children(requests):
                yield OpenRequest(uid, request_id, raw, self.response(uid, request_id))

    def remember_settlement(self, uid: str, request_id: str, record: dict[str, Any]) -> None:
        """Keeps what the ledger could not take yet, for the sweeper."""
        self._reference(paths.settlement(uid, request_id)).set(record)

    def settlements(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = self._reference(paths.SETTLEMENTS).get() or {}
        return {paths.split_server_key(key): record for key, record in found.items()}

    def forget_settlement(self, uid: str, request_id: str) -> None:
        self._reference(paths.settlement(uid, request_id)).delete()

    def delete_old_chunks(self, before_ms: int, limit: int) -> int:
        """Deletes the chunks of responses that ended before a time; their `text` holds the whole."""
        query = self._reference(paths.CHUNK_CLEANUP).order_by_value().end_at(before_ms).limit_to_first(limit)
        update: dict[str, Any] = {}
        for key in query.get() or {}:
            update[f"{paths.CHUNK_CLEANUP}/{key}"] = None
            update[f"{paths.response(*paths.split_server_key(key))}/chunks"] = None
        if update:
            self._reference("/").update(update)
        return len(update) // 2

    def _closing(self, uid: str, request_id: str) -> dict[str, Any]:
        return {paths.request(uid, request_id): None, paths.cancellation(uid, request_id): None}

    def _reference(self, path: str) -> db.Reference:
        return db.reference(paths.as_url(path), self._app)


def is_terminal(response: Any) -> bool:
    """True if this response has come to its end."""
    return isinstance(response, dict) and response.get("status") in TERMINAL_STATUSES


def chunks_text(response: dict[str, Any]) -> str:
    """The text that a response's chunks add up to."""
    chunks = _children(response.get("chunks"))
    return "".join(text for _, text in sorted(chunks, key=lambda chunk: int(chunk[0])))


def _children(node: Any) -> list[tuple[str, Any]]:
    """Children of a node that RTDB may have handed back as an array, because its keys look like indices."""
    if isinstance(node, list):
        return [(str(index), child) for index, child in enumerate(node) if child is not None]
    return list(node.items()) if isinstance(node, dict) else []
