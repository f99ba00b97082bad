"""The audit of a range of time, over one account or all of them, in pages of a bounded cost.

A range is half open: an entry of the very moment `since` is in it, one of the moment `until` is not, so that the
closing balances of one range are the opening ones of the next. A page has parts of accounts: a long account takes
several pages, and the parts of one account add up to its report, as the totals of all pages do to those of the whole.

Nothing is taken from derived documents but which accounts there are, how long their chains are, and where a hold was
placed: balances, sums and open holds follow from the entries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from concierge.errors import NotFound
from concierge.ledger import transfers
from concierge.ledger.audit_sums import AccountAudit, Balance, OpenHold, OpenHolds, Tally, Totals
from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger
from concierge.ledger.timeline import newest_where
from concierge.ledger.transfers import Head
from concierge.ledger.verification import ChainState, Finding, Verification

ENTRIES_MAX = 1_000
"""After so many entries a page ends, before the next account or within one."""
_HOLDS_SCAN_MAX = 2_000
_BATCH = 100
_UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Period:
    """since <= time < until; from the beginning for None."""

    since: datetime | None
    until: datetime


@dataclass(frozen=True, slots=True)
class AuditPlace:
    """Where a page goes on: behind account `after`; or within account `uid`, from entry `first` to `last`."""

    after: str | None = None
    uid: str | None = None
    first: int = 0
    last: int = 0


@dataclass(slots=True)
class AuditPage:
    """Parts of accounts, and their sums; `following` is None after the last page."""

    parts: list[AccountAudit] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    following: AuditPlace | None = None


class Auditor:
    """`anchors` are the hashes of an account's entries that were published, by number."""

    def __init__(
        self, ledger: Ledger, anchors: Callable[[str], dict[int, str]], *, entries_max: int = ENTRIES_MAX
    ) -> None:
        self._ledger = ledger
        self._anchors = anchors
        self._entries_max = entries_max

    def page(self, period: Period, uid: str | None, place: AuditPlace | None, *, limit: int) -> AuditPage:
        """At most `limit` accounts, of one or, with None, of all. Raises NotFound for an account that is none."""
        page, place, room = AuditPage(), place or AuditPlace(), self._entries_max
        if uid is not None:
            place = AuditPlace(uid=uid, first=place.first, last=place.last)
        while len(page.parts) < limit and room > 0:
            found = self._account(period, place)
            if found is None:
                return page
            is_first = not place.first
            account, head, place = found
            part = self._part(account, head, place, room, is_first=is_first)
            room -= part.cost
            page.parts.append(part)
            page.totals.add(part)
            if not part.is_last:
                place = AuditPlace(uid=account, first=place.first + part.numbers, last=place.last)
            elif uid is not None:
                return page
            else:
                place = AuditPlace(after=account)
        page.following = place
        return page

    def pages(self, period: Period, uid: str | None, *, limit: int) -> Iterator[AuditPage]:
        """All pages, one after the other."""
        page = self.page(period, uid, None, limit=limit)
        yield page
        while page.following is not None:
            page = self.page(period, uid, page.following, limit=limit)
            yield page

    def _account(self, period: Period, place: AuditPlace) -> tuple[str, Head, AuditPlace] | None:
        """The account of a place, its head, and the place with its numbers known; None behind the last account."""
        if place.uid is None:
            listed = self._ledger.accounts(after=place.after, limit=1)
            if not listed:
                return None
            uid, head = listed[0]
        else:
            uid = place.uid
            known = self._ledger.head(uid)
            if known is None:
                raise NotFound(f"There is no account {uid}.")
            head = known
        if place.first:
            return uid, head, place
        last = newest_where(self._ledger, uid, head.seq, lambda at: at < period.until)
        since = period.since
        before = newest_where(self._ledger, uid, last, lambda at: at < since) if since is not None else 0
        return uid, head, AuditPlace(uid=uid, first=before + 1, last=last)

    def _part(self, uid: str, head: Head, place: AuditPlace, room: int, *, is_first: bool) -> AccountAudit:
        """The entries of a range from number `place.first` on, `room` numbers of them at most."""
        first, end = place.first, min(place.last, place.first + room - 1)
        entries: list[StoredEntry] = []
        if end >= first:
            found = self._ledger.entries(uid, after_seq=first - 1, limit=end - first + 1)
            entries = [entry for entry in found if entry.place <= end]
        is_last, anchors = end == place.last, self._anchors(uid)
        start, trusted = self._start(uid, first, entries, is_first)
        newest = is_last and place.last == head.seq
        if newest and max(anchors, default=0) > head.seq:
            # A checkpoint may have come between; if not, entries that it vouches for are gone.
            newest = self._ledger.head(uid) == head
        verification = self._ledger.verify_part(
            uid, entries, start, {seq: digest for seq, digest in anchors.items() if first <= seq <= end or newest}
        )
        if not trusted:
            # What the entry before says of the balance is its own matter.
            verification.findings[:] = [
                finding for finding in verification.findings if (finding.seq, finding.code) != (first, "RULE_VIOLATION")
            ]
        _check_end(verification, end, head if newest else None)
        part = AccountAudit(
            uid=uid,
            is_first=is_first,
            is_last=is_last,
            numbers=max(0, end - first + 1),
            opening=Balance(start.head.posted, start.head.held),
            closing=Balance(verification.head.posted, verification.head.held),
            findings=verification.findings,
            covered_to=max(anchors, default=0),
            cost=max(0, end - first + 1),
        )
        for entry in entries:
            part.take(entry)
        if is_last and part.closing.held:
            part.open_holds, read = self._open_holds(uid, end, part.closing.held)
            part.cost += read
        return part

    def _start(self, uid: str, first: int, entries: list[StoredEntry], is_first: bool) -> tuple[ChainState, bool]:
        """The account before entry `first`, as the entry before states it, and whether that one can be trusted; if
        not, a range begins with what its own first entry says of the balance before it."""
        if first == 1:
            return ChainState(), True
        fields = [_fields_of(entry) for entry in entries]
        before = self._ledger.entry(uid, first - 1)
        trusted = before is not None and self._ledger.is_sealed(before)
        stated = _fields_of(before) if before is not None else None
        own = fields[0] if fields and entries[0].place == first else None
        link = before.hash if before is not None else (own or {}).get("prev", transfers.GENESIS_HASH)
        balance = Balance()
        if stated is not None and (trusted or not is_first or own is None):
            balance = Balance(stated["postedAfter"], stated["heldAfter"])
        elif own is not None:
            balance = _before(own)
        # Only a freeze says which state it ends, and nothing else of what is replayed depends on that.
        controls = [each["counter"] for each in fields if each is not None and each["kind"] == "adjust"]
        controls = [
            counter for counter in controls if counter in (transfers.COUNTER_FREEZE, transfers.COUNTER_UNFREEZE)
        ]
        head = Head(
            first - 1,
            link,
            balance.posted,
            balance.held,
            debt=max(0, -balance.posted),
            frozen=controls[:1] == [transfers.COUNTER_UNFREEZE],
        )
        return ChainState(head, self._open_before(uid, head, fields)), trusted

    def _open_before(self, uid: str, head: Head, fields: list[dict[str, Any] | None]) -> dict[str, int]:
        """The amounts of the holds that these entries resolve and did not place: as their own entries say. Where such
        an entry is not to be found, by how much the resolution lowers what is held."""
        placed: set[str] = set()
        wanted: dict[str, int] = {}
        held = head.held
        for each in fields:
            if each is None:
                continue
            hold_id = each.get("holdId", "")
            if each["kind"] == "hold":
                placed.add(hold_id)
            elif each["kind"] in transfers.RESOLUTION_KINDS and hold_id not in placed:
                wanted[hold_id] = held - each["heldAfter"]
            held = each["heldAfter"]
        for hold_id, entry in self._ledger.placings(uid, wanted).items() if wanted else ():
            own = _fields_of(entry) if self._ledger.is_sealed(entry) else None
            if own is not None and (own["kind"], own.get("holdId"), own["uid"]) == ("hold", hold_id, uid):
                wanted[hold_id] = own["amount"]
        return wanted

    def _open_holds(self, uid: str, last: int, held: int) -> tuple[OpenHolds, int]:
        """What is held after entry `last`, and how many entries were read for it: backwards from there, every placing
        whose resolution has not been met, until they make up the whole."""
        found, resolved, missing = list[OpenHold](), set[str](), held
        before, lowest = last + 1, max(1, last + 1 - _HOLDS_SCAN_MAX)
        while before > lowest and missing > 0:
            first = max(lowest, before - _BATCH)
            for entry in reversed(self._ledger.entries(uid, after_seq=first - 1, limit=before - first)):
                fields = _fields_of(entry) if entry.place < before and missing > 0 else None
                if fields is None or "holdId" not in fields:
                    continue
                if fields["kind"] != "hold":
                    resolved.add(fields["holdId"])
                elif fields["holdId"] not in resolved:
                    found.append(OpenHold(fields["holdId"], entry.place, fields["amount"], str(fields["at"])))
                    missing -= fields["amount"]
            before = first
        total = Tally(len(found), sum(hold.amount for hold in found))
        return OpenHolds(total, missing, found[::-1]), last + 1 - before


def _check_end(verification: Verification, end: int, head: Head | None) -> None:
    """Whether there is an entry for every number up to `end`; and if the chain ends there, whether its head is
    what the entries say."""
    reached, findings = verification.head, verification.findings
    if reached.seq < end:
        if not any(finding.code == "TRUNCATED" for finding in findings):
            code = "TRUNCATED" if head is not None else "MISSING_ENTRY"
            findings.append(Finding(reached.seq + 1, code, f"entries {reached.seq + 1} to {end} are not there"))
    elif head is not None and reached.seq == head.seq:
        stated, replayed = ((each.hash, each.posted, each.held, each.debt) for each in (head, reached))
        if stated != replayed and end:
            findings.append(Finding(head.seq, "HEAD_MISMATCH", "the head is not what the entries add up to"))


def _before(fields: dict[str, Any]) -> Balance:
    """The balance before an entry, as far as it follows from the entry alone: how much a capture freed does not."""
    kind, amount = fields["kind"], fields["amount"]
    freed = {"hold": -amount, "capture": amount, "release": amount, "expire": amount}.get(kind, 0)
    return Balance(fields["postedAfter"] - transfers.posted_change(kind, amount), fields["heldAfter"] + freed)


def _fields_of(entry: StoredEntry) -> dict[str, Any] | None:
    """The fields of an entry whose numbers can be reckoned with, None for any other."""
    try:
        fields = entry.fields()
        numbers = (fields["amount"], fields["postedAfter"], fields["heldAfter"])
        texts = (fields["kind"], fields["counter"], fields.get("holdId", ""))
    except _UNREADABLE:
        return None
    readable = all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)
    return fields if readable else None
