"""Firestore: what was used, by whom, and how much of it has been summed up.

accounts/{uid}/usage/{YYYY-MM}         {days: {DD: {kind: {model: counters}}}, changedAt}   written by captures alone
accounts/{uid}/usageRollup/{YYYY-MM}   {days}: how much of that month is part of the months of all
accounts/{uid}/usageRollup/state       {seq, cost, revenue, givenBack, opening, at}: reconciliation.Account
usageOverall/{YYYY-MM}                 {days}: all accounts
usageOverall/ledger                    {expected, opening, unreconciled}: what their heads say the costs must be
usageOverall/check                     {difference, expected, cost, unreconciled, at}: the last comparison of the two
housekeeping/usage                     {since}: when counting began
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge import paths
from concierge.credits.usage.cells import Cells, added, cost_of, from_document, months_between, to_document
from concierge.credits.usage.reconciliation import Account
from concierge.kit.logging import log
from concierge.ledger.repository import head_from_document, replace_unchanged
from concierge.ledger.transfers import Head

_STATE = "state"
_LEDGER = "ledger"
_CHECK = "check"
# The month of an end is told by the clock of the instance that settled it.
_CLOCK_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Look:
    """One account as of one moment. `known` is None for one that was never rolled up; `months` and `rolled` are what
    was counted and how much of it has been rolled up, in every month that may have changed since."""

    uid: str
    head: Head | None
    known: Account | None
    months: Mapping[str, Cells]
    rolled: Mapping[str, Cells]
    moment: datetime
    state_snapshot: Any


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a roll-up makes of one account: its new state, the months as rolled up now, and what of each is new."""

    look: Look
    account: Account
    months: Mapping[str, Cells]
    changes: Mapping[str, Cells]

    @property
    def is_new(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.changes) or self.account != self.look.known


@dataclass(frozen=True, slots=True)
class Check:
    """Costs of all months against the heads that they were rolled up with. Amounts in microcredits; `unreconciled` is
    how many accounts do not agree with themselves."""

    cost: int
    expected: int
    unreconciled: int
    at: datetime

    @property
    def difference(self) -> int:
        return self.cost - self.expected

    @property
    def reconciled(self) -> bool:
        return self.difference == 0 and self.unreconciled == 0


def usage_reference(client: firestore.Client, uid: str, month: str) -> Any:
    return client.collection(paths.ACCOUNTS).document(uid).collection(paths.USAGE).document(month)


class UsageRepository:
    """Raises what Firestore answers: google.api_core.exceptions.GoogleAPICallError."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client

    # One person.

    def months(self, uid: str, months: Iterable[str]) -> dict[str, Cells]:
        """What was counted in these months, in one round trip."""
        wanted = [usage_reference(self._client, uid, month) for month in months]
        return {snapshot.id: from_document(snapshot.to_dict()) for snapshot in self._client.get_all(wanted)}

    def all_months(self, uid: str, at: datetime | None = None) -> dict[str, Cells]:
        """Every month in which anything was counted."""
        collection = self._account(uid).collection(paths.USAGE)
        return {snapshot.id: from_document(snapshot.to_dict()) for snapshot in collection.stream(read_time=at)}

    # All of them.

    def overall(self, months: Iterable[str]) -> tuple[dict[str, Cells], Check | None]:
        """These months of all accounts, and the last check."""
        wanted = [self._overall(month) for month in (*months, _CHECK)]
        found = {snapshot.id: snapshot.to_dict() for snapshot in self._client.get_all(wanted)}
        check = found.pop(_CHECK)
        return {month: from_document(document) for month, document in found.items()}, _check_from_document(check)

    def overall_check(self) -> Check:
        """All months of all accounts against the heads, as of one moment."""
        cost, ledger, moment = 0, dict[str, Any](), datetime.now(UTC)
        for snapshot in self._client.collection(paths.USAGE_OVERALL).stream():
            document = snapshot.to_dict()
            moment = snapshot.read_time
            if snapshot.id == _LEDGER:
                ledger = document
            elif snapshot.id != _CHECK:
                cost += cost_of([from_document(document)])
        return Check(cost, ledger.get("expected", 0), ledger.get("unreconciled", 0), moment)

    def save_check(self, check: Check) -> None:
        document = {
            "cost": check.cost,
            "expected": check.expected,
            "difference": check.difference,
            "unreconciled": check.unreconciled,
            "at": check.at,
        }
        self._overall(_CHECK).set(document)

    # Rolling up.

    def counting_since(self) -> datetime | None:
        """When counting began; None before that."""
        document = self._since().get().to_dict()
        since: datetime | None = document["since"] if document is not None else None
        return since

    def begin_counting(self) -> datetime:
        """When counting began, which is now, by the server's clock, if it had not before."""
        since = self.counting_since()
        if since is None:
            try:
                self._since().create({"since": firestore.SERVER_TIMESTAMP})
            except google_exceptions.AlreadyExists:
                # Another run was first, and its time is the one.
                log("INFO", "usage.counting_since", first=False)
            since = self._since().get().get("since")
        return since

    def look(self, uids: Sequence[str], *, every_month: bool = False) -> list[Look]:
        """These accounts, their counters and what of them has been rolled up, all as of one moment: two round trips,
        and one more for each account that is looked at for the first time, or with `every_month`."""
        found = self._read([reference for uid in uids for reference in (self._account(uid), self._rollup(uid, _STATE))])
        moment = max(snapshot.read_time for snapshot in found.values())
        wanted: dict[str, Sequence[str]] = {}
        for uid in uids:
            state = found[self._rollup(uid, _STATE).path]
            if every_month or not state.exists:
                wanted[uid] = list(self.all_months(uid, moment))
            else:
                first, last = state.get("at") - _CLOCK_TOLERANCE, moment + _CLOCK_TOLERANCE
                wanted[uid] = months_between(first.date(), last.date())
        documents = self._read(
            [
                reference
                for uid in uids
                for month in wanted[uid]
                for reference in (usage_reference(self._client, uid, month), self._rollup(uid, month))
            ],
            moment,
        )

        def cells(reference: Any) -> Cells:
            return from_document(documents[reference.path].to_dict())

        def looked_at(uid: str) -> Look:
            head, state = found[self._account(uid).path], found[self._rollup(uid, _STATE).path]
            return Look(
                uid=uid,
                head=head_from_document(head.to_dict()) if head.exists else None,
                known=_account_from_document(state.to_dict()) if state.exists else None,
                months={month: cells(usage_reference(self._client, uid, month)) for month in wanted[uid]},
                rolled={month: cells(self._rollup(uid, month)) for month in wanted[uid]},
                moment=moment,
                state_snapshot=state,
            )

        return [looked_at(uid) for uid in uids]

    def commit(self, accounts: Sequence[Rolled], months: Mapping[str, Cells], expected: int, unreconciled: int) -> None:
        """Writes what was rolled up, and the months of all with it, or nothing at all.

        `months` is what is added to the months of all, `expected` and `unreconciled` to what the heads say. Raises
        FailedPrecondition, AlreadyExists or Aborted if somebody else rolled up any of it since it was looked at.
        """
        totals, *overall = [self._overall(_LEDGER), *(self._overall(month) for month in months)]
        documents = self._read([totals, *overall])
        batch = self._client.batch()
        for rolled in accounts:
            # The state is in every commit about its account, so its precondition protects the months as well.
            state = _account_to_document(rolled.account, rolled.look.moment)
            replace_unchanged(self._client, batch, rolled.look.state_snapshot, state)
            for month in rolled.changes:
                batch.set(self._rollup(rolled.look.uid, month), to_document(rolled.months[month]))
        for reference in overall:
            snapshot = documents[reference.path]
            summed = added(from_document(snapshot.to_dict()), months[reference.id])
            replace_unchanged(self._client, batch, snapshot, to_document(summed))
        before = documents[totals.path].to_dict() or {}
        document = {
            "expected": before.get("expected", 0) + expected,
            "unreconciled": before.get("unreconciled", 0) + unreconciled,
        }
        replace_unchanged(self._client, batch, documents[totals.path], document)
        batch.commit()

    def _read(self, references: Sequence[Any], at: datetime | None = None) -> dict[str, Any]:
        if not references:
            return {}
        return {snapshot.reference.path: snapshot for snapshot in self._client.get_all(references, read_time=at)}

    def _since(self) -> Any:
        return self._client.collection(paths.HOUSEKEEPING).document(paths.USAGE)

    def _account(self, uid: str) -> Any:
        return self._client.collection(paths.ACCOUNTS).document(uid)

    def _rollup(self, uid: str, name: str) -> Any:
        return self._account(uid).collection(paths.USAGE_ROLLUP).document(name)

    def _overall(self, name: str) -> Any:
        return self._client.collection(paths.USAGE_OVERALL).document(name)


def _account_to_document(account: Account, at: datetime) -> dict[str, Any]:
    return {
        "seq": account.seq,
        "cost": account.cost,
        "revenue": account.revenue,
        "givenBack": account.given_back,
        "opening": account.opening,
        "at": at,
    }


def _account_from_document(document: dict[str, Any]) -> Account:
    return Account(
        seq=document["seq"],
        cost=document["cost"],
        revenue=document["revenue"],
        given_back=document["givenBack"],
        opening=document["opening"],
    )


def _check_from_document(document: dict[str, Any] | None) -> Check | None:
    if document is None:
        return None
    return Check(document["cost"], document["expected"], document["unreconciled"], document["at"])
