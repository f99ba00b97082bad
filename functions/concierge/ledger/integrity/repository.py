"""The Firestore documents of integrity, and the ledger's as they really are: whatever somebody has made of them.

validations/{uid}              {content, keyId, signature}: progress.py
integrityReports/{uid}         {uid, state: damaged | repaired, quarantined, total, damages: [...], foundAt,
                                repairedAt?, repairedBy?}
integrityAlerts/{id}           {code, severity, uid, seq, subject, message, state: open | resolved, occurrence, at,
                                resolvedAt?, resolvedBy?}
integrityRepairs/{uid}~{time}  {uid, actor, reason, before: [...], actions: [...], at}: who lifted a quarantine, and
                                what was done before

All reads of an account are made as of one moment, so that nothing seems torn that is only being written.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge import paths
from concierge.ledger.entries import StoredEntry
from concierge.ledger.integrity.replay import Damage
from concierge.ledger.repository import head_from_document
from concierge.ledger.transfers import Head

DAMAGES_KEPT = 100
_BATCH = 300
_ATTEMPTS = 10
_ENTRY_NAME = re.compile(r"\d{12}")
LOST_RACE = (google_exceptions.FailedPrecondition, google_exceptions.AlreadyExists, google_exceptions.NotFound)


@dataclass(frozen=True, slots=True)
class AccountDocument:
    """An account's document as of a moment; `document` is None if there is none."""

    uid: str
    document: dict[str, Any] | None
    snapshot: Any
    read_at: datetime

    @property
    def seq(self) -> int:
        """The last entry that the head names; 0 for a head that names none."""
        seq = (self.document or {}).get("seq")
        return seq if type(seq) is int else 0

    @property
    def quarantined(self) -> bool:
        return (self.document or {}).get("quarantined") is True

    @property
    def head(self) -> Head | None:
        """None if there is none, or none that can be read."""
        try:
            return head_from_document(self.document) if self.document is not None else None
        except KeyError:
            return None


class IntegrityRepository:
    """Reads and writes of these documents."""

    def __init__(self, client: firestore.Client) -> None:
        self.client = client
        self._accounts = client.collection(paths.ACCOUNTS)

    # The ledger's documents.

    def account(self, uid: str, at: datetime | None = None) -> AccountDocument:
        return self.accounts([uid], at)[0]

    def accounts(self, uids: Sequence[str], at: datetime | None = None) -> list[AccountDocument]:
        """As of `at`, or of now; `read_at` is the moment as of which everything else is to be read."""
        found = self._get([self._accounts.document(uid) for uid in uids], at)
        return [_account(found[self._accounts.document(uid).path]) for uid in uids]

    def uids(self) -> Iterator[str]:
        """All accounts that there are, then those that were validated and are gone."""
        seen = set()
        for snapshot in self._accounts.order_by("__name__").select(()).stream():
            seen.add(snapshot.id)
            yield snapshot.id
        for snapshot in self.client.collection(paths.VALIDATIONS).order_by("__name__").select(()).stream():
            if snapshot.id not in seen:
                yield snapshot.id

    def changed(
        self, bucket: int, after: datetime, at: datetime | None, limit: int
    ) -> tuple[list[AccountDocument], bool]:
        """The accounts of a bucket of the change feed whose changes after a moment are oldest, and whether there are
        more of them."""
        query = (
            self._accounts.where(filter=firestore.FieldFilter("bucket", "==", bucket))
            .where(filter=firestore.FieldFilter("changedAt", ">", after))
            .order_by("changedAt")
            .limit(limit + 1)
        )
        found = [_account(snapshot) for snapshot in query.stream(read_time=at)]
        return found[:limit], len(found) > limit

    def entries(
        self, uid: str, *, at: datetime, after: int = 0, limit: int | None = None, strays: list[str] | None = None
    ) -> Iterator[StoredEntry]:
        """Whatever is stored as entries behind number `after`, in the order of the numbers; names that no entry has are
        put into `strays`."""
        collection = self._accounts.document(uid).collection(paths.ENTRIES)
        query = collection.order_by("__name__")
        if after:
            query = query.start_after({"__name__": collection.document(f"{after:012d}")})
        if limit is not None:
            query = query.limit(limit)
        for snapshot in query.stream(read_time=at):
            if _ENTRY_NAME.fullmatch(snapshot.id):
                yield _entry(snapshot)
            elif strays is not None:
                strays.append(snapshot.id)

    def entries_at(self, uid: str, places: Sequence[int], at: datetime) -> dict[int, StoredEntry]:
        return {place: _entry(snapshot) for place, snapshot in self.entry_snapshots(uid, places, at).items()}

    def entry_snapshots(
        self, uid: str, places: Sequence[int], at: datetime | None = None, *, missing: bool = False
    ) -> dict[int, Any]:
        """By number; those that do not exist are left out unless `missing`."""
        collection = self._accounts.document(uid).collection(paths.ENTRIES)
        found = self._get([collection.document(f"{place:012d}") for place in places], at)
        return {int(snapshot.id): snapshot for snapshot in found.values() if snapshot.exists or missing}

    def stray(self, uid: str, name: str) -> Any:
        """The snapshot of what is stored among the entries under a name that none has."""
        return self._accounts.document(uid).collection(paths.ENTRIES).document(name).get()

    def records(
        self, uid: str, hold_ids: Collection[str], op_ids: Collection[str], at: datetime
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The snapshots of some holds and of some operations, by their ids; also of those that do not exist."""
        account = self._accounts.document(uid)
        holds = {hold_id: account.collection(paths.HOLDS).document(hold_id) for hold_id in hold_ids}
        operations = {op_id: account.collection(paths.OPS).document(op_id) for op_id in op_ids}
        found = self._get([*holds.values(), *operations.values()], at)
        return (
            {hold_id: found[reference.path] for hold_id, reference in holds.items()},
            {op_id: found[reference.path] for op_id, reference in operations.items()},
        )

    def all_records(self, uid: str, at: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
        """The snapshots of all holds and of all operations of an account, by their ids."""
        account = self._accounts.document(uid)
        holds, operations = (
            {snapshot.id: snapshot for snapshot in account.collection(kind).order_by("__name__").stream(read_time=at)}
            for kind in (paths.HOLDS, paths.OPS)
        )
        return holds, operations

    def quarantine(self, account: AccountDocument) -> bool:
        """Nothing can be appended from here on, however busy the account is: whoever has read its head before is
        refused. False if it was repaired since it was read: then what was found is not true any more."""
        for _ in range(_ATTEMPTS):
            report = self._report(account.uid).get()
            if report.exists and report.get("state") == "repaired" and report.update_time > account.read_at:
                return False
            now = self.account(account.uid)
            if now.document is None or now.quarantined or self._replace(now.snapshot, {"quarantined": True}):
                return True
        # One field by itself takes nothing away from what others write.
        account.snapshot.reference.update({"quarantined": True})
        return True

    # Validation.

    def state_documents(self, uids: Sequence[str], at: datetime | None = None) -> dict[str, dict[str, Any] | None]:
        collection = self.client.collection(paths.VALIDATIONS)
        found = self._get([collection.document(uid) for uid in uids], at)
        return {snapshot.id: snapshot.to_dict() for snapshot in found.values()}

    def save_state(self, uid: str, document: Mapping[str, Any]) -> None:
        self.client.collection(paths.VALIDATIONS).document(uid).set(dict(document))

    def overdue_holds(self, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(uid, hold id) of open holds whose time was up before a moment, oldest first."""
        query = (
            self.client.collection_group(paths.HOLDS)
            .where(filter=firestore.FieldFilter("state", "==", "held"))
            .where(filter=firestore.FieldFilter("expiresAt", "<=", before))
            .order_by("expiresAt")
            .limit(limit)
        )
        return [(snapshot.reference.parent.parent.id, snapshot.id) for snapshot in query.stream()]

    # Reports.

    def report(self, uid: str) -> dict[str, Any] | None:
        document: dict[str, Any] | None = self._report(uid).get().to_dict()
        return document

    def save_report(self, uid: str, damages: Sequence[Damage], *, quarantined: bool, found_at: datetime) -> None:
        self._report(uid).set(
            {
                "uid": uid,
                "state": "damaged",
                "quarantined": quarantined,
                "total": len(damages),
                "damages": [asdict(damage) for damage in damages[:DAMAGES_KEPT]],
                "foundAt": found_at,
            }
        )

    def close_report(self, uid: str, *, by: str) -> None:
        """Nothing is wrong any more."""
        self._report(uid).set(_closed(uid, by), merge=True)

    def repairs(self, uid: str, limit: int = 20) -> list[dict[str, Any]]:
        """The repairs of an account, oldest first."""
        collection = self.client.collection(paths.INTEGRITY_REPAIRS)
        # `~` is no part of a time, and U+007F follows it.
        query = collection.order_by("__name__").start_at({"__name__": collection.document(f"{uid}~")})
        query = query.end_before({"__name__": collection.document(f"{uid}~\x7f")}).limit(limit)
        # A user id may hold a `~` itself.
        return [document for snapshot in query.stream() if (document := snapshot.to_dict())["uid"] == uid]

    def finish_repair(
        self, account: AccountDocument, *, actor: str, reason: str, before: Sequence[Damage], actions: Sequence[str]
    ) -> bool:
        """Lifts the quarantine and keeps who did it, in one commit; False if the account has changed meanwhile."""
        now = datetime.now(UTC)
        batch = self.client.batch()
        unchanged = self.client.write_option(last_update_time=account.snapshot.update_time)
        lifted = {"quarantined": False, "changedAt": firestore.SERVER_TIMESTAMP}
        batch.update(account.snapshot.reference, lifted, option=unchanged)
        batch.create(
            self.client.collection(paths.INTEGRITY_REPAIRS).document(f"{account.uid}~{now.isoformat()}"),
            {
                "uid": account.uid,
                "actor": actor,
                "reason": reason,
                "before": [asdict(damage) for damage in before[:DAMAGES_KEPT]],
                "actions": list(actions[:DAMAGES_KEPT]),
                "at": now,
            },
        )
        batch.set(
            self._report(account.uid),
            _closed(account.uid, actor),
            merge=True,
        )
        try:
            batch.commit()
        except LOST_RACE:
            return False
        return True

    # Parts.

    def write(self, writes: Sequence[tuple[Any, dict[str, Any] | None]]) -> bool:
        """(snapshot, document) pairs: each document as a whole, or None to delete it, provided that it is as it was
        read. All or, within each few hundred, none; False if something has changed meanwhile."""
        for begin in range(0, len(writes), _BATCH):
            batch = self.client.batch()
            for snapshot, document in writes[begin : begin + _BATCH]:
                unchanged = self.client.write_option(last_update_time=snapshot.update_time) if snapshot.exists else None
                if document is None:
                    batch.delete(snapshot.reference, option=unchanged)
                elif snapshot.exists:
                    stale = set(snapshot.to_dict()) - set(document)
                    batch.update(
                        snapshot.reference,
                        {**document, **{_field(name): firestore.DELETE_FIELD for name in stale}},
                        option=unchanged,
                    )
                else:
                    batch.create(snapshot.reference, document)
            try:
                batch.commit()
            except LOST_RACE:
                return False
        return True

    def _report(self, uid: str) -> Any:
        return self.client.collection(paths.INTEGRITY_REPORTS).document(uid)

    def _replace(self, snapshot: Any, fields: dict[str, Any]) -> bool:
        try:
            unchanged = self.client.write_option(last_update_time=snapshot.update_time)
            snapshot.reference.update(fields, option=unchanged)
        except LOST_RACE:
            return False
        return True

    def _get(self, references: Sequence[Any], at: datetime | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for begin in range(0, len(references), _BATCH):
            for snapshot in self.client.get_all(references[begin : begin + _BATCH], read_time=at):
                found[snapshot.reference.path] = snapshot
        return found


def _closed(uid: str, by: str) -> dict[str, Any]:
    return {"uid": uid, "state": "repaired", "quarantined": False, "repairedAt": datetime.now(UTC), "repairedBy": by}


def _account(snapshot: Any) -> AccountDocument:
    return AccountDocument(snapshot.id, snapshot.to_dict() if snapshot.exists else None, snapshot, snapshot.read_time)


def _entry(snapshot: Any) -> StoredEntry:
    """What is stored, by the types that entries have; anything else becomes what cannot verify."""
    fields = snapshot.to_dict()
    content, digest, key_id, signature = (fields.get(name) for name in ("content", "hash", "keyId", "signature"))
    return StoredEntry(
        content if isinstance(content, bytes) else b"",
        digest if isinstance(digest, str) else "",
        key_id if isinstance(key_id, str) else "",
        signature if isinstance(signature, bytes) else b"",
        int(snapshot.id),
    )


def _field(name: str) -> str:
    """A field's name as a path of an update: some of those that others make up need quotes."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
