"""Server-sent events: a location as a stream of `put` and `patch`.

Source: "Streaming from the REST API". Data of both events is `{"path", "data"}` relative to the location; the first
event is a put of all of it. `keep-alive` and `cancel` (the rules no longer allow this) have the data null,
`auth_revoked` a text.

A reader that does not keep up never blocks a writer: what waits for it is bounded, and beyond the bound it is replaced
by one put of everything, made when the reader is ready for it.
"""

import asyncio
import json
from collections import deque
from contextlib import suppress

from aiohttp import web

from emulator.clock import Clock
from emulator.contracts import Json, RtdbPath
from emulator.rtdb.credentials import Credentials
from emulator.rtdb.database import Databases
from emulator.rtdb.query import Query
from emulator.rtdb.tree import Node, export, get, same
from emulator.rtdb.watches import Commit, Event, Watch, event_for

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
KEEP_ALIVE_SECONDS = 30.0
PENDING_BYTES_MAX = 1024 * 1024
_KEEP_ALIVE = b"event: keep-alive\ndata: null\n\n"
_CANCEL = b"event: cancel\ndata: null\n\n"
_AUTH_REVOKED = b"event: auth_revoked\ndata: credential is no longer valid\n\n"


def encode(event: Event) -> bytes:
    data: Json = {"path": "/" + "/".join(event.path), "data": event.data}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event.kind}\ndata: {text}\n\n".encode()


class EventStream:
    """What waits to be sent to one reader."""

    def __init__(self, databases: Databases, namespace: str, path: RtdbPath, query: Query | None) -> None:
        self._databases = databases
        self._namespace = namespace
        self._path = path
        self._query = query
        self._shown: Node | None = None
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._stale = False  # everything must be sent again
        self._wake = asyncio.Event()
        self._closed = False

    def open(self, credentials: Credentials) -> Watch:
        """Starts watching; the first event waits. Raises PermissionDenied or InvalidRequest."""
        watch = Watch(self._path, credentials, self._query, self.on_commit, self.cancel)
        self._shown = self._databases.watch(self._namespace, watch)
        self._add(encode(Event("put", (), export(self._shown))))
        return watch

    def on_commit(self, commit: Commit) -> None:
        if self._stale:
            return
        if self._query is not None:
            self._stale = True  # the window is computed when it is sent, however many commits it took
            self._wake.set()
            return
        event = event_for(self._path, commit)
        if event is None:
            return
        encoded = encode(event)
        if self._pending and self._pending_bytes + len(encoded) > PENDING_BYTES_MAX:
            self._pending.clear()
            self._pending_bytes = 0
            self._stale = True
        else:
            self._add(encoded)
        self._wake.set()

    def keep_alive(self) -> None:
        """Adds a sign of life, unless there is something to send anyway."""
        if not self._pending and not self._stale:
            self._add(_KEEP_ALIVE)

    def cancel(self) -> None:
        """The rules no longer allow this: nothing that was not sent yet may be seen."""
        self._close(_CANCEL)

    def revoke(self) -> None:
        """The token has expired."""
        self._close(_AUTH_REVOKED)

    def _close(self, last: bytes) -> None:
        if not self._closed:
            self._pending.clear()
            self._stale = False
            self._add(last)
            self._closed = True

    def _add(self, encoded: bytes) -> None:
        if not self._closed:
            self._pending.append(encoded)
            self._pending_bytes += len(encoded)
            self._wake.set()

    async def next(self) -> bytes | None:
        """What to send next, waiting for it; None at the end of the stream."""
        while True:
            if self._pending:
                chunk = b"".join(self._pending)
                self._pending.clear()
                self._pending_bytes = 0
                return chunk
            if self._closed:
                return None
            if self._stale:
                self._stale = False
                refreshed = self._refreshed()
                if refreshed is not None:
                    return refreshed
                continue
            self._wake.clear()
            await self._wake.wait()

    def _refreshed(self) -> bytes | None:
        """A put of everything as it is now; None if a query shows what it showed before."""
        node = get(self._databases.root(self._namespace), self._path)
        if self._query is not None:
            window = self._query.apply(node)
            if same(window, self._shown):
                return None
            self._shown = node = window
        return encode(Event("put", (), export(node)))


async def stream(
    request: web.Request,
    response: web.StreamResponse,
    databases: Databases,
    clock: Clock,
    *,
    namespace: str,
    path: RtdbPath,
    query: Query | None,
    credentials: Credentials,
    keep_alive_seconds: float,
) -> None:
    """Serves one reader until it leaves, its token expires, or the rules shut it out."""
    events = EventStream(databases, namespace, path, query)
    watch = events.open(credentials)
    helpers = [asyncio.create_task(_keep_alive(events, keep_alive_seconds))]
    if credentials.expires_at_ms is not None:
        helpers.append(asyncio.create_task(_revoke_at(events, clock, credentials.expires_at_ms)))
    try:
        # A reader that has gone is how streams end.
        with suppress(ConnectionError):
            await response.prepare(request)
            while (chunk := await events.next()) is not None:
                await response.write(chunk)
            await response.write_eof()
    finally:
        databases.unwatch(namespace, watch)
        for helper in helpers:
            helper.cancel()
        for helper in helpers:
            with suppress(asyncio.CancelledError):
                await helper


async def _keep_alive(events: EventStream, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        events.keep_alive()


async def _revoke_at(events: EventStream, clock: Clock, at_ms: int) -> None:
    await clock.wait_until(at_ms)
    events.revoke()
