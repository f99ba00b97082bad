"""Backups: the signed entries of every account in Cloud Storage, as files that never change.

    backups/entries/{uid}/{first}-{last}-{hash of the last}-{SHA-256 of the file}.jsonl

A file has one line of JSON for each entry, `{content, hash, keyId, signature}` with content and signature in base64: as
in receipts, so that whoever has a file and the public keys can check it. Only what is sealed, signed and linked to the
entry before it goes into a file; damage is never backed up over what is sound.

Firestore: backups/{uid} {seq, hash}: how far an account is saved. It moves after the file is written, so a crash in
between makes the next run write the same entries once more, beside later ones, into another file.
"""

import hashlib
import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from concierge import paths
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.objects import ObjectStore
from concierge.ledger.changes import ChangedAccount, ChangeFeed
from concierge.ledger.entries import StoredEntry, entry_hash
from concierge.ledger.integrity.alerts import Alert, Alerts
from concierge.ledger.integrity.repository import LOST_RACE, IntegrityRepository
from concierge.ledger.json_forms import entry_to_json
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import GENESIS_HASH

FILE_ENTRIES = 1_000
_CONSUMER = "backup"
_ROTATION = "backup-rotation"
_ROTATION_ACCOUNTS = 500
_AT_ONCE = 4
_BATCH = 200
_FIRST_LOOK = timedelta(hours=1)
_HELD_BACK_MAX = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file, as its name tells."""

    name: str
    first: int
    last: int
    last_hash: str
    digest: str

    @classmethod
    def parse(cls, name: str) -> "BackupFile | None":
        """None for a name that is none of ours."""
        parts = name.rpartition("/")[2].removesuffix(".jsonl").split("-")
        if len(parts) != 4 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return cls(name, int(parts[0]), int(parts[1]), parts[2], parts[3])


class Seal:
    """Whether an entry is one of this ledger: its hash, its signature, its place and its link."""

    def __init__(self, keyring: Keyring, ledger_id: str) -> None:
        self._keyring = keyring
        self._ledger_id = ledger_id

    def holds(self, entry: StoredEntry, uid: str, seq: int, previous: str) -> bool:
        if entry_hash(entry.content) != entry.hash:
            return False
        if not self._keyring.verifies(entry.key_id, entry.hash, entry.signature):
            return False
        try:
            fields = entry.fields()
        except ValueError:
            return False
        found = tuple(fields.get(name) for name in ("ledger", "uid", "seq", "prev"))
        return found == (self._ledger_id, uid, seq, previous)


class Backups:
    """Writes and reads them. Safe to run any number of times at once."""

    def __init__(
        self,
        repository: IntegrityRepository,
        feed: ChangeFeed,
        objects: Callable[[], ObjectStore],
        alerts: Alerts,
        seal: Seal,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repository = repository
        self._feed = feed
        self._objects = objects
        self._alerts = alerts
        self._seal = seal
        self._now = now
        self._saved = repository.client.collection(paths.BACKUPS)

    def run(self, rotation_accounts: int = _ROTATION_ACCOUNTS) -> Counter[str]:
        """Saves what has been appended since the last run, and looks at the next accounts in turns for what was missed;
        how many accounts came to which end: `none`, `saved`, `damaged`, `error`."""
        report: Counter[str] = Counter()
        started = self._now()
        # A first run leaves the accounts of earlier times to the rotation: it must end, however many there are.
        cursor = latest = self._feed.load_cursor(_CONSUMER) or started - _FIRST_LOOK
        failed_at = datetime.max.replace(tzinfo=UTC)
        for accounts in _batches(self._feed.since(cursor)):
            for account, outcome in self._save_all(accounts):
                report[outcome] += 1
                # A time in the future is one that somebody wrote: it must not move the cursor there.
                latest = max(latest, min(account.changed_at, started))
                if outcome == "error":
                    failed_at = min(failed_at, account.changed_at)
        for _, outcome in self._save_all(self._feed.rotate(_ROTATION, rotation_accounts)):
            report[outcome] += 1
        fault_point("backup.saved")
        self._feed.save_cursor(_CONSUMER, max(min(latest, failed_at), latest - _HELD_BACK_MAX))
        log("INFO", "backup.done", outcomes=dict(report))
        return report

    def _save_all(self, accounts: Sequence[ChangedAccount]) -> list[tuple[ChangedAccount, str]]:
        references = [self._saved.document(account.uid) for account in accounts]
        known = {snapshot.id: snapshot for snapshot in self._repository.client.get_all(references)}

        def save(account: ChangedAccount) -> str:
            try:
                return self._save(account, known[account.uid])
            except Exception as error:  # noqa: BLE001  # one account must not keep the others waiting
                log("ERROR", "backup.failed", uid=account.uid, error=error)
                return "error"

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="backup") as pool:
            return list(zip(accounts, pool.map(save, accounts), strict=True))

    def _save(self, account: ChangedAccount, known: Any) -> str:
        """Saves what an account has beyond what is saved, file by file."""
        uid, saved = account.uid, known.to_dict() or {"seq": 0, "hash": GENESIS_HASH}
        outcome = "none"
        while saved["seq"] < account.head.seq:
            limit = min(FILE_ENTRIES, account.head.seq - saved["seq"])
            now = self._repository.account(uid).read_at
            entries = list(self._repository.entries(uid, at=now, after=saved["seq"], limit=limit))
            fault = self._fault(uid, entries, saved["seq"], saved["hash"])
            if fault or not entries:
                self._alerts.tell(
                    Alert(
                        "BACKUP_REFUSED",
                        "CRITICAL",
                        "this entry does not follow what is saved",
                        uid,
                        fault or saved["seq"] + 1,
                    )
                )
                return "damaged"
            self._write(uid, entries)
            fault_point("backup.written")
            following = {"seq": entries[-1].place, "hash": entries[-1].hash}
            try:
                if known.exists:
                    option = self._repository.client.write_option(last_update_time=known.update_time)
                    known.reference.update(following, option=option)
                else:
                    known.reference.create(following)
            except LOST_RACE:
                # Another run saves the same account.
                return "saved"
            known, saved, outcome = known.reference.get(), following, "saved"
        return outcome

    def _fault(self, uid: str, entries: Sequence[StoredEntry], seq: int, previous: str) -> int:
        """The number of the first entry that is not sound; 0 if all are."""
        for entry in entries:
            seq += 1
            if entry.place != seq or not self._seal.holds(entry, uid, seq, previous):
                return seq
            previous = entry.hash
        return 0

    def _write(self, uid: str, entries: Sequence[StoredEntry]) -> None:
        data = b"".join(json.dumps(entry_to_json(entry), separators=(",", ":")).encode() + b"\n" for entry in entries)
        name = paths.backup_file(
            uid, entries[0].place, entries[-1].place, entries[-1].hash, hashlib.sha256(data).hexdigest()
        )
        self._objects().create(name, data, "application/jsonl")

    # Reading.

    def files(self, uid: str) -> list[BackupFile]:
        """All files of an account, by their first entries."""
        found = (BackupFile.parse(name) for name in self._objects().list(paths.backups_of(uid)))
        return [file for file in found if file is not None]

    def anchors(self, uid: str) -> dict[int, str]:
        """What the names alone tell of an account: its last saved entry."""
        newest = max(self.files(uid), key=lambda file: file.last, default=None)
        return {newest.last: newest.last_hash} if newest is not None else {}

    def candidates(self, uid: str, places: Iterable[int]) -> dict[int, list[StoredEntry]]:
        """What is saved under these numbers, from files that are what their names say; whether it is genuine is for the
        caller to prove."""
        wanted = set(places)
        found: dict[int, list[StoredEntry]] = {}
        for file in self.files(uid):
            covered = wanted.intersection(range(file.first, file.last + 1)) if wanted else set()
            if not covered:
                continue
            data = self._objects().read(file.name)
            if data is None or hashlib.sha256(data).hexdigest() != file.digest:
                log("CRITICAL", "backup.file_damaged", uid=uid, name=file.name)
                continue
            lines = data.splitlines()
            for place in covered:
                entry = _entry(lines[place - file.first], place)
                if entry not in found.setdefault(place, []):
                    found[place].append(entry)
        return found


def _entry(line: bytes, place: int) -> StoredEntry:
    fields = json.loads(line)
    return StoredEntry(
        b64decode(fields["content"]), fields["hash"], fields["keyId"], b64decode(fields["signature"]), place
    )


def _batches(accounts: Iterator[ChangedAccount]) -> Iterator[list[ChangedAccount]]:
    batch: list[ChangedAccount] = []
    for account in accounts:
        batch.append(account)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
