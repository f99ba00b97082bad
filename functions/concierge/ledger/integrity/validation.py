"""The scheduled validation: what has changed since the last run, and all other accounts in turns.

An account that has changed is verified from where it was verified before, so a run costs what has changed. What is done
behind the ledger's back does not show as a change: so each run also goes on through all accounts, a bounded number of
documents, and reads old entries again, by their hashes; and through what it knows of accounts, to find those that are
gone. Whatever differs is looked at as a whole, at a later moment, before anybody is alarmed.

A damaged account is quarantined: nothing is appended to a chain or a balance that is wrong. If more accounts are
damaged in one run than a fuse allows, a key is missing rather than that all were tampered with: the rest is reported
only.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.ledger.changes import MARGIN, ChangeFeed
from concierge.ledger.checkpoints.repository import CheckpointRepository
from concierge.ledger.integrity.alerts import Alert, Alerts, Severity
from concierge.ledger.integrity.anomalies import Thresholds, observe
from concierge.ledger.integrity.examination import DERIVED_CODES, Anchors, Examination, Examiner
from concierge.ledger.integrity.progress import State, open_state, seal_state
from concierge.ledger.integrity.replay import Damage
from concierge.ledger.integrity.repository import AccountDocument, IntegrityRepository
from concierge.ledger.repository import BUCKETS
from concierge.ledger.signatures import Keyring

_CONSUMER = "validation"
_ROTATION = "validation-rotation"
_GONE_ROTATION = "validation-gone"
_AT_ONCE = 4
_PAGE_ENTRIES = 5_000
_BUCKET_ACCOUNTS = 200
_TURN_ACCOUNTS = 20
_GONE_ACCOUNTS = 200
_ALERTS_MAX = 20
_OVERDUE_MAX = 20
_FIRST_LOOK = timedelta(hours=1)
# What keeps failing is met again in turns: it must not make all later runs look at more and more.
_HELD_BACK_MAX = timedelta(hours=1)
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """`rotation_documents`: about how many documents a run reads of accounts that have not changed. `quarantine_max`:
    the fuse, in accounts. `overdue`: how long after its time a hold may be open."""

    thresholds: Thresholds
    rotation_documents: int
    quarantine_max: int
    overdue: timedelta


class Validation:
    """Safe to run any number of times at once: what a run finds and writes does not depend on others."""

    def __init__(
        self,
        repository: IntegrityRepository,
        examiner: Examiner,
        alerts: Alerts,
        checkpoints: CheckpointRepository,
        feed: ChangeFeed,
        keyring: Keyring,
        policy: Policy,
        *,
        ledger_id: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repository = repository
        self._examiner = examiner
        self._alerts = alerts
        self._checkpoints = checkpoints
        self._feed = feed
        self._keyring = keyring
        self._policy = policy
        self._ledger_id = ledger_id
        self._now = now

    def run(self) -> Counter[str]:
        """One run; how many accounts came to which end: `sound`, `damaged`, `error`; `documents` were read."""
        run = _Run()
        self._changed(run)
        self._turns(run)
        self._gone(run)
        self._whole_ledger()
        report = Counter(run.report)
        log("INFO", "validation.done", outcomes=dict(report))
        return report

    # What has changed.

    def _changed(self, run: "_Run") -> None:
        cursor = self._feed.load_cursor(_CONSUMER)
        # A first run leaves the accounts of earlier times to the rotation: it must end, however many there are.
        cursor = cursor or self._now() - _FIRST_LOOK
        partial = True
        while partial:
            accounts, cut, partial = self._oldest(cursor)
            failed = self._all(run, accounts, self._follow)
            ends = [account.document["changedAt"] for account in failed if account.document is not None]
            held_back = min([cut, *ends])
            following = max(held_back, cut - _HELD_BACK_MAX, cursor)
            partial = partial and following > cursor and not failed
            cursor = following
            fault_point("validation.before_cursor")
            self._feed.save_cursor(_CONSUMER, cursor)

    def _oldest(self, cursor: datetime) -> tuple[list[AccountDocument], datetime, bool]:
        """The accounts whose changes are oldest, the moment up to which they hold all changes, and whether there are
        more."""
        moment = self._repository.account("-").read_at
        found, ends = list[AccountDocument](), list[datetime]()
        for bucket in range(BUCKETS):
            limit = _BUCKET_ACCOUNTS
            accounts, more = self._repository.changed(bucket, cursor - MARGIN, moment, limit)
            while more and accounts[-1].document["changedAt"] <= cursor:  # type: ignore[index]
                # All of these are known: they lie within the margin.
                limit *= 2
                accounts, more = self._repository.changed(bucket, cursor - MARGIN, moment, limit)
            found += accounts
            if more:
                ends.append(accounts[-1].document["changedAt"])  # type: ignore[index]
        cut = min(ends, default=moment)
        # A time in the future is one that somebody wrote: it must not move the cursor there.
        return [account for account in found if account.document["changedAt"] <= cut], cut, bool(ends)  # type: ignore[index]

    def _follow(self, run: "_Run", account: AccountDocument, state: State | None, anchors: Anchors) -> bool:
        """Verifies what is new; whether the account is sound."""
        if account.quarantined:
            return self._look_closer(run, account.uid, state)
        start = state or State()
        while True:
            if not self._anchors_hold(account, start, anchors):
                return self._look_closer(run, account.uid, state)
            # The holds that were open before this run were compared before this run.
            opened = state is None or start is not state
            found = self._examiner.page(account, start.progress, anchors, _PAGE_ENTRIES, open_holds=opened)
            run.count(documents=found.entries + len(found.derivation.holds) + len(found.derivation.operations))
            if found.damages or (found.complete and self._mirror_differs(account, found)):
                return self._look_closer(run, account.uid, start if start.progress.head.seq else state)
            start = self._advanced(account.uid, start, found, anchors)
            if found.complete:
                return True

    def _anchors_hold(self, account: AccountDocument, state: State, anchors: Anchors) -> bool:
        """Whether the account still has what was verified, and what was published of it before."""
        verified = state.progress.head
        if account.seq < verified.seq:
            return False
        older = {seq: digest for seq, digest in anchors.items() if state.anchor < seq < verified.seq}
        stored = self._repository.entries_at(account.uid, list(older), account.read_at) if older else {}
        return anchors.get(verified.seq, verified.hash) == verified.hash and all(
            seq in stored and stored[seq].hash == digest for seq, digest in older.items()
        )

    def _mirror_differs(self, account: AccountDocument, found: Examination) -> bool:
        return bool(self._examiner.mirror_damages(account, found.progress.head))

    def _advanced(self, uid: str, before: State, found: Examination, anchors: Anchors) -> State:
        """The state behind these entries, kept; and what is unusual about them, told."""
        fields = [entry.fields() for entry in found.read]
        habits, anomalies = observe(before.habits, fields, self._policy.thresholds)
        for anomaly in anomalies:
            self._alerts.tell(Alert(anomaly.code, "WARNING", anomaly.message, uid, anomaly.seq))
        reached = found.progress.head.seq
        anchor = max([before.anchor, *(seq for seq in anchors if seq <= reached)])
        after = State(found.progress, anchor, habits)
        if after != before:
            fault_point("validation.before_state")
            self._repository.save_state(uid, seal_state(self._keyring, self._ledger_id, uid, after))
        return after

    # What has not changed.

    def _turns(self, run: "_Run") -> None:
        """The next accounts in the order of their ids, as many as the budget of documents allows."""
        first: str | None = None
        until = run.report["documents"] + self._policy.rotation_documents
        while run.report["documents"] < until:
            uids = self._feed.rotate_names(_ROTATION, _TURN_ACCOUNTS)
            # All of these in any case: the place in the order is behind them now.
            self._all(run, self._repository.accounts(uids), self._reread)
            if not uids or first in uids:
                return
            first = first or uids[0]

    def _reread(self, run: "_Run", account: AccountDocument, state: State | None, anchors: Anchors) -> bool:
        """Whether an account is what it was when it was verified, all of it."""
        if account.quarantined or not self._follow(run, account, state, anchors):
            return self._look_closer(run, account.uid, state) if account.quarantined else False
        documents = self._repository.state_documents([account.uid])
        state = open_state(self._keyring, self._ledger_id, account.uid, documents[account.uid])
        if state is None or state.progress.head.seq != account.seq:
            # Another run has come further meanwhile, and looks at it.
            return True
        run.count(documents=account.seq)
        return self._examiner.unchanged(account, state.progress) or self._look_closer(run, account.uid, state)

    def _gone(self, run: "_Run") -> None:
        """Accounts that were verified once, and whose heads are not there any more."""
        uids = self._feed.rotate_names(_GONE_ROTATION, _GONE_ACCOUNTS, of_validations=True)
        accounts = self._repository.accounts(uids)
        run.count(documents=len(uids))
        self._all(run, [account for account in accounts if account.document is None], self._closer)

    def _closer(self, run: "_Run", account: AccountDocument, state: State | None, anchors: Anchors) -> bool:
        return self._look_closer(run, account.uid, state)

    # What is wrong.

    def _look_closer(self, run: "_Run", uid: str, state: State | None) -> bool:
        """Looks at all of an account now; if it is damaged, contains and reports that. Whether it is sound."""
        for _ in range(_ATTEMPTS):
            account = self._repository.account(uid)
            found = self._examiner.whole(account, self.anchors(uid, state, account.read_at))
            run.count(documents=found.entries)
            if not found.damages and account.quarantined:
                known = self._repository.report(uid) or {}
                if known.get("state") == "damaged":
                    # Mended by hand: whoever did that lifts the quarantine by a repair, and says so.
                    return False
                message = "quarantined is set, and no damage of this account is on record"
                found.damages.append(Damage(uid, account.seq, "HEAD_MISMATCH", message, "quarantined"))
            if not found.damages:
                self.start_again(uid, found)
                return True
            if self._contain(run, account, found.damages):
                self._report(account, found)
                return False
        return False

    def _contain(self, run: "_Run", account: AccountDocument, damages: Sequence[Damage]) -> bool:
        """Quarantines the account, unless only its shown balance is wrong. False if it has changed since it was read:
        then it is looked at again."""
        if account.quarantined or account.document is None or all(d.code == "MIRROR_MISMATCH" for d in damages):
            return True
        if not run.may_quarantine(self._policy.quarantine_max):
            message = f"more than {self._policy.quarantine_max} accounts are damaged; the rest is not quarantined"
            self._alerts.tell(Alert("MASS_DAMAGE", "CRITICAL", message))
            return True
        return self._repository.quarantine(account)

    def _report(self, account: AccountDocument, found: Examination) -> None:
        uid, damages = account.uid, found.damages
        fault_point("validation.before_report")
        quarantined = self._repository.account(uid).quarantined
        self._repository.save_report(uid, damages, quarantined=quarantined, found_at=account.read_at)
        for damage in damages[:_ALERTS_MAX]:
            severity: Severity = "ERROR" if damage.code in DERIVED_CODES else "CRITICAL"
            self._alerts.tell(Alert(damage.code, severity, damage.message, uid, damage.seq, damage.subject))

    def anchors(self, uid: str, state: State | None, at: datetime) -> dict[int, str]:
        """What is known of the account's entries from elsewhere, as of a moment."""
        leaf = self._checkpoints.leaves([uid], at)[uid].leaf
        known = {leaf.seq: leaf.hash} if leaf is not None else {}
        if state is not None and state.progress.head.seq:
            known.setdefault(state.progress.head.seq, state.progress.head.hash)
        return known

    def state(self, uid: str) -> State | None:
        """How far the scheduled validation has come."""
        return open_state(self._keyring, self._ledger_id, uid, self._repository.state_documents([uid])[uid])

    def start_again(self, uid: str, found: Examination) -> None:
        """After a repair: the account is verified as far as this examination of all of it has come."""
        state = State(found.progress, habits=(self.state(uid) or State()).habits)
        self._repository.save_state(uid, seal_state(self._keyring, self._ledger_id, uid, state))

    # The ledger as a whole.

    def _whole_ledger(self) -> None:
        latest = self._checkpoints.latest_published()
        if latest is not None and not latest.balanced:
            message = f"the totals of checkpoint {latest.number} do not add up to zero"
            self._alerts.tell(Alert("LEDGER_UNBALANCED", "CRITICAL", message))
        elif latest is not None:
            self._alerts.resolve(None, by="validation", code="LEDGER_UNBALANCED")
        for uid, hold_id in self._repository.overdue_holds(self._now() - self._policy.overdue, _OVERDUE_MAX):
            message = f"hold {hold_id} is open, and its time was up long ago"
            self._alerts.tell(Alert("HOLD_OVERDUE", "WARNING", message, uid, subject=hold_id))

    # Many accounts.

    def _all(self, run: "_Run", accounts: Sequence[AccountDocument], look: "_Look") -> list[AccountDocument]:
        """Looks at all of them, and gives those that could not be looked at."""
        failed: list[AccountDocument] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="validation") as pool:
            for batch in _batches(accounts):
                at = batch[0].read_at
                uids = [account.uid for account in batch]
                documents = self._repository.state_documents(uids)
                leaves = self._checkpoints.leaves(uids, at)
                run.count(documents=3 * len(uids))
                work = []
                for account in batch:
                    state = open_state(self._keyring, self._ledger_id, account.uid, documents[account.uid])
                    leaf = leaves[account.uid].leaf
                    known = {leaf.seq: leaf.hash} if leaf is not None else {}
                    work.append((account, pool.submit(look, run, account, state, known)))
                for account, future in work:
                    try:
                        run.count(**{"sound" if future.result() else "damaged": 1})
                    except Exception as error:  # noqa: BLE001  # one account must not keep the others waiting
                        log("ERROR", "validation.failed", uid=account.uid, error=error)
                        run.count(error=1)
                        failed.append(account)
        return failed


_Look = Callable[["_Run", AccountDocument, State | None, Anchors], bool]


class _Run:
    """What one run has done so far; used by several threads."""

    def __init__(self) -> None:
        self.report: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, **numbers: int) -> None:
        with self._lock:
            self.report.update(numbers)

    def may_quarantine(self, limit: int) -> bool:
        """Whether the fuse allows one more."""
        with self._lock:
            self.report["quarantined"] += 1
            return self.report["quarantined"] <= limit


def _batches(accounts: Sequence[AccountDocument], size: int = 100) -> Iterator[Sequence[AccountDocument]]:
    for begin in range(0, len(accounts), size):
        yield accounts[begin : begin + size]
