"""Watches balances: `note` hears of every head that anybody sees, and tells the owner once for each crossing.

Two steps, each safe to be done twice, at once or half. First the state moves on, by compare-and-set, and only to a
newer head. Then the crossing is told: the event, the notification and the mark that it was told in one update, under
ids that follow from the crossing. Whoever dies in between leaves a crossing untold, which the next look at this account
makes good; the mirror's repair looks at every account that has changed, and at all others in turns.

Realtime Database: housekeeping/lowBalance/{uid} {low, crossings, announced, seq, threshold, posted, available}
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from firebase_admin import App, db
from firebase_admin import exceptions as firebase_exceptions

from concierge import paths
from concierge.credits.low_balance.crossings import State, from_json, judge
from concierge.credits.low_balance.recommendation import Recommendation, recommend
from concierge.errors import Unavailable
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.microcredits import MICROCREDITS_PER_CREDIT, show
from concierge.ledger.transfers import Head
from concierge.orchestration.events import Event, EventBus
from concierge.orchestration.topics import CreditsLow

PREFERENCE = "lowBalanceCredits"
THRESHOLD_MAX_CREDITS = 1_000_000_000

_ATTEMPTS = 10
_SERVER_TIME = {".sv": "timestamp"}

Burn = Callable[[str], tuple[Mapping[date, int], date]]
"""What a person spent by day, and today."""


@dataclass(frozen=True, slots=True)
class Check:
    """A balance against its threshold, now. Amounts in microcredits; a threshold of 0 is switched off."""

    low: bool
    threshold: int
    posted: int
    available: int
    recommendation: Recommendation


class LowBalance:
    """`threshold` and `step` in microcredits. Raises FirebaseError, and Unavailable from `burn`."""

    def __init__(self, app: App, events: EventBus, burn: Burn, *, threshold: int, step: int) -> None:
        self._app = app
        self._events = events
        self._burn = burn
        self._threshold = threshold
        self._step = step

    def note(self, uid: str, head: Head) -> None:
        """Takes notice of a head, however old, and tells the owner what is still to be told."""
        threshold = self._threshold_of(uid)
        reference = self._reference(paths.low_balance(uid))
        for _ in range(_ATTEMPTS):
            found, etag = reference.get(etag=True)
            before = from_json(found)
            state = judge(before, seq=head.seq, posted=head.posted, available=head.available, threshold=threshold)
            if state is None:
                return
            if state == before or reference.set_if_unchanged(etag, asdict(state))[0]:
                break
        else:
            # Others saw newer heads, or the next look is not far.
            log("WARNING", "low_balance.contended", uid=uid, seq=head.seq)
            return
        if state.untold:
            fault_point("low_balance.crossed")
            self._tell(uid, state)

    def check(self, uid: str, head: Head) -> Check:
        """The balance now, and what to do about it; nothing is told. Raises Unavailable."""
        try:
            threshold = self._threshold_of(uid)
        except firebase_exceptions.FirebaseError as error:
            raise Unavailable("The threshold cannot be read at the moment.") from error
        return Check(
            low=threshold > 0 and head.posted < threshold,
            threshold=threshold,
            posted=head.posted,
            available=head.available,
            recommendation=self._recommend(uid, head.available, threshold),
        )

    def export(self, uid: str) -> dict[str, Any]:
        """Everything that is kept of one person about low balances."""
        return {
            "thresholdMicrocredits": self._threshold_of(uid),
            "state": self._reference(paths.low_balance(uid)).get(),
        }

    def _tell(self, uid: str, state: State) -> None:
        recommended = self._recommend(uid, state.available, state.threshold).recommended
        payload = CreditsLow(
            uid=uid,
            seq=state.seq,
            posted_microcredits=state.posted,
            threshold_microcredits=state.threshold,
            recommended_microcredits=recommended,
        )
        told = crossing_id(uid, state.crossings)
        notification = paths.notification(uid, told)
        # Field by field: told again, it is not unread again.
        content = {
            "kind": "credits.low",
            "title": "Your credits are running low",
            "body": f"{show(state.posted)} credits are left. We recommend topping up {show(recommended)}.",
            "data/postedMicrocredits": state.posted,
            "data/thresholdMicrocredits": state.threshold,
            "data/recommendedMicrocredits": recommended,
            "createdAt": _SERVER_TIME,
        }
        together = {f"{notification}/{field}": value for field, value in content.items()}
        together[f"{paths.low_balance(uid)}/announced"] = state.crossings
        self._events.publish(Event(told, "credits.low", uid, payload), together)
        fault_point("low_balance.told")
        log("INFO", "low_balance.told", uid=uid, seq=state.seq, crossing=state.crossings)

    def _recommend(self, uid: str, available: int, threshold: int) -> Recommendation:
        costs, today = self._burn(uid)
        return recommend(costs, today, available=available, threshold=threshold, step=self._step)

    def _threshold_of(self, uid: str) -> int:
        """The person's own, if it is one, or the configured one."""
        wanted = self._reference(paths.preference(uid, PREFERENCE)).get()
        return threshold_from(wanted, self._threshold)

    def _reference(self, path: str) -> db.Reference:
        return db.reference(paths.as_url(path), self._app)


def crossing_id(uid: str, crossing: int) -> str:
    """A database key that names one crossing of one account, whatever characters its user id has."""
    return f"credits-low-{hashlib.sha256(uid.encode()).hexdigest()[:32]}-{crossing}"


def threshold_from(preference: Any, default: int) -> int:
    """A number of credits as microcredits, rounded down. People write their own preferences: what is no sound number is
    taken for no preference."""
    if isinstance(preference, bool) or not isinstance(preference, int | float) or not math.isfinite(preference):
        return default
    if not 0 <= preference <= THRESHOLD_MAX_CREDITS:
        return default
    return int(Decimal(str(preference)) * MICROCREDITS_PER_CREDIT)
