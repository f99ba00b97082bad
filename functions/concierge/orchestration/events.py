"""Events: `/events/{id}` in the Realtime Database, written together with the change that they tell of.

An event's id follows from what happened, so publishing it again writes what is there already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firebase_admin import App, db

from concierge import paths
from concierge.orchestration.topics import PAYLOADS, Payload, Topic

_SERVER_TIME = {".sv": "timestamp"}


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is a database key of at most 768 bytes; `key` names what the event is about, a user's id for most."""

    id: str
    topic: Topic
    key: str
    payload: Payload

    def __post_init__(self) -> None:
        assert type(self.payload) is PAYLOADS[self.topic], "a topic has one kind of payload"


class EventBus:
    """Publishes. Raises what the database raises: `firebase_admin.exceptions.FirebaseError`."""

    def __init__(self, app: App) -> None:
        self._app = app

    def publish(self, event: Event, together: Mapping[str, Any] | None = None) -> None:
        """Writes an event and, in the same update, what else changes: values by their paths."""
        document = {
            "topic": event.topic,
            "key": event.key,
            "payload": event.payload.model_dump(mode="json", by_alias=True, exclude_none=True),
            "at": _SERVER_TIME,
        }
        db.reference("/", self._app).update({**(together or {}), paths.event(event.id): document})
