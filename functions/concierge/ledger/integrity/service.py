"""What operators and the API ask for: a page of a verification, a replay, a repair, the alerts.

The scheduled work is in validation.py and backups.py; this only composes it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.cloud import firestore

from concierge.errors import InvalidArgument, NotFound, Unavailable
from concierge.kit.logging import log
from concierge.kit.objects import ObjectStore, ObjectsUnavailable
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.checkpoints.repository import CheckpointRepository
from concierge.ledger.integrity.alerts import Alerts, Publish
from concierge.ledger.integrity.backups import Backups, Seal
from concierge.ledger.integrity.examination import Examination, Examiner, Shown
from concierge.ledger.integrity.progress import open_cursor, seal_cursor
from concierge.ledger.integrity.repair import Repair, Repairer
from concierge.ledger.integrity.replay import Damage, Progress
from concierge.ledger.integrity.repository import AccountDocument, IntegrityRepository
from concierge.ledger.integrity.validation import Policy, Validation
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head


@dataclass(frozen=True, slots=True)
class ChainPage:
    """One call's part of the verification of an account. `after` and `through` are the entries between which it looked;
    `head` is what the entries add up to there. `complete` if that was all; otherwise `next` is the cursor of the next
    call, None after damage: what is behind it cannot be judged before it is repaired."""

    uid: str
    after: int
    entries: int
    head: Head
    damages: list[Damage]
    complete: bool
    next: str | None

    @property
    def verified(self) -> bool:
        return not self.damages


class Integrity:
    """All of it for one deployment. `objects` is asked for when the first backup is needed; `shown` reads the balance
    that clients see, `sync_mirror` repairs it, `publish` sends an alert's event."""

    def __init__(
        self,
        client: firestore.Client,
        keyring: Keyring,
        policy: Policy,
        *,
        ledger_id: str,
        objects: Callable[[], ObjectStore],
        shown: Shown,
        sync_mirror: Callable[[str], object],
        publish: Publish,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repository = IntegrityRepository(client)
        self._keyring = keyring
        self._ledger_id = ledger_id
        self._feed = ChangeFeed(client)
        self._examiner = Examiner(self._repository, keyring, ledger_id, shown)
        seal = Seal(keyring, ledger_id)
        self.alerts = Alerts(client, publish)
        self.backups = Backups(self._repository, self._feed, objects, self.alerts, seal, now=now)
        self.validation = Validation(
            self._repository,
            self._examiner,
            self.alerts,
            CheckpointRepository(client),
            self._feed,
            keyring,
            policy,
            ledger_id=ledger_id,
            now=now,
        )
        self._repairer = Repairer(
            self._repository, self._examiner, self.validation, self.backups, self.alerts, seal, sync_mirror
        )

    def validate(self) -> Counter[str]:
        """One scheduled run."""
        return self.validation.run()

    def verify_page(self, uid: str, cursor: str | None, limit: int) -> ChainPage:
        """Verifies the next `limit` entries of an account, with their signatures, the rules, the records of their holds
        and operations; with the last of them the head. Writes nothing.

        Raises InvalidArgument for a cursor that is not one of this account, NotFound, Unavailable.
        """
        start, account, damages = Progress(), self._repository.account(uid), list[Damage]()
        if cursor is not None:
            try:
                head, places = open_cursor(self._keyring, self._ledger_id, uid, cursor)
            except ValueError:
                raise InvalidArgument("cursor", "cursor: not one that a page of this list gave") from None
            start, damages = self._examiner.carried(uid, head, places, account.read_at)
        anchors = self.validation.anchors(uid, self.validation.state(uid), account.read_at)
        self._anchor_to_moment(account, anchors)
        found = self._examiner.page(account, start, anchors, limit)
        if account.document is None and not found.entries and not anchors:
            raise NotFound("There is no such account.")
        damages += found.damages
        after = None
        if not damages and not found.complete:
            after = seal_cursor(self._keyring, self._ledger_id, uid, found.progress)
            if after is None:
                log("ERROR", "validation.cursor_too_long", uid=uid, holds=len(found.progress.holds))
                raise Unavailable("This account has too many open reservations to be verified in pages now.")
        return ChainPage(uid, start.head.seq, found.entries, found.progress.head, damages, found.complete, after)

    def replay(self, uid: str) -> Examination:
        """Rebuilds the head, every hold, every operation's record and the shown balance from the entries alone, and
        compares: `damages` are the differences. Reads all there is of the account, and writes nothing."""
        with _objects_answer():
            return self._repairer.examine(uid)

    def plan_repair(self, uid: str) -> Repair:
        """What is wrong with an account, and what a repair would do first. Raises NotFound, Unavailable."""
        self._require(uid)
        with _objects_answer():
            return self._repairer.plan(uid)

    def repair(self, uid: str, *, actor: str, reason: str) -> Repair:
        """Repairs what can be repaired; `actor` and `reason` are kept. Raises NotFound, Unavailable."""
        self._require(uid)
        with _objects_answer():
            return self._repairer.apply(uid, actor=actor, reason=reason)

    def report(self, uid: str) -> dict[str, Any]:
        """`{quarantined, report, repairs}` of an account."""
        return {
            "quarantined": self._repository.account(uid).quarantined,
            "report": self._repository.report(uid),
            "repairs": self._repository.repairs(uid),
        }

    def uids(self) -> Iterator[str]:
        """All accounts there are, or ever were verified."""
        return self._repository.uids()

    def _require(self, uid: str) -> None:
        if self._repository.account(uid).document is None and self.validation.state(uid) is None:
            moment = self._repository.account(uid).read_at
            if next(self._repository.entries(uid, at=moment, limit=1), None) is None:
                raise NotFound("There is no such account.")

    def _anchor_to_moment(self, account: AccountDocument, anchors: dict[int, str]) -> None:
        """The state is read after the account, and may know later entries if the account is moving."""
        newest = max(anchors, default=0)
        if newest > account.seq and self._repository.account(account.uid).seq >= newest:
            del anchors[newest]


@contextmanager
def _objects_answer() -> Iterator[None]:
    """Raises Unavailable where Cloud Storage does not answer."""
    try:
        yield
    except ObjectsUnavailable as error:
        raise Unavailable("The backups cannot be read at the moment.") from error
