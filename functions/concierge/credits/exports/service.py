"""The export of one account, in pages of a bounded size.

The first page has the head and the sections; entries up to that head, operations and holds follow in their order. What
an account does while it is exported is left out of the entries, and may be in operations and holds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from concierge.credits.exports.verification import EXPORT_FORMAT
from concierge.errors import NotFound
from concierge.kit.timestamps import rfc3339
from concierge.ledger.entries import StoredEntry
from concierge.ledger.json_forms import entry_to_json, head_to_json
from concierge.ledger.repository import Hold, Operation
from concierge.ledger.service import Ledger

Phase = Literal["entries", "operations", "holds"]
PHASES: tuple[Phase, ...] = ("entries", "operations", "holds")

Section = tuple[str, Callable[[str], Any]]
"""A name, and what is held under it about a user: JSON of a bounded size, None for nothing."""


@dataclass(frozen=True, slots=True)
class ExportPlace:
    """Where a page begins: behind `after` (an entry's number, or an id) of a phase; `last` is the head's number."""

    phase: Phase
    after: str
    last: int


@dataclass(frozen=True, slots=True)
class ExportPage:
    """`document` lacks cursor and next, which belong to whoever asked; `following` is where the next page begins."""

    document: dict[str, Any]
    following: ExportPlace | None


class AccountExports:
    """`sections` are for everybody who may export an account, `internal` for administrators alone."""

    def __init__(
        self,
        ledger: Ledger,
        vkeys: Callable[[], Sequence[str]],
        sections: Sequence[Section],
        internal: Sequence[Section] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger = ledger
        self._vkeys = vkeys
        self._sections = sections
        self._internal = internal
        self._now = now

    def page(self, uid: str, place: ExportPlace | None, *, limit: int, internal: bool) -> ExportPage:
        """At most `limit` entries, operations and holds. `internal` for administrators: all sections, and who ordered
        what. Raises NotFound if there is no account."""
        head = self._ledger.head(uid)
        if head is None:
            raise NotFound(f"There is no account {uid}.")
        document: dict[str, Any] = {
            "format": EXPORT_FORMAT,
            "ledger": self._ledger.ledger_id,
            "uid": uid,
            "exportedAt": rfc3339(self._now()),
            "keys": {"ledger": self._ledger.published_keys(), "checkpoint": list(self._vkeys())},
        }
        if place is None:
            # After the head: what a section shows is at least as new.
            sections = [*self._sections, *(self._internal if internal else ())]
            document["head"] = {**head_to_json(head), "quarantined": head.quarantined, "epoch": head.epoch}
            document["sections"] = {name: read(uid) for name, read in sections}
            place = ExportPlace("entries", "", head.seq)
        document |= {phase: [] for phase in PHASES}
        room = limit
        following: ExportPlace | None = place
        while following is not None and room > 0:
            rows, after = self._rows(uid, following, room, internal)
            document[following.phase] += rows
            room -= len(rows)
            following = _following(following, after)
        return ExportPage(document, following)

    def pages(self, uid: str, *, limit: int) -> Iterator[dict[str, Any]]:
        """All pages, one after the other, as an administrator sees them."""
        page = self.page(uid, None, limit=limit, internal=True)
        yield page.document
        while page.following is not None:
            page = self.page(uid, page.following, limit=limit, internal=True)
            yield page.document

    def _rows(self, uid: str, place: ExportPlace, limit: int, internal: bool) -> tuple[list[dict[str, Any]], str]:
        """Up to `limit` rows of a phase, and behind which the next ones come; empty if there are none."""
        if place.phase == "entries":
            found = self._ledger.entries(uid, after_seq=int(place.after or 0), limit=limit)
            entries = [entry for entry in found if entry.place <= place.last]
            full = len(entries) == limit and entries[-1].place < place.last
            return [_entry_json(entry) for entry in entries], str(entries[-1].place) if full else ""
        if place.phase == "operations":
            operations = self._ledger.operations(uid, after=place.after or None, limit=limit)
            more = operations[-1][0] if len(operations) == limit else ""
            return [_operation_json(op_id, operation, internal) for op_id, operation in operations], more
        holds = self._ledger.holds(uid, after=place.after or None, limit=limit)
        return [_hold_json(hold) for hold in holds], holds[-1].hold_id if len(holds) == limit else ""


def _following(place: ExportPlace, after: str) -> ExportPlace | None:
    if after:
        return ExportPlace(place.phase, after, place.last)
    number = PHASES.index(place.phase) + 1
    return ExportPlace(PHASES[number], "", place.last) if number < len(PHASES) else None


def _entry_json(entry: StoredEntry) -> dict[str, Any]:
    """The signed bytes, and what they say; null if they say nothing that can be read."""
    try:
        fields: dict[str, Any] | None = entry.fields()
    except (ValueError, RecursionError):
        fields = None
    return {"seq": entry.place, **entry_to_json(entry), "fields": fields}


def _operation_json(op_id: str, operation: Operation, internal: bool) -> dict[str, Any]:
    """Which administrator ordered something is about the administrator: that is for administrators."""
    shown = {
        "opId": op_id,
        "requestHash": operation.request_hash,
        "entrySeq": operation.seq,
        "entryHash": operation.hash,
        "amountMicrocredits": operation.amount,
        "reason": operation.memo,
        "refusal": asdict(operation.refusal) if operation.refusal is not None else None,
    }
    return {**shown, "actor": operation.actor} if internal else shown


def _hold_json(hold: Hold) -> dict[str, Any]:
    return {
        "holdId": hold.hold_id,
        "state": hold.state,
        "requestHash": hold.request_hash,
        "runId": hold.run_id,
        "fence": hold.fence,
        "amountMicrocredits": hold.amount,
        "capturedMicrocredits": hold.captured,
        "placedAt": rfc3339(hold.placed_at),
        "expiresAt": rfc3339(hold.expires_at),
        "placedSeq": hold.placed_seq,
        "entrySeq": hold.entry_seq,
        "entryHash": hold.entry_hash,
        "resolvedBy": hold.resolved_by,
        "note": hold.note,
        "refusal": asdict(hold.refusal) if hold.refusal is not None else None,
    }
