"""One more instance of the integrity functions, on the documents of a running stack, with limits of the test's own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from support.backend import SIGNING_KEY, Backend

from concierge.credits.mirror import BalanceMirror
from concierge.ledger.integrity.alerts import Alert
from concierge.ledger.integrity.anomalies import Thresholds
from concierge.ledger.integrity.service import Integrity
from concierge.ledger.integrity.validation import Policy
from concierge.ledger.signatures import Keyring

THRESHOLDS = Thresholds(credit_max=10**12, adjustments_max=5, credits_max=10, burn_factor=20, burn_min=10**9)


def instance(
    backend: Backend,
    *,
    thresholds: Thresholds = THRESHOLDS,
    rotation_documents: int = 100_000,
    quarantine_max: int = 100,
    keyring: Keyring | None = None,
    publish: Callable[[str, Alert], None] | None = None,
    overdue: timedelta = timedelta(minutes=30),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Integrity:
    mirror = BalanceMirror(backend.admin_app, backend.ledger().head, "authoritative-wins")

    def nobody(event_id: str, alert: Any) -> None:
        """Alerts are looked up where they are kept."""

    return Integrity(
        backend.firestore,
        keyring or Keyring.from_text(SIGNING_KEY, []),
        Policy(thresholds, rotation_documents, quarantine_max, overdue),
        ledger_id=backend.stack.project,
        objects=lambda: backend.objects,
        shown=mirror.shown,
        sync_mirror=lambda uid: mirror.sync(uid, "authoritative-wins"),
        publish=publish or nobody,
        now=now,
    )


def alerts(backend: Backend, uid: str | None, state: str = "open") -> list[tuple[str, int]]:
    """(code, entry) of the alerts of an account in one state, sorted."""
    found = [snapshot.to_dict() for snapshot in backend.firestore.collection("integrityAlerts").stream()]
    return sorted((alert["code"], alert["seq"]) for alert in found if (alert["uid"], alert["state"]) == (uid, state))
