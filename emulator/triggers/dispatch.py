"""From committed changes to deliveries: every function that listens to a node or document hears of it, once for each.

The listeners return at once, so that a commit never waits for a function; what they start runs as tasks of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from emulator.backoff import Backoff
from emulator.clock import Clock
from emulator.contracts import FirestoreChange, RtdbChange
from emulator.functions import FunctionSpec, Message, Outcome
from emulator.triggers import deltas, events, manifest, patterns
from emulator.triggers.deliveries import Deliveries
from emulator.triggers.events import CloudEvent
from emulator.triggers.host import FunctionsHost
from emulator.triggers.manifest import EventTrigger
from emulator.triggers.patterns import PathPattern

# Failed events with a retry policy: https://cloud.google.com/functions/docs/bestpractices/retries
EVENT_RETRY_BACKOFF = Backoff(min_seconds=10, max_seconds=600, max_doublings=16)
EVENT_RETRY_SECONDS_MAX = 24 * 3600


@dataclass(frozen=True, slots=True)
class _Listener:
    """An event function with its patterns parsed."""

    spec: FunctionSpec
    trigger: EventTrigger
    patterns: Mapping[str, PathPattern]

    def accepts(self, attribute: str, value: str) -> bool:
        """True if no filter of the function is against this attribute of an event."""
        wanted = self.trigger.filters.get(attribute)
        if wanted is not None and wanted.strip("/") != value:
            return False
        pattern = self.patterns.get(attribute)
        return pattern is None or pattern.matches(tuple(value.split("/")))


class Dispatcher:
    """Subscribe `on_rtdb_change` and `on_firestore_change` to the databases; call `publish` for anything else."""

    def __init__(
        self,
        *,
        host: FunctionsHost,
        deliveries: Deliveries,
        clock: Clock,
        project: str,
        location: str = "us-central1",
        database_host: str = "firebaseio.com",
    ) -> None:
        self._host = host
        self._deliveries = deliveries
        self._clock = clock
        self._location = location
        self._database_host = database_host
        self._auth_id = f"firebase-adminsdk@{project}.iam.gserviceaccount.com"
        self._rtdb: list[_Listener] = []
        self._firestore: list[_Listener] = []
        self._others: list[_Listener] = []
        host.on_ready(self._subscribe)

    def _subscribe(self, functions: Mapping[str, FunctionSpec]) -> None:
        listeners = [_listener(spec) for spec in functions.values() if spec.kind == "event"]
        self._rtdb = [each for each in listeners if each.trigger.event_type.startswith(events.RTDB_TYPE_PREFIX)]
        self._firestore = [
            each for each in listeners if each.trigger.event_type.startswith(events.FIRESTORE_TYPE_PREFIX)
        ]
        self._others = [each for each in listeners if each not in self._rtdb and each not in self._firestore]

    def on_rtdb_change(self, change: RtdbChange) -> None:
        """An RtdbListener. Values are read from the snapshots later: they do not change."""
        listeners = [
            listener
            for listener in self._rtdb
            if listener.accepts("instance", change.namespace)
            and any(listener.patterns["ref"].touches(path) for path in change.paths)
        ]
        if listeners:
            self._deliveries.spawn(self._rtdb_change(change, listeners))

    async def _rtdb_change(self, change: RtdbChange, listeners: Sequence[_Listener]) -> None:
        for listener in listeners:
            event_type = listener.trigger.event_type
            wanted = event_type.removeprefix(events.RTDB_TYPE_PREFIX)
            for path in listener.patterns["ref"].nodes(change.paths, change.before, change.after):
                before, after = change.before.value(path), change.after.value(path)
                kind = events.change_kind(before, after)
                if kind is None or not events.type_wanted(wanted, kind) or deltas.same(before, after):
                    continue
                event = events.rtdb_event(
                    change,
                    path,
                    before,
                    after,
                    event_type=event_type,
                    location=self._location,
                    database_host=self._database_host,
                )
                self._send(listener.spec, event, events.RTDB_PAYLOAD_BYTES_MAX)

    def on_firestore_change(self, change: FirestoreChange) -> None:
        """A FirestoreListener."""
        name = events.document_name(change.name)
        kind = events.change_kind(change.before, change.after)
        if kind is None:
            return
        listeners = [
            listener
            for listener in self._firestore
            if events.type_wanted(_firestore_wanted(listener), kind)
            and listener.accepts("document", name.document)
            and listener.accepts("database", name.database)
            and listener.accepts("namespace", "(default)")
        ]
        if listeners and events.document_fields_changed(change):
            self._deliveries.spawn(self._firestore_change(change, listeners))

    async def _firestore_change(self, change: FirestoreChange, listeners: Sequence[_Listener]) -> None:
        for listener in listeners:
            event = events.firestore_event(
                change,
                event_type=listener.trigger.event_type,
                location=self._location,
                auth_id=self._auth_id,
            )
            self._send(listener.spec, event, events.EVENTARC_BYTES_MAX)

    def publish(self, event: CloudEvent) -> None:
        """Delivers an event of any other source to each function whose type and filters its attributes meet."""
        for listener in self._others:
            names = {*listener.trigger.filters, *listener.patterns}
            if listener.trigger.event_type == event.attributes["type"] and all(
                name in event.attributes and listener.accepts(name, event.attributes[name]) for name in names
            ):
                self._send(listener.spec, event, events.EVENTARC_BYTES_MAX)

    def _send(self, spec: FunctionSpec, event: CloudEvent, bytes_max: int) -> None:
        headers, body = event.structured()
        message = Message(spec.name, "event", event.id, headers, body, timeout_seconds=spec.timeout_seconds)
        if len(event.data) > bytes_max:
            self._deliveries.record(message, Outcome("too_large"))
            self._host.log(
                f"{spec.name}: event {event.id} of {event.attributes['subject']} is not delivered: "
                f"{len(event.data)} bytes, at most {bytes_max}"
            )
            return
        self._deliveries.spawn(self._deliver(spec, message))

    async def _deliver(self, spec: FunctionSpec, message: Message) -> None:
        """One attempt; more of them, for a day, if the function asked for retries."""
        give_up_at_ms = self._clock.now_ms() + EVENT_RETRY_SECONDS_MAX * 1000
        while True:
            outcome = await self._deliveries.deliver(message)
            if outcome.ok or not spec.retry or outcome.result == "dropped":
                return
            again_at_ms = self._clock.now_ms() + int(EVENT_RETRY_BACKOFF.seconds_after(message.attempt) * 1000)
            if again_at_ms > give_up_at_ms:
                self._host.log(f"{spec.name}: event {message.event_id} is given up after {message.attempt} attempts")
                return
            await self._deliveries.wait_to_retry(again_at_ms)
            message = replace(message, attempt=message.attempt + 1)


def _listener(spec: FunctionSpec) -> _Listener:
    trigger = manifest.event_trigger(spec)
    parsed = {name: patterns.parse(raw) for name, raw in trigger.path_patterns.items()}
    return _Listener(spec, trigger, parsed)


def _firestore_wanted(listener: _Listener) -> str:
    event_type = listener.trigger.event_type.removeprefix(events.FIRESTORE_TYPE_PREFIX)
    return event_type.removesuffix(events.AUTH_CONTEXT_SUFFIX)
