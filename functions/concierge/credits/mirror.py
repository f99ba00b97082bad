"""The balance mirror: `/balances/{uid}` in the Realtime Database shows what Firestore decided, and never decides."""

from typing import Any

from firebase_admin import App, db

from concierge import paths
from concierge.kit.logging import log
from concierge.ledger.transfers import Head

_ATTEMPTS = 10


class BalanceMirror:
    """Applies heads to the mirror, newest wins."""

    def __init__(self, app: App) -> None:
        self._app = app

    def apply(self, uid: str, head: Head) -> bool:
        """Shows this head unless a newer one is shown. True if the mirror is now at least as new as the head.

        False after losing against other writers too often: they carry newer heads, or the next change repairs it.
        """
        reference = db.reference(paths.as_url(paths.balance(uid)), self._app)
        for _ in range(_ATTEMPTS):
            shown, etag = reference.get(etag=True)
            if isinstance(shown, dict) and isinstance(shown.get("seq"), int) and shown["seq"] >= head.seq:
                return True
            written, _, _ = reference.set_if_unchanged(etag, _mirrored(head))
            if written:
                return True
        log("WARNING", "mirror.contended", uid=uid, seq=head.seq)
        return False


def _mirrored(head: Head) -> dict[str, Any]:
    """All amounts in microcredits."""
    return {
        "posted": head.posted,
        "held": head.held,
        "available": head.available,
        "seq": head.seq,
        "updatedAt": {".sv": "timestamp"},
    }
