"""The change feed: which accounts have moved since a consumer last looked, at a cost that follows what changed.

Every append stamps its account with the server's time and one of 16 buckets, which are indexed together: one index
over time alone would make all appends of the product write to the same end of one range. A timestamp is given before
its commit shows, so a consumer looks a margin further back than it has seen, and meets some accounts twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import firestore

from concierge import paths
from concierge.kit.documents import RawDocument, stream_query
from concierge.kit.logging import log
from concierge.ledger.repository import BUCKETS, counters_from_document, head_from_document
from concierge.ledger.transfers import Head

MARGIN = timedelta(seconds=10)
_POSITION_TYPES = {"seq": "integer_value", "headHash": "string_value", "posted": "integer_value"}
_POSITION_FIELDS = (*_POSITION_TYPES, "counters", "changedAt")


@dataclass(frozen=True, slots=True)
class ChangedAccount:
    """An account, its head, and when the server took its last append."""

    uid: str
    head: Head
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class AccountPosition:
    """What of a head goes into a checkpoint: many times as many are read as of anything else, so nothing more is."""

    uid: str
    seq: int
    hash: str
    posted: int
    counters: Mapping[str, int]
    changed_at: datetime


class ChangeFeed:
    """The accounts in the order of their changes, bucket by bucket; and where each consumer stands."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client

    def since(self, cursor: datetime | None) -> Iterator[ChangedAccount]:
        """All accounts that changed after `cursor` less the margin; all there are for None.

        The next cursor is the latest `changed_at` of what came, as far as the consumer has dealt with it.
        """
        for bucket in range(BUCKETS):
            yield from self.in_bucket(bucket, cursor)

    def in_bucket(self, bucket: int, cursor: datetime | None) -> Iterator[ChangedAccount]:
        """One range of them, oldest change first."""
        for snapshot in self._query(bucket, cursor).stream():
            yield from _changed(snapshot)

    def positions(self, bucket: int, cursor: datetime | None, at: datetime) -> Iterator[AccountPosition]:
        """One range of them, oldest change first, as of a moment of the last hour: buckets that are read as of one
        moment show both accounts of a transfer, or neither."""
        query = self._query(bucket, cursor).select(_POSITION_FIELDS)
        for document in stream_query(self._client, query, at):
            yield from _position(document)

    def rotate(self, consumer: str, limit: int) -> list[ChangedAccount]:
        """The next `limit` accounts in the order of their ids, for who looks at all of them in turns; after the last
        one the first again."""
        snapshots = self._rotated(consumer, self._client.collection(paths.ACCOUNTS), limit)
        return [account for snapshot in snapshots for account in _changed(snapshot)]

    def rotate_names(self, consumer: str, limit: int, *, of_validations: bool = False) -> list[str]:
        """As `rotate`, the ids alone, whatever the documents hold; or those of all accounts ever validated."""
        collection = self._client.collection(paths.VALIDATIONS if of_validations else paths.ACCOUNTS)
        return [snapshot.id for snapshot in self._rotated(consumer, collection, limit, fields=())]

    def _rotated(self, consumer: str, collection: Any, limit: int, fields: tuple[str, ...] | None = None) -> list[Any]:
        reference = self._reference(consumer)
        state = reference.get().to_dict() or {}
        query = collection.order_by("__name__").limit(limit)
        if fields is not None:
            query = query.select(fields)
        if state.get("after"):
            query = query.start_after({"__name__": collection.document(state["after"])})
        found = list(query.stream())
        reference.set({"after": found[-1].id if len(found) == limit else None})
        return found

    def load_cursor(self, consumer: str) -> datetime | None:
        """How far a consumer has come; None if it never ran."""
        snapshot = self._reference(consumer).get()
        if not snapshot.exists:
            return None
        cursor: datetime = snapshot.to_dict()["cursor"]
        return cursor.astimezone(UTC)

    def save_cursor(self, consumer: str, cursor: datetime) -> None:
        self._reference(consumer).set({"cursor": cursor})

    def _query(self, bucket: int, cursor: datetime | None) -> Any:
        query = self._client.collection(paths.ACCOUNTS).where(filter=firestore.FieldFilter("bucket", "==", bucket))
        if cursor is not None:
            query = query.where(filter=firestore.FieldFilter("changedAt", ">", cursor - MARGIN))
        return query.order_by("changedAt")

    def _reference(self, consumer: str) -> firestore.DocumentReference:
        return self._client.collection(paths.HOUSEKEEPING).document(consumer)


def _position(document: RawDocument) -> Iterator[AccountPosition]:
    """What of a head goes into a checkpoint; none of a head that is unreadable, as below."""
    fields = document.fields
    counters = fields["counters"].map_value.fields if "counters" in fields else {}
    # A message's map gives something for any name: what is not there, or is of another type, would be taken for 0.
    types = {name: (fields[name], kind) for name, kind in _POSITION_TYPES.items()}
    types |= {f"counters.{name}": (total, "integer_value") for name, total in counters.items()}
    wrong = [name for name, (value, kind) in types.items() if value.WhichOneof("value_type") != kind]
    if wrong:
        log("CRITICAL", "account.unreadable", uid=document.id, fields=wrong)
        return
    posted = fields["posted"].integer_value
    known: dict[str, Any] = {"posted": posted}
    if "counters" in fields:
        known["counters"] = {name: total.integer_value for name, total in counters.items()}
    yield AccountPosition(
        document.id,
        fields["seq"].integer_value,
        fields["headHash"].string_value,
        posted,
        counters_from_document(known),
        fields["changedAt"].timestamp_value.ToDatetime(UTC),
    )


def _changed(snapshot: Any) -> Iterator[ChangedAccount]:
    """The account; none for a head that somebody has made unreadable, which must not keep all others waiting."""
    document = snapshot.to_dict()
    try:
        yield ChangedAccount(snapshot.id, head_from_document(document), document.get("changedAt", snapshot.update_time))
    except KeyError as error:
        log("CRITICAL", "account.unreadable", uid=snapshot.id, error=error)
