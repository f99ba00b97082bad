"""The balance mirror: `/balances/{uid}` in the Realtime Database shows what Firestore decided, and never decides.

A mirror that is missing or older than the head is merely late, and is brought up to it. One that differs at the same
entry, names none, or shows an entry that the ledger has not reached, is in conflict, and a strategy says what becomes
of it:

    authoritative-wins   the head is shown, whatever was (the default)
    newest-seq           the head is shown unless the mirror's entry is a later one, which stays and is reported
    manual-review        nothing is shown; an administrator decides, in /housekeeping/mirrorReviews/{uid}

A mirror ahead of its ledger may mean that the ledger lost its newest entries, and is always reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from firebase_admin import App, db

from concierge import paths
from concierge.errors import Conflict, NotFound, Unavailable
from concierge.kit.logging import log
from concierge.ledger.transfers import Head

Strategy = Literal["authoritative-wins", "newest-seq", "manual-review"]
Action = Literal["none", "written", "left", "review"]
_Kind = Literal["ahead", "differs"]

_ATTEMPTS = 10
_FIELDS = ("posted", "held", "available", "seq")


@dataclass(frozen=True, slots=True)
class MirrorSync:
    """What one synchronisation found and did; the two sides as `{posted, held, available, seq}` in microcredits.

    none: they agreed. written: the head is shown now. left: the mirror is ahead and stays. review: see the strategies.
    """

    before: dict[str, Any] | None
    after: dict[str, Any] | None
    action: Action


class BalanceMirror:
    """Applies heads to the mirror. `find_head` reads the ledger."""

    def __init__(self, app: App, find_head: Callable[[str], Head | None], strategy: Strategy) -> None:
        self._app = app
        self._find_head = find_head
        self._strategy = strategy

    def apply(self, uid: str, head: Head) -> bool:
        """Shows this head unless a newer one is shown. True if the mirror is now at least as new as the head.

        False after losing against other writers too often: they carry newer heads, or the next change repairs it.
        """
        reference = self._reference(paths.balance(uid))
        for _ in range(_ATTEMPTS):
            shown, etag = reference.get(etag=True)
            if _seq_of(shown) >= head.seq:
                return True
            written, _, _ = reference.set_if_unchanged(etag, _mirrored(head))
            if written:
                return True
        log("WARNING", "mirror.contended", uid=uid, seq=head.seq)
        return False

    def show_empty(self, uid: str) -> None:
        """A zero balance for somebody without an account; anything that is shown already stays."""
        self.apply(uid, Head())

    def sync(self, uid: str, strategy: Strategy | None = None) -> MirrorSync:
        """Compares the mirror with the ledger and repairs it, by `strategy` or by the one that is set.

        What others write meanwhile is never overwritten unseen: then it starts again. Raises Unavailable after losing
        too many such races.
        """
        reference = self._reference(paths.balance(uid))
        for _ in range(_ATTEMPTS):
            # The mirror first: what the ledger says afterwards is at least as new, so ahead is really ahead.
            shown, etag = reference.get(etag=True)
            head = self._find_head(uid)
            if head is None and shown is None:
                return MirrorSync(None, None, "none")
            authority = head or Head()
            wanted, before = _side(authority), _amounts(shown)
            if before == wanted:
                return MirrorSync(before, wanted, "none")
            conflict = _conflict(shown, wanted["seq"])
            if conflict is not None:
                left = self._left(uid, conflict, strategy or self._strategy, shown, wanted)
                if left is not None:
                    return MirrorSync(before, before, left)
            written, _, _ = reference.set_if_unchanged(etag, _mirrored(authority))
            if written:
                log("WARNING", "mirror.repaired", uid=uid, fault=conflict or "late", seq=wanted["seq"])
                return MirrorSync(before, wanted, "written")
        raise Unavailable("The balance is changing too quickly at the moment.")

    def agrees(self, uid: str, head: Head) -> bool:
        """Whether the mirror shows just this head: one read, for whoever looks through many."""
        return _amounts(self._reference(paths.balance(uid)).get()) == _side(head)

    def shown(self, uid: str) -> Any:
        """What the mirror says of a balance, whatever that is; None for nothing."""
        return self._reference(paths.balance(uid)).get()

    def reviews(self) -> dict[str, Any]:
        """The conflicts that wait for an administrator, by user."""
        found: dict[str, Any] | None = self._reference(paths.MIRROR_REVIEWS).get()
        return found or {}

    def resolve_review(self, uid: str, *, actor: str) -> MirrorSync:
        """An administrator has looked: the ledger's head is shown. Raises NotFound if nothing waits, Conflict if
        somebody else resolves it at the same time."""
        reference = self._reference(paths.mirror_review(uid))
        waiting, etag = reference.get(etag=True)
        if waiting is None:
            raise NotFound("There is no conflict of this balance to resolve.")
        taken, _, _ = reference.set_if_unchanged(etag, {**waiting, "resolvedBy": actor})
        if not taken:
            raise Conflict("The conflict is being resolved by somebody else.")
        outcome = self.sync(uid, "authoritative-wins")
        reference.delete()
        log("WARNING", "mirror.resolved", uid=uid, actor=actor)
        return outcome

    def _left(
        self, uid: str, conflict: _Kind, chosen: Strategy, shown: Any, wanted: dict[str, Any]
    ) -> Literal["left", "review"] | None:
        """Reports a conflict; what is done instead of showing the head, None if the head is to be shown."""
        severity = "CRITICAL" if conflict == "ahead" else "ERROR"
        log(severity, f"mirror.{conflict}", uid=uid, strategy=chosen, shown=_numbers(shown), ledger=wanted)
        if chosen == "manual-review":
            self._ask(uid, shown, wanted)
            return "review"
        return "left" if chosen == "newest-seq" and conflict == "ahead" else None

    def _ask(self, uid: str, shown: Any, wanted: dict[str, Any] | None) -> None:
        """One record a user, of the first conflict that was found."""
        reference = self._reference(paths.mirror_review(uid))
        waiting, etag = reference.get(etag=True)
        if waiting is None:
            reference.set_if_unchanged(etag, {"shown": shown, "ledger": wanted, "at": {".sv": "timestamp"}})

    def _reference(self, path: str) -> db.Reference:
        return db.reference(paths.as_url(path), self._app)


def _side(head: Head) -> dict[str, Any]:
    """What the mirror says of a head; all amounts in microcredits."""
    return {"posted": head.posted, "held": head.held, "available": head.available, "seq": head.seq}


def _mirrored(head: Head) -> dict[str, Any]:
    return {**_side(head), "updatedAt": {".sv": "timestamp"}}


def _amounts(shown: Any) -> dict[str, Any] | None:
    """What of a mirror can be compared; None for nothing, and whatever is no mirror compares unequal to one."""
    if shown is None:
        return None
    if not isinstance(shown, dict):
        return {"malformed": True}
    return {key: value for key, value in shown.items() if key != "updatedAt"}


def _conflict(shown: Any, ledger_seq: int) -> _Kind | None:
    """In which way a mirror contradicts a ledger whose last entry is this; None for one that is only late.

    Anybody with the console can write anything: what does not say which entry it shows contradicts as well.
    """
    if _seq_of(shown) > ledger_seq:
        return "ahead"
    if shown is not None and (_seq_of(shown) < 0 or _seq_of(shown) == ledger_seq):
        return "differs"
    return None


def _numbers(shown: Any) -> dict[str, Any]:
    """The numbers of a mirror, for the log: the rest may be anything."""
    fields = shown if isinstance(shown, dict) else {}
    return {key: value for key, value in fields.items() if key in _FIELDS and isinstance(value, int | float)}


def _seq_of(shown: Any) -> int:
    """The entry that a mirror shows; -1 for none."""
    seq = shown.get("seq") if isinstance(shown, dict) else None
    return seq if type(seq) is int else -1
