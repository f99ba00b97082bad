"""Alerts: each damage and each anomaly is told once, and again only if it comes back after it was resolved.

An alert is a line in the log, an event for whoever listens, and a document that can be listed. The event goes out
first, under an id that follows from what is wrong, so that a crash in between repeats it instead of losing it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from google.cloud import firestore

from concierge import paths
from concierge.errors import NotFound
from concierge.kit.logging import log
from concierge.ledger.integrity.repository import LOST_RACE

Severity = Literal["WARNING", "ERROR", "CRITICAL"]
_BATCH = 300


@dataclass(frozen=True, slots=True)
class Alert:
    """Something about the ledger is wrong, or unusual. `uid` is None where it is about no single account, `seq` 0 where
    it is about no single entry; `subject` tells apart what has the same code and entry."""

    code: str
    severity: Severity
    message: str
    uid: str | None = None
    seq: int = 0
    subject: str = ""

    @property
    def key(self) -> str:
        """The same for the same fault, whatever its message says."""
        return hashlib.sha256(json.dumps([self.uid, self.code, self.seq, self.subject]).encode()).hexdigest()[:32]


Publish = Callable[[str, Alert], None]
"""Takes an event's id and the alert. Whatever it raises, the alert is told again by the next run."""


class Alerts:
    """Raises and lists them."""

    def __init__(self, client: firestore.Client, publish: Publish) -> None:
        self._client = client
        self._collection = client.collection(paths.INTEGRITY_ALERTS)
        self._publish = publish

    def tell(self, alert: Alert) -> bool:
        """True if it is news: not told before, or resolved since then."""
        snapshot = self._collection.document(alert.key).get()
        known: dict[str, Any] = snapshot.to_dict() or {}
        if known.get("state") == "open":
            return False
        occurrence = known.get("occurrence", 0) + 1
        log(
            alert.severity,
            "integrity.alert",
            code=alert.code,
            uid=alert.uid,
            seq=alert.seq,
            subject=alert.subject,
            message=alert.message,
        )
        self._publish(f"integrity-{alert.key}-{occurrence}", alert)
        document = {
            "code": alert.code,
            "severity": alert.severity,
            "uid": alert.uid,
            "seq": alert.seq,
            "subject": alert.subject,
            "message": alert.message,
            "state": "open",
            "occurrence": occurrence,
            "at": datetime.now(UTC),
        }
        try:
            if snapshot.exists:
                option = self._client.write_option(last_update_time=snapshot.update_time)
                snapshot.reference.update({**document, "resolvedAt": None, "resolvedBy": None}, option=option)
            else:
                snapshot.reference.create(document)
        except LOST_RACE:
            # Another run tells the same at the same time, under the same id.
            return False
        return True

    def resolve(self, uid: str | None, *, by: str, code: str | None = None) -> int:
        """Closes the open alerts of an account, or those of one code; how many they were."""
        query = (
            self._collection.where(filter=firestore.FieldFilter("state", "==", "open"))
            .where(filter=firestore.FieldFilter("uid", "==", uid))
            .order_by("at")
        )
        found = [snapshot for snapshot in query.stream() if code is None or snapshot.get("code") == code]
        for begin in range(0, len(found), _BATCH):
            batch = self._client.batch()
            for snapshot in found[begin : begin + _BATCH]:
                resolved = {"state": "resolved", "resolvedAt": datetime.now(UTC), "resolvedBy": by}
                batch.update(snapshot.reference, resolved)
            batch.commit()
        return len(found)

    def close(self, alert_id: str, *, by: str) -> dict[str, Any]:
        """Somebody has looked into one; the alert as it is then. Raises NotFound."""
        snapshot = self._collection.document(alert_id).get()
        if not snapshot.exists:
            raise NotFound("There is no such alert.")
        if snapshot.get("state") == "open":
            snapshot.reference.update({"state": "resolved", "resolvedAt": datetime.now(UTC), "resolvedBy": by})
        return {"id": alert_id, **snapshot.reference.get().to_dict()}

    def listed(self, state: str, limit: int, after: tuple[datetime, str] | None) -> list[dict[str, Any]]:
        """Those in one state, newest first, from the one behind `after`: its time and id, for two may have one time."""
        newest_first = firestore.Query.DESCENDING
        query = self._collection.where(filter=firestore.FieldFilter("state", "==", state))
        query = query.order_by("at", direction=newest_first).order_by("__name__", direction=newest_first)
        if after is not None:
            at, alert_id = after
            query = query.start_after({"at": at, "__name__": self._collection.document(alert_id)})
        query = query.limit(limit)
        return [{"id": snapshot.id, **snapshot.to_dict()} for snapshot in query.stream()]
